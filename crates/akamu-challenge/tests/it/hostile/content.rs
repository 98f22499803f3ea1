//! What of a peer's content reaches the client (at most 100 octets of a body, escaped) and the operator (16 KiB).

use akamu_challenge::{Dns01, MAX_REPORT_OCTETS, TxtRecord};
use akamu_proto::ErrorType;

use super::{Seen, Then, World, clock, run, serve};

/// Stands where a client, or an operator's report, must not see it.
const SECRET: &str = "hunter2";

fn at(answer: impl Into<Vec<u8>>) -> Seen {
    run(async {
        let world = World::new();
        serve(&world.watched.network, "10.0.0.80:80", answer, Then::Close);
        world.validate(&world.http_01()).await
    })
}

fn json(seen: &Seen) -> String {
    String::from_utf8(seen.report.to_octets()).unwrap()
}

#[test]
fn a_body_is_told_by_its_first_hundred_octets_alone() {
    for status in ["200 OK", "404 Not Found", "500 Internal Server Error"] {
        let body = "x".repeat(100) + SECRET;
        let seen = at(format!("HTTP/1.1 {status}\r\nContent-Length: 107\r\n\r\n{body}"));
        let (_, detail) = seen.error();
        assert!(detail.ends_with(&format!("\"{}…\"", "x".repeat(100))), "{detail}");
        assert!(!json(&seen).contains(SECRET) && !seen.report.to_string().contains(SECRET), "{}", seen.report);
    }
}

#[test]
fn no_values_of_header_fields_and_no_reason_phrase_are_told() {
    let fields = format!("Set-Cookie: {SECRET}\r\nWWW-Authenticate: {SECRET}\r\nServer: {SECRET}");
    for status in ["200", "401", "302", "500"] {
        let seen = at(format!("HTTP/1.1 {status} {SECRET}\r\n{fields}\r\nContent-Length: 0\r\n\r\n"));
        assert!(json(&seen).contains("set-cookie"), "{}", seen.report);
        assert!(!json(&seen).contains(SECRET) && !seen.error().1.contains(SECRET), "{}", seen.report);
    }
}

#[test]
fn what_was_read_past_the_first_octets_stays_untold_where_the_answer_breaks_the_protocol() {
    let padding = "x".repeat(100);
    for answer in [
        format!("{padding}{SECRET}\r\n"),
        format!("HTTP/1.1 200 OK\r\nX: {padding}\r\n{SECRET}: \0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{SECRET}\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{padding}{SECRET}"),
    ] {
        let seen = at(answer);
        assert!(!json(&seen).contains(SECRET) && !seen.error().1.contains(SECRET), "{}", seen.report);
    }
}

#[test]
fn a_report_of_the_longest_answer_stays_whole_in_sixteen_kibibytes() {
    let name = "n".repeat(90);
    let fields: String = (0..99).map(|it| format!("{name}-{it}: v\r\n")).collect();
    let seen =
        at([format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 8191\r\n\r\n").as_bytes(), &[0xff; 8_191]].concat());
    let json = json(&seen);
    assert!(json.len() <= MAX_REPORT_OCTETS);
    for kept in ["http_request", "http_response", "http_body", "(84 more)"] {
        assert!(json.contains(kept), "{kept} in {json}");
    }
    assert!(!json.contains("omitted"), "{json}");
    // 100 octets, each as \xff, and what stands around them.
    assert!(seen.error().1.contains(&r"\xff".repeat(100)) && !seen.error().1.contains(&r"\xff".repeat(101)));
}

#[test]
fn a_location_is_told_by_its_first_hundred_octets_and_escaped() {
    let location = format!("/\u{1b}]0;{}{SECRET}", "x".repeat(100)).replace('\u{1b}', "\u{e9}");
    let seen = at(format!("HTTP/1.1 301 x\r\nLocation: {location}\r\n\r\n"));
    assert!(seen.error().1.contains(r#"a redirect to "/\xc3\xa9]0;xxx"#), "{}", seen.report);
    assert!(!json(&seen).contains(SECRET) && !seen.error().1.contains(SECRET), "{}", seen.report);
}

#[test]
fn a_txt_record_is_told_by_its_first_hundred_octets() {
    let seen = run(async {
        let world = World::new();
        let record = TxtRecord::new(["x".repeat(100), SECRET.to_owned()]);
        world.names.set_txt("_acme-challenge.example.com", Ok(vec![record]));
        world.validate(&Dns01::new(world.names.clone(), clock())).await
    });
    assert_eq!(seen.error().0, ErrorType::IncorrectResponse);
    assert!(!json(&seen).contains(SECRET) && !seen.error().1.contains(SECRET), "{}", seen.report);
}
