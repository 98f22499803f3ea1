//! `akamu-server backup`: a copy of the database and the keys, taken while the server serves.
//!
//! It is of the data directory alone: config.toml and the files that it names elsewhere are the operator's.
//! `restore.rs` puts it back.

pub(crate) mod manifest;

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use akamu_ca::{Authority, FileError};
use akamu_proto::Timestamp;
use akamu_store::{LockError, OpenError, SqliteBackup, StoreOptions};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use self::manifest::{DATABASE, KEYS, ROOT, hex};
pub use self::manifest::{FileEntry, Manifest};
use crate::config::Config;
use crate::random::{Random as _, SystemRandom};

/// Why there is no backup, or why it is not put back: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The URL is of no database.
    #[error("database.url: {0}")]
    Url(OpenError),
    /// PostgreSQL has tools of its own.
    #[error(
        "the database is PostgreSQL's: copy it with pg_dump, or by its point-in-time recovery (PITR), and {} beside it; the page \"Backup\" of the book (docs/src/backup.md) shows how",
        keys.display()
    )]
    Postgres {
        /// The directory of the keys.
        keys: PathBuf,
    },
    /// There is nothing to back up.
    #[error("{}: there is no database; give the server's --config or --data-dir", path.display())]
    NoDatabase {
        /// The database's file.
        path: PathBuf,
    },
    /// The backup would be mixed with something else.
    #[error("{}: is not empty; name a directory that is not there, or an empty one", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Another backup runs, or one was cut off.
    #[error("{}: is there already; if no other backup is running, one was cut off: remove it", path.display())]
    Partial {
        /// The directory that a backup is made in.
        path: PathBuf,
    },
    /// The keys are not those of the database.
    #[error(
        "{}: is not the certificate that the database expects, SHA-256 {expected}; put that one back, or run `akamu-server adopt`",
        path.display()
    )]
    OtherIssuer {
        /// The file of the issuing certificate.
        path: PathBuf,
        /// What the database knows.
        expected: String,
    },
    /// The directory holds no backup.
    #[error("{}: is no backup's: {reason}; name the directory that `akamu-server backup` made", path.display())]
    NotABackup {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not as it was written.
    #[error("{}: is damaged: {found}, and backup.json says {expected}; take another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its length and digest.
        found: String,
        /// Those of the manifest.
        expected: String,
    },
    /// The database is not the one that the manifest tells of.
    #[error("{}: is not the database of backup.json; take another backup", path.display())]
    OtherDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is another server's.
    #[error(
        "the backup is of {theirs}, and base_url is {ours}; set base_url to that, and only after the restore run `akamu-server adopt` to change it"
    )]
    OtherBaseUrl {
        /// The configuration's.
        ours: String,
        /// The backup's.
        theirs: String,
    },
    /// A restore was cut off.
    #[error(
        "{}: a restore was cut off here; move away what it has put in place ({}, keys/), and run `akamu-server restore` again",
        draft.display(),
        database.display()
    )]
    CutOff {
        /// What was not put in place.
        draft: PathBuf,
        /// Where the database is to be.
        database: PathBuf,
    },
    /// Something would be overwritten.
    #[error("{}: is there already, and nothing is overwritten; move it away, or give another --data-dir", path.display())]
    InTheWay {
        /// The file or directory.
        path: PathBuf,
    },
    /// The passphrase is empty.
    #[error("{}: its first line is empty; write the passphrase there", path.display())]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The backup's keys are not under that passphrase.
    #[error("{}: {source}; give the passphrase of the backup, or restore without one and open the keys yourself", path.display())]
    Passphrase {
        /// The key's file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: akamu_ca::KeyError,
    },
    /// A passphrase was given for nothing.
    #[error("{}: its keys are not encrypted; leave --passphrase-file away", directory.display())]
    NotEncrypted {
        /// The backup.
        directory: PathBuf,
    },
    /// A key cannot be encrypted.
    #[error("a file in keys/: {0}; only PKCS #8 keys can be encrypted")]
    Key(#[from] akamu_ca::KeyError),
    /// A server runs on the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database could not be copied, or the copy is not whole.
    #[error(transparent)]
    Database(#[from] akamu_store::BackupError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl BackupError {
    /// Whether something else must be asked for: nothing was begun.
    pub(crate) const fn is_misuse(&self) -> bool {
        match self {
            Self::Url(_)
            | Self::Postgres { .. }
            | Self::NoDatabase { .. }
            | Self::NotEmpty { .. }
            | Self::Partial { .. }
            | Self::NotABackup { .. }
            | Self::OtherBaseUrl { .. }
            | Self::NoPassphrase { .. }
            | Self::Passphrase { .. }
            | Self::NotEncrypted { .. }
            | Self::InTheWay { .. } => true,
            Self::OtherIssuer { .. }
            | Self::Damaged { .. }
            | Self::OtherDatabase { .. }
            | Self::Key(_)
            | Self::Lock(_)
            | Self::Database(_)
            | Self::CutOff { .. }
            | Self::File(_) => false,
        }
    }
}

/// What becomes of the private keys.
#[derive(Clone, PartialEq, Eq)]
pub enum Keys {
    /// They are copied as they are.
    Plain,
    /// They are copied, each under this passphrase.
    Encrypted(String),
    /// They are left out, with the whole directory.
    LeftOut,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Encrypted(_) => "Encrypted(…)",
            Self::LeftOut => "LeftOut",
        })
    }
}

