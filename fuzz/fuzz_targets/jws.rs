//! A request body as a JWS (RFC 8555 §6.2): read, and its signature checked where it brings its own key.

#![no_main]

use akamu_proto::{Algorithm, ErrorType, Jwk, Jws, JwsError, KeyReference, VerifyingKey};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    match Jws::parse(body) {
        Ok(jws) => check(&jws),
        Err(error) => check_error(&error),
    }
    // The header alone, so that mutations need not keep to base64url.
    let protected = Base64UrlUnpadded::encode_string(body);
    let flattened = format!(r#"{{"protected":"{protected}","payload":"e30","signature":"AA"}}"#);
    match Jws::parse(flattened.as_bytes()) {
        Ok(jws) => {
            assert_eq!(jws.payload(), b"{}");
            check(&jws);
        }
        Err(error) => check_error(&error),
    }
});

fn check(jws: &Jws) {
    assert!(Algorithm::ALL.contains(&jws.header().algorithm));
    let KeyReference::Jwk(jwk) = &jws.header().key else { return };
    assert_eq!(Jwk::parse(jwk.canonical()).as_ref(), Ok(&**jwk), "the canonical form is another key");
    assert_eq!(jwk.thumbprint().as_str().len(), 43);
    let Ok(key) = VerifyingKey::new(jwk) else { return };
    match jws.verify(&key) {
        Ok(()) => assert_eq!(jws.header().algorithm, key.algorithm()),
        Err(JwsError::KeyMismatch { algorithm }) => assert_ne!(algorithm, key.algorithm()),
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &JwsError) {
    let problem = error.problem();
    assert!(!problem.detail.chars().any(char::is_control), "{:?}", problem.detail);
    assert_eq!(problem.algorithms.is_empty(), problem.error_type != ErrorType::BadSignatureAlgorithm);
}
