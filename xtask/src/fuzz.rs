//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, one after the other, from the test vectors on.
//!
//! What a run finds stays under target/fuzz, and the next one goes on from there.

mod seeds;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cargo_tool;
use crate::failure::{Context, Failure};
use crate::process::{self, project_root};

/// Every target, as fuzz/Cargo.toml has them, and where a crash of it goes when it is mended.
const TARGETS: &[(&str, &str)] = &[
    ("jws", "a case of vectors/jws.json (`body`)"),
    ("json_objects", "a case of vectors/identifiers.json, or a test in crates/akamu-proto/src"),
    ("problem", "a test in crates/akamu-challenge/tests/it/report.rs"),
    ("csr", "a test in crates/akamu-ca/tests/it/csr.rs"),
    ("dns_persist_record", "a case of vectors/dns_persist_01.json (`txt`)"),
    ("dns_answer", "a test in crates/akamu-challenge/tests/it/dns"),
    ("http_01_response", "a case of vectors/http_01.json (`response`, without the first octet)"),
    ("tls_alpn_01_certificate", "a case of vectors/tls_alpn_01.json (`chain`)"),
];

/// Where rustc puts the programs: the target is named, so that build scripts are not instrumented.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Run this target alone
    #[arg(long, value_name = "TARGET", value_parser = PossibleValuesParser::new(TARGETS.iter().map(|(target, _)| target)))]
    only: Option<String>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

/// Builds all targets and runs each, whether or not one before it crashed.
pub(crate) fn run(args: &FuzzArgs) -> Result<(), Failure> {
    let toolchains = process::output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !toolchains.lines().any(|it| it.starts_with("nightly")) {
        return Err(Failure::new(
            "missing: a nightly toolchain, which libFuzzer needs (rustup toolchain install nightly)",
        ));
    }
    let cargo_fuzz = cargo_tool::installed("cargo-fuzz", !args.no_install)?;
    let root = project_root();
    let build = root.join("target/fuzz-build");
    let mut command = process::cargo_subcommand(&cargo_fuzz);
    command.args(["build", "--fuzz-dir", "fuzz", "--target", PLATFORM, "--target-dir"]).arg(&build);
    // The toolchain that runs us is not the one that is to build.
    process::run(command.args(&args.only).env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC"))?;

    let directory = root.join("target/fuzz");
    seeds::write(&root, &directory.join("corpus"))?;
    let mut crashed = Vec::new();
    for (target, home) in TARGETS.iter().filter(|(it, _)| args.only.as_deref().is_none_or(|only| only == *it)) {
        let program = build.join(PLATFORM).join("release").join(target);
        let (log, succeeded) = run_target(target, &program, &directory, args.seconds)?;
        println!("{}", log.told(target, home, succeeded));
        if !succeeded {
            crashed.push(*target);
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("crashed: {}", crashed.join(", "))))
}

/// Runs one target; `false` where it crashed.
fn run_target(target: &str, program: &Path, directory: &Path, seconds: u32) -> Result<(Log, bool), Failure> {
    let (corpus, artifacts) = (directory.join("corpus").join(target), directory.join("artifacts").join(target));
    for path in [&corpus, &artifacts] {
        fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))?;
    }
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).args(["-timeout=10", "-print_final_stats=1"]);
    // To weigh inputs by their rare features costs two thirds of the time where one run has thousands of features.
    command.arg("-entropic=0");
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    // What cargo-fuzz sets: libFuzzer's own globals stand twice.
    command.env("ASAN_OPTIONS", "detect_odr_violation=0").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| format!("cannot run {}", program.display()))?;
    let mut log = Log::default();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.context(|| format!("cannot read what {target} says"))?;
            log.read(&String::from_utf8_lossy(&line));
        }
    }
    let succeeded = child.wait().context(|| format!("cannot wait for {target}"))?.success();
    Ok((log, succeeded))
}

/// What of libFuzzer's output is told.
#[derive(Debug, Default)]
struct Log {
    executions: Option<u64>,
    /// The input that it crashed with.
    input: Option<PathBuf>,
    /// What was said from the panic or sanitizer's error on.
    crash: Vec<String>,
}

impl Log {
    fn read(&mut self, line: &str) {
        /// Of a crash: the message and the first calls.
        const MAX_LINES: usize = 30;
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number.trim().parse().ok();
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some(path.trim().into());
        }
        let begins = line.contains("panicked at") || line.contains("ERROR: ");
        if (begins || !self.crash.is_empty()) && self.crash.len() < MAX_LINES {
            self.crash.push(line.to_owned());
        }
    }

    fn told(&self, target: &str, home: &str, succeeded: bool) -> String {
        let executions = self.executions.map_or_else(|| "an unknown number of".to_owned(), |it| it.to_string());
        if succeeded {
            return format!("{target}: {executions} executions, no crash");
        }
        let mut told = format!("{}\n{target}: {executions} executions, CRASHED", self.crash.join("\n"));
        if let Some(input) = &self.input {
            told += &format!("\n    the input is {}", input.display());
        }
        told += &format!("\n    when it is mended, make it {home}");
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_run() {
        let manifest = fs::read_to_string(project_root().join("fuzz/Cargo.toml")).unwrap();
        let (_, binaries) = manifest.split_once("[[bin]]").unwrap();
        let names: Vec<_> = binaries.lines().filter_map(|it| it.strip_prefix("name = ")).collect();
        assert_eq!(names, Vec::from_iter(TARGETS.iter().map(|(target, _)| format!("{target:?}"))));
    }

    #[test]
    fn a_crash_is_told_with_its_input() {
        let mut log = Log::default();
        for line in [
            "INFO: Seed: 1",
            "thread '<unnamed>' panicked at fuzz_targets/jws.rs:3:1:",
            "left is not right",
            "stat::number_of_executed_units: 77",
            "artifact_prefix='/a/'; Test unit written to /a/crash-0",
        ] {
            log.read(line);
        }
        let told = log.told("jws", "a case", false);
        assert!(told.starts_with("thread '<unnamed>' panicked at") && !told.contains("Seed"), "{told}");
        assert!(
            told.ends_with("CRASHED\n    the input is /a/crash-0\n    when it is mended, make it a case"),
            "{told}"
        );
        assert_eq!(log.told("jws", "a case", true), "jws: 77 executions, no crash");
    }
}
