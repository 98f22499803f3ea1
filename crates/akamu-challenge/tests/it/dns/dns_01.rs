//! dns-01: every vector, and what is told about a wrong record.

use akamu_challenge::testing::TestClock;
use akamu_challenge::{Dns01, LookupError, TxtRecord, ValidationReport, ValidationRequest, Validator as _};
use akamu_proto::{AccountUri, ErrorType, Identifier, Timestamp};

use super::{detail, rules, ten_seconds};
use crate::case_file;
use crate::formats::dns::Names;
use crate::formats::dns_01::Case;
use crate::formats::setting::run;

const NAME: &str = "_acme-challenge.example.com";
/// The digest of `mytoken.mythumbprint`.
const GOOD: &str = "-kRIwHlSCOY8upN1sdtn2FkmeaWdvSFXsysMW__Ob1Y";

fn validator(names: &Names) -> Dns01 {
    Dns01::new(names.clone(), TestClock::at(Timestamp::from_unix_secs(1_772_366_400)))
}

fn validate(names: &Names, identifier: &str) -> ValidationReport {
    let identifier = Identifier::dns(identifier).unwrap();
    let request = ValidationRequest::with_key_authorization(identifier, "mytoken.mythumbprint".parse().unwrap());
    run(async { validator(names).validate(&request, ten_seconds()).await })
}

#[test]
fn every_vector_holds() {
    case_file::assert_holds::<Case>("dns_01", 27);
}

#[test]
fn a_wrong_record_is_told_with_a_guess_at_the_cause() {
    for (value, told) in [
        ("mytoken.mythumbprint", "is the key authorization itself"),
        (&format!("\"{GOOD}\""), "is right but for quotes, white space or padding"),
        (&format!("{GOOD}="), "is right but for quotes, white space or padding"),
        (&GOOD.to_lowercase(), "is right but for upper and lower case"),
        ("fa4448c0795208e63cba9375b1db67d8592679a59dbd2157b32b0c5bffce6f56", "is the digest in hexadecimal"),
        ("", "is empty"),
        ("v=spf1 -all", "is something else"),
    ] {
        let report = validate(&Names::with_txt(NAME, &[value]), "example.com");
        assert!(detail(&report).contains(told), "{report}");
        assert!(detail(&report).starts_with(&format!("no TXT record of {NAME} is \"{GOOD}\"; found \"")), "{report}");
    }
}

#[test]
fn a_digest_with_the_shells_line_break_is_recognised() {
    // printf 'mytoken.mythumbprint\n' | openssl dgst -sha256 -binary | basenc --base64url
    let report = validate(&Names::with_txt(NAME, &["vNf9A9p2nrVdH6UV0bARE5PN-3EQYCcK9SlZUIFtjR0"]), "example.com");
    assert!(detail(&report).contains("a line break"), "{report}");
}

#[test]
fn what_a_peer_wrote_is_told_escaped_and_in_part() {
    let names = Names::default();
    let records =
        vec![TxtRecord::new([b"\x1b[31m\r\n\xff".to_vec()]), TxtRecord::new([vec![b'a'; 255], vec![b'b'; 255]])];
    names.names.set_txt(NAME, Ok(records.into_iter().chain((0..4_000).map(|_| TxtRecord::new(["x"]))).collect()));
    let report = validate(&names, "example.com");
    let detail = detail(&report);
    assert!(detail.contains(r"\x1b[31m\r\n\xff") && detail.ends_with("and 3999 more"), "{detail}");
    assert!(detail.len() <= 1_000 && !detail.contains('b'.to_string().repeat(2).as_str()));
    assert!(report.to_octets().len() <= akamu_challenge::MAX_REPORT_OCTETS);
}

#[test]
fn a_failed_lookup_is_never_told_as_absence() {
    let told_of = |identifier: &str, outcome| {
        let names = Names::default();
        names.names.set_txt(NAME, Err(outcome));
        let report = validate(&names, identifier);
        assert_eq!(report.result().unwrap_err().error_type, ErrorType::Dns);
        detail(&report).to_owned()
    };
    let expected = format!("{NAME} does not exist (NXDOMAIN); a TXT record is expected there");
    assert_eq!(told_of("example.com", LookupError::NxDomain), expected);
    assert_eq!(told_of("example.com", LookupError::NoData), format!("{NAME} has no TXT record"));
    let star = "; a wildcard's record stands there too, without the *.";
    let told = |outcome| told_of("*.example.com", outcome);
    assert_eq!(told(LookupError::NxDomain), format!("{expected}{star}"));
    assert_eq!(told(LookupError::NoData), format!("{NAME} has no TXT record{star}"));
    assert_eq!(told(LookupError::ServFail), format!("the TXT records of {NAME} could not be looked up: SERVFAIL"));
    assert_eq!(told(LookupError::Timeout), format!("the TXT records of {NAME} could not be looked up: timed out"));
}

#[test]
fn each_record_has_its_verdict_even_after_the_good_one() {
    let report = validate(&Names::with_txt(NAME, &["other", GOOD, "another"]), "example.com");
    assert!(report.is_valid());
    let verdicts: Vec<_> = rules(&report).into_iter().map(|(accepted, _)| accepted).collect();
    assert_eq!(verdicts, [false, true, false]);

    let many: Vec<_> = std::iter::repeat_n("other", 300).chain([GOOD]).collect();
    let report = validate(&Names::with_txt(NAME, &many), "example.com");
    assert_eq!(rules(&report).last(), Some(&(true, "equals the digest of the key authorization")));
}

#[test]
fn a_name_without_room_for_the_label_is_not_supported() {
    let name = |length: usize| {
        let label = "a".repeat(59);
        let text = format!("{label}.{label}.{label}.{label}");
        Identifier::dns(text.get(..length).unwrap()).unwrap()
    };
    let validator = validator(&Names::default());
    assert!(validator.supports(&name(237)));
    assert!(!validator.supports(&name(238)));
    let request = ValidationRequest::with_key_authorization(name(238), "mytoken.mythumbprint".parse().unwrap());
    let report = run(async { validator.validate(&request, ten_seconds()).await });
    assert_eq!(report.result().unwrap_err().error_type, ErrorType::Malformed);
}

#[test]
fn a_request_about_an_account_is_the_cas_own_fault() {
    let identifier = Identifier::dns("example.com").unwrap();
    let request = ValidationRequest::with_account(identifier, AccountUri::new("https://ca.example/1"), Vec::new());
    let report = run(async { validator(&Names::default()).validate(&request, ten_seconds()).await });
    assert_eq!(report.result().unwrap_err().error_type, ErrorType::ServerInternal);
}
