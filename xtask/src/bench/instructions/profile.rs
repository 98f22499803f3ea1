//! Callgrind's file, read as far as it is needed: how many instructions each function ran itself.

use std::collections::{BTreeMap, HashMap};

use crate::failure::Failure;

/// Instructions by function, callees' not included.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Profile(BTreeMap<String, u64>);

/// Reads the format that valgrind's manual calls "Callgrind Format Specification", of one event.
pub(super) fn read(text: &str) -> Result<Profile, Failure> {
    let mut profile = Profile::default();
    // A name is written once, and its number from then on.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut function, mut is_call) = (String::new(), false);
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (number, name) = named.split_once(' ').unwrap_or((named, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if line.starts_with("fn=") {
                function = (*names.get(number).unwrap_or(&number)).to_owned();
            }
        } else if line.starts_with("calls=") {
            // The next line is what the callee ran.
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let instructions = line.split(' ').next_back().and_then(|it| it.parse::<u64>().ok());
            let instructions =
                instructions.ok_or_else(|| Failure::new(format!("callgrind wrote an unknown line: {line}")))?;
            if !std::mem::take(&mut is_call) {
                *profile.0.entry(function.clone()).or_default() += instructions;
            }
        }
    }
    if profile.0.is_empty() { Err(Failure::new("callgrind wrote nothing")) } else { Ok(profile) }
}

impl Profile {
    /// What is beyond the other one's.
    pub(super) fn without(mut self, other: &Self) -> Self {
        for (function, instructions) in &mut self.0 {
            *instructions = instructions.saturating_sub(other.0.get(function).copied().unwrap_or_default());
        }
        self
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Most first.
    pub(super) fn functions(&self) -> Vec<(String, u64)> {
        most_first(self.0.iter().map(|(function, instructions)| (function.clone(), *instructions)))
    }

    /// By whose code it is, most first.
    pub(super) fn owners(&self) -> Vec<(String, u64)> {
        let mut owners = BTreeMap::<&str, u64>::new();
        for (function, instructions) in &self.0 {
            *owners.entry(owner(function)).or_default() += instructions;
        }
        most_first(owners.into_iter().map(|(owner, instructions)| (owner.to_owned(), instructions)))
    }
}

fn most_first(costs: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut costs: Vec<_> = costs.filter(|(_, instructions)| *instructions > 0).collect();
    costs.sort_by_key(|(_, instructions)| std::cmp::Reverse(*instructions));
    costs
}

/// A Rust function's crate, or which of the libraries in C.
fn owner(function: &str) -> &str {
    let path = function.trim_start_matches(['<', '&', '(', '[', '*']).trim_start_matches("dyn ");
    let path = path.trim_start_matches("mut ").trim_start_matches("const ");
    match path.split_once("::") {
        Some((first, _)) if first.chars().all(|it| it.is_ascii_alphanumeric() || it == '_') => first,
        _ => library(function),
    }
}

fn library(function: &str) -> &'static str {
    const MEMORY: [&str; 10] = [
        "malloc",
        "free",
        "cfree",
        "calloc",
        "realloc",
        "_int_",
        "unlink_chunk",
        "sysmalloc",
        "aligned_alloc",
        "tcache",
    ];
    const CRYPTOGRAPHY: [&str; 8] = ["aws_lc", "nistz256", "p256", "sha256", "aes", "gcm", "beeu", "CBB"];
    let begins = |with: &[&str]| with.iter().any(|it| function.starts_with(it));
    if begins(&MEMORY) {
        "allocator"
    } else if begins(&["mem", "__mem", "str", "__str"]) {
        "copying and comparing"
    } else if CRYPTOGRAPHY.iter().any(|it| function.contains(it)) {
        "aws-lc"
    } else if begins(&["PQ", "pq", "pg_"]) {
        "libpq"
    } else {
        "SQLite and other C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
version: 1
positions: line
events: Ir
summary: 100

ob=(1) /usr/bin/server
fl=(1) a.rs
fn=(1) akamu_server::around
10 5
+1 2
cfn=(2) sqlite3_step
calls=3 20
+2 60
* 1

fn=(2)
20 30
fn=(3) <hyper::Body as core::fmt::Debug>::fmt
fi=(2) b.rs
-4 7
";

    #[test]
    fn a_call_is_counted_where_it_goes() {
        let profile = read(FILE).unwrap();
        let functions = profile.functions();
        let expected =
            [("sqlite3_step", 30), ("akamu_server::around", 8), ("<hyper::Body as core::fmt::Debug>::fmt", 7)];
        assert_eq!(functions, expected.map(|(function, it)| (function.to_owned(), it)));
        assert_eq!(profile.total(), 45);
        let owners: Vec<String> = profile.owners().into_iter().map(|(owner, _)| owner).collect();
        assert_eq!(owners, ["SQLite and other C", "akamu_server", "hyper"]);
    }

    #[test]
    fn what_is_done_once_is_subtracted() {
        let more = read(&FILE.replace("20 30", "20 90")).unwrap().without(&read(FILE).unwrap());
        assert_eq!(more.functions(), [("sqlite3_step".to_owned(), 60)]);
    }

    #[test]
    fn who_owns_a_function_is_read_from_its_name() {
        for (function, expected) in [
            ("<&mut serde_json::ser::Serializer<W> as serde::Serializer>::collect", "serde_json"),
            ("core::fmt::write", "core"),
            ("_int_malloc", "allocator"),
            ("aws_lc_0_32_1_CBB_flush", "aws-lc"),
            ("__ecp_nistz256_mul_montq", "aws-lc"),
            ("__memcpy_avx_unaligned_erms", "copying and comparing"),
            ("PQexecPrepared", "libpq"),
            ("walFindFrame", "SQLite and other C"),
        ] {
            assert_eq!(owner(function), expected, "{function}");
        }
    }
}
