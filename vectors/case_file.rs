//! A file of test vectors: how it is read, how its cases are checked and how the outcome is told.
//!
//! One file for every crate that has vectors: its tests and its example take it in by `#[path]`.

use std::collections::HashSet;
use std::path::Path;
#[cfg(not(test))]
use std::process::ExitCode;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The whole file. Another member is a mistake, and so is one more in a case: nothing that is written goes unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Value>,
    cases: Vec<Map<String, Value>>,
}

/// A case of one format: what is to be done, and what is to come of it.
pub(crate) trait Case: DeserializeOwned {
    /// Does it. Each line says of one thing what was expected and what came; `None` where the case asks for a policy that
    /// we have not, and so does not apply.
    fn run(&self) -> Option<Vec<String>>;
}

/// The cases of a file, each with its id.
pub(crate) struct Cases<T>(Vec<(String, T)>);

/// What came of a file's cases.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    /// The id of each case that failed, with its differences.
    pub(crate) failed: Vec<(String, Vec<String>)>,
    /// The id of each case that does not apply.
    pub(crate) inapplicable: Vec<String>,
}

impl<T: DeserializeOwned> Cases<T> {
    /// Reads a file.
    ///
    /// # Errors
    /// One line: which file, where in it, and what is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let in_file = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
        let file: File = serde_json::from_str(&text).map_err(|error| in_file(error.to_string()))?;
        let mut ids = HashSet::new();
        let mut cases = Vec::new();
        for (index, mut case) in file.cases.into_iter().enumerate() {
            let Some(Value::String(id)) = case.remove("id") else {
                return Err(in_file(format!("case number {} has no \"id\"", index + 1)));
            };
            case.remove("why");
            let parsed = serde_json::from_value(Value::Object(case));
            let parsed = parsed.map_err(|error| in_file(format!("case {id:?}: {error}")))?;
            if !ids.insert(id.clone()) {
                return Err(in_file(format!("two cases have the id {id:?}")));
            }
            cases.push((id, parsed));
        }
        Ok(Self(cases))
    }
}

/// Cases of any format.
pub(crate) trait Run {
    /// Runs every one of them.
    fn run(&self) -> Tally;
}

impl<T: Case> Run for Cases<T> {
    fn run(&self) -> Tally {
        let mut tally = Tally::default();
        for (id, case) in &self.0 {
            match case.run() {
                Some(differences) if differences.is_empty() => tally.passed += 1,
                Some(differences) => tally.failed.push((id.clone(), differences)),
                None => tally.inapplicable.push(id.clone()),
            }
        }
        tally
    }
}

/// Runs `vectors/<format>.json`, which has this many cases, and panics with the ids of those that fail. Each of them
/// applies to us.
#[cfg(test)]
pub(crate) fn assert_holds<T: Case>(format: &str, count: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(format!("{format}.json"));
    let cases = Cases::<T>::read(&path).unwrap_or_else(|error| panic!("{error}"));
    let tally = cases.run();
    let lines: Vec<_> =
        tally.failed.iter().flat_map(|(id, it)| it.iter().map(move |it| format!("{id}: {it}"))).collect();
    assert!(lines.is_empty(), "{} cases fail:\n{}", tally.failed.len(), lines.join("\n"));
    assert_eq!((tally.passed, tally.inapplicable), (count, vec![]), "{}", path.display());
}

/// Reads a file of a known format.
///
/// # Errors
/// One line: which file, where in it, and what is wrong.
#[cfg(not(test))]
pub(crate) fn load<T: Case + 'static>(path: &Path) -> Result<Box<dyn Run>, String> {
    Ok(Box::new(Cases::<T>::read(path)?))
}

/// An example: its arguments are pairs of a format and a path. Reads all files before it runs the first case.
#[cfg(not(test))]
pub(crate) fn main(load: impl Fn(&str, &Path) -> Result<Box<dyn Run>, String>) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut files = Vec::new();
    for pair in arguments.chunks(2) {
        let loaded = match pair {
            [format, path] => load(&format.to_string_lossy(), Path::new(path)).map(|cases| (path, cases)),
            _ => Err("expected are pairs of a format and a path".to_owned()),
        };
        match loaded {
            Ok(file) => files.push(file),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
    }
    let (mut passed, mut failed) = (0, 0);
    for (path, cases) in files {
        let path = Path::new(path).display();
        let tally = cases.run();
        for (id, differences) in &tally.failed {
            println!("{path}: {id}: failed");
            for difference in differences {
                println!("    {}", difference.replace('\n', "\n    "));
            }
        }
        for id in &tally.inapplicable {
            println!("{path}: {id}: does not apply: it requires a policy that is not there");
        }
        passed += tally.passed;
        failed += tally.failed.len();
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The error types of which one is expected, in words.
pub(crate) fn one_of(error_types: &[String]) -> String {
    error_types.join(" or ")
}
