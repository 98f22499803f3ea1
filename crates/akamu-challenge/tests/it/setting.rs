//! What the tests of the probing validators share: a probe into memory, and the request of a vector.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork};
use akamu_challenge::{AddressPolicy, LookupError, Probe, ValidationRequest};
use akamu_proto::{Identifier, KeyAuthorization, Timestamp};
use ipnet::IpNet;
use serde::Deserialize;

/// The parts of a case that say where to look, in http_01.json and tls_alpn_01.json alike.
#[derive(Deserialize)]
pub(crate) struct Place {
    pub(crate) identifier: IdentifierObject,
    token: String,
    thumbprint: String,
    addresses: Option<Vec<IpAddr>>,
    address_lookup: Option<String>,
    #[serde(default)]
    allow_networks: Vec<IpNet>,
    #[serde(default = "ten_seconds")]
    deadline_ms: u64,
    #[serde(default)]
    pub(crate) connect: Connect,
}

#[derive(Deserialize)]
pub(crate) struct IdentifierObject {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Connect {
    #[default]
    Ok,
    Refused,
    Timeout,
    Unreachable,
}

const fn ten_seconds() -> u64 {
    10_000
}

/// Names, connections and a probe of them.
pub(crate) struct Setting {
    pub(crate) names: TestNames,
    pub(crate) network: TestNetwork,
    pub(crate) probe: Probe,
}

impl Setting {
    pub(crate) fn with_policy(policy: AddressPolicy) -> Self {
        let (names, network) = (TestNames::default(), TestNetwork::default());
        let clock = TestClock::at(Timestamp::from_unix_secs(1_772_366_400));
        let probe = Probe::new(names.clone(), network.clone(), clock, policy);
        Self { names, network, probe }
    }

    /// One in which `example.com` has these addresses.
    pub(crate) fn of_example_com(addresses: &[&str]) -> Self {
        let it = Self::with_policy(AddressPolicy::default());
        it.names.set_addresses("example.com", Ok(addresses.iter().map(|it| it.parse().unwrap()).collect()));
        it
    }
}

impl Place {
    pub(crate) fn identifier(&self) -> Identifier {
        Identifier::parse(&self.identifier.kind, &self.identifier.value).unwrap()
    }

    pub(crate) fn key_authorization(&self) -> KeyAuthorization {
        KeyAuthorization::new(&self.token.parse().unwrap(), &self.thumbprint.parse().unwrap())
    }

    pub(crate) fn request(&self) -> ValidationRequest {
        ValidationRequest::with_key_authorization(self.identifier(), self.key_authorization())
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// The names of this case, and the addresses at which a server is to be put.
    pub(crate) fn set(&self, default_address: &str) -> (Setting, Vec<IpAddr>) {
        let setting = Setting::with_policy(AddressPolicy::default().allow(self.allow_networks.clone()));
        let addresses = match self.identifier() {
            Identifier::Ip(address) => vec![address],
            Identifier::Dns(_) | Identifier::Wildcard(_) => {
                self.addresses.clone().unwrap_or_else(|| vec![default_address.parse().unwrap()])
            }
        };
        let outcome = match self.address_lookup.as_deref() {
            None => Ok(addresses.clone()),
            Some("nxdomain") => Err(LookupError::NxDomain),
            Some("servfail") => Err(LookupError::ServFail),
            Some("timeout") => Err(LookupError::Timeout),
            Some(other) => panic!("address_lookup {other}"),
        };
        setting.names.set_addresses(&self.identifier.value, outcome);
        (setting, addresses)
    }

    /// Makes connections to `address` fail as the case says; `false` where it says that they come about.
    pub(crate) fn fails(&self, network: &TestNetwork, address: SocketAddr) -> bool {
        match self.connect {
            Connect::Ok => return false,
            Connect::Refused => network.fail(address, std::io::ErrorKind::ConnectionRefused),
            Connect::Unreachable => network.fail(address, std::io::ErrorKind::HostUnreachable),
            Connect::Timeout => network.hang(address),
        }
        true
    }
}

/// Runs `future` to its end under a paused clock of its own, and drops the tasks that it leaves behind.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
