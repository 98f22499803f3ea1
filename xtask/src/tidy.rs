//! The house rules that a machine can check: who may know whom, and how files are named and described.

mod arrows;
mod crate_pages;
mod file_names;
mod foreign_crates;
mod invariants;
mod links;
mod summary;
mod unfinished;

use std::fs;
use std::path::Path;

use crate::failure::{Context, Failure};

/// Directories at the root that hold no source of the project.
const NOT_SOURCE: &[&str] = &["target", "akamu-trial", "akamu-data"];

/// A file of the project: its path from the root, with `/`, and its text where it is text.
#[derive(Debug)]
struct SourceFile {
    path: String,
    text: Option<String>,
}

impl SourceFile {
    /// The text of a file whose name ends so.
    fn text_of(&self, extension: &str) -> Option<&str> {
        self.text.as_deref().filter(|_| self.path.ends_with(extension))
    }

    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: Some(text.to_owned()) }
    }
}

/// Checks every rule and fails with the list of what broke one.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let files = source_files(root)?;
    let metadata = arrows::metadata()?;
    let mut violations = arrows::violations(&arrows::packages(&metadata));
    violations.extend(foreign_crates::violations(&metadata));
    violations.extend(crate_pages::violations(&files));
    violations.extend(file_names::violations(&files));
    violations.extend(unfinished::violations(&files));
    violations.extend(summary::violations(&files));
    let exists = |path: &str| root.join(path).exists();
    violations.extend(links::violations(&files, &exists));
    violations.extend(invariants::violations(&files, &exists));
    if violations.is_empty() {
        println!("crate arrows and house rules hold in {} files", files.len());
        return Ok(());
    }
    for violation in &violations {
        println!("{violation}");
    }
    Err(Failure::new(format!("{} house rules broken (above)", violations.len())))
}

/// Every file of the project, in a stable order.
fn source_files(root: &Path) -> Result<Vec<SourceFile>, Failure> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let reading = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(&directory).context(reading)? {
            let path = entry.context(reading)?.path();
            if is_source(root, &path) {
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push(source_file(root, &path)?);
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_source(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    if name == ".git" || path.is_symlink() {
        return false;
    }
    path.parent() != Some(root) || !NOT_SOURCE.iter().any(|directory| name == *directory)
}

fn source_file(root: &Path, path: &Path) -> Result<SourceFile, Failure> {
    let octets = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    Ok(SourceFile { path: relative.to_string_lossy().replace('\\', "/"), text: String::from_utf8(octets).ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_products_and_git_are_no_source() {
        let root = tempfile::tempdir().unwrap();
        for directory in [".git", "target", "crates/target"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("x.rs"), "").unwrap();
        }
        let paths: Vec<String> = source_files(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["crates/target/x.rs"]);
    }
}
