//! `akamu-server restore`: puts a backup into a data directory that has neither database nor keys.

use std::path::{Path, PathBuf};

use akamu_ca::Authority;
use akamu_store::{DataDirLock, SqliteBackup};

use crate::backup::manifest::{DATABASE, FileEntry, KEYS, Manifest, ROOT, hex};
use crate::backup::{BackupError, beside, io, is_empty, sqlite_file, sync_dir, sync_parent};
use crate::config::Config;

/// What a file is called until everything was found whole.
const DRAFT: &str = ".restoring";

/// Puts the backup in `directory` where `config` says, its keys opened with `passphrase` where one is given, and tells
/// what it was. Blocks for as long as that takes.
///
/// What is checked is what was written: each file is copied, and its copy put in place. No server starts where that was cut
/// off.
///
/// # Errors
/// One line for the operator; then nothing is in place, unless the system fails between two renames.
pub fn restore(config: &Config, directory: &Path, passphrase: Option<&str>) -> Result<Manifest, BackupError> {
    let database = sqlite_file(config)?;
    let mut manifest = Manifest::read(directory)?;
    if passphrase.is_some() && !manifest.keys_are_encrypted {
        return Err(BackupError::NotEncrypted { directory: directory.to_owned() });
    }
    if manifest.base_url != config.base_url.as_str() {
        let (ours, theirs) = (config.base_url.as_str().to_owned(), manifest.base_url);
        return Err(BackupError::OtherBaseUrl { ours, theirs });
    }
    Authority::create_directory(&config.data_dir)?;
    let _lock = DataDirLock::acquire(&config.data_dir)?;
    let places = Places::of(config, database);
    let has_keys = manifest.keys().next().is_some();
    places.assert_free(has_keys)?;
    places.clear()?;
    let placed = places
        .draft(directory, &manifest)
        .and_then(|()| passphrase.map_or(Ok(()), |it| places.open_keys(directory, &manifest, it)))
        .and_then(|()| places.put());
    if placed.is_err() {
        // What the operator must know is why nothing was restored.
        let _ = places.clear();
    }
    manifest.keys_are_encrypted &= passphrase.is_none();
    placed.map(|()| manifest)
}

/// Refuses a data directory in which a restore was cut off: what is there is not whole, and where nothing is in place yet a
/// start would begin a new CA. To be asked by who holds the directory's lock.
///
/// # Errors
/// One line for the operator.
pub(crate) fn assert_none_was_cut_off(config: &Config, database: &Path) -> Result<(), BackupError> {
    let places = Places::of(config, database.to_owned());
    let draft = places.all().map(|it| beside(it, DRAFT)).into_iter().find(|it| it.exists());
    draft.map_or(Ok(()), |draft| Err(BackupError::CutOff { draft, database: places.database }))
}

/// Where everything goes.
struct Places {
    database: PathBuf,
    keys: PathBuf,
    root: PathBuf,
}

impl Places {
    fn of(config: &Config, database: PathBuf) -> Self {
        Self { keys: config.data_dir.join(KEYS), root: config.data_dir.join(ROOT), database }
    }

    /// In the order in which they are put.
    fn all(&self) -> [&Path; 3] {
        [&self.database, &self.keys, &self.root]
    }

    fn assert_free(&self, has_keys: bool) -> Result<(), BackupError> {
        // A log that was left would be played into the database that is restored.
        for ending in ["", "-wal", "-shm", "-journal"] {
            let path = beside(&self.database, ending);
            if path.symlink_metadata().is_ok() {
                return Err(BackupError::InTheWay { path });
            }
        }
        if has_keys && !is_empty(&self.keys)? {
            return Err(BackupError::InTheWay { path: self.keys.clone() });
        }
        Ok(())
    }

    /// Removes what a restore that was cut off, or failed, left.
    fn clear(&self) -> Result<(), BackupError> {
        let keys = beside(&self.keys, DRAFT);
        if keys.exists() {
            std::fs::remove_dir_all(&keys).map_err(io(&keys))?;
        }
        for path in [&self.database, &self.root] {
            let draft = beside(path, DRAFT);
            if draft.exists() {
                std::fs::remove_file(&draft).map_err(io(&draft))?;
            }
        }
        Ok(())
    }

