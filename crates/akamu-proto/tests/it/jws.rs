//! vectors/jws.json, checked in the order in which a server does it.

use std::collections::HashMap;

use akamu_proto::{ErrorType, Jwk, Jws, KeyAuthorization, KeyReference, VerifyingKey};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    id: String,
    kind: String,
    jwk: Option<Value>,
    token: Option<String>,
    endpoint: Option<String>,
    request_url: Option<String>,
    #[serde(default)]
    nonces: Vec<String>,
    #[serde(default)]
    accounts: HashMap<String, Account>,
    body: Option<String>,
    body_parts: Option<Vec<Part>>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Account {
    status: String,
    jwk: Value,
}

#[derive(Deserialize)]
struct Part {
    text: String,
    repeat: Option<usize>,
}

#[derive(Deserialize)]
struct Expect {
    ok: bool,
    thumbprint: Option<String>,
    key_authorization: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    error: Vec<String>,
}

struct Accepted {
    thumbprint: String,
    key_authorization: Option<String>,
    payload: Option<String>,
}

fn thumbprint(case: &Case) -> Result<Accepted, ErrorType> {
    let jwk = Jwk::parse(&case.jwk.as_ref().unwrap().to_string()).map_err(|_| ErrorType::BadPublicKey)?;
    VerifyingKey::new(&jwk).map_err(|_| ErrorType::BadPublicKey)?;
    let key_authorization = case.token.as_ref().map(|token| {
        let token = token.parse().unwrap();
        KeyAuthorization::new(&token, &jwk.thumbprint()).as_str().to_owned()
    });
    Ok(Accepted { thumbprint: jwk.thumbprint().to_string(), key_authorization, payload: None })
}

fn request(case: &Case) -> Result<Accepted, ErrorType> {
    let body = match (&case.body, &case.body_parts) {
        (Some(body), _) => body.clone(),
        (None, Some(parts)) => parts.iter().map(|it| it.text.repeat(it.repeat.unwrap_or(1))).collect(),
        (None, None) => panic!("{}: no body", case.id),
    };
    let jws = Jws::parse(body.as_bytes()).map_err(|error| error.error_type())?;
    if Some(&jws.header().url) != case.request_url.as_ref() {
        return Err(ErrorType::Unauthorized);
    }
    if !jws.header().nonce.as_ref().is_some_and(|nonce| case.nonces.contains(nonce)) {
        return Err(ErrorType::BadNonce);
    }
    let jwk = match (&jws.header().key, case.endpoint.as_deref()) {
        (KeyReference::Jwk(jwk), Some("jwk")) => (**jwk).clone(),
        (KeyReference::Kid(kid), Some("kid")) => {
            let account = case.accounts.get(kid).ok_or(ErrorType::AccountDoesNotExist)?;
            if account.status != "valid" {
                return Err(ErrorType::Unauthorized);
            }
            Jwk::parse(&account.jwk.to_string()).unwrap()
        }
        _ => return Err(ErrorType::Malformed),
    };
    let key = VerifyingKey::new(&jwk).map_err(|_| ErrorType::BadPublicKey)?;
    jws.verify(&key).map_err(|error| error.error_type())?;
    let payload = String::from_utf8(jws.payload().to_vec()).unwrap();
    Ok(Accepted { thumbprint: jwk.thumbprint().to_string(), key_authorization: None, payload: Some(payload) })
}

#[test]
fn every_request_is_judged_as_its_vector_says() {
    let mut failures = Vec::new();
    for case in crate::cases::<Case>("jws", 58) {
        let outcome = match case.kind.as_str() {
            "thumbprint" => thumbprint(&case),
            "request" => request(&case),
            other => panic!("{}: kind {other}", case.id),
        };
        match outcome {
            Ok(it) => {
                let expect = &case.expect;
                if !expect.ok
                    || expect.thumbprint.as_ref().is_some_and(|thumbprint| *thumbprint != it.thumbprint)
                    || expect.key_authorization != it.key_authorization
                    || expect.payload != it.payload
                {
                    failures.push(format!("{}: accepted, {:?}", case.id, it.payload));
                }
            }
            Err(error) => {
                if case.expect.ok || !case.expect.error.iter().any(|it| it == error.name()) {
                    failures.push(format!("{}: refused as {error}", case.id));
                }
            }
        }
    }
    crate::report(&failures);
}

#[test]
fn deep_nesting_is_refused_without_a_stack_overflow() {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in [nested.clone(), format!("{{\"protected\":{nested}}}"), format!("{{\"other\":{nested}}}")] {
        assert_eq!(Jws::parse(body.as_bytes()).unwrap_err().error_type(), ErrorType::Malformed);
    }
    assert!(Jws::parse(b"{\"protected\":\"\xff\",\"payload\":\"\",\"signature\":\"\"}").is_err());
}

#[test]
fn a_wrong_algorithm_is_answered_with_the_right_ones() {
    let problem = akamu_proto::JwsError::BadAlgorithm { name: "HS256".to_owned() }.problem();
    let json = serde_json::to_value(&problem).unwrap();
    assert_eq!(json["algorithms"], serde_json::json!(["ES256", "ES384", "RS256", "EdDSA"]));
}
