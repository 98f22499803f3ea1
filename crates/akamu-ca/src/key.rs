//! Signing keys. A key is a trait: a file today, a token in hardware next.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaKeyPair,
};
use der::asn1::ObjectIdentifier;
use der::pem::LineEnding;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::files::{self, FileError};

/// A kind of key that the first run can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// EC P-256.
    EcP256,
    /// EC P-384.
    EcP384,
    /// RSA with this many bits.
    Rsa2048,
    /// RSA with this many bits.
    Rsa3072,
    /// RSA with this many bits.
    Rsa4096,
    /// Ed25519.
    Ed25519,
}

impl FromStr for KeyType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "ec-p256" => Self::EcP256,
            "ec-p384" => Self::EcP384,
            "rsa-2048" => Self::Rsa2048,
            "rsa-3072" => Self::Rsa3072,
            "rsa-4096" => Self::Rsa4096,
            "ed25519" => Self::Ed25519,
            _ => {
                return Err(format!("{name:?}: ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519 is expected"));
            }
        })
    }
}

/// The hash of RSA signatures; EC and Ed25519 keys have one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlg {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl FromStr for HashAlg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return Err(format!("{name:?}: sha256, sha384 or sha512 is expected")),
        })
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key in PEM.
    #[error("{path}: no private key is found here; PKCS #8 in PEM (\"BEGIN PRIVATE KEY\") is expected")]
    NotAKey {
        /// The file.
        path: String,
    },
    /// A key that asks for a passphrase.
    #[error(
        "{path}: the private key is encrypted; decrypt it into a file of mode 0600: openssl pkcs8 -in {path} -out KEYFILE"
    )]
    Encrypted {
        /// The file.
        path: String,
    },
    /// Another format than PKCS #8.
    #[error(
        "{path}: \"BEGIN {label}\" is found here, PKCS #8 is expected; convert it: openssl pkcs8 -topk8 -nocrypt -in {path} -out KEYFILE"
    )]
    OtherFormat {
        /// The file.
        path: String,
        /// What stands after BEGIN.
        label: String,
    },
    /// A key of another kind or size.
    #[error(
        "{path}: the private key is of a kind that is not supported; use EC P-256, EC P-384, RSA 2048 to 4096 or Ed25519"
    )]
    Unsupported {
        /// The file.
        path: String,
    },
    /// An algorithm that is another kind of key's.
    #[error("the key cannot sign with the algorithm {oid}")]
    Algorithm {
        /// The algorithm.
        oid: ObjectIdentifier,
    },
    /// The cryptographic library failed.
    #[error("the key failed to {0}")]
    Failed(&'static str),
}

/// A key that signs certificates and CRLs.
pub trait SigningKey: Send + Sync + fmt::Debug {
    /// Its SubjectPublicKeyInfo, DER.
    fn spki_der(&self) -> Vec<u8>;

    /// The algorithm that what is made now is signed with.
    fn algorithm(&self) -> AlgorithmIdentifierOwned;

    /// Signs with this algorithm: [`Self::algorithm`], or the one that was it when the message was made.
    ///
    /// # Errors
    /// Where the key cannot sign with the algorithm, or its store fails.
    fn sign(&self, algorithm: &AlgorithmIdentifierOwned, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Whether a signature and its check take no longer than a few tenths of a millisecond, and wait for nothing: then it
    /// costs more to have another thread make it.
    fn is_quick(&self) -> bool {
        false
    }
}

/// A key from a file, held in memory.
pub struct FileKey {
    pair: Pair,
    spki_der: Vec<u8>,
    hash: HashAlg,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl FileKey {
    fn algorithm_with(&self, hash: HashAlg) -> AlgorithmIdentifierOwned {
        let oid = match (&self.pair, hash) {
            (Pair::P256(_), _) => ECDSA_SHA256,
            (Pair::P384(_), _) => ECDSA_SHA384,
            (Pair::Rsa(_), HashAlg::Sha256) => RSA_SHA256,
            (Pair::Rsa(_), HashAlg::Sha384) => RSA_SHA384,
            (Pair::Rsa(_), HashAlg::Sha512) => RSA_SHA512,
            (Pair::Ed25519(_), _) => ED25519,
        };
        // RFC 4055 §5: RSA's parameters are NULL, all others' are absent.
        let parameters = matches!(self.pair, Pair::Rsa(_)).then(der::Any::null);
        AlgorithmIdentifierOwned { oid, parameters }
    }

    fn new(pair: Pair, hash: HashAlg) -> Option<Self> {
        let spki: PublicKeyX509Der<'_> = match &pair {
            Pair::P256(key) | Pair::P384(key) => key.public_key().as_der().ok()?,
            Pair::Rsa(key) => key.public_key().as_der().ok()?,
            Pair::Ed25519(key) => key.public_key().as_der().ok()?,
        };
        let spki_der = spki.as_ref().to_vec();
        Some(Self { pair, spki_der, hash })
    }

