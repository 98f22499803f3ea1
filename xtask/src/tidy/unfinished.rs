//! Nothing unfinished is committed: no placeholder that panics, no test that does not run.

use super::SourceFile;

/// Put together here, or this file would break its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("to", "do!("), "write it, or leave the caller out"),
    (concat!("unimpl", "emented!("), "write it, or leave the caller out"),
    (concat!("#[ig", "nore"), "a test runs, or it is deleted"),
];

pub(super) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        let Some(text) = file.text_of(".rs") else { continue };
        for (number, line) in text.lines().enumerate() {
            for (found, instead) in FORBIDDEN.iter().filter(|(forbidden, _)| line.contains(forbidden)) {
                violations.push(format!("{}:{}: `{found}`: {instead}", file.path, number + 1));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_ignored_tests_are_named_with_their_line() {
        let text = format!("fn f() {{\n    {}\"later\")\n}}\n{}]\n", FORBIDDEN[0].0, FORBIDDEN[2].0);
        let said = violations(&[SourceFile::new("crates/a/src/order.rs", &text)]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("crates/a/src/order.rs:2: "));
        assert!(said[1].starts_with("crates/a/src/order.rs:4: "));
    }

    #[test]
    fn finished_code_and_other_files_pass() {
        let text = FORBIDDEN[0].0;
        let files = [SourceFile::new("docs/src/a.md", text), SourceFile::new("crates/a/src/lib.rs", "fn f() {}")];
        assert_eq!(violations(&files), [""; 0]);
    }
}
