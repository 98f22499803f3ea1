//! vectors/jws.json, and requests that it has no case for.

use akamu_proto::{ErrorType, Jws};

#[test]
fn every_request_is_judged_as_its_vector_says() {
    crate::case_file::assert_holds::<crate::jws_case::Case>("jws", 58);
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
