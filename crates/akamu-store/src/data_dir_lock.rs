//! One server for one data directory: SQLite has one owner.

use std::fs::{File, TryLockError};
use std::path::Path;

/// The lock; given back when dropped, or when the process dies.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why the directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server runs on it.
    #[error(
        "{path}: another akamu-server is running on this data directory; stop it, or give this one another --data-dir"
    )]
    Held {
        /// The directory.
        path: String,
    },
    /// The lock file cannot be made.
    #[error("{path}: cannot be locked: {reason}")]
    Io {
        /// The lock file.
        path: String,
        /// The system's words.
        reason: String,
    },
}

impl DataDirLock {
    /// Takes the lock of `data_dir`, which must exist.
    ///
    /// # Errors
    /// Where another process has it, or the file cannot be made.
    pub fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join("lock");
        let io = |error: &std::io::Error| LockError::Io { path: path.display().to_string(), reason: error.to_string() };
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| io(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { path: data_dir.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(io(&error)),
        }
    }
}
