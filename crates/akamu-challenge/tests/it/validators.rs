//! The set of validators, with one of an embedder's own in it.

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork};
use akamu_challenge::{
    AddressPolicy, Deadline, Event, Http01, Probe, TlsAlpn01, Transcript, Validated, ValidationReport,
    ValidationRequest, Validator, ValidatorSet,
};
use akamu_proto::{AccountUri, ChallengeType, ErrorType, Identifier, Timestamp};
use async_trait::async_trait;

use crate::formats::setting::run;

/// Believes whoever has an account.
#[derive(Debug)]
struct Handshake01(TestClock);

#[async_trait]
impl Validator for Handshake01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::new("handshake-01")
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        matches!(identifier, Identifier::Dns(_))
    }

    async fn validate(&self, request: &ValidationRequest, _: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &self.0);
        let conclusion = request.account().map(|(uri, _)| {
            transcript.record(Event::Note { text: format!("{uri} said so") });
            Validated::unlimited()
        });
        transcript.conclude(conclusion)
    }
}

fn set() -> ValidatorSet {
    let clock = TestClock::at(Timestamp::from_unix_secs(0));
    let probe = Probe::new(TestNames::default(), TestNetwork::default(), clock.clone(), AddressPolicy::default());
    ValidatorSet::new()
        .with(Handshake01(clock))
        .with(TlsAlpn01::new(probe.clone(), 443))
        .with(Http01::new(probe.clone(), 80))
        .with(Http01::new(probe, 8080))
}

#[test]
fn types_are_offered_in_one_order_and_only_where_they_are_supported() {
    let set = set();
    let offered = |identifier: &str| {
        let identifier = Identifier::dns(identifier).or_else(|_| Identifier::ip(identifier)).unwrap();
        set.offered_for(&identifier).map(|it| it.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(offered("example.com"), ["http-01", "tls-alpn-01", "handshake-01"]);
    assert_eq!(offered("10.0.0.1"), ["http-01", "tls-alpn-01"]);
    assert!(offered("*.example.com").is_empty());
    assert!(set.get(&ChallengeType::DNS_01).is_none());
}

#[test]
fn a_challenge_type_of_an_embedders_own_is_one_like_any_other() {
    run(async {
        let set = set();
        let own = set.get(&ChallengeType::new("handshake-01")).unwrap();
        let identifier = Identifier::dns("example.com").unwrap();
        let request = ValidationRequest::with_account(identifier, AccountUri::new("https://ca.example/acct/1"), vec![]);
        let report = own.validate(&request, Deadline::after(std::time::Duration::from_secs(1))).await;
        assert!(report.is_valid());
        assert!(report.to_string().contains("https://ca.example/acct/1 said so"));
    });
}

#[test]
fn a_request_of_the_wrong_kind_is_the_cas_own_fault() {
    run(async {
        let set = set();
        let identifier = Identifier::dns("example.com").unwrap();
        let request = ValidationRequest::with_account(identifier, AccountUri::new("https://ca.example/acct/1"), vec![]);
        for method in [ChallengeType::HTTP_01, ChallengeType::TLS_ALPN_01] {
            let validator = set.get(&method).unwrap();
            let report = validator.validate(&request, Deadline::after(std::time::Duration::from_secs(1))).await;
            assert_eq!(report.result().unwrap_err().error_type, ErrorType::ServerInternal);
        }
    });
}

#[test]
fn a_wildcard_is_refused_even_when_asked() {
    run(async {
        let identifier = Identifier::dns("*.example.com").unwrap();
        let request = ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().unwrap());
        for validator in set().iter().filter(|it| it.method() != ChallengeType::new("handshake-01")) {
            let report = validator.validate(&request, Deadline::after(std::time::Duration::from_secs(1))).await;
            assert!(!report.is_valid() && report.transcript.is_empty(), "{report}");
        }
    });
}