impl Keys {
    /// As the options say; the passphrase is the file's first line.
    pub(crate) fn of(without_keys: bool, passphrase_file: Option<&Path>) -> Result<Self, BackupError> {
        let Some(path) = passphrase_file else {
            return Ok(if without_keys { Self::LeftOut } else { Self::Plain });
        };
        passphrase(path).map(Self::Encrypted)
    }

    fn copy(&self, name: &str, from: &Path, to: &Path) -> Result<FileEntry, BackupError> {
        if let Self::Encrypted(passphrase) = self {
            let text = std::fs::read_to_string(from).map_err(io(from))?;
            if text.contains("PRIVATE KEY-----") {
                let text = akamu_ca::encrypted_pem(&text, passphrase, &mut |octets| SystemRandom.fill(octets))?;
                return Ok(FileEntry::write(name, text.as_bytes(), to, 0o600)?);
            }
        }
        Ok(FileEntry::copy(name, from, to, 0o600)?)
    }
}

/// The passphrase in a file: its first line.
pub(crate) fn passphrase(path: &Path) -> Result<String, BackupError> {
    let text = std::fs::read_to_string(path).map_err(io(path))?;
    let line = text.lines().next().filter(|it| !it.is_empty());
    line.map(str::to_owned).ok_or_else(|| BackupError::NoPassphrase { path: path.to_owned() })
}

/// Makes a backup in `directory`, which is absent or empty, and tells what it holds. Blocks for as long as that takes.
///
/// It is made beside the directory, as `DIR.partial`, and renamed when it is whole and durable.
///
/// # Errors
/// One line for the operator; then there is no `directory` that was not there before.
pub fn back_up(config: &Config, directory: &Path, keys: &Keys, now: Timestamp) -> Result<Manifest, BackupError> {
    let database = sqlite_file(config)?;
    if !database.exists() {
        return Err(BackupError::NoDatabase { path: database });
    }
    if !is_empty(directory)? {
        return Err(BackupError::NotEmpty { path: directory.to_owned() });
    }
    let partial = beside(directory, ".partial");
    match DirBuilder::new().mode(0o700).create(&partial) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(BackupError::Partial { path: partial }),
        made => made.map_err(io(&partial))?,
    }
    let made = fill(config, &database, &partial, keys, now).and_then(|manifest| {
        std::fs::rename(&partial, directory).map_err(io(directory))?;
        sync_parent(directory)?;
        Ok(manifest)
    });
    if made.is_err() {
        // What the operator must know is why there is no backup.
        let _ = std::fs::remove_dir_all(&partial);
    }
    made
}

