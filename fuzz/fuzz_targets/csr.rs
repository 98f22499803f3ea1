//! CSRs (RFC 2986): as they came, and, so that what lies behind the signature is reached too, with a signature of ours.
//!
//! An input that begins with `\0` is a whole CSR. In any other the first octet, less one, is the length of a subject's
//! content, which follows; what is left is the content of the attributes.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use akamu_ca::{Csr, CsrError, MAX_CSR_OCTETS, MAX_NAMES};
use akamu_proto::Identifier;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 octets are a seed"));

fuzz_target!(|octets: &[u8]| {
    match octets.split_first() {
        None => check(octets),
        Some((0, whole)) => check(whole),
        Some((length, rest)) => {
            let (subject, attributes) = rest.split_at(rest.len().min(usize::from(*length) - 1));
            check(&signed(subject, attributes));
        }
    }
});

fn signed(subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
    let spki = tlv(0x30, &[ED25519, &tlv(0x03, &[&[0], KEY.public_key().as_ref()])]);
    let info = tlv(0x30, &[&[2, 1, 0], &tlv(0x30, &[subject]), &spki, &tlv(0xa0, &[attributes])]);
    let signature = KEY.sign(&info);
    tlv(0x30, &[&info, ED25519, &tlv(0x03, &[&[0], signature.as_ref()])])
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).expect("an input is short").to_be_bytes();
    let significant = length.iter().position(|it| *it != 0).map_or(&length[3..], |first| &length[first..]);
    let header = match significant {
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | u8::try_from(long.len()).expect("four at most")], long].concat(),
    };
    [header, content].concat()
}

fn check(der: &[u8]) {
    let csr = match Csr::parse(der) {
        Ok(csr) => csr,
        Err(error) => return check_error(&error),
    };
    assert!(der.len() <= MAX_CSR_OCTETS);
    let names: Vec<Identifier> = csr.names().cloned().collect();
    assert!((1..=MAX_NAMES).contains(&names.len()), "{} names", names.len());
    assert_eq!(BTreeSet::from_iter(&names).len(), names.len());
    for name in &names {
        let again =
            if let Identifier::Ip(_) = name { Identifier::ip(&name.value()) } else { Identifier::dns(&name.value()) };
        assert_eq!(again.as_ref(), Ok(name));
    }
    assert_eq!(csr.check_names(&names), Ok(()));
    let (first, rest) = names.split_first().expect("there is one");
    let error = csr.check_names(rest).expect_err("a name of the CSR is not in the order");
    assert_eq!(error, CsrError::OtherNames { missing: vec![], extra: vec![first.value()] });
    check_error(&error);
    let error = csr.check_names(&[]).expect_err("no name of the CSR is in the order");
    check_error(&error);
}

fn check_error(error: &CsrError) {
    let told = error.to_string();
    assert!(!told.chars().any(char::is_control), "{told:?}");
    assert!(told.len() <= 4_000, "{} octets: {told}", told.len());
}
