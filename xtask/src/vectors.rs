//! `cargo xtask vectors PATH…`: runs test vectors, ours or those of another CA's author.
//!
//! The checks are the crates' own, in their examples; here each file's format is found and the outcomes are
//! added up.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use serde_json::Value;

use crate::failure::{Context, Failure};
use crate::process::project_root;

#[derive(Debug, Args)]
pub(crate) struct VectorsArgs {
    /// Files in a format of vectors/README.md
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// An example of a crate that checks cases.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Example {
    package: &'static str,
    name: &'static str,
    feature: &'static str,
}

const REQUESTS: Example = Example { package: "akamu-proto", name: "request_vectors", feature: "verify" };
const CHALLENGES: Example = Example { package: "akamu-challenge", name: "vectors", feature: "testing" };

/// A format's name, the example that checks it, and the members by one of which its cases are known. The first whose
/// members are found is the format of a file.
const FORMATS: &[(&str, Example, &[&str])] = &[
    ("jws", REQUESTS, &["kind"]),
    ("address_policy", CHALLENGES, &["address"]),
    ("dns_persist_01", CHALLENGES, &["issuer_domains"]),
    ("dns_01", CHALLENGES, &["dns"]),
    ("tls_alpn_01", CHALLENGES, &["handshake", "chain", "key", "expect.sni"]),
    ("http_01", CHALLENGES, &["response", "after", "expect.request", "expect.requests"]),
    ("identifiers", REQUESTS, &["expect.accepted"]),
];

/// What came of all cases.
#[derive(Debug, Default)]
struct Outcome {
    /// What is said of those that did not pass.
    told: String,
    passed: usize,
    failed: usize,
}

/// Runs every case. Exit status 1 where one fails, 2 where a file cannot be understood.
pub(crate) fn run(args: &VectorsArgs) -> ExitCode {
    match run_files(&args.paths) {
        Ok(Outcome { told, passed, failed }) => {
            println!("{told}{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(2)
        }
    }
}

fn run_files(paths: &[PathBuf]) -> Result<Outcome, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).context(|| path.display().to_string())?;
        let value: Value = serde_json::from_str(&text).context(|| path.display().to_string())?;
        let (format, example) = format_of(&value)
            .ok_or_else(|| Failure::new(format!("{}: its cases are of no known format", path.display())))?;
        files.push((example, format, path.as_path()));
    }
    let mut outcome = Outcome::default();
    for example in [REQUESTS, CHALLENGES] {
        let its_own: Vec<_> =
            files.iter().filter(|(it, ..)| *it == example).map(|(_, it, path)| (*it, *path)).collect();
        if !its_own.is_empty() {
            let more = run_example(example, &its_own)?;
            outcome.told += &more.told;
            outcome.passed += more.passed;
            outcome.failed += more.failed;
        }
    }
    Ok(outcome)
}

/// The format of a file's cases, and who checks them.
fn format_of(file: &Value) -> Option<(&'static str, Example)> {
    let cases = file["cases"].as_array()?;
    let has = |member: &str| {
        cases.iter().any(|case| match member.strip_prefix("expect.") {
            None => case.get(member).is_some(),
            Some(member) => case["expect"].get(member).is_some(),
        })
    };
    let (format, example, _) = FORMATS.iter().find(|(.., members)| members.iter().any(|member| has(member)))?;
    Some((format, *example))
}

/// Runs an example on these files.
fn run_example(example: Example, files: &[(&str, &Path)]) -> Result<Outcome, Failure> {
    let Example { package, name, feature } = example;
    // Not in the project's root: the paths are relative to where the command was typed.
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--locked", "--package", package, "--features", feature, "--example", name]);
    command.arg("--manifest-path").arg(project_root().join("Cargo.toml")).arg("--");
    for (format, path) in files {
        command.arg(format).arg(path);
    }
    let output = command.output().context(|| format!("cannot run the example {name} of {package}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.trim_end();
    let (told, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let Some((passed, failed)) = tally(last) else {
        // Of a file, or of building the example.
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim_end()));
    };
    let told = if told.is_empty() { String::new() } else { format!("{told}\n") };
    Ok(Outcome { told, passed, failed })
}

/// Reads `N passed, M failed`.
fn tally(line: &str) -> Option<(usize, usize)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> Value {
        let path = project_root().join("vectors").join(name);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_format_of_each_of_our_files_is_found() {
        let entries = fs::read_dir(project_root().join("vectors")).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        let names: Vec<_> = names.filter(|it| it.ends_with(".json")).collect();
        assert_eq!(names.len(), 8);
        for name in names {
            let format = format_of(&ours(&name)).unwrap().0;
            assert_eq!(format, name.trim_end_matches(".json").trim_end_matches("_hashed"));
        }
    }

    #[test]
    fn cases_of_no_format_have_none() {
        for text in ["7", "{}", r#"{"cases": []}"#, r#"{"cases": [{"id": "a", "expect": {"valid": true}}]}"#] {
            assert!(format_of(&serde_json::from_str(text).unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_case_that_comes_out_otherwise_is_named_and_one_that_is_misspelt_stops_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("theirs.json");
        let mut file = ours("identifiers.json");
        file["cases"][0]["expect"] = serde_json::json!({"accepted": false, "error": ["malformed"]});
        fs::write(&path, file.to_string()).unwrap();
        let Outcome { told, passed, failed } = run_files(std::slice::from_ref(&path)).unwrap();
        assert_eq!((passed, failed), (58, 1), "{told}");
        assert!(
            told.starts_with(&format!("{}: plain: failed\n    expected refused as malformed, got ", path.display()))
        );
        assert_eq!(run(&VectorsArgs { paths: vec![path.clone()] }), ExitCode::FAILURE);

        file["cases"][1]["identifer"] = "a".into();
        fs::write(&path, file.to_string()).unwrap();
        let failure = run_files(std::slice::from_ref(&path)).unwrap_err().to_string();
        let id = file["cases"][1]["id"].as_str().unwrap();
        let expected = format!("{}: case {id:?}: unknown field `identifer`, expected ", path.display());
        assert!(failure.starts_with(&expected) && failure.lines().count() == 1, "{failure}");
        assert_eq!(run(&VectorsArgs { paths: vec![path] }), ExitCode::from(2));
    }
}
