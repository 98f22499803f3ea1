//! The format of vectors/address_policy.json: an address, configured networks, and whether it may be dialled.

use std::net::IpAddr;

use akamu_challenge::AddressPolicy;
use ipnet::IpNet;
use serde::Deserialize;

use super::expected::difference;
use crate::case_file;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    address: IpAddr,
    #[serde(default)]
    allow_networks: Vec<IpNet>,
    #[serde(default)]
    deny_networks: Vec<IpNet>,
    expect: Expect,
}

/// Where one is `null`, nothing is specified.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    default: Option<Verdict>,
    public_only: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let policies = [
            ("default", AddressPolicy::default(), self.expect.default),
            ("public_only", AddressPolicy::public_only(), self.expect.public_only),
        ];
        let differences = policies.into_iter().filter_map(|(name, policy, expected)| {
            let policy = policy.allow(self.allow_networks.clone()).deny(self.deny_networks.clone());
            let got = if policy.check(self.address).is_ok() { Verdict::Allow } else { Verdict::Deny };
            difference(name, &expected?, &got)
        });
        Some(differences.collect())
    }
}
