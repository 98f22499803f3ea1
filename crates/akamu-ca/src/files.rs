//! Files that hold keys and certificates: made once, never overwritten, refused where others could read them.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest file that is read.
const MAX_OCTETS: u64 = 1 << 20;

/// What is wrong with a file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A private key that others may read.
    #[error("{}: the private key has mode {mode:04o} and owner {owner}; run `chmod 600` on it, or let root own it with mode 0640", path.display())]
    KeyIsReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's number.
        owner: u32,
    },
    /// It is no regular file, or far too large.
    #[error("{}: is no regular file of at most 1 MiB", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FileError + '_ {
    |source| FileError::Io { path: path.to_owned(), source }
}

fn read_open(mut file: &File, path: &Path) -> Result<String, FileError> {
    let metadata = file.metadata().map_err(io(path))?;
    if !metadata.is_file() || metadata.len() > MAX_OCTETS {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io(path))?;
    Ok(text)
}

/// Reads a public file.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    read_open(&File::open(path).map_err(io(path))?, path)
}

/// Reads a private key, where it is ours with mode 0600 or less, or root's with 0640 or less. The opened file is
/// judged, so that it cannot be exchanged in between.
pub(crate) fn read_key(path: &Path) -> Result<String, FileError> {
    let file = File::open(path).map_err(io(path))?;
    let metadata = file.metadata().map_err(io(path))?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let is_private = (owner == effective_user() && mode & 0o177 == 0) || (owner == 0 && mode & 0o137 == 0);
    if metadata.is_file() && !is_private {
        return Err(FileError::KeyIsReadable { path: path.to_owned(), mode, owner });
    }
    read_open(&file, path)
}

fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Writes a new file, durably; one that is there already is an error.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io(path))?;
    // Exactly this mode: under the umask 077 that services like to have, nobody else could read root.pem.
    file.set_permissions(Permissions::from_mode(mode)).map_err(io(path))?;
    file.write_all(text.as_bytes()).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// Writes a public file, durably, in the place of the one that is there: a reader finds the one or the other, whole.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&draft)(error)),
        // One that is there was left by a run that was cut off.
        _ => {}
    }
    write_new(&draft, text, mode)?;
    std::fs::rename(&draft, path).map_err(io(path))?;
    sync_dir(parent(path))
}

/// Makes a renaming or a new file in `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|it| it.sync_all()).map_err(io(directory))
}

/// Makes a directory, durably and with exactly this mode, whatever the umask, and so the ones above it that are missing.
/// One that is there already stays as it is.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    create_dir(parent, mode)?;
    match DirBuilder::new().mode(mode).create(path) {
        // By another process, just now.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made.map_err(io(path))?,
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io(path))?;
    sync_dir(parent)
}

/// Whether nothing is in a directory, or there is none.
pub(crate) fn is_empty(directory: &Path) -> Result<bool, FileError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io(directory)(error)),
    }
}

/// Whether there is something of this name.
pub(crate) fn is_there(path: &Path) -> Result<bool, FileError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(path)(error)),
    }
}

/// The directory that a path lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
