//! What all challenge types' cases expect of a report.

use std::fmt;

use akamu_challenge::{MAX_REPORT_OCTETS, ValidationReport};

use crate::case_file::one_of;

/// Where the report concludes something else than is expected: that, and the whole report.
pub(crate) fn conclusion(valid: Option<bool>, error: &[String], report: &ValidationReport) -> Option<String> {
    let is_expected = match report.result() {
        Ok(_) => valid == Some(true),
        Err(got) => valid == Some(false) && error.iter().any(|it| it == got.error_type.name()),
    };
    let expected = match valid {
        Some(true) => "valid".to_owned(),
        Some(false) => format!("invalid, {}", one_of(error)),
        None => "valid or not (the case does not say)".to_owned(),
    };
    let got = if report.is_valid() { "valid" } else { "invalid" };
    (!is_expected).then(|| format!("conclusion: expected {expected}, got {got}:\n{report}"))
}

/// Where the report is longer than one may be.
pub(crate) fn report_length(report: &ValidationReport) -> Option<String> {
    let octets = report.to_octets().len();
    (octets > MAX_REPORT_OCTETS).then(|| format!("report: expected at most {MAX_REPORT_OCTETS} octets, got {octets}"))
}

/// One line where the two differ, `None` where they are the same.
pub(crate) fn difference<T: PartialEq + fmt::Debug>(what: &str, expected: &T, got: &T) -> Option<String> {
    (expected != got).then(|| format!("{what}: expected {expected:?}, got {got:?}"))
}
