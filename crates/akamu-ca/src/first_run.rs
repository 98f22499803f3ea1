//! The first run: a root, and an intermediate under it that issues, so that the root's key can go offline.
//!
//! Files under the data directory: `root.pem` (to be trusted), and in `keys/` `root.key`, `issuing.key` and
//! `issuing.pem` (the issuing certificate, then the root). `keys/` appears whole: it is made under another name, and
//! renamed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::Timestamp;
use der::flagset::FlagSet;
use der::{Decode as _, Encode as _};
use x509_cert::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Validity;

use crate::encoding::{self, extension};
use crate::files::{self, FileError};
use crate::issuer::{IssueError, Issuer, IssuerError, Profile, sign};
use crate::key::{FileKey, HashAlg, KeyError, KeyType, SigningKey};
use crate::leaf::{AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, KEY_USAGE, SUBJECT_KEY_IDENTIFIER, Tbs};
use crate::serial::Serial;

/// A year, as certificates count it.
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// How far the start of validity lies back.
const BACKDATE: Duration = Duration::from_secs(3_600);

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
    /// A name.
    #[error("ca.common_name or ca.organization cannot stand in a certificate")]
    Name(#[source] der::Error),
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

    /// The certificate to trust.
    pub fn root_pem(&self) -> PathBuf {
        self.directory.join("root.pem")
    }

    /// The issuing certificate's key.
    pub fn issuing_key(&self) -> PathBuf {
        self.directory.join("keys/issuing.key")
    }

    /// The issuing certificate, then the root.
    pub fn issuing_pem(&self) -> PathBuf {
        self.directory.join("keys/issuing.pem")
    }

    /// Whether the first run has been here.
    pub fn exists(&self) -> bool {
        self.directory.join("keys").exists()
    }

    /// Reads the CA. Writes root.pem anew, where a first run was cut off before it, or somebody removed it.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn load(&self, profile: Profile, hash: HashAlg, now: Timestamp) -> Result<Issuer, FirstRunError> {
        let issuer = Issuer::load(&self.issuing_key(), &self.issuing_pem(), profile, hash, now)?;
        self.write_root(issuer.root_der())?;
        Ok(issuer)
    }

    /// Writes root.pem, where it is not there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_root(&self, root_der: &[u8]) -> Result<(), FileError> {
        let path = self.root_pem();
        if path.exists() {
            return Ok(());
        }
        files::write_new(&path, &encoding::certificate_pem(root_der), 0o644)?;
        files::sync_dir(&self.directory)
    }

    /// Makes root and intermediate. `random` fills octets for the two serial numbers.
    ///
    /// # Errors
    /// Where something cannot be made or written.
    pub fn create(
        &self,
        first_run: &FirstRun,
        profile: Profile,
        random: &mut dyn FnMut(&mut [u8]),
        now: Timestamp,
    ) -> Result<Issuer, FirstRunError> {
        let mut serial = || {
            let mut octets = [0; 16];
            random(&mut octets);
            Serial::from_random(octets)
        };
        let name = |kind: &str| {
            let common_name = format!("{} {kind}", first_run.common_name);
            encoding::distinguished_name(first_run.organization.as_deref(), &common_name).map_err(FirstRunError::Name)
        };
        let (root_name, issuing_name) = (name("Root")?, name("Issuing CA")?);
        let root_key = FileKey::generate(first_run.key_type, first_run.hash)?;
        let issuing_key = FileKey::generate(first_run.key_type, first_run.hash)?;
        let years = YEAR * first_run.ca_validity_years;
        let root = CaCertificate {
            subject: &root_name,
            subject_key: &root_key,
            issuer: &root_name,
            issuer_key: &root_key,
            path_len: None,
            serial: serial(),
            not_before: now.minus(BACKDATE),
            not_after: now.plus(years * 2),
        };
        let issuing = CaCertificate {
            subject: &issuing_name,
            subject_key: &issuing_key,
            path_len: Some(0),
            serial: serial(),
            not_after: now.plus(years),
            ..root
        };
        let chain = vec![issuing.make()?, root.make()?];

        let made = self.directory.join("keys.new");
        if made.exists() {
            // A first run was cut off: nobody has seen these keys.
            std::fs::remove_dir_all(&made).map_err(|source| FileError::Io { path: made.clone(), source })?;
        }
        files::create_dir(&made, 0o700)?;
        root_key.write_new(&made.join("root.key"))?;
        issuing_key.write_new(&made.join("issuing.key"))?;
        let chain_pem: String = chain.iter().map(|it| encoding::certificate_pem(it)).collect();
        files::write_new(&made.join("issuing.pem"), &chain_pem, 0o600)?;
        files::sync_dir(&made)?;
        let issuer = Issuer::new(Arc::new(issuing_key), chain, profile, now)?;
        self.write_root(issuer.root_der())?;
        let keys = self.directory.join("keys");
        std::fs::rename(&made, &keys).map_err(|source| FileError::Io { path: keys, source })?;
        files::sync_dir(&self.directory)?;
        Ok(issuer)
    }
}

/// Makes the data directory, where there is none: others must be able to read root.pem, and nothing else.
impl Authority {
    /// Makes the data directory with mode 0755.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create_directory(directory: &Path) -> Result<(), FileError> {
        files::create_dir(directory, 0o755)
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
        let spki = SubjectPublicKeyInfoOwned::from_der(&self.subject_key.spki_der())?;
        let issuer_spki = SubjectPublicKeyInfoOwned::from_der(&self.issuer_key.spki_der())?;
        let usages: FlagSet<KeyUsages> = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(encoding::key_identifier(issuer_spki.subject_public_key.raw_bytes())?),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        };
        let constraints = BasicConstraints { ca: true, path_len_constraint: self.path_len };
        let subject_key = encoding::key_identifier(spki.subject_public_key.raw_bytes())?;
        let extensions: Vec<Extension> = vec![
            extension(BASIC_CONSTRAINTS, true, &constraints)?,
            extension(KEY_USAGE, true, &KeyUsage(usages))?,
            extension(SUBJECT_KEY_IDENTIFIER, false, &SubjectKeyIdentifier(subject_key))?,
            extension(AUTHORITY_KEY_IDENTIFIER, false, &authority)?,
        ];
        let tbs = Tbs {
            version: Version::V3,
            serial_number: SerialNumber::new(self.serial.as_octets())?,
            signature: self.issuer_key.algorithm(),
            issuer: self.issuer.clone(),
            validity: Validity::new(encoding::time(self.not_before)?, encoding::time(self.not_after)?),
            subject: self.subject.clone(),
            subject_public_key_info: spki,
            extensions: Some(extensions),
        };
        sign(self.issuer_key, &tbs.to_der()?)
    }
}
