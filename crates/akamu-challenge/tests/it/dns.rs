//! dns-01 and dns-persist-01 on names in memory, and the DNS client on real sockets.

mod client;
mod dns_01;
mod dns_persist_01;
mod localhost;
mod server;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akamu_challenge::testing::TestNames;
use akamu_challenge::{
    Deadline, Event, Lookup, LookupError, Resolver, TxtRecord, ValidationReport, ValidationRequest, Validator,
};
use akamu_proto::{DnsName, Identifier};
use async_trait::async_trait;
use base64ct::{Base64, Encoding as _};
use serde::Deserialize;

use crate::setting::run;

/// Names in memory that remember what was asked.
#[derive(Clone, Debug, Default)]
struct Names {
    names: TestNames,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    /// Ones with these TXT records at `name`.
    fn with_txt(name: &str, records: &[&str]) -> Self {
        let it = Self::default();
        it.names.set_txt(name, Ok(records.iter().map(|it| TxtRecord::new([*it])).collect()));
        it
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolver for Names {
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord> {
        self.asked.lock().unwrap().push(name.to_owned());
        self.names.txt(name, deadline).await
    }

    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr> {
        self.names.addresses(name, deadline).await
    }
}

/// What the cases of all three files have in common.
#[derive(Deserialize)]
struct Case {
    id: String,
    identifier: IdentifierObject,
    dns: String,
    #[serde(default)]
    txt: Vec<Vec<CharacterString>>,
    expect: Expect,
}

#[derive(Deserialize)]
struct IdentifierObject {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CharacterString {
    Text(String),
    Octets { base64: String },
}

#[derive(Deserialize)]
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
            Self::Octets { base64 } => Base64::decode_vec(base64).unwrap(),
        }
    }
}

impl Case {
    fn identifier(&self) -> Identifier {
        Identifier::parse(&self.identifier.kind, &self.identifier.value).unwrap()
    }

    /// The names of this case.
    fn names(&self) -> Names {
        let outcome = match self.dns.as_str() {
            "answer" => Ok(self.txt.iter().map(|it| TxtRecord::new(it.iter().map(CharacterString::octets))).collect()),
            "nxdomain" => Err(LookupError::NxDomain),
            "nodata" => Err(LookupError::NoData),
            "servfail" => Err(LookupError::ServFail),
            "refused" => Err(LookupError::Refused),
            "timeout" => Err(LookupError::Timeout),
            other => panic!("{}: dns {other}", self.id),
        };
        let names = Names::default();
        names.names.set_txt(self.expect.query.as_deref().unwrap_or_default(), outcome);
        names
    }

    /// Runs the case, and says what is wrong.
    fn check(&self, names: &Names, validator: &dyn Validator, request: &ValidationRequest) -> Result<(), String> {
        let fail = |what: String| Err(format!("{}: {what}", self.id));
        let supported = validator.supports(&request.identifier);
        if supported != self.expect.supported {
            return fail(format!("supported is {supported}"));
        }
        if !supported {
            return Ok(());
        }
        let report = run(async { validator.validate(request, ten_seconds()).await });
        let asked = names.asked();
        if asked.iter().ne(&self.expect.query) {
            return fail(format!("asked for {asked:?}"));
        }
        if Some(report.is_valid()) != self.expect.valid {
            return fail(report.to_string());
        }
        let verdicts = report.transcript.iter().filter(|it| matches!(it.event, Event::TxtRecord { .. })).count();
        if verdicts != self.txt.len() {
            return fail(format!("{verdicts} verdicts\n{report}"));
        }
        match report.result() {
            Ok(_) => Ok(()),
            Err(error) => {
                let is_expected = self.expect.error.iter().any(|it| it == error.error_type.name());
                if is_expected { Ok(()) } else { fail(report.to_string()) }
            }
        }
    }
}

fn ten_seconds() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// The detail that the client is told.
fn detail(report: &ValidationReport) -> &str {
    &report.result().unwrap_err().detail
}

/// The rules that decided about each record.
fn rules(report: &ValidationReport) -> Vec<(bool, &str)> {
    let rule = |event| match event {
        &Event::TxtRecord { accepted, ref rule, .. } => Some((accepted, rule.as_str())),
        _ => None,
    };
    report.transcript.iter().filter_map(|it| rule(&it.event)).collect()
}