fn fill(
    config: &Config,
    database: &Path,
    partial: &Path,
    keys: &Keys,
    now: Timestamp,
) -> Result<Manifest, BackupError> {
    let copy = partial.join(DATABASE);
    let SqliteBackup { identity, schema_version } = SqliteBackup::take(database, &copy)?;
    let mut files = vec![FileEntry::of(DATABASE, &copy)?];
    let authority = Authority::new(&config.data_dir);
    let root = authority.root_pem();
    if root.exists() {
        files.push(FileEntry::copy(ROOT, &root, &partial.join(ROOT), 0o600)?);
    }
    let issuing = config.ca.cert_file.clone().unwrap_or_else(|| authority.issuing_pem());
    if !has_issuer(&issuing, &identity.issuers) {
        let expected: Vec<_> = identity.issuers.iter().map(|it| hex(it)).collect();
        return Err(BackupError::OtherIssuer { path: issuing, expected: expected.join(" ") });
    }
    let originals = config.data_dir.join(KEYS);
    if *keys != Keys::LeftOut && originals.is_dir() {
        let copies = partial.join(KEYS);
        DirBuilder::new().mode(0o700).create(&copies).map_err(io(&copies))?;
        for name in file_names(&originals)? {
            files.push(keys.copy(&format!("{KEYS}/{name}"), &originals.join(&name), &copies.join(&name))?);
        }
        sync_dir(&copies)?;
    }
    let manifest = Manifest {
        format: Manifest::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now.floor_secs().to_string(),
        base_url: identity.base_url,
        issuers: identity.issuers.iter().map(|it| hex(it)).collect(),
        schema_version,
        keys_are_encrypted: matches!(keys, Keys::Encrypted(_)),
        files,
    };
    manifest.write(partial)?;
    sync_dir(partial)?;
    Ok(manifest)
}

/// What is printed about a backup that was made.
pub(crate) fn told(manifest: &Manifest, config: &Config, directory: &Path) -> String {
    let names: Vec<_> = manifest.files.iter().map(|it| it.name.as_str()).collect();
    let mut text = format!(
        "{}: backup of {}: {}; {} octets\n",
        directory.display(),
        manifest.base_url,
        names.join(", "),
        manifest.octets()
    );
    if let (Some(key_file), Some(cert_file)) = (&config.ca.key_file, &config.ca.cert_file) {
        text.push_str(&format!("not in it: {}, {}\n", key_file.display(), cert_file.display()));
    } else if manifest.keys().next().is_none() {
        let keys = config.data_dir.join(KEYS);
        text.push_str(&format!("not in it: {}, without which no server starts on it\n", keys.display()));
    }
    text
}

/// The database's file.
pub(crate) fn sqlite_file(config: &Config) -> Result<PathBuf, BackupError> {
    let options = StoreOptions::parse(&config.database.url, &config.data_dir).map_err(BackupError::Url)?;
    let keys = || config.data_dir.join(KEYS);
    options.sqlite_file().map(Path::to_owned).ok_or_else(|| BackupError::Postgres { keys: keys() })
}

/// Whether the first certificate is one of the issuers. A server never exchanges its keys, and looked when it started
/// whether they are the certificate's.
fn has_issuer(issuing: &Path, issuers: &[[u8; 32]]) -> bool {
    CertificateDer::from_pem_file(issuing).is_ok_and(|it| issuers.contains(&Sha256::digest(&it).into()))
}

/// The names of the regular files in `directory`, in order.
fn file_names(directory: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let entry = entry.map_err(io(directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether nothing is in a directory, or there is none.
pub(crate) fn is_empty(directory: &Path) -> Result<bool, FileError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io(directory)(error)),
    }
}

/// The path with this at the end of its name.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> FileError + '_ {
    |source| FileError::Io { path: path.to_owned(), source }
}

/// Makes what was renamed or made in `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<(), FileError> {
    std::fs::File::open(directory).and_then(|it| it.sync_all()).map_err(io(directory))
}

/// The same for the directory that `path` lies in.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    sync_dir(path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))
}
