//! Reports as octets and as text, however much was seen.

use akamu_challenge::testing::TestClock;
use akamu_challenge::{
    ChallengeError, Event, Excerpt, MAX_REPORT_OCTETS, Transcript, Validated, ValidationReport, ValidationRequest,
};
use akamu_proto::{ChallengeType, ErrorType, Identifier, Timestamp};
use serde_json::{Value, json};

use crate::formats::setting::run;

fn report(events: impl IntoIterator<Item = Event>, conclusion: Result<Validated, ChallengeError>) -> ValidationReport {
    run(async {
        let request = ValidationRequest::with_key_authorization(
            Identifier::dns("example.com").unwrap(),
            "token.thumbprint".parse().unwrap(),
        );
        let clock = TestClock::at(Timestamp::from_unix_secs(1_772_366_400));
        let mut transcript = Transcript::begin(ChallengeType::HTTP_01, &request, &clock);
        events.into_iter().for_each(|it| transcript.record(it));
        transcript.conclude(conclusion)
    })
}

fn note(text: impl Into<String>) -> Event {
    Event::Note { text: text.into() }
}

fn refused() -> ChallengeError {
    ChallengeError::new(ErrorType::Connection, "connection refused")
}

#[test]
fn a_report_is_json_that_says_what_was_seen_and_what_follows() {
    let address = "10.0.0.1:80".parse().unwrap();
    let dialled = Event::Dialled { address, outcome: Excerpt::new("connection refused"), duration_ms: 7 };
    let json: Value = serde_json::from_slice(&report([dialled], Err(refused())).to_octets()).unwrap();
    let expected = json!({
        "method": "http-01",
        "identifier": {"type": "dns", "value": "example.com"},
        "started_at": "2026-03-01T12:00:00Z",
        "duration_ms": 0,
        "invalid": {"type": "urn:ietf:params:acme:error:connection", "detail": "connection refused"},
        "transcript": [
            {"at_ms": 0, "event": "dialled", "address": "10.0.0.1:80", "outcome": "connection refused", "duration_ms": 7},
        ],
    });
    assert_eq!(json, expected);
    let until = Validated::until(Timestamp::from_unix_secs(1_772_366_401));
    let json: Value = serde_json::from_slice(&report([], Ok(until)).to_octets()).unwrap();
    assert_eq!(json["valid"], json!({"expires_no_later_than": "2026-03-01T12:00:01Z"}));
}

#[test]
fn a_report_that_is_too_long_keeps_its_start_and_its_end() {
    let long = |number: usize| note(format!("{number} {}", "\"".repeat(300)));
    let report = report((0..1_000).map(long), Err(refused()));
    let octets = report.to_octets();
    assert!(octets.len() <= MAX_REPORT_OCTETS && octets.len() > MAX_REPORT_OCTETS - 1_500, "{}", octets.len());
    let json: Value = serde_json::from_slice(&octets).unwrap();
    let texts: Vec<_> = json["transcript"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert!(texts[0].starts_with("0 ") && texts[1].starts_with("1 "));
    assert!(texts.last().unwrap().starts_with("255 "), "entries past the 256th are only counted");
    assert_eq!(texts.len() + usize::try_from(json["omitted"].as_u64().unwrap()).unwrap(), 1_000);
}

#[test]
fn the_bound_holds_for_entries_of_every_length() {
    for length in (40..400).step_by(3) {
        // The later ones are longer: how many fit must be counted from the end.
        let events = (0..250).map(|number| note("x".repeat(length + number)));
        let octets = report(events, Err(refused())).to_octets();
        assert!(octets.len() <= MAX_REPORT_OCTETS, "{length}: {}", octets.len());
    }
}

#[test]
fn one_enormous_entry_does_not_break_the_bound() {
    for events in [vec![note("x".repeat(100_000))], vec![note("a"), note("\u{1}".repeat(20_000)), note("b")]] {
        assert!(report(events, Err(refused())).to_octets().len() <= MAX_REPORT_OCTETS);
    }
}

#[test]
fn a_detail_is_printable_and_bounded() {
    let error = ChallengeError::new(ErrorType::Tls, format!("\x1b[31m\r\n{}", "é".repeat(2_000)));
    assert!(error.detail.starts_with("?[31m??é"));
    assert!(error.detail.len() <= ChallengeError::MAX_DETAIL && error.detail.ends_with("é…"));
    let problem = error.to_problem();
    assert_eq!((problem.error_type, problem.detail), (ErrorType::Tls, error.detail));
}

#[test]
fn a_report_tells_its_story_in_lines() {
    let address = "10.0.0.1:80".parse().unwrap();
    let events = [
        Event::Lookup {
            server: "192.0.2.53:53".to_owned(),
            name: "example.com".to_owned(),
            record_type: "A",
            outcome: "NOERROR".to_owned(),
            answers: vec![Excerpt::new("10.0.0.1")],
            duration_ms: 3,
        },
        Event::Dialled { address, outcome: Excerpt::new("connection refused"), duration_ms: 7 },
    ];
    let expected = "\
http-01 of example.com, begun 2026-03-01T12:00:00Z:
       0 ms  example.com A from 192.0.2.53:53: NOERROR \"10.0.0.1\" (3 ms)
       0 ms  TCP 10.0.0.1:80: connection refused (7 ms)
       0 ms  invalid: connection: connection refused";
    assert_eq!(report(events, Err(refused())).to_string(), expected);
}
