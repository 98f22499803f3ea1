//! The header of the write-ahead log (<https://sqlite.org/fileformat2.html#walformat>). SQLite takes a log whose header is
//! wrong for none, and what was committed into it would be gone without a word.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

const HEADER: usize = 32;
/// The last bit says in which order the checksum reads its words.
const MAGIC: u32 = 0x377f_0682;

/// Refuses a `-wal` file beside `database` that is not what SQLite has written.
pub(super) fn assert_readable(database: &Path) -> Result<(), OpenError> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let path = PathBuf::from(path);
    let mut start = Vec::new();
    // One octet more than the header tells whether anything follows it.
    let read = File::open(&path).and_then(|it| it.take(HEADER as u64 + 1).read_to_end(&mut start));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::Unreachable { reason: format!("{}: {error}", path.display()) }),
        Ok(_) if is_log(&start) => Ok(()),
        Ok(_) => Err(OpenError::NotALog { path: path.display().to_string() }),
    }
}

/// Whether a log may begin like this, the first octets and at least one more where there are more.
fn is_log(start: &[u8]) -> bool {
    let Some((header, rest)) = start.split_first_chunk::<HEADER>() else {
        // SQLite writes the header at once, and makes it durable before anything follows it: one that lost its power in
        // between has room for it at most.
        return start.iter().all(|octet| *octet == 0);
    };
    if rest.is_empty() && *header == [0; HEADER] {
        return true;
    }
    let (words, _) = header.as_chunks::<4>();
    let [magic, _version, _page_size, _sequence, _salt, _salt_2, sum, sum_2] = words else { return false };
    let is_big_endian = u32::from_be_bytes(*magic) == MAGIC | 1;
    if !is_big_endian && u32::from_be_bytes(*magic) != MAGIC {
        return false;
    }
    let word = |octets: &[u8; 4]| if is_big_endian { u32::from_be_bytes(*octets) } else { u32::from_le_bytes(*octets) };
    let (pairs, _) = words.as_chunks::<2>();
    let expected = pairs.iter().take(3).fold((0_u32, 0_u32), |(sum, sum_2), [first, second]| {
        let sum = sum.wrapping_add(word(first)).wrapping_add(sum_2);
        (sum, sum_2.wrapping_add(word(second)).wrapping_add(sum))
    });
    (u32::from_be_bytes(*sum), u32::from_be_bytes(*sum_2)) == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite writes on this machine.
    fn real() -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut connection = diesel::Connection::establish(path.to_str().unwrap()).unwrap();
        let run = |connection: &mut diesel::SqliteConnection, sql| {
            diesel::connection::SimpleConnection::batch_execute(connection, sql).unwrap();
        };
        run(&mut connection, "PRAGMA journal_mode = WAL; CREATE TABLE a (b)");
        std::fs::read(directory.path().join("a.db-wal")).unwrap()
    }

    #[test]
    fn what_sqlite_writes_is_a_log_and_so_is_one_that_was_cut_off_before_its_header() {
        let real = real();
        assert!(real.len() > HEADER && is_log(&real) && is_log(&real[..HEADER]));
        for begun in [&[][..], &[0; 4], &[0; HEADER]] {
            assert!(is_log(begun), "{begun:?}");
        }
        // The same header with its checksum over words of the other order.
        let mut other = real[..HEADER].to_vec();
        other[3] |= 1;
        let word = |at: usize| u32::from_be_bytes(other[at..at + 4].try_into().unwrap());
        let (mut sum, mut sum_2) = (0_u32, 0_u32);
        for at in [0, 8, 16] {
            sum = sum.wrapping_add(word(at)).wrapping_add(sum_2);
            sum_2 = sum_2.wrapping_add(word(at + 4)).wrapping_add(sum);
        }
        other[24..28].copy_from_slice(&sum.to_be_bytes());
        other[28..32].copy_from_slice(&sum_2.to_be_bytes());
        assert!(is_log(&other));
    }

    #[test]
    fn a_header_with_any_bit_changed_is_none() {
        let real = real();
        for bit in 0..HEADER * 8 {
            let mut changed = real.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_log(&changed), "bit {bit}");
        }
        for other in [&b"hello"[..], &[0; HEADER + 1], &[0xff; HEADER], &real[..HEADER - 1]] {
            assert!(!is_log(other), "{other:?}");
        }
    }
}
