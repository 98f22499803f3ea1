//! dns-persist-01: every vector of the plain and of the hashed accounturi, how long a record holds, and what is told.

use akamu_challenge::testing::TestClock;
use akamu_challenge::{
    AccountHashPrefix, BoundTo, DnsPersist01, Event, Validated, ValidationReport, ValidationRequest, Validator as _,
};
use akamu_proto::{AccountUri, DnsName, ErrorType, Identifier, Thumbprint, Timestamp};

use super::{detail, rules, ten_seconds};
use crate::case_file;
use crate::formats::dns::Names;
use crate::formats::dns_persist_01::Case;
use crate::formats::setting::run;

const NAME: &str = "_validation-persist.example.com";
const ACCOUNT: &str = "https://ca.example/acme/account/42";
const NOW: i64 = 1_772_366_400;

#[test]
fn every_vector_of_the_plain_accounturi_holds() {
    case_file::assert_holds::<Case>("dns_persist_01", 91);
}

#[test]
fn every_vector_of_the_hashed_accounturi_holds() {
    case_file::assert_holds::<Case>("dns_persist_01_hashed", 24);
}

fn prefix() -> AccountHashPrefix {
    AccountHashPrefix::under("https://ca.example")
}

/// The current key's thumbprint and an earlier one's.
fn thumbprints() -> Vec<Thumbprint> {
    let texts = ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"];
    texts.map(|it| it.parse().unwrap()).to_vec()
}

fn validate(identifier: &str, records: &[&str]) -> ValidationReport {
    let validator = DnsPersist01::new(
        Names::with_txt(NAME, records),
        TestClock::at(Timestamp::from_unix_secs(NOW)),
        ["ca.example", "ca2.example"].map(|it| DnsName::parse(it).unwrap()),
        prefix(),
    );
    let identifier = Identifier::dns(identifier).unwrap();
    let request = ValidationRequest::with_account(identifier, AccountUri::new(ACCOUNT), thumbprints());
    run(async { validator.validate(&request, ten_seconds()).await })
}

/// A record with this accounturi.
fn of(account_uri: &str) -> String {
    format!("ca.example; accounturi={account_uri}")
}

/// A record with the hash for `name` and the account `uri`.
fn hashed(name: &str, uri: &str) -> String {
    let bound_to = DnsName::parse(name).unwrap();
    of(&prefix().uri_for(BoundTo::Domain(&bound_to), &thumbprints()[0], &AccountUri::new(uri)))
}

#[test]
fn the_record_that_lasts_longest_decides_how_long() {
    let until = |secs: i64| Validated::until(Timestamp::from_unix_secs(secs));
    let plain = of(ACCOUNT);
    let short = format!("{plain}; persistUntil={}", NOW + 60);
    let long = format!("{plain}; persistUntil=2026-03-02T12:00:00Z");
    let past = format!("{plain}; persistUntil={}", NOW - 1);
    let result = |records: &[&str]| validate("example.com", records).result().copied().unwrap();
    assert_eq!(result(&[&short]), until(NOW + 60));
    assert_eq!(result(&[&long, &short, &past]), until(NOW + 86_400));
    assert_eq!(result(&[&short, &plain, &long]), Validated::unlimited());
}

#[test]
fn the_report_tells_each_records_dialect_and_the_rule_that_decided() {
    let url = of(ACCOUNT);
    let date = format!("{url}; persistUntil=2026-03-02T12:00:00Z");
    let unix = format!("{url}; persistUntil=1772452800");
    let earlier = of(&prefix().uri_for(BoundTo::AnyDomain, &thumbprints()[1], &AccountUri::new(ACCOUNT)));
    let current = format!("{}; persistUntil=1", hashed("example.com", ACCOUNT));
    let report = validate("example.com", &[&url, &date, &unix, &earlier, &current, "v=spf1 -all"]);
    let dialects: Vec<_> = report
        .transcript
        .iter()
        .map(|it| match it.event {
            Event::TxtRecord { dialect, .. } => dialect,
            _ => panic!("{report}"),
        })
        .collect();
    assert_eq!(
        dialects,
        [
            Some("account URL"),
            Some("account URL, RFC 3339 persistUntil"),
            Some("draft-ietf-acme-dns-persist-00"),
            Some("draft-ietf-acme-dns-persist-02"),
            Some("draft-ietf-acme-dns-persist-02"),
            None
        ]
    );
    assert_eq!(
        rules(&report),
        [
            (true, "names the account by its URL"),
            (true, "names the account by its URL, until 2026-03-02T12:00:00Z"),
            (true, "names the account by its URL, until 2026-03-02T12:00:00Z"),
            (true, "names the account by a hash for any domain made with an earlier key of the account"),
            (false, "expired 1970-01-01T00:00:01Z"),
            (false, "does not begin with an issuer domain")
        ]
    );
}

