//! Names that mean this machine.

use akamu_challenge::{LocalhostResolver, LookupError, Resolver as _, TxtRecord};
use akamu_proto::DnsName;

use super::{Names, ten_seconds};
use crate::formats::setting::run;

#[test]
fn names_below_localhost_are_loopback_and_nobody_is_asked() {
    run(async {
        let names = Names::default();
        let resolver = LocalhostResolver(names.clone());
        for name in ["localhost", "demo.localhost", "a.B.LocalHost"] {
            let lookup = resolver.addresses(&DnsName::parse(name).unwrap(), ten_seconds()).await;
            let found: Vec<_> = lookup.outcome.unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(found, ["::1", "127.0.0.1"], "{name}");
            assert_eq!(lookup.steps.len(), 1);
            let lookup = resolver.txt(&format!("_acme-challenge.{name}"), ten_seconds()).await;
            assert_eq!(lookup.outcome, Err(LookupError::NoData));
        }
        assert!(names.asked().is_empty());
    });
}

#[test]
fn other_names_are_asked_for() {
    run(async {
        let names = Names::with_txt("_acme-challenge.notlocalhost", &["x"]);
        names.names.set_addresses("localhost.example", Ok(vec!["10.0.0.1".parse().unwrap()]));
        let resolver = LocalhostResolver(names);
        let lookup = resolver.txt("_acme-challenge.notlocalhost", ten_seconds()).await;
        assert_eq!(lookup.outcome, Ok(vec![TxtRecord::new(["x"])]));
        let lookup = resolver.addresses(&DnsName::parse("localhost.example").unwrap(), ten_seconds()).await;
        assert_eq!(lookup.outcome.unwrap().len(), 1);
    });
}
