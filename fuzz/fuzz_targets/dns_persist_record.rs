//! A TXT record of dns-persist-01: its text, and the validator's judgement of a zone that holds it.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use akamu_challenge::testing::{PersistFields, TestClock, TestNames, read_persist_record};
use akamu_challenge::{
    AccountHashPrefix, ChallengeError, Deadline, DnsPersist01, Event, MAX_REPORT_OCTETS, PersistUntil, TxtRecord,
    ValidationRequest, Validator as _,
};
use akamu_proto::{AccountUri, DnsName, Identifier, Timestamp};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const ISSUER: &str = "acme.example.com";
const ACCOUNT: &str = "https://acme.example.com/acme/account/42";
const THUMBPRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
const NOW: i64 = 1_772_366_400;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without I/O")
});

fuzz_target!(|octets: &[u8]| {
    let issuers = [DnsName::parse(ISSUER).expect("it is a name")];
    let read = read_persist_record(octets, &issuers);
    match &read {
        Ok(fields) => check_fields(fields, &issuers),
        Err(told) => assert!(!told.chars().any(char::is_control) && told.len() < 1_000, "{told:?}"),
    }
    let names = TestNames::default();
    let strings = octets.chunks(255).map(<[u8]>::to_vec);
    names.set_txt("_validation-persist.example.com", Ok(vec![TxtRecord::new(strings)]));
    let validator = DnsPersist01::new(
        names,
        TestClock::at(Timestamp::from_unix_secs(NOW)),
        issuers,
        AccountHashPrefix::under("https://acme.example.com"),
    );
    for name in ["example.com", "*.example.com"] {
        check_verdict(name, &validator, read.as_ref().ok());
    }
});

/// A record that was read, written and read again is the same.
fn check_fields(fields: &PersistFields, issuers: &[DnsName]) {
    assert!(!fields.account_uri.contains(';'));
    let mut text = format!("{ISSUER}; accounturi={}", fields.account_uri);
    if let Some(policy) = &fields.policy {
        text += &format!("; policy={policy}");
    }
    if let Some(until) = fields.persist_until {
        text += &format!("; persistUntil={until}");
    }
    assert_eq!(read_persist_record(text.as_bytes(), issuers).as_ref(), Ok(fields), "{text:?}");
}

/// Whether the record proves control follows from what stands in it.
fn check_verdict(name: &str, validator: &DnsPersist01, fields: Option<&PersistFields>) {
    let identifier = Identifier::dns(name).expect("it is a name");
    let is_wildcard = identifier.is_wildcard();
    let thumbprints = vec![THUMBPRINT.parse().expect("it is one")];
    let request = ValidationRequest::with_account(identifier, AccountUri::new(ACCOUNT), thumbprints);
    let report = RUNTIME.block_on(validator.validate(&request, Deadline::after(Duration::from_secs(10))));

    assert!(report.to_octets().len() <= MAX_REPORT_OCTETS);
    assert!(!report.to_string().chars().any(|c| c.is_control() && c != '\n'), "{report}");
    let verdicts = report.transcript.iter().filter(|it| matches!(it.event, Event::TxtRecord { .. })).count();
    assert_eq!(verdicts, 1, "{report}");
    match report.result() {
        Ok(validated) => {
            let fields = fields.expect("what proves control was read");
            assert!(!is_wildcard || fields.policy.as_deref().is_some_and(|it| it.eq_ignore_ascii_case("wildcard")));
            let until = fields.persist_until.map(PersistUntil::moment);
            assert_eq!(validated.expires_no_later_than, until);
            assert!(until.is_none_or(|it| it >= Timestamp::from_unix_secs(NOW)), "{report}");
            let prefix = "https://acme.example.com/acme/account-hash/";
            assert!(fields.account_uri == ACCOUNT || fields.account_uri.starts_with(prefix), "{report}");
        }
        Err(error) => {
            assert!(error.detail.len() <= ChallengeError::MAX_DETAIL);
            assert!(!error.detail.chars().any(char::is_control), "{:?}", error.detail);
        }
    }
}