#[test]
fn a_rejected_record_says_why() {
    let upper = prefix().uri_for(BoundTo::AnyDomain, &thumbprints()[0], &AccountUri::new(ACCOUNT)).to_uppercase();
    let hash = upper.rsplit('/').next().unwrap();
    for (identifier, record, rule) in [
        ("example.com", "other.example; accounturi=x".to_owned(), "is for another issuer, \"other.example\""),
        ("example.com", "ca2.example".to_owned(), "names no account: accounturi is missing"),
        ("example.com", format!("{}; policy=a; Policy=b", of(ACCOUNT)), "gives \"policy\" twice"),
        ("example.com", format!("{}; persistUntil=1772366399", of(ACCOUNT)), "expired 2026-03-01T11:59:59Z"),
        (
            "example.com",
            format!("{}; persistUntil=1772366400000", of(ACCOUNT)),
            "has a persistUntil of more than 12 digits: milliseconds? Seconds are expected",
        ),
        ("*.example.com", of(ACCOUNT), "does not allow wildcards: policy=wildcard is missing"),
        ("*.example.com", format!("{}; policy=all", of(ACCOUNT)), "does not allow wildcards: policy is \"all\""),
        ("example.com", of("https://ca.example/acme/account/43"), "names another account, \"https://ca.example/acme"),
        ("example.com", of("http://ca.example/acme/account/42"), "inexactly: the scheme differs (http instead of"),
        ("example.com", of("https://ca.example/acme/account/42/"), "inexactly: there is a slash too many"),
        ("example.com", of("\"https://ca.example/acme/account/42\""), "inexactly: there are quotes"),
        ("example.com", of("https://CA.example/acme/account/42"), "inexactly: upper and lower case differ"),
        ("example.com", of("/acme/account/42"), "inexactly: it is the path alone"),
        ("example.com", hashed("www.example.com", ACCOUNT), "was made for \"www.example.com\"; the base domain"),
        ("example.com", hashed("com", ACCOUNT), "was made for \"com\""),
        ("example.com", hashed("example.com", "http://ca.example/acme/account/42"), "an account URL of another scheme"),
        ("example.com", hashed("example.com", &format!("{ACCOUNT}\n")), "was made with a line break"),
        ("example.com", format!("{}=", hashed("example.com", ACCOUNT)), "is right but for padding"),
        ("example.com", of(&format!("{}sha-256/{hash}", prefix().as_str())), "is right but for upper and lower case"),
        ("example.com", hashed("example.com", "https://ca.example/acme/account/7"), "that is not this account's"),
        ("example.com", of(&format!("{}sha-512/x", prefix().as_str())), "of another algorithm than sha-256"),
    ] {
        let report = validate(identifier, &[&record]);
        let verdicts = rules(&report);
        assert!(matches!(verdicts[..], [(false, told)] if told.contains(rule)), "{rule}\n{report}");
        let error = report.result().unwrap_err();
        assert_eq!(error.error_type, ErrorType::IncorrectResponse);
        assert!(error.detail.contains(rule), "{rule}\n{report}");
    }
}

#[test]
fn the_record_that_decided_is_told_however_many_there_are() {
    let good = of(ACCOUNT);
    let many: Vec<_> = std::iter::repeat_n("other", 300).chain([good.as_str()]).collect();
    let report = validate("example.com", &many);
    assert_eq!(rules(&report).last(), Some(&(true, "names the account by its URL")));
}

#[test]
fn records_for_us_are_told_first() {
    let ours = format!("{}; persistUntil=1", of(ACCOUNT));
    let report = validate("example.com", &["v=spf1 -all", "a", "b", "c", &ours]);
    let expected = format!(
        "no TXT record of {NAME} speaks for this account: \"{ours}\" expired 1970-01-01T00:00:01Z; \
         \"v=spf1 -all\" does not begin with an issuer domain; \"a\" is for another issuer, \"a\"; and 2 more"
    );
    assert_eq!(detail(&report), expected);
}

#[test]
fn without_an_issuer_domain_nothing_is_supported() {
    let clock = TestClock::at(Timestamp::from_unix_secs(NOW));
    let validator = DnsPersist01::new(Names::default(), clock, [], prefix());
    assert!(!validator.supports(&Identifier::dns("example.com").unwrap()));
}

#[test]
fn a_key_authorization_is_the_cas_own_fault() {
    let clock = TestClock::at(Timestamp::from_unix_secs(NOW));
    let validator = DnsPersist01::new(Names::default(), clock, [DnsName::parse("ca.example").unwrap()], prefix());
    let identifier = Identifier::dns("example.com").unwrap();
    let request = ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().unwrap());
    let report = run(async { validator.validate(&request, ten_seconds()).await });
    assert_eq!(report.result().unwrap_err().error_type, ErrorType::ServerInternal);
}
