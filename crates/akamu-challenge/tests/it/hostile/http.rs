//! Web servers that lie, drip, flood and break off.

use std::time::Duration;

use akamu_proto::ErrorType;

use super::{DEADLINE, KEY_AUTHORIZATION, MOST_READ, Seen, Then, World, run, serve};

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// An attempt at a server that answers the request with `says`, and then does what it does.
fn at(says: impl Into<Vec<u8>>, then: Then) -> Seen {
    run(async {
        let world = World::new();
        serve(&world.watched.network, "10.0.0.80:80", says, then);
        world.validate(&world.http_01()).await
    })
}

/// That an attempt ends at once with `error_type` and a detail that contains `words`.
#[track_caller]
fn ends(says: impl Into<Vec<u8>>, then: Then, error_type: ErrorType, words: &str) -> Seen {
    let seen = at(says, then);
    assert_eq!(seen.error().0, error_type, "{}", seen.report);
    assert!(seen.error().1.contains(words), "{}", seen.report);
    assert_eq!(seen.took, Duration::ZERO, "{}", seen.report);
    assert!(seen.read <= MOST_READ, "{} octets", seen.read);
    seen
}

/// That an attempt ends at the deadline, having read `read` octets.
#[track_caller]
fn times_out(says: impl Into<Vec<u8>>, then: Then, read: u64, words: &str) -> Seen {
    let seen = at(says, then);
    assert_eq!(seen.error().0, ErrorType::Connection, "{}", seen.report);
    assert!(seen.error().1.contains(words), "{}", seen.report);
    assert_eq!((seen.took.as_millis(), seen.read), (DEADLINE.as_millis(), read), "{}", seen.report);
    seen
}

fn chunked(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [OK.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", rest.as_ref()].concat()
}

#[test]
fn a_drip_ends_at_the_deadline_wherever_it_drips() {
    let told = |says: Vec<u8>, drips: &str, words: &str| {
        let read = says.len() as u64 + 9;
        times_out(says, Then::Drip(drips.into()), read, words);
    };
    told(vec![], OK, "timed out after 9 octets of the answer's head: \"HTTP/1.1 \"");
    told(OK.into(), "X-Slow: aaaaaaaaaaaaaa\r\n", "timed out after 26 octets of the answer's head");
    told(format!("{OK}Content-Length: 21\r\n\r\n").into(), KEY_AUTHORIZATION, "timed out after 9 octets of the body");
    told(format!("{OK}\r\n").into(), "a", "timed out after 9 octets of the body");
    told(chunked(""), "00000000000000", "timed out after 0 octets of the body");
    told(chunked("15;"), "extension", "timed out after 0 octets of the body");
    told(chunked("15\r\n"), KEY_AUTHORIZATION, "timed out after 9 octets of the body");
    told(
        chunked(format!("15\r\n{KEY_AUTHORIZATION}\r\n0\r\n")),
        "X-Trailer: a",
        "timed out after 21 octets of the body",
    );
    told(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), "HTTP/1.1 100 Continue\r\n\r\n", "timed out after 34 octets");
}

#[test]
fn silence_ends_at_the_deadline_wherever_it_falls() {
    times_out("", Then::Hang, 0, "timed out waiting for an answer");
    times_out("HTTP/1.1 2", Then::Hang, 10, "timed out after 10 octets of the answer's head: \"HTTP/1.1 2\"");
    times_out(OK, Then::Hang, 17, "timed out after 17 octets");
    times_out(format!("{OK}Content-Length: 21\r\n\r\n"), Then::Hang, 39, "timed out after 0 octets of the body");
    times_out(chunked(""), Then::Hang, 47, "timed out after 0 octets of the body");
}

