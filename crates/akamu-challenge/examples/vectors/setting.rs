//! What http_01.json and tls_alpn_01.json have in common: where a probe looks, and a network in memory to look at.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork, TestPeer};
use akamu_challenge::{AddressPolicy, Deadline, LookupError, Probe, ValidationReport, ValidationRequest, Validator};
use akamu_proto::{Identifier, KeyAuthorization, Thumbprint, Timestamp, Token};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::time::Instant;

use super::expected::difference;
use super::{expected, parsed};

/// The members that the two have, but for what the server does and what is expected.
#[derive(Clone, Deserialize)]
pub(crate) struct Place {
    #[serde(deserialize_with = "parsed::identifier")]
    pub(crate) identifier: Identifier,
    #[serde(deserialize_with = "parsed::text")]
    token: Token,
    #[serde(deserialize_with = "parsed::text")]
    thumbprint: Thumbprint,
    addresses: Option<Vec<IpAddr>>,
    address_lookup: Option<AddressLookup>,
    #[serde(default)]
    allow_networks: Vec<IpNet>,
    #[serde(default = "ten_seconds")]
    deadline_ms: u64,
    #[serde(default)]
    connect: Connect,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AddressLookup {
    NxDomain,
    ServFail,
    Timeout,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Connect {
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
}

/// What one validation of a case showed.
pub(crate) struct Attempt {
    pub(crate) report: ValidationReport,
    pub(crate) dialled: Vec<SocketAddr>,
    pub(crate) took: Duration,
}

impl Place {
    /// Runs the validator that `make` returns, where `serve` serves each connection to `port` that comes about.
    pub(crate) fn validate<V, F, T>(&self, (default, port): (IpAddr, u16), make: fn(Probe) -> V, serve: F) -> Attempt
    where
        V: Validator,
        F: Fn(TestPeer) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        run(async {
            let setting = Setting::with_policy(AddressPolicy::default().allow(self.allow_networks.clone()));
            let addresses = match &self.identifier {
                Identifier::Ip(address) => vec![*address],
                Identifier::Dns(_) | Identifier::Wildcard(_) => self.addresses.clone().unwrap_or_else(|| vec![default]),
            };
            for address in &addresses {
                let address = SocketAddr::new(*address, port);
                match self.connect {
                    Connect::Ok => setting.network.serve(address, serve.clone()),
                    Connect::Refused => setting.network.fail(address, std::io::ErrorKind::ConnectionRefused),
                    Connect::Unreachable => setting.network.fail(address, std::io::ErrorKind::HostUnreachable),
                    Connect::Timeout => setting.network.hang(address),
                }
            }
            let outcome = match self.address_lookup {
                None => Ok(addresses),
                Some(AddressLookup::NxDomain) => Err(LookupError::NxDomain),
                Some(AddressLookup::ServFail) => Err(LookupError::ServFail),
                Some(AddressLookup::Timeout) => Err(LookupError::Timeout),
            };
            setting.names.set_addresses(&self.identifier.value(), outcome);

            let key_authorization = KeyAuthorization::new(&self.token, &self.thumbprint);
            let request = ValidationRequest::with_key_authorization(self.identifier.clone(), key_authorization);
            let start = Instant::now();
            let report = make(setting.probe).validate(&request, Deadline::after(self.duration())).await;
            Attempt { report, dialled: setting.network.dialled(), took: start.elapsed() }
        })
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What of an attempt differs from what is expected of every one.
    pub(crate) fn differences(
        &self,
        attempt: &Attempt,
        dial: Option<SocketAddr>,
        valid: Option<bool>,
        error: &[String],
    ) -> Vec<String> {
        let Attempt { report, dialled, took } = attempt;
        // tokio's timers are exact to a millisecond.
        let late = *took > self.duration() + Duration::from_millis(1);
        let mut differences = Vec::new();
        differences.extend(expected::conclusion(valid, error, report));
        differences.extend(difference("dial", &Vec::from_iter(dial), dialled));
        differences.extend(late.then(|| format!("time: expected at most {} ms, got {took:?}", self.deadline_ms)));
        differences.extend(expected::report_length(report));
        differences
    }
}

/// Runs `future` to its end under a paused clock of its own, and drops the tasks that it leaves behind.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O needs nothing of the system").block_on(future)
}
