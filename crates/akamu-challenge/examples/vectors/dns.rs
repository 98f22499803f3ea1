//! What dns_01.json, dns_persist_01.json and dns_persist_01_hashed.json have in common: TXT records, and the query for
//! them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akamu_challenge::testing::TestNames;
use akamu_challenge::{Deadline, Event, Lookup, LookupError, Resolver, TxtRecord, ValidationRequest, Validator};
use akamu_proto::{DnsName, Identifier};
use async_trait::async_trait;
use serde::Deserialize;

use super::expected::{self, difference};
use super::parsed::{self, Octets};
use super::setting::run;

/// Names in memory that remember what was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) names: TestNames,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Resolver for Names {
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        self.names.txt(name, deadline).await
    }

    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr> {
        self.names.addresses(name, deadline).await
    }
}

/// The members that the three have.
#[derive(Deserialize)]
pub(crate) struct TxtCase {
    #[serde(deserialize_with = "parsed::identifier")]
    pub(crate) identifier: Identifier,
    dns: Dns,
    #[serde(default)]
    txt: Vec<Vec<CharacterString>>,
    expect: Expect,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dns {
    Answer,
    NxDomain,
    NoData,
    ServFail,
    Refused,
    Timeout,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CharacterString {
    Text(String),
    Octets(Base64String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64String {
    base64: Octets,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    supported: bool,
    query: Option<String>,
    valid: Option<bool>,
    #[serde(default)]
    error: Vec<String>,
}

impl CharacterString {
    fn octets(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Octets(it) => it.base64.0.clone(),
        }
    }
}

impl TxtCase {
    /// The names of this case.
    pub(crate) fn names(&self) -> Names {
        let outcome = match self.dns {
            Dns::Answer => {
                Ok(self.txt.iter().map(|it| TxtRecord::new(it.iter().map(CharacterString::octets))).collect())
            }
            Dns::NxDomain => Err(LookupError::NxDomain),
            Dns::NoData => Err(LookupError::NoData),
            Dns::ServFail => Err(LookupError::ServFail),
            Dns::Refused => Err(LookupError::Refused),
            Dns::Timeout => Err(LookupError::Timeout),
        };
        let names = Names::default();
        names.names.set_txt(self.expect.query.as_deref().unwrap_or_default(), outcome);
        names
    }

    /// Runs the case at `validator`, which asks `names`.
    pub(crate) fn run(
        &self,
        names: &Names,
        validator: &dyn Validator,
        request: &ValidationRequest,
    ) -> Option<Vec<String>> {
        /// How many rejected records a report tells of.
        const MAX_VERDICTS: usize = 64;
        let supported = validator.supports(&request.identifier);
        let mut differences = Vec::from_iter(difference("supported", &self.expect.supported, &supported));
        if !supported || !self.expect.supported {
            return Some(differences);
        }
        let report = run(async { validator.validate(request, Deadline::after(Duration::from_secs(10))).await });
        let verdicts = report.transcript.iter().filter(|it| matches!(it.event, Event::TxtRecord { .. })).count();
        let told = if self.txt.len() <= MAX_VERDICTS { self.txt.len() } else { verdicts };
        differences.extend(difference("query", &Vec::from_iter(self.expect.query.clone()), &names.asked()));
        differences.extend(expected::conclusion(self.expect.valid, &self.expect.error, &report));
        differences.extend(difference("records with a verdict", &told, &verdicts));
        differences.extend(expected::report_length(&report));
        Some(differences)
    }
}