    /// Copies every file beside its place, and checks the copies.
    fn draft(&self, directory: &Path, manifest: &Manifest) -> Result<(), BackupError> {
        let keys = beside(&self.keys, DRAFT);
        if manifest.keys().next().is_some() {
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&keys)
                .map_err(io(&keys))?;
        }
        for expected in &manifest.files {
            let (draft, mode) = match expected.key() {
                Some(name) => (keys.join(name), 0o600),
                None if expected.name == ROOT => (beside(&self.root, DRAFT), 0o644),
                None => (beside(&self.database, DRAFT), 0o600),
            };
            let from = directory.join(&expected.name);
            let found = FileEntry::copy(&expected.name, &from, &draft, mode)?;
            if found != *expected {
                let tell = |it: &FileEntry| format!("{} octets with SHA-256 {}", it.octets, it.sha256);
                return Err(BackupError::Damaged { path: from, found: tell(&found), expected: tell(expected) });
            }
        }
        let SqliteBackup { identity, schema_version } = SqliteBackup::check(&beside(&self.database, DRAFT))?;
        let issuers: Vec<_> = identity.issuers.iter().map(|it| hex(it)).collect();
        if (identity.base_url, issuers, schema_version)
            != (manifest.base_url.clone(), manifest.issuers.clone(), manifest.schema_version.clone())
        {
            return Err(BackupError::OtherDatabase { path: directory.join(DATABASE) });
        }
        Ok(())
    }

    /// Opens the drafts of the keys, which were found whole.
    fn open_keys(&self, directory: &Path, manifest: &Manifest, passphrase: &str) -> Result<(), BackupError> {
        for name in manifest.keys() {
            let draft = beside(&self.keys, DRAFT).join(name);
            let text = std::fs::read_to_string(&draft).map_err(io(&draft))?;
            if text.contains("BEGIN ENCRYPTED PRIVATE KEY-----") {
                let wrong = |source| BackupError::Passphrase { path: directory.join(KEYS).join(name), source };
                let opened = akamu_ca::decrypted_pem(&text, passphrase).map_err(wrong)?;
                std::fs::remove_file(&draft).map_err(io(&draft))?;
                FileEntry::write(name, opened.as_bytes(), &draft, 0o600)?;
            }
        }
        Ok(())
    }

    fn put(&self) -> Result<(), BackupError> {
        let keys = beside(&self.keys, DRAFT);
        if keys.exists() {
            sync_dir(&keys)?;
        }
        for path in self.all() {
            let draft = beside(path, DRAFT);
            if draft.exists() {
                std::fs::rename(&draft, path).map_err(io(path))?;
                sync_parent(path)?;
            }
        }
        Ok(())
    }
}

/// What is printed about a backup that was restored: what the operator must know.
pub(crate) fn told(manifest: &Manifest, config: &Config) -> String {
    let mut text = format!(
        "{}: restored {} as of {}: {} files, {} octets\n",
        config.data_dir.display(),
        manifest.base_url,
        manifest.created_at,
        manifest.files.len(),
        manifest.octets()
    );
    if manifest.keys().next().is_none() && config.ca.key_file.is_none() {
        let keys = config.data_dir.join(KEYS);
        text.push_str(&format!("The backup has no keys: put them into {} before the server starts.\n", keys.display()));
    }
    if manifest.keys_are_encrypted {
        let keys = config.data_dir.join(KEYS);
        text.push_str(&format!(
            "The keys are still under the passphrase: open {} with `openssl pkey` before the server starts.\n",
            keys.join("issuing.key").display()
        ));
    }
    text.push_str(
        "Unknown are the accounts, orders, certificates and revocations that came later: the old server's log has a line \
         \"issued\" or \"revoked\" with the serial number. Clients whose account is gone register anew, with another URL.\n\
         Each client meets one badNonce. The next CRL has a higher number than those before.\n",
    );
    text
}