#[test]
fn a_flood_ends_at_its_limit_whatever_floods() {
    let too_much = "more than 128 KiB";
    let taken = "HTTP/1.1 response that we take";
    let long = |octets: &str| Then::Flood(octets.repeat(1_000).into());
    ends("", long("HTTP/1.1 100 Continue\r\n\r\n"), ErrorType::IncorrectResponse, too_much);
    ends("", long("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), ErrorType::IncorrectResponse, too_much);
    ends("", long("a"), ErrorType::IncorrectResponse, taken);
    ends("HTTP/1.1 200 ", long("a"), ErrorType::IncorrectResponse, taken);
    ends(OK, long("X-Field: value\r\n"), ErrorType::IncorrectResponse, taken);
    ends(format!("{OK}X-Name"), long("a"), ErrorType::IncorrectResponse, taken);
    ends(format!("{OK}X-Value: "), long("a"), ErrorType::IncorrectResponse, taken);
    ends(format!("{OK}\r\n"), long("a"), ErrorType::IncorrectResponse, "8192 octets or more");
    ends(format!("{OK}Content-Length: 1000000000\r\n\r\n"), long("a"), ErrorType::IncorrectResponse, "8192 octets");
    ends(chunked(""), long("1\r\na\r\n"), ErrorType::IncorrectResponse, "8192 octets or more");
    ends(chunked(""), long("0"), ErrorType::IncorrectResponse, "after 0 octets of its body");
    ends(chunked("15;"), long("a"), ErrorType::IncorrectResponse, "after 0 octets of its body");
    let whole = format!("15\r\n{KEY_AUTHORIZATION}\r\n0\r\n");
    ends(chunked(&whole), long("X-Trailer: value\r\n"), ErrorType::IncorrectResponse, "after 21 octets of its body");
    ends(chunked(whole + "X-Trailer: "), long("a"), ErrorType::IncorrectResponse, "after 21 octets of its body");
}

#[test]
fn a_hundred_header_fields_are_taken_and_no_more() {
    let answer = |fields: usize| {
        format!("{OK}{}Content-Length: 21\r\n\r\n{KEY_AUTHORIZATION}", "X-Field: value\r\n".repeat(fields - 1))
    };
    assert!(at(answer(100), Then::Hang).report.is_valid());
    ends(answer(101), Then::Hang, ErrorType::IncorrectResponse, "HTTP/1.1 response that we take");
}

#[test]
fn a_bad_chunk_is_no_body() {
    for rest in ["zz\r\n", "-1\r\n", "0x15\r\n", "\r\n", "15 15\r\n", "ffffffffffffffff1\r\n", "15;a\nb\r\n", "15\n"] {
        ends(chunked(rest), Then::Close, ErrorType::IncorrectResponse, "after 0 octets of its body");
    }
    ends(chunked(format!("15\r\n{KEY_AUTHORIZATION}XX")), Then::Close, ErrorType::IncorrectResponse, "after 21 octets");
    times_out(chunked("ffffffff\r\n"), Then::Hang, 57, "timed out after 0 octets of the body");
    ends(chunked("15\r\nevaGxf"), Then::Close, ErrorType::Connection, "after 6 octets of its body");
    ends(chunked(format!("15\r\n{KEY_AUTHORIZATION}\r\n")), Then::Close, ErrorType::Connection, "after 21 octets");
}

#[test]
fn a_length_that_lies_is_no_proof() {
    let answer = |length: &str| format!("{OK}{length}\r\n\r\n{KEY_AUTHORIZATION}");
    ends(answer("Content-Length: 22"), Then::Close, ErrorType::Connection, "connection closed after 21 octets");
    ends(answer("Content-Length: 20"), Then::Close, ErrorType::IncorrectResponse, "another account's key");
    let refused = "HTTP/1.1 response that we take";
    for lengths in [
        "Content-Length: 21\r\nContent-Length: 20",
        "Content-Length: 21, 20",
        "Content-Length: -1",
        "Content-Length: +21",
        "Content-Length: 0x15",
        "Content-Length: 99999999999999999999999",
        "Content-Length: ",
    ] {
        ends(answer(lengths), Then::Close, ErrorType::IncorrectResponse, refused);
    }
    // RFC 9112 §6.3: chunked wins, and this is not chunked.
    let both = "Content-Length: 21\r\nTransfer-Encoding: chunked";
    ends(answer(both), Then::Close, ErrorType::IncorrectResponse, "after 0 octets of its body");
}

#[test]
fn a_compressed_body_is_not_decoded() {
    // printf 'evaGxf.9jg46WB3rR_AHD' | gzip -n, up to its tenth octet and a few more: nobody looks any further.
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K-Kt\xafH\xd3\xb3";
    for field in ["Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: aes128gcm"] {
        let head = format!("{OK}{field}\r\nContent-Length: {}\r\n\r\n", gzip.len());
        let words = r#"is not the key authorization but "\x1f\x8b\x08\x00"#;
        ends([head.as_bytes(), gzip].concat(), Then::Close, ErrorType::IncorrectResponse, words);
    }
    // A field that says so is not believed either: the octets are what counts.
    let plain = format!("{OK}Content-Encoding: gzip\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}");
    assert!(at(plain, Then::Close).report.is_valid());
    let coded = format!("{OK}Transfer-Encoding: gzip, chunked\r\n\r\n15\r\n{KEY_AUTHORIZATION}\r\n0\r\n\r\n");
    assert!(at(coded, Then::Close).report.is_valid());
}

#[test]
fn what_is_no_http_1_is_told_by_its_first_octets() {
    for (says, shown) in [
        (&b"evaGxf.9jg46WB3rR_AHD"[..], "evaGxf.9jg46WB3rR_AHD"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", r"\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
        (b"HTTP/2.0 200 OK\r\n\r\n", r"HTTP/2.0 200 OK\r\n\r\n"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", r"HTTP/1.1 2000 OK\r\n\r\n"),
        (b"HTTP/1.1 099 Low\r\n\r\n", r"HTTP/1.1 099 Low\r\n\r\n"),
        (b"HTTP/1.1 200 O\x00K\r\n\r\n", r"HTTP/1.1 200 O\x00K\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-\x00: a\r\n\r\n", r"HTTP/1.1 200 OK\r\nX-\x00: a\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-\xff: a\r\n\r\n", r"HTTP/1.1 200 OK\r\nX-\xff: a\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", r"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", r"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n"),
        (b"\x16\x03\x03\x00\x02\x02\x28", r"\x16\x03\x03\x00\x02\x02("),
        (b"<html>\r\n<script>alert(1)</script>", r"<html>\r\n<script>alert(1)</script>"),
    ] {
        let seen = ends(says, Then::Close, ErrorType::IncorrectResponse, &format!("\"{shown}\""));
        assert!(seen.error().1.contains("is no HTTP/1.1 response that we take"), "{}", seen.report);
    }
}

#[test]
fn octets_that_are_no_text_are_escaped_wherever_they_stand() {
    let answer = b"HTTP/1.1 200 \xc3\xa9\xff\r\nX-Value: \xff\xfe\x9b31m\r\nContent-Length: 9\r\n\r\n\x00\x1b[2J\xff\xe2\x80\xae";
    let seen = ends(answer, Then::Close, ErrorType::IncorrectResponse, r#"but "\x00\x1b[2J\xff\xe2\x80\xae""#);
    assert!(!seen.report.to_string().contains("31m"), "a field's value is nobody's business: {}", seen.report);
}

#[test]
fn a_connection_that_ends_is_told_with_its_phase() {
    for (then, what) in [(Then::Close, "connection closed"), (Then::Reset, "connection reset")] {
        for (says, when) in [
            (vec![], "before its answer"),
            (b"HTTP/1.1 20".to_vec(), "before its answer"),
            (format!("{OK}X-Fie").into(), "before its answer"),
            (b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), "before its answer"),
            (format!("{OK}Content-Length: 21\r\n\r\n").into(), "after 0 octets of its body"),
            (format!("{OK}Content-Length: 21\r\n\r\nevaGxf").into(), "after 6 octets of its body"),
            (chunked(""), "after 0 octets of its body"),
            (chunked("1"), "after 0 octets of its body"),
            (chunked("15\r\nevaGxf"), "after 6 octets of its body"),
        ] {
            let seen = at(says, then.clone());
            assert_eq!(seen.error().0, ErrorType::Connection, "{}", seen.report);
            assert!(seen.took.as_millis() <= 2, "{}", seen.report);
            assert!(seen.error().1.ends_with(when), "{}", seen.report);
            assert!(seen.error().1.contains(what), "{}", seen.report);
        }
    }
}

#[test]
fn a_status_that_has_no_body_or_another_protocol_is_no_proof() {
    for status in ["101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade", "204 No Content", "304 Not Modified"]
    {
        let says = format!("HTTP/1.1 {status}\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}");
        let words = format!("answers {} instead of 200: \"\"", status.split(' ').next().unwrap());
        ends(says, Then::Close, ErrorType::IncorrectResponse, &words);
    }
}
