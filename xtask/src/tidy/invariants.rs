//! Each invariant of the architecture page names its check, and what it names is there.

use super::SourceFile;

const PAGE: &str = "docs/src/architecture.md";
const INVARIANT: &str = "*Invariant:*";
const CHECK: &str = "*Check:*";

pub(super) fn violations(files: &[SourceFile], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let page = files.iter().find(|file| file.path == PAGE);
    let Some(text) = page.and_then(|page| page.text_of(".md")) else { return Vec::new() };
    let mut violations = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| paragraph.trim_start().starts_with(INVARIANT)) {
        let first_line = paragraph.trim_start().lines().next().unwrap_or_default();
        let Some((_, check)) = paragraph.split_once(CHECK) else {
            violations.push(format!("{PAGE}: no {CHECK} stands after \"{first_line}\""));
            continue;
        };
        for named in code(check).filter(|named| !is_there(named, files, exists)) {
            violations.push(format!("{PAGE}: {named}, the check of \"{first_line}\", is not there"));
        }
    }
    violations
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A path exists, a test's name is a function's; anything else (a command, a lint's value) is for people.
fn is_there(named: &str, files: &[SourceFile], exists: &dyn Fn(&str) -> bool) -> bool {
    if named.contains(' ') || named.contains("::") {
        return true;
    }
    if named.contains(['/', '.']) {
        return exists(named);
    }
    let is_test =
        named.contains('_') && named.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let declared = format!("fn {named}(");
    !is_test || files.iter().any(|file| file.text_of(".rs").is_some_and(|text| text.contains(&declared)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        let files = [SourceFile::new(PAGE, text), SourceFile::new("crates/a/src/b.rs", "fn it_holds() {}")];
        violations(&files, &|path| path == "deny.toml")
    }

    #[test]
    fn checks_that_are_there_pass() {
        let text =
            "Text.\n\n*Invariant:* a. *Check:* `it_holds`,\n`deny.toml`, run by `cargo xtask ci`.\n\nMore `gone`.";
        assert_eq!(check(text), [""; 0]);
    }

    #[test]
    fn an_invariant_without_a_check_is_named() {
        assert_eq!(
            check("*Invariant:* all is well.\n"),
            [format!("{PAGE}: no {CHECK} stands after \"*Invariant:* all is well.\"")]
        );
    }

    #[test]
    fn a_check_that_is_gone_is_named() {
        for gone in ["it_held", "crates/a/src/c.rs", "clippy.toml"] {
            let said = check(&format!("*Invariant:* a.\n*Check:* `{gone}`."));
            assert!(matches!(said.as_slice(), [only] if only.contains(gone)), "{said:?}");
        }
    }
}
