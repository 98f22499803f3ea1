//! One file, one idea, named after it: a name that says nothing gathers what nobody looks for.

use super::SourceFile;

const SAY_NOTHING: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];

pub(super) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        // A module can be a directory as well.
        let Some(module) = file.path.strip_suffix(".rs") else { continue };
        if let Some(name) = module.split('/').find(|name| SAY_NOTHING.contains(name)) {
            violations.push(format!("{}: `{name}` says nothing; name it after its one idea", file.path));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> usize {
        violations(&[SourceFile::new(path, "")]).len()
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for path in ["crates/a/src/util.rs", "crates/a/src/misc.rs", "crates/a/tests/common/mod.rs", "x/helpers.rs"] {
            assert_eq!(check(path), 1, "{path}");
        }
    }

    #[test]
    fn names_of_ideas_and_other_kinds_of_files_pass() {
        for path in ["crates/a/src/order.rs", "crates/a/src/common_name.rs", "docs/src/misc.md"] {
            assert_eq!(check(path), 0, "{path}");
        }
    }
}
