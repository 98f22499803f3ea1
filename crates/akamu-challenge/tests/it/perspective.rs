//! Several places to look from, and what they come to together.

use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames};
use akamu_challenge::{
    Deadline, Dns01, DnsPersist01, LookupError, MAX_REPORT_OCTETS, Perspective, Quorum, QuorumError, TxtRecord,
    ValidationReport, ValidationRequest, Validator,
};
use akamu_proto::{AccountUri, DnsName, Identifier, KeyAuthorization, Timestamp};
use tokio::time::Instant;

const CLOCK: Timestamp = Timestamp::from_unix_secs(1_772_366_400);

/// What a place sees at `_acme-challenge.example.com`.
#[derive(Clone, Copy)]
enum Sees {
    Right,
    Wrong,
    NoServer,
    /// Nothing, until the deadline.
    Silence,
}

fn key_authorization() -> KeyAuthorization {
    "evaGxf.9jg46WB3rR_AHD".parse().unwrap()
}

fn place(name: &str, sees: Sees) -> Perspective {
    let names = TestNames::default();
    let txt = |value: &str| Ok(vec![TxtRecord::new([value])]);
    let outcome = match sees {
        Sees::Right => txt(&key_authorization().dns_value()),
        Sees::Wrong => txt("something else"),
        Sees::NoServer => Err(LookupError::ServFail),
        Sees::Silence => Err(LookupError::Timeout),
    };
    names.set_txt("_acme-challenge.example.com", outcome);
    Perspective::new(name.parse().unwrap(), Dns01::new(names, TestClock::at(CLOCK)))
}

fn quorum(primary: Sees, others: &[Sees]) -> Quorum {
    let others = others.iter().enumerate().map(|(n, sees)| place(&format!("remote-{n}"), *sees));
    Quorum::new(place("here", primary), others, TestClock::at(CLOCK)).unwrap()
}

async fn validate(quorum: &Quorum) -> ValidationReport {
    let identifier = Identifier::dns("example.com").unwrap();
    let request = ValidationRequest::with_key_authorization(identifier, key_authorization());
    quorum.validate(&request, Deadline::after(Duration::from_secs(10))).await
}

