//! Seeds of the target `dns_answer`, in the form that `fuzz/fuzz_targets/dns_answer/main.rs` reads.

/// The first octet: what is looked up.
const VALIDATED: u8 = 1;
const ADDRESSES: u8 = 2;
const UNSIGNED: u8 = 1 << 2;
const PLAIN: u8 = 2 << 2;
const DEEP: u8 = 3 << 2;
const BY_NSEC3: u8 = 16;

/// An answer's first octet: how it is sent.
const AS_IT_STANDS: u8 = 0;
const SIGNED: u8 = 1;
const FROM_WILDCARD: u8 = 2;
const BY_ZONES: u8 = 3;
const OTHER_ID: u8 = 4;
const OTHER_QUESTION: u8 = 8;
const NO_QUESTION: u8 = 16;
const SILENCE: u8 = 32;
const FOLLOWED: u8 = 64;

/// The flags of a header (RFC 1035 §4.1.1): a response, one that is cut off, and the response codes.
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

/// Where the question's name stands, as other names refer to it.
const QUESTION_NAME: &[u8] = b"\xc0\x0c";

/// The lookup of TXT records that are these, each its character-strings: signed and unsigned.
pub(super) fn of_txt(records: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    let data = |strings: &Vec<Vec<u8>>| -> Vec<u8> {
        let strings = strings.iter().flat_map(|it| it.chunks(255));
        strings.flat_map(|it| [&[u8::try_from(it.len()).unwrap_or_default()], it].concat()).collect()
    };
    let records: Vec<_> = records.iter().map(|it| record(QUESTION_NAME, 16, &data(it))).collect();
    vec![
        script(PLAIN, &[answer(AS_IT_STANDS, RESPONSE, &records, &[])]),
        script(VALIDATED, &[answer(SIGNED, RESPONSE, &records, &[])]),
    ]
}

/// What no vector has: aliases, addresses, errors, forgeries, denials.
pub(super) fn others() -> Vec<Vec<u8>> {
    let txt = || record(QUESTION_NAME, 16, b"\x05right");
    let alias = |target: &[u8]| record(QUESTION_NAME, 5, target);
    let error = |how: u8, code: u16| answer(how, RESPONSE | code, &[], &[]);
    let found = |how: u8| answer(how, RESPONSE, &[txt()], &[]);
    // Covers the names below `signed` that come after it.
    let nsec = || record(b"\x06signed\0", 47, b"\x06signed\0\x00\x07\x22\0\0\0\0\x03\x80");
    let chain: Vec<_> = (b'a'..=b'l').map(|letter| answer(0, RESPONSE, &[alias(&[1, letter, 0])], &[])).collect();
    vec![
        script(VALIDATED, &[]),
        script(VALIDATED | BY_NSEC3, &[]),
        script(VALIDATED | BY_NSEC3 | ADDRESSES, &[]),
        script(VALIDATED | UNSIGNED, &[found(AS_IT_STANDS)]),
        script(PLAIN, &chain),
        script(PLAIN, &[answer(0, RESPONSE, &[alias(QUESTION_NAME)], &[])]),
        script(PLAIN, &[answer(0, RESPONSE | NXDOMAIN, &[alias(b"\x01a\0")], &[]), error(0, NXDOMAIN)]),
        script(VALIDATED, &[answer(SIGNED, RESPONSE, &[alias(b"\x01a\x06signed\0")], &[]), found(SIGNED)]),
        script(VALIDATED | DEEP, &[answer(FROM_WILDCARD, RESPONSE, &[txt()], &[nsec()])]),
        script(VALIDATED | DEEP, &[answer(SIGNED, RESPONSE | NXDOMAIN, &[], &[nsec()])]),
        script(VALIDATED, &[vec![BY_ZONES], found(AS_IT_STANDS)]),
        script(
            PLAIN | ADDRESSES,
            &[
                answer(0, RESPONSE, &[record(QUESTION_NAME, 28, &[0xfd; 16])], &[]),
                answer(0, RESPONSE, &[record(QUESTION_NAME, 1, &[10, 0, 0, 1])], &[]),
            ],
        ),
        script(
            PLAIN,
            &[
                found(OTHER_ID | FOLLOWED),
                found(OTHER_QUESTION | FOLLOWED),
                found(NO_QUESTION | FOLLOWED),
                found(AS_IT_STANDS),
            ],
        ),
        script(PLAIN, &[error(0, TRUNCATED), found(AS_IT_STANDS)]),
        script(PLAIN, &[error(NO_QUESTION, FORMERR), found(AS_IT_STANDS)]),
        script(PLAIN, &[error(0, SERVFAIL)]),
        script(PLAIN, &[answer(AS_IT_STANDS, RESPONSE | NXDOMAIN, &[txt()], &[])]),
        script(PLAIN, &[vec![SILENCE]]),
    ]
}

fn script(what: u8, answers: &[Vec<u8>]) -> Vec<u8> {
    [&[what], &*answers.concat()].concat()
}

fn answer(how: u8, flags: u16, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let [answer_count, authority_count] = [answers, authorities].map(|it| u8::try_from(it.len()).unwrap_or(u8::MAX));
    let sections = [answers.concat(), authorities.concat()].concat();
    let [high, low] = flags.to_be_bytes();
    [&[how, high, low, answer_count, authority_count, 0], &*prefixed(&sections)].concat()
}

/// A record of class IN that may be kept for a minute (RFC 1035 §3.2.1).
fn record(owner: &[u8], record_type: u8, data: &[u8]) -> Vec<u8> {
    [owner, &[0, record_type, 0, 1, 0, 0, 0, 60], &*prefixed(data)].concat()
}

/// The octets behind their length.
fn prefixed(octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], octets].concat()
}
