//! Reading the vectors of the repository.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct File<T> {
    cases: Vec<T>,
}

/// The cases of a file in `vectors/`. `count` is how many there are: one more or less is a change to look at.
pub(crate) fn read<T: DeserializeOwned>(file: &str, count: usize) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File<T> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(file.cases.len(), count, "{}", path.display());
    file.cases
}

/// Runs `check` on every case and panics with the ids of those that fail.
pub(crate) fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}
