//! What a peer sent, as it is shown to a client (`detail`, RFC 8555 §8.2) and to an operator: bounded and escaped.

#![no_main]

use akamu_challenge::testing::TestClock;
use akamu_challenge::{ChallengeError, Event, Excerpt, MAX_REPORT_OCTETS, Transcript, ValidationRequest};
use akamu_proto::{ChallengeType, ErrorType, Identifier, Problem, Timestamp};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::IgnoredAny;

fuzz_target!(|octets: &[u8]| {
    let excerpt = Excerpt::new(octets);
    check_excerpt(&excerpt, octets);

    // A caller that forgets the excerpt is still held to the bound.
    let lossy = String::from_utf8_lossy(octets);
    let error = ChallengeError::new(ErrorType::Dns, lossy.clone());
    assert!(error.detail.len() <= ChallengeError::MAX_DETAIL);
    assert!(!error.detail.chars().any(char::is_control), "{:?}", error.detail);
    if lossy.len() <= ChallengeError::MAX_DETAIL && !lossy.chars().any(char::is_control) {
        assert_eq!(error.detail, lossy);
    }
    let problem = error.to_problem();
    let json = serde_json::to_string(&problem).expect("a problem always serialises");
    assert!(!json.bytes().any(|c| c < b' '), "{json}");
    assert_eq!(serde_json::from_str::<Problem>(&json).ok(), Some(problem));

    check_report(octets, error);
});

fn check_excerpt(excerpt: &Excerpt, octets: &[u8]) {
    let text = excerpt.as_str();
    let (escaped, is_cut) = text.strip_suffix('…').map_or((text, false), |it| (it, true));
    assert!(escaped.bytes().all(|c| c.is_ascii_graphic() || c == b' '), "{text:?}");
    assert_eq!(is_cut, octets.len() > Excerpt::MAX_OCTETS);
    assert!(escaped.len() <= 4 * Excerpt::MAX_OCTETS);
    assert_eq!(unescape(escaped.as_bytes()), octets[..octets.len().min(Excerpt::MAX_OCTETS)]);
}

/// The octets that `<[u8]>::escape_ascii` made the text of.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let (octet, length) = match (first, rest) {
            (b'\\', [b'x', high, low, ..]) => {
                let digit = |c: &u8| char::from(*c).to_digit(16).expect("two digits stand after \\x");
                (u8::try_from(16 * digit(high) + digit(low)).expect("two digits"), 4)
            }
            (b'\\', [c, ..]) => (
                match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                },
                2,
            ),
            _ => (*first, 1),
        };
        octets.push(octet);
        text = &text[length..];
    }
    octets
}

/// A report made of many such excerpts, of lengths that the input chooses.
fn check_report(octets: &[u8], error: ChallengeError) {
    let identifier = Identifier::dns("example.com").expect("it is a name");
    let request = ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().expect("it is one"));
    let mut transcript =
        Transcript::begin(ChallengeType::DNS_01, &request, &TestClock::at(Timestamp::from_unix_secs(1_772_366_400)));
    for line in octets.split(|it| *it == b'\n').take(300) {
        let value = Excerpt::new(line);
        let rule = value.to_string();
        transcript.record(Event::TxtRecord { value, dialect: None, accepted: false, rule });
    }
    let report = transcript.conclude(Err(error));
    let shown = report.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    let stored = report.to_octets();
    assert!(stored.len() <= MAX_REPORT_OCTETS, "{} octets", stored.len());
    let stored: Stored = serde_json::from_slice(&stored).expect("a report is JSON");
    assert_eq!(stored.transcript.len() + stored.omitted, report.transcript.len() + report.omitted);
}

/// What is counted of a report; its entries as values took a quarter of the time.
#[derive(Deserialize)]
struct Stored {
    transcript: Vec<IgnoredAny>,
    #[serde(default)]
    omitted: usize,
}
