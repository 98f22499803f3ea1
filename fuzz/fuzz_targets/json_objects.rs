//! Every object that a client sends as a payload (RFC 8555 §7), read from the same JSON.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use akamu_proto::{
    AccountId, AccountUpdateRequest, AuthorizationId, AuthorizationUpdateRequest, CertificateId, Contact, DnsName,
    FinalizeRequest, Identifier, Jwk, KeyAuthorization, KeyChangeRequest, MAX_IDENTIFIERS, NewAccountRequest,
    NewOrderRequest, OrderId, Problem, RevocationReason, RevokeRequest, Timestamp,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|octets: &[u8]| {
    let Ok(json) = std::str::from_utf8(octets) else { return };
    if let Ok(order) = serde_json::from_str::<NewOrderRequest>(json) {
        check_order(&order);
    }
    if let Ok(NewAccountRequest { contact: Some(urls), .. }) = serde_json::from_str(json) {
        check_contacts(&urls);
    }
    if let Ok(AccountUpdateRequest { contact: Some(urls), .. }) = serde_json::from_str(json) {
        check_contacts(&urls);
    }
    if let Ok(request) = serde_json::from_str::<KeyChangeRequest<'_>>(json) {
        check_key(request.old_key.get());
    }
    if let Ok(RevokeRequest { reason: Some(code), .. }) = serde_json::from_str(json) {
        let reason = RevocationReason::from_code(code);
        assert!(reason.is_none_or(|it| i64::from(it.code()) == code));
    }
    let _ = serde_json::from_str::<FinalizeRequest>(json);
    let _ = serde_json::from_str::<AuthorizationUpdateRequest>(json);
    if let Ok(problem) = serde_json::from_str::<Problem>(json) {
        check_problem(&problem);
    }
    check_key(json);
    // What stands in the objects, and in URLs.
    comes_back::<AccountId>(json);
    comes_back::<OrderId>(json);
    comes_back::<AuthorizationId>(json);
    comes_back::<CertificateId>(json);
    if let Ok(key_authorization) = json.parse::<KeyAuthorization>() {
        assert_eq!(key_authorization.as_str(), json);
        assert_eq!(json.split_once('.').map(|(token, _)| token), Some(key_authorization.token()));
    }
    if let Ok(moment) = json.parse::<Timestamp>() {
        // Shown in whole seconds.
        assert_eq!(moment.to_string().parse(), Ok(moment.floor_secs()));
    }
    for kind in ["dns", "ip"] {
        if let Ok(identifier) = Identifier::parse(kind, json) {
            check_identifier(&identifier);
        }
    }
    if let Ok(name) = DnsName::parse(json) {
        assert_eq!(DnsName::parse(name.as_str()), Ok(name));
    }
});

fn comes_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(id) = text.parse::<T>() {
        assert_eq!(id.to_string(), text);
    }
}

fn check_order(order: &NewOrderRequest) {
    match order.parse_identifiers() {
        Ok(identifiers) => {
            assert!((1..=MAX_IDENTIFIERS.min(order.identifiers.len())).contains(&identifiers.len()));
            for (index, identifier) in identifiers.iter().enumerate() {
                check_identifier(identifier);
                assert!(!identifiers[..index].contains(identifier), "{identifier} twice");
            }
        }
        Err(problem) => {
            assert!(problem.subproblems.len() <= order.identifiers.len());
            check_problem(&problem);
            assert!(!problem.detail.chars().any(char::is_control), "{:?}", problem.detail);
            assert!(problem.detail.len() <= 4_000, "{} octets", problem.detail.len());
        }
    }
}

/// The canonical form of an identifier is its own canonical form.
fn check_identifier(identifier: &Identifier) {
    let Ok(Value::Object(object)) = serde_json::to_value(identifier) else { panic!("{identifier} is no object") };
    let member = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(Identifier::parse(&member("type"), &member("value")).as_ref(), Ok(identifier));
    assert_eq!(identifier.is_wildcard(), member("value").starts_with("*."));
}

fn check_contacts(urls: &[String]) {
    match Contact::parse_all(urls) {
        Ok(contacts) => {
            assert!(contacts.len() <= Contact::MAX);
            assert!(contacts.iter().all(|it| it.as_str().bytes().all(|c| c.is_ascii_graphic())));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control) && text.len() < 2_000, "{text:?}");
        }
    }
}

fn check_key(json: &str) {
    if let Ok(key) = Jwk::parse(json) {
        assert_eq!(Jwk::parse(key.canonical()).as_ref(), Ok(&key));
    }
}

fn check_problem(problem: &Problem) {
    let json = serde_json::to_string(problem).expect("a problem always serialises");
    assert!(!json.bytes().any(|c| c < b' '), "{json}");
    assert_eq!(serde_json::from_str::<Problem>(&json).as_ref().ok(), Some(problem));
}
