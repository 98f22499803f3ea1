//! The first run: a root, and an intermediate under it that issues, so that the root's key can go offline.
//!
//! Files under the data directory: in `keys/` `root.key`, `issuing.key` and `issuing.pem` (the issuing certificate, then
//! the root), and `root.pem` (to be trusted). Those in `keys/` appear together: it is made under another name, and renamed.
//! `root.pem` is for the caller to write, once the database knows the issuer: where it is, there has been a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::Timestamp;
use der::flagset::FlagSet;
use der::{Any, Decode as _, Encode as _};
use x509_cert::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use x509_cert::time::Validity;

use crate::encoding::{self, extension};
use crate::files::{self, FileError};
use crate::issuer::{IssueError, Issuer, IssuerError, Profile};
use crate::key::{FileKey, HashAlg, KeyError, KeyType, SigningKey};
use crate::leaf::{
    AUTHORITY_KEY_IDENTIFIER, BACKDATE, BASIC_CONSTRAINTS, CLIENT_AUTH, EXTENDED_KEY_USAGE, KEY_USAGE, SERVER_AUTH,
    SUBJECT_KEY_IDENTIFIER, Tbs,
};
use crate::serial::Serial;
use crate::signed;

/// A year, as certificates count it.
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// 9999-12-31T23:59:59Z: the last second that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_SECOND: Timestamp = Timestamp::from_unix_secs(253_402_300_799);
/// RFC 5280 §A.1: ub-common-name and ub-organization-name.
const MAX_NAME: usize = 64;
/// What follows the common name.
const ROOT: &str = " Root";
const ISSUING: &str = " Issuing CA";

/// The files in `keys/`.
const ROOT_KEY: &str = "root.key";
const ISSUING_KEY: &str = "issuing.key";
const ISSUING_PEM: &str = "issuing.pem";

/// What the first run makes.
#[derive(Clone, Debug)]
pub struct FirstRun {
    /// The kind of both keys.
    pub key_type: KeyType,
    /// The hash of RSA signatures.
    pub hash: HashAlg,
    /// The names are this and "Root" or "Issuing CA".
    pub common_name: String,
    /// The organization in both names.
    pub organization: Option<String>,
    /// How long the issuing certificate is valid; the root twice that.
    pub ca_validity_years: u32,
}

impl FirstRun {
    /// How long the issuing certificate is valid.
    fn validity(&self, now: Timestamp) -> Result<Duration, FirstRunError> {
        let years = self.ca_validity_years;
        let most = LAST_SECOND.since(now).as_secs() / (2 * YEAR.as_secs());
        if u64::from(years) > most { Err(FirstRunError::ValidityYears { years, most }) } else { Ok(YEAR * years) }
    }

    fn name(&self, kind: &str) -> Result<Name, FirstRunError> {
        let limit = MAX_NAME - ISSUING.len();
        let common_name = format!("{}{kind}", checked("ca.common_name", &self.common_name, limit)?);
        let organization =
            self.organization.as_deref().map(|it| checked("ca.organization", it, MAX_NAME)).transpose()?;
        Ok(encoding::distinguished_name(organization, &common_name).map_err(IssueError::from)?)
    }
}

fn checked<'a>(key: &'static str, text: &'a str, limit: usize) -> Result<&'a str, FirstRunError> {
    let is_good = (1..=limit).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_good { Ok(text) } else { Err(FirstRunError::Name { key, text: text.to_owned(), limit }) }
}

/// Why a CA could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum FirstRunError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate.
    #[error("the CA's certificates could not be made")]
    Issue(#[from] IssueError),
    /// The issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A name that cannot stand in a certificate.
    #[error("{key} is {text:?}; one to {limit} characters without control characters are expected")]
    Name {
        /// The configuration's key.
        key: &'static str,
        /// Its value.
        text: String,
        /// The most characters that it may have.
        limit: usize,
    },
    /// Certificates that would end after the year 9999.
    #[error(
        "ca.ca_validity_years is {years}; at most {most} are possible: the root is valid for twice as long, and no certificate outlives the year 9999"
    )]
    ValidityYears {
        /// Its value.
        years: u32,
        /// The most that is possible.
        most: u64,
    },
    /// There is something in `keys/` already.
    #[error("{}: is there already, and not empty; keys are never overwritten", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is a part of a CA.
    #[error("{}: {missing} is missing beside the CA's other files; restore it from the backup", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
}

