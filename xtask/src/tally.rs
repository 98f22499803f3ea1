//! The sum of what cargo's test binaries reported.

use std::fmt;

/// How many tests passed and failed, and which failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    failed_names: Vec<String>,
}

impl Tally {
    /// Takes in one line of `cargo test`'s standard output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed_names.push(name.to_owned());
        }
    }

    pub(crate) fn failed_names(&self) -> &[String] {
        &self.failed_names
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number before `word` in `ok. 12 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    counts
        .split(['.', ';'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test order::expires ... ok",
            "test order::tests::is_ready ... FAILED",
            "test result: FAILED. 11 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.30s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.to_string(), "41 passed, 1 failed");
        assert_eq!(tally.failed_names(), ["order::tests::is_ready"]);
        assert!(tally.any_failed());
    }

    #[test]
    fn no_result_is_no_test() {
        assert_eq!(Tally::default().to_string(), "0 passed, 0 failed");
    }
}
