//! What the shim has noted (`xtask/power-cut-shim/src/log.rs`): one call a record, in the order in which they were made.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A call. A number stands for a file that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Create { file: u64, path: PathBuf },
    Open { file: u64, path: PathBuf },
    Write { file: u64, at: usize, octets: Vec<u8> },
    Truncate { file: u64, length: usize },
    Sync { file: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    MakeDirectory { path: PathBuf },
}

/// Reads a log up to where the process was killed: its last record may be cut off, and then its call did not return.
pub(super) fn records(mut log: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((record, rest)) = first(log) {
        records.push(record);
        log = rest;
    }
    records
}

fn first(log: &[u8]) -> Option<(Record, &[u8])> {
    let (kind, log) = log.split_first()?;
    let (file, log) = number(log)?;
    let (at, log) = number(log)?;
    let (length, log) = number(log)?;
    let (body, rest) = log.split_at_checked(usize::try_from(length).ok()?)?;
    let path = |octets: &[u8]| Path::new(OsStr::from_bytes(octets)).to_owned();
    let two = || {
        let mut parts = body.splitn(2, |octet| *octet == 0);
        Some((path(parts.next()?), path(parts.next()?)))
    };
    let at = usize::try_from(at).ok()?;
    let record = match kind {
        b'c' => Record::Create { file, path: path(body) },
        b'o' => Record::Open { file, path: path(body) },
        b'w' => Record::Write { file, at, octets: body.to_vec() },
        b't' => Record::Truncate { file, length: at },
        b's' => Record::Sync { file },
        b'r' => two().map(|(from, to)| Record::Rename { from, to })?,
        b'l' => two().map(|(from, to)| Record::Link { from, to })?,
        b'u' => Record::Remove { path: path(body) },
        b'm' => Record::MakeDirectory { path: path(body) },
        _ => return None,
    };
    Some((record, rest))
}

fn number(log: &[u8]) -> Option<(u64, &[u8])> {
    let (octets, rest) = log.split_first_chunk()?;
    Some((u64::from_le_bytes(*octets), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, file: u64, at: u64, body: &[u8]) -> Vec<u8> {
        let mut octets = vec![kind];
        for number in [file, at, body.len() as u64] {
            octets.extend(number.to_le_bytes());
        }
        octets.extend(body);
        octets
    }

    #[test]
    fn a_log_is_read_up_to_where_it_was_cut_off() {
        let whole = [record(b'c', 1, 0, b"/d/a"), record(b'w', 1, 512, b"xy"), record(b'r', 0, 0, b"/d/a\0/d/b")];
        let expected = [
            Record::Create { file: 1, path: "/d/a".into() },
            Record::Write { file: 1, at: 512, octets: b"xy".to_vec() },
            Record::Rename { from: "/d/a".into(), to: "/d/b".into() },
        ];
        let log = whole.concat();
        assert_eq!(records(&log), expected);
        for length in 0..log.len() {
            let count = if length < whole[0].len() { 0 } else { 1 + usize::from(length >= log.len() - whole[2].len()) };
            assert_eq!(records(&log[..length]), expected[..count], "{length}");
        }
    }
}