/// The files of a CA that the first run made.
#[derive(Clone, Debug)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// The CA in this data directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Makes the data directory, where there is none, with mode 0755 whatever the umask: others must be able to read
    /// root.pem in it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create_directory(directory: &Path) -> Result<(), FileError> {
        files::create_dir(directory, 0o755)
    }

    /// The certificate to trust.
    pub fn root_pem(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// The issuing certificate's key.
    pub fn issuing_key(&self) -> PathBuf {
        self.keys().join(ISSUING_KEY)
    }

    /// The issuing certificate, then the root.
    pub fn issuing_pem(&self) -> PathBuf {
        self.keys().join(ISSUING_PEM)
    }

    fn keys(&self) -> PathBuf {
        self.directory.join("keys")
    }

    fn missing(&self, name: &'static str) -> Result<bool, FileError> {
        Ok(!files::is_there(&self.keys().join(name))?)
    }

    /// Whether there is a CA, or a part of one. A `keys/` without its files is none.
    ///
    /// # Errors
    /// Where `keys/` cannot be looked into.
    pub fn exists(&self) -> Result<bool, FileError> {
        Ok(!(self.missing(ROOT_KEY)? && self.missing(ISSUING_KEY)? && self.missing(ISSUING_PEM)?))
    }

    /// Reads the CA, whatever root.pem says.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn load(&self, profile: Profile, hash: HashAlg, now: Timestamp) -> Result<Issuer, FirstRunError> {
        // Not root.key: it may be in a safe place.
        for missing in [ISSUING_KEY, ISSUING_PEM] {
            if self.missing(missing)? {
                return Err(FirstRunError::Incomplete { path: self.keys(), missing });
            }
        }
        Ok(Issuer::load(&self.issuing_key(), &self.issuing_pem(), profile, hash, now)?)
    }

    /// Writes root.pem, where it is not there or holds another root. To be called once the database knows the issuer.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_root(&self, root_der: &[u8]) -> Result<(), FileError> {
        let path = self.root_pem();
        let pem = encoding::certificate_pem(root_der);
        if files::read(&path).is_ok_and(|it| it == pem) {
            return Ok(());
        }
        files::replace(&path, &pem, 0o644)
    }

    /// Makes root and intermediate, without root.pem. `random` fills octets for the two serial numbers.
    ///
    /// # Errors
    /// Where something cannot be made or written, or something is in `keys/` already.
    pub fn create(
        &self,
        first_run: &FirstRun,
        profile: Profile,
        random: &mut dyn FnMut(&mut [u8]),
        now: Timestamp,
    ) -> Result<Issuer, FirstRunError> {
        let mut serial = || {
            let mut octets = [0; 10];
            random(&mut octets);
            Serial::new(now, octets)
        };
        let keys = self.keys();
        if !files::is_empty(&keys)? {
            return Err(FirstRunError::Exists { path: keys });
        }
        let validity = first_run.validity(now)?;
        let (root_name, issuing_name) = (first_run.name(ROOT)?, first_run.name(ISSUING)?);
        let root_key = FileKey::generate(first_run.key_type, first_run.hash)?;
        let issuing_key = FileKey::generate(first_run.key_type, first_run.hash)?;
        let root = CaCertificate {
            subject: &root_name,
            subject_key: &root_key,
            issuer: &root_name,
            issuer_key: &root_key,
            path_len: None,
            serial: serial(),
            not_before: now.minus(BACKDATE),
            not_after: now.plus(validity * 2),
        };
        let issuing = CaCertificate {
            subject: &issuing_name,
            subject_key: &issuing_key,
            path_len: Some(0),
            serial: serial(),
            not_after: now.plus(validity),
            ..root
        };
        let chain = vec![issuing.make()?, root.make()?];

        let made = self.directory.join("keys.new");
        if files::is_there(&made)? {
            // A first run was cut off: nobody has seen these keys.
            std::fs::remove_dir_all(&made).map_err(|source| FileError::Io { path: made.clone(), source })?;
        }
        files::create_dir(&made, 0o700)?;
        root_key.write_new(&made.join(ROOT_KEY))?;
        issuing_key.write_new(&made.join(ISSUING_KEY))?;
        let chain_pem: String = chain.iter().map(|it| encoding::certificate_pem(it)).collect();
        files::write_new(&made.join(ISSUING_PEM), &chain_pem, 0o600)?;
        files::sync_dir(&made)?;
        let issuer = Issuer::new(Arc::new(issuing_key), chain, profile, now)?;
        // In the place of one that is empty: one with something in it stays.
        std::fs::rename(&made, &keys).map_err(|source| FileError::Io { path: keys, source })?;
        files::sync_dir(&self.directory)?;
        Ok(issuer)
    }
}

#[derive(Clone, Copy)]
struct CaCertificate<'a> {
    subject: &'a Name,
    subject_key: &'a FileKey,
    issuer: &'a Name,
    issuer_key: &'a FileKey,
    path_len: Option<u8>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl CaCertificate<'_> {
    fn make(&self) -> Result<Vec<u8>, IssueError> {
        let spki = self.subject_key.spki_der();
        let key_identifier = |key: &FileKey| {
            let spki_der = key.spki_der();
            let spki = SubjectPublicKeyInfoRef::from_der(&spki_der)?;
            encoding::key_identifier(spki.subject_public_key.raw_bytes())
        };
        let usages: FlagSet<KeyUsages> = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(key_identifier(self.issuer_key)?),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        };
        let constraints = BasicConstraints { ca: true, path_len_constraint: self.path_len };
        let subject_key = key_identifier(self.subject_key)?;
        let mut extensions: Vec<Extension> = vec![
            extension(BASIC_CONSTRAINTS, true, &constraints)?,
            extension(KEY_USAGE, true, &KeyUsage(usages))?,
            extension(SUBJECT_KEY_IDENTIFIER, false, &SubjectKeyIdentifier(subject_key))?,
            extension(AUTHORITY_KEY_IDENTIFIER, false, &authority)?,
        ];
        if self.path_len.is_some() {
            // Whoever trusts the root for more than TLS trusts the key that is online for TLS alone.
            extensions.push(extension(EXTENDED_KEY_USAGE, false, &ExtendedKeyUsage(vec![SERVER_AUTH, CLIENT_AUTH]))?);
        }
        let tbs = Tbs {
            version: Version::V3,
            serial_number: SerialNumber::new(self.serial.as_octets())?,
            signature: self.issuer_key.algorithm(),
            issuer: self.issuer.clone(),
            validity: Validity::new(encoding::time(self.not_before)?, encoding::time(self.not_after)?),
            subject: self.subject.clone(),
            subject_public_key_info: Any::from_der(&spki)?,
            extensions: Some(extensions),
        };
        signed::sign(self.issuer_key, self.issuer_key.algorithm(), &tbs.to_der()?)
    }
}