#[tokio::test(start_paused = true)]
async fn control_is_proved_where_enough_find_it_so() {
    use Sees::{NoServer, Right, Wrong};
    for (primary, others, is_valid) in [
        (Right, vec![], true),
        (Wrong, vec![], false),
        (Right, vec![Right], true),
        (Right, vec![Wrong], false),
        (Right, vec![Right, Wrong], true),
        (Right, vec![NoServer, Wrong], false),
        (Right, vec![Right, Right, Right, Right, Wrong], true),
        (Right, vec![Right, Right, Right, NoServer, Wrong], false),
        (Right, vec![Right, Right, Right, Right, NoServer, Wrong], true),
        (Right, vec![Right, Right, Right, Wrong, NoServer, Wrong], false),
        (Wrong, vec![Right, Right, Right, Right, Right, Right], false),
    ] {
        let found = validate(&quorum(primary, &others)).await;
        assert_eq!(found.is_valid(), is_valid, "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_many_may_fail_can_be_said() {
    use Sees::{Right, Wrong};
    assert!(!validate(&quorum(Right, &[Right, Wrong]).may_fail(0)).await.is_valid());
    assert!(validate(&quorum(Right, &[Wrong, Wrong, Wrong]).may_fail(3)).await.is_valid());
    assert!(!validate(&quorum(Wrong, &[Right]).may_fail(1)).await.is_valid(), "the primary one never may");
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_what_the_others_saw() {
    use Sees::{NoServer, Right, Wrong};
    let told =
        async |primary, others: &[Sees]| validate(&quorum(primary, others)).await.result().unwrap_err().to_string();
    let alone = told(Wrong, &[]).await;
    assert_eq!(told(Wrong, &[Right, Right]).await, alone, "the primary perspective's error is the client's");
    let two_failed = told(Right, &[NoServer, Right, Wrong]).await;
    let expected = "proved from here, but not from 2 of 3 other perspectives, of which 1 may fail; from remote-0: ";
    assert!(two_failed.starts_with(&format!("dns: {expected}")), "{two_failed}");
    assert!(two_failed.contains("SERVFAIL"), "{two_failed}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_once_it_is_decided() {
    use Sees::{Right, Silence, Wrong};
    let seconds = async |primary, others: &[Sees]| {
        let begun = Instant::now();
        let report = validate(&quorum(primary, others)).await;
        (begun.elapsed().as_secs(), report.is_valid())
    };
    assert_eq!(seconds(Right, &[Right, Silence]).await, (0, true));
    assert_eq!(seconds(Wrong, &[Silence, Silence]).await, (0, false));
    assert_eq!(seconds(Right, &[Wrong, Wrong, Silence]).await, (0, false));
    assert_eq!(seconds(Right, &[Wrong, Silence, Right]).await, (10, false), "one may fail: the silent one decides");
    assert_eq!(seconds(Silence, &[Right, Right]).await, (10, false));
}

#[tokio::test(start_paused = true)]
async fn the_report_says_who_saw_what() {
    use Sees::{Right, Silence, Wrong};
    let report = validate(&quorum(Right, &[Wrong, Right, Silence, Right]).may_fail(2)).await;
    let story = report.to_string();
    for part in [
        "[here] ",
        "[remote-0] TXT \"something else\" rejected",
        "  from here: valid\n",
        "  from remote-0: invalid: ",
        "  from remote-1: valid\n",
        "  from remote-2: not waited for\n",
    ] {
        assert!(story.contains(part), "{part}\n{story}");
    }
    let json: serde_json::Value = serde_json::from_slice(&report.to_octets()).unwrap();
    let entries = json["transcript"].as_array().unwrap();
    assert!(entries.iter().any(|it| it["perspective"] == "remote-0" && it["event"] == "txt_record"), "{json}");
    let last = entries.last().unwrap();
    assert_eq!((&last["event"], &last["name"]), (&"perspective".into(), &"remote-3".into()));
}

#[tokio::test(start_paused = true)]
async fn a_report_of_many_perspectives_keeps_what_each_came_to() {
    let noisy = |name: &str| {
        let names = TestNames::default();
        let records = (0..300).map(|n| TxtRecord::new([format!("{n} {}", "x".repeat(90))])).collect();
        names.set_txt("_acme-challenge.example.com", Ok(records));
        Perspective::new(name.parse().unwrap(), Dns01::new(names, TestClock::at(CLOCK)))
    };
    let others = (0..10).map(|n| noisy(&format!("remote-{n}")));
    let quorum = Quorum::new(place("here", Sees::Right), others, TestClock::at(CLOCK)).unwrap().may_fail(9);
    let octets = validate(&quorum).await.to_octets();
    assert!(octets.len() <= MAX_REPORT_OCTETS, "{}", octets.len());
    let json: serde_json::Value = serde_json::from_slice(&octets).unwrap();
    let outcomes = json["transcript"].as_array().unwrap().iter().filter(|it| it["event"] == "perspective").count();
    assert_eq!(outcomes, 11);
    assert!(json["omitted"].as_u64().unwrap() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_proof_holds_until_the_earliest_moment_that_was_seen() {
    let persist = |name: &str, until: &str| {
        let names = TestNames::default();
        let record = format!("ca.test; accounturi=https://ca.test/acme/account/1; persistUntil={until}");
        names.set_txt("_validation-persist.example.com", Ok(vec![TxtRecord::new([record])]));
        let prefix = akamu_challenge::AccountHashPrefix::under("https://ca.test");
        let issuers = [DnsName::parse("ca.test").unwrap()];
        Perspective::new(name.parse().unwrap(), DnsPersist01::new(names, TestClock::at(CLOCK), issuers, prefix))
    };
    let others = [persist("early", "1772366500"), persist("later", "1772366700")];
    let quorum = Quorum::new(persist("here", "1772366600"), others, TestClock::at(CLOCK)).unwrap().may_fail(0);
    let account = AccountUri::new("https://ca.test/acme/account/1".to_owned());
    let request = ValidationRequest::with_account(Identifier::dns("example.com").unwrap(), account, Vec::new());
    let report = quorum.validate(&request, Deadline::after(Duration::from_secs(10))).await;
    let until = report.result().unwrap().expires_no_later_than;
    assert_eq!(until, Some(Timestamp::from_unix_secs(1_772_366_500)), "{report}");
}

#[test]
fn perspectives_must_fit_together() {
    let other = || place("other", Sees::Right);
    let here = || place("here", Sees::Right);
    let same = Quorum::new(here(), [other(), other()], TestClock::at(CLOCK)).unwrap_err();
    assert_eq!(same, QuorumError::SameName("other".parse().unwrap()));
    let same = Quorum::new(here(), [here()], TestClock::at(CLOCK)).unwrap_err();
    assert_eq!(same.to_string(), "two perspectives are called here");
    let prefix = akamu_challenge::AccountHashPrefix::under("https://ca.test");
    let persist = DnsPersist01::new(TestNames::default(), TestClock::at(CLOCK), [], prefix);
    let persist = Perspective::new("persist".parse().unwrap(), persist);
    let differs = Quorum::new(here(), [persist], TestClock::at(CLOCK)).unwrap_err().to_string();
    assert_eq!(differs, "the perspective persist validates dns-persist-01, and the primary one dns-01");
    for text in ["", "a b", "a\n", "ä", &"x".repeat(64)] {
        assert!(text.parse::<akamu_challenge::PerspectiveName>().is_err(), "{text:?}");
    }
}
