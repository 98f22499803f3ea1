//! vectors/identifiers.json

use akamu_proto::NewOrderRequest;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    id: String,
    identifier: Value,
    requires: Option<String>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    accepted: Value,
    canonical: Option<Value>,
    wildcard: Option<bool>,
    #[serde(default)]
    error: Vec<String>,
}

#[test]
fn every_identifier_is_judged_as_its_vector_says() {
    let mut failures = Vec::new();
    for case in crate::cases::<Case>("identifiers", 59) {
        if case.requires.as_deref() == Some("public-suffix-policy") {
            continue;
        }
        let order: NewOrderRequest = serde_json::from_value(json!({ "identifiers": [case.identifier] })).unwrap();
        match order.parse_identifiers() {
            Ok(identifiers) => {
                let [identifier] = identifiers.as_slice() else { panic!("{}: one in, one out", case.id) };
                let shown = serde_json::to_value(identifier).unwrap();
                if case.expect.accepted == json!(false)
                    || case.expect.canonical != Some(shown.clone())
                    || case.expect.wildcard != Some(identifier.is_wildcard())
                {
                    failures.push(format!("{}: accepted as {shown}", case.id));
                }
            }
            Err(problem) => {
                let [subproblem] = problem.subproblems.as_slice() else { panic!("{}: {problem:?}", case.id) };
                let named = case.expect.error.iter().any(|it| it == subproblem.error_type.name());
                if case.expect.accepted == json!(true) || !named || problem.error_type != subproblem.error_type {
                    failures.push(format!("{}: refused as {problem:?}", case.id));
                }
            }
        }
    }
    crate::report(&failures);
}
