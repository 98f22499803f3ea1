//! `backup.json`: what a backup holds, so that a part that is missing or damaged is found before it is put in place.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use akamu_ca::FileError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::BackupError;

/// The manifest's own name.
pub(crate) const MANIFEST: &str = "backup.json";
/// The database.
pub(crate) const DATABASE: &str = "akamu.db";
/// The certificate to trust.
pub(crate) const ROOT: &str = "root.pem";
/// The directory of the keys.
pub(crate) const KEYS: &str = "keys";
/// The largest manifest that is read, in octets.
const MAX_OCTETS: u64 = 1 << 20;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this file: 1.
    pub format: u32,
    /// The version of akamu-server that wrote it.
    pub version: String,
    /// When the copy of the database was begun, RFC 3339.
    pub created_at: String,
    /// The URL under which every account is named.
    pub base_url: String,
    /// SHA-256 of each issuing certificate's DER, in hexadecimal.
    pub issuers: Vec<String>,
    /// The newest migration of the database.
    pub schema_version: String,
    /// Whether the private keys are under a passphrase.
    pub keys_are_encrypted: bool,
    /// Every other file.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the backup: `akamu.db`, `root.pem` or `keys/NAME`.
    pub name: String,
    /// Its length.
    pub octets: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The format that is written, and the only one that is read.
    pub(crate) const FORMAT: u32 = 1;

    /// Reads the manifest of the backup in `directory`, and refuses names that no backup has.
    pub(crate) fn read(directory: &Path) -> Result<Self, BackupError> {
        let path = directory.join(MANIFEST);
        let not_a_backup =
            |reason: &dyn std::fmt::Display| BackupError::NotABackup { path: path.clone(), reason: reason.to_string() };
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_OCTETS).read_to_string(&mut text))
            .map_err(|error| not_a_backup(&error))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|error| not_a_backup(&error))?;
        if manifest.format != Self::FORMAT {
            let reason = format!("its format is {}, this version reads {}", manifest.format, Self::FORMAT);
            return Err(not_a_backup(&reason));
        }
        for file in &manifest.files {
            if !file.is_known() {
                return Err(not_a_backup(&format!("{:?} is no file of a backup", file.name)));
            }
        }
        if manifest.files.iter().any(|it| it.name == DATABASE) {
            Ok(manifest)
        } else {
            Err(not_a_backup(&"it names no database"))
        }
    }

    /// Writes it into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BackupError> {
        let path = directory.join(MANIFEST);
        let text = serde_json::to_string_pretty(self).expect("text, numbers and lists are JSON");
        let io = |source| FileError::Io { path: path.clone(), source };
        let mut file = create_new(&path, 0o600)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(())
    }

    /// The names of the keys' files, without their directory.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(FileEntry::key)
    }

    /// The octets of all files.
    pub(crate) fn octets(&self) -> u64 {
        self.files.iter().map(|it| it.octets).sum()
    }
}

impl FileEntry {
    /// Where it lies in `keys/`.
    pub(crate) fn key(&self) -> Option<&str> {
        self.name.strip_prefix(KEYS)?.strip_prefix('/')
    }

    fn is_known(&self) -> bool {
        match self.key() {
            Some(name) => !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']),
            None => [DATABASE, ROOT].contains(&self.name.as_str()),
        }
    }

    /// Reads a file that is there.
    pub(crate) fn of(name: &str, path: &Path) -> Result<Self, FileError> {
        Self::passing(name, path, |_| Ok(()))
    }

    /// Writes a new file, durably.
    pub(crate) fn write(name: &str, octets: &[u8], to: &Path, mode: u32) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: to.to_owned(), source };
        let mut file = create_new(to, mode)?;
        file.write_all(octets).and_then(|()| file.sync_all()).map_err(io)?;
        let (length, sha256) = (u64::try_from(octets.len()).unwrap_or(u64::MAX), hex(&Sha256::digest(octets)));
        Ok(Self { name: name.to_owned(), octets: length, sha256 })
    }

    /// Copies a file into the new one `to`, durably; the entry is of the octets that were written.
    pub(crate) fn copy(name: &str, from: &Path, to: &Path, mode: u32) -> Result<Self, FileError> {
        let mut file = create_new(to, mode)?;
        let io = |source| FileError::Io { path: to.to_owned(), source };
        let entry = Self::passing(name, from, |octets| file.write_all(octets).map_err(io))?;
        file.sync_all().map_err(io)?;
        Ok(entry)
    }

    fn passing(
        name: &str,
        path: &Path,
        mut pass: impl FnMut(&[u8]) -> Result<(), FileError>,
    ) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let (mut digest, mut octets, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
        loop {
            let read = match file.read(&mut buffer) {
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(io(error)),
            };
            if read.is_empty() {
                break;
            }
            pass(read)?;
            digest.update(read);
            octets += u64::try_from(read.len()).unwrap_or(u64::MAX);
        }
        Ok(Self { name: name.to_owned(), octets, sha256: hex(&digest.finalize()) })
    }
}

fn create_new(path: &Path, mode: u32) -> Result<File, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let file = File::options().write(true).create_new(true).mode(mode).open(path).map_err(io)?;
    // Exactly this mode, whatever the umask.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(io)?;
    Ok(file)
}

/// Octets in hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|it| format!("{it:02x}")).collect()
}
