//! The log: one record a call, in the order in which they were made. `xtask/src/power_cut/log.rs` reads it.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What a record is about.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A new file of this name.
    Create = b'c' as isize,
    /// A file that was there, by this name: what follows is about it.
    Open = b'o' as isize,
    /// Octets at an offset.
    Write = b'w' as isize,
    /// Another length.
    Truncate = b't' as isize,
    /// All of it so far is durable.
    Sync = b's' as isize,
    /// From the first name to the second.
    Rename = b'r' as isize,
    /// A second name.
    Link = b'l' as isize,
    /// A name that is gone.
    Remove = b'u' as isize,
    /// A new directory.
    MakeDirectory = b'm' as isize,
}

/// The open files under the directory, by descriptor, each with a number of its own.
#[derive(Default)]
pub(crate) struct Watch {
    files: HashMap<c_int, u64>,
    numbers: u64,
}

struct Place {
    directory: PathBuf,
    log: c_int,
}

/// Descriptors that are watched, so that no other one costs a lock: one bit each.
static WATCHED: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Where to look and what to write; `None` where a variable is missing: then nothing is noted.
fn place() -> Option<&'static Place> {
    static PLACE: OnceLock<Option<Place>> = OnceLock::new();
    let read = || {
        let directory = std::env::var_os("POWER_CUT_DIRECTORY")?.into();
        let log = CString::new(std::env::var_os("POWER_CUT_LOG")?.as_bytes()).ok()?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: a C string, and flags that ask for a mode, which follows.
        let log = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, log.as_ptr(), flags, 0o600) };
        Some(Place { directory, log: log as c_int })
    };
    PLACE.get_or_init(read).as_ref()
}

/// Does `work`, alone, where `path` lies in the directory or is it.
pub(crate) fn watch<T>(path: &Path, work: impl FnOnce(&mut Watch) -> T) -> Option<T> {
    let place = place()?;
    path.starts_with(&place.directory).then(|| alone(work))
}

fn alone<T>(work: impl FnOnce(&mut Watch) -> T) -> T {
    work(WATCH.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// The word and the bit of a descriptor.
fn bit(file: c_int) -> Option<(&'static AtomicU64, u64)> {
    let file = usize::try_from(file).ok()?;
    Some((WATCHED.get(file / 64)?, 1 << (file % 64)))
}

impl Watch {
    /// Does `work`, alone, where the file is watched.
    pub(crate) fn of<T>(file: c_int, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let (word, bit) = bit(file)?;
        (word.load(Ordering::Acquire) & bit != 0).then(|| alone(work))
    }

    /// Before a descriptor is closed: its number may be another file's next.
    pub(crate) fn forget(file: c_int) {
        Self::of(file, |watch| {
            watch.files.remove(&file);
            if let Some((word, bit)) = bit(file) {
                word.fetch_and(!bit, Ordering::AcqRel);
            }
        });
    }

    pub(crate) fn is_there(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    pub(crate) fn opened(&mut self, file: c_int, path: &Path, is_new: bool, is_emptied: bool) {
        self.numbers += 1;
        self.files.insert(file, self.numbers);
        if let Some((word, bit)) = bit(file) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
        let kind = if is_new { Kind::Create } else { Kind::Open };
        self.note(kind, self.numbers, 0, &[path.as_os_str().as_bytes()]);
        if is_emptied && !is_new {
            self.truncated(file, 0);
        }
    }

    pub(crate) fn written(&self, file: c_int, at: i64, octets: &[u8]) {
        self.note_of(Kind::Write, file, at, octets);
    }

    pub(crate) fn truncated(&self, file: c_int, length: i64) {
        self.note_of(Kind::Truncate, file, length, &[]);
    }

    pub(crate) fn synced(&self, file: c_int) {
        self.note_of(Kind::Sync, file, 0, &[]);
    }

    pub(crate) fn named(&self, kind: Kind, paths: &[PathBuf]) {
        let paths: Vec<_> = paths.iter().map(|it| it.as_os_str().as_bytes()).collect();
        self.note(kind, 0, 0, &paths);
    }

    fn note_of(&self, kind: Kind, file: c_int, at: i64, octets: &[u8]) {
        if let Some(number) = self.files.get(&file) {
            self.note(kind, *number, u64::try_from(at).unwrap_or(0), &[octets]);
        }
    }

    /// Kind, number and offset, and then parts that are told apart by a zero octet, behind the length of them all.
    fn note(&self, kind: Kind, number: u64, at: u64, parts: &[&[u8]]) {
        let Some(place) = place() else { return };
        let body = parts.join(&0);
        let mut record = vec![kind as u8];
        record.extend(number.to_le_bytes());
        record.extend(at.to_le_bytes());
        record.extend((body.len() as u64).to_le_bytes());
        record.extend(body);
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            // SAFETY: a slice of ours.
            let count = unsafe { libc::syscall(libc::SYS_write, place.log, rest.as_ptr(), rest.len()) };
            match usize::try_from(count) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                // A log with a hole would make durable what is not.
                Err(_) => std::process::abort(),
            }
        }
    }
}
