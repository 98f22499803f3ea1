//! Every crate says what it is for: a README, which is its documentation's first page too.

use super::SourceFile;

const INCLUDES_README: &str = r#"#![doc = include_str!("../README.md")]"#;

pub(super) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut violations = Vec::new();
    for directory in crates(files) {
        let readme = format!("{directory}/README.md");
        if !files.iter().any(|file| file.path == readme) {
            violations.push(format!("{readme} is missing: it says what the crate is for and whom it may know"));
        }
        let lib = format!("{directory}/src/lib.rs");
        match files.iter().find(|file| file.path == lib) {
            None => violations.push(format!("{lib} is missing")),
            Some(file) if !file.text_of("lib.rs").unwrap_or_default().contains(INCLUDES_README) => {
                violations.push(format!("{lib} lacks the line {INCLUDES_README}"));
            }
            Some(_) => {}
        }
    }
    violations
}

/// The directories under crates/ that are packages.
fn crates(files: &[SourceFile]) -> impl Iterator<Item = &str> {
    files.iter().filter_map(|file| {
        let directory = file.path.strip_suffix("/Cargo.toml")?;
        let name = directory.strip_prefix("crates/")?;
        (!name.contains('/')).then_some(directory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[(&str, &str)]) -> Vec<SourceFile> {
        paths.iter().map(|(path, text)| SourceFile::new(path, text)).collect()
    }

    #[test]
    fn a_crate_whose_readme_is_its_first_page_passes() {
        let lib = format!("{INCLUDES_README}\n\nmod order;\n");
        let files =
            files(&[("crates/a/Cargo.toml", ""), ("crates/a/README.md", "# a"), ("crates/a/src/lib.rs", lib.as_str())]);
        assert_eq!(violations(&files), [""; 0]);
    }

    #[test]
    fn a_missing_page_and_a_missing_include_are_named() {
        let files = files(&[("crates/a/Cargo.toml", ""), ("crates/a/src/lib.rs", "//! A crate.")]);
        let said = violations(&files);
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("crates/a/README.md is missing"));
        assert!(said[1].starts_with("crates/a/src/lib.rs lacks the line"));
    }

    #[test]
    fn a_crate_without_a_library_is_named() {
        let files = files(&[("crates/a/Cargo.toml", ""), ("crates/a/README.md", "")]);
        assert_eq!(violations(&files), ["crates/a/src/lib.rs is missing"]);
    }
}
