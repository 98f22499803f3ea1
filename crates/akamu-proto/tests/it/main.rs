//! The workspace's test vectors of identifiers and JWS, case by case.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod identifiers;
mod jws;

use serde::de::DeserializeOwned;

/// Reads `vectors/<name>.json`: a list of cases, whose number is asserted so that none is lost.
fn cases<T: DeserializeOwned>(name: &str, count: usize) -> Vec<T> {
    #[derive(serde::Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    let path = format!("{}/../../vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases = serde_json::from_str::<File<T>>(&text).unwrap_or_else(|error| panic!("{path}: {error}")).cases;
    assert_eq!(cases.len(), count, "{path}");
    cases
}

/// Fails with every line that a case has left behind.
fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