    /// Makes a key.
    ///
    /// # Errors
    /// Where the cryptographic library fails.
    pub fn generate(key_type: KeyType, hash: HashAlg) -> Result<Self, KeyError> {
        let rsa = |size| RsaKeyPair::generate(size).map(Pair::Rsa);
        let pair = match key_type {
            KeyType::EcP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Pair::P256),
            KeyType::EcP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Pair::P384),
            KeyType::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyType::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyType::Rsa4096 => rsa(KeySize::Rsa4096),
            KeyType::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        pair.ok().and_then(|it| Self::new(it, hash)).ok_or(KeyError::Failed("be made"))
    }

    /// Reads a PKCS #8 key, DER.
    pub fn from_pkcs8(pkcs8: &[u8], hash: HashAlg) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
            .map(Pair::P256)
            .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8).map(Pair::P384))
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Pair::Ed25519))
            .or_else(|_| RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa))
            .ok()?;
        if let Pair::Rsa(key) = &pair
            && !(256..=512).contains(&key.public_modulus_len())
        {
            return None;
        }
        Self::new(pair, hash)
    }

    /// Reads a PKCS #8 key in PEM from a file that nobody else can read.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn from_pem_file(path: &Path, hash: HashAlg) -> Result<Self, KeyError> {
        let text = files::read_key(path)?;
        let path = || path.display().to_string();
        // OpenSSL writes the curve's name before an EC key.
        let start = text.find("-----BEGIN ").filter(|_| !text.contains("-----BEGIN EC PARAMETERS-----"));
        let start = start.or_else(|| text.find("-----BEGIN EC PRIVATE KEY-----"));
        let block = start.and_then(|start| text.get(start..)).ok_or_else(|| KeyError::NotAKey { path: path() })?;
        match der::pem::decode_label(block.as_bytes()) {
            Ok("PRIVATE KEY") => {}
            Ok("ENCRYPTED PRIVATE KEY") => return Err(KeyError::Encrypted { path: path() }),
            Ok(label @ ("EC PRIVATE KEY" | "RSA PRIVATE KEY")) => {
                return Err(KeyError::OtherFormat { path: path(), label: label.to_owned() });
            }
            _ => return Err(KeyError::NotAKey { path: path() }),
        }
        let (_, der) = der::pem::decode_vec(block.as_bytes()).map_err(|_| KeyError::NotAKey { path: path() })?;
        Self::from_pkcs8(&der, hash).ok_or_else(|| KeyError::Unsupported { path: path() })
    }

    /// The key as PKCS #8, DER.
    ///
    /// # Errors
    /// Where the cryptographic library fails.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        let der = match &self.pair {
            Pair::P256(key) | Pair::P384(key) => key.to_pkcs8v1().map(|it| it.as_ref().to_vec()),
            Pair::Rsa(key) => key.as_der().map(|it: Pkcs8V1Der<'_>| it.as_ref().to_vec()),
            Pair::Ed25519(key) => key.to_pkcs8v1().map(|it| it.as_ref().to_vec()),
        };
        der.map_err(|_| KeyError::Failed("be written"))
    }

    /// Writes the key into a new file with mode 0600; one that is there is never overwritten.
    ///
    /// # Errors
    /// Where the file is there already, or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let text = der::pem::encode_string("PRIVATE KEY", LineEnding::LF, &self.to_pkcs8()?)
            .map_err(|_| KeyError::Failed("be written"))?;
        Ok(files::write_new(path, &text, 0o600)?)
    }
}

impl SigningKey for FileKey {
    fn spki_der(&self) -> Vec<u8> {
        self.spki_der.clone()
    }

    fn algorithm(&self) -> AlgorithmIdentifierOwned {
        self.algorithm_with(self.hash)
    }

    fn sign(&self, algorithm: &AlgorithmIdentifierOwned, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let hash = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
            .into_iter()
            .find(|it| self.algorithm_with(*it) == *algorithm)
            .ok_or(KeyError::Algorithm { oid: algorithm.oid })?;
        let random = SystemRandom::new();
        let failed = |_| KeyError::Failed("sign");
        match &self.pair {
            Pair::P256(key) | Pair::P384(key) => {
                key.sign(&random, message).map(|it| it.as_ref().to_vec()).map_err(failed)
            }
            Pair::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Pair::Rsa(key) => {
                let padding: &'static dyn signature::RsaEncoding = match hash {
                    HashAlg::Sha256 => &signature::RSA_PKCS1_SHA256,
                    HashAlg::Sha384 => &signature::RSA_PKCS1_SHA384,
                    HashAlg::Sha512 => &signature::RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }

    fn is_quick(&self) -> bool {
        matches!(self.pair, Pair::P256(_) | Pair::Ed25519(_))
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(…)")
    }
}
