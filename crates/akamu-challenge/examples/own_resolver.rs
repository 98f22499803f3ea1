//! A resolver of an embedder's own: names come from a table, as from an inventory of machines. Whatever it answers is
//! judged by the address policy before anything is dialled.

#![expect(clippy::print_stdout, reason = "an example shows what came of it")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNetwork};
use akamu_challenge::{
    AddressPolicy, Deadline, Event, Excerpt, Http01, Lookup, LookupError, Probe, Resolver, TxtRecord, ValidationReport,
    ValidationRequest, Validator,
};
use akamu_proto::{DnsName, Identifier, Timestamp};
use async_trait::async_trait;

/// The addresses of the machines that we know.
#[derive(Debug)]
struct Inventory(HashMap<String, IpAddr>);

#[async_trait]
impl Resolver for Inventory {
    async fn addresses(&self, name: &DnsName, _: Deadline) -> Lookup<IpAddr> {
        let found = self.0.get(name.as_str()).copied();
        // A step for the report: who was asked, and what it said.
        let step = Event::Lookup {
            server: "the inventory".to_owned(),
            name: name.to_string(),
            record_type: "A",
            outcome: if found.is_some() { "found" } else { "unknown" }.to_owned(),
            answers: found.iter().map(|it| Excerpt::new(it.to_string())).collect(),
            duration_ms: 0,
        };
        Lookup { outcome: found.map(|it| vec![it]).ok_or(LookupError::NxDomain), steps: vec![step] }
    }

    async fn txt(&self, _: &str, _: Deadline) -> Lookup<TxtRecord> {
        Lookup { outcome: Err(LookupError::NoData), steps: Vec::new() }
    }
}

async fn validate(name: &str) -> Result<ValidationReport, Box<dyn std::error::Error>> {
    let inventory = HashMap::from([
        ("printer.corp.example".to_owned(), "10.0.7.3".parse()?),
        ("trap.corp.example".to_owned(), "169.254.169.254".parse()?),
    ]);
    // The network of a test; in service `TcpConnector`.
    let network = TestNetwork::default();
    let clock = TestClock::at(Timestamp::from_unix_secs(1_795_525_200));
    let probe = Probe::new(Inventory(inventory), network, clock, AddressPolicy::default());
    let identifier = Identifier::dns(name)?;
    let request = ValidationRequest::with_key_authorization(identifier, "evaGxf.9jg46WB3rR_AHD".parse()?);
    Ok(Http01::new(probe, Http01::PORT).validate(&request, Deadline::after(Duration::from_secs(10))).await)
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for name in ["printer.corp.example", "trap.corp.example", "stranger.example"] {
        println!("{}\n", validate(name).await?);
    }
    // The policy knows a metadata service when it sees one.
    let trap = validate("trap.corp.example").await?.to_string();
    assert!(trap.contains("169.254.169.254 may not be dialled"), "{trap}");
    Ok(())
}
