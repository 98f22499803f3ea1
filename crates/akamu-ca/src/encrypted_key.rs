//! A private key under a passphrase (RFC 5958 §3, RFC 8018 §6.2): PBKDF2 with HMAC-SHA-256, then AES-256-CBC, as OpenSSL
//! writes and reads it. Only written here: the server takes keys without a passphrase alone.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use der::asn1::{Null, ObjectIdentifier, OctetString};
use der::pem::LineEnding;
use der::{Any, Encode as _, Sequence};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::key::KeyError;

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const HMAC_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
/// How often the passphrase is hashed (OWASP, Password Storage Cheat Sheet: PBKDF2-HMAC-SHA256).
const ITERATIONS: u32 = 600_000;

#[derive(Sequence)]
struct EncryptedPrivateKeyInfo {
    algorithm: AlgorithmIdentifierOwned,
    data: OctetString,
}

#[derive(Sequence)]
struct Pbes2Parameters {
    key_derivation: AlgorithmIdentifierOwned,
    encryption: AlgorithmIdentifierOwned,
}

#[derive(Sequence)]
struct Pbkdf2Parameters {
    salt: OctetString,
    iterations: u32,
    prf: AlgorithmIdentifierOwned,
}

/// The private key in `pem`, PKCS #8, as one that `passphrase` opens (`openssl pkey -in`). `random` fills octets.
///
/// # Errors
/// Where `pem` is no such key, or the cryptographic library fails.
pub fn encrypted_pem(pem: &str, passphrase: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<String, KeyError> {
    let failed = KeyError::Failed("be encrypted");
    match der::pem::decode_vec(pem.as_bytes()) {
        Ok(("PRIVATE KEY", der)) => encrypted(&der, passphrase, random).ok_or(failed),
        _ => Err(failed),
    }
}

fn encrypted(key: &[u8], passphrase: &str, random: &mut dyn FnMut(&mut [u8])) -> Option<String> {
    let (mut salt, mut iv, mut secret) = ([0; 16], [0; 16], [0; 32]);
    random(&mut salt);
    random(&mut iv);
    pbkdf2::derive(PBKDF2_HMAC_SHA256, NonZeroU32::new(ITERATIONS)?, &salt, passphrase.as_bytes(), &mut secret);
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &secret).ok()?).ok()?;
    let mut data = key.to_vec();
    cipher.less_safe_encrypt(&mut data, EncryptionContext::Iv128((&iv).into())).ok()?;
    let info = structure(&salt, &iv, data).ok()?;
    der::pem::encode_string("ENCRYPTED PRIVATE KEY", LineEnding::LF, &info).ok()
}

fn structure(salt: &[u8], iv: &[u8], data: Vec<u8>) -> der::Result<Vec<u8>> {
    let identifier = |oid, parameters| AlgorithmIdentifierOwned { oid, parameters: Some(parameters) };
    let pbkdf2 = Pbkdf2Parameters {
        salt: OctetString::new(salt)?,
        iterations: ITERATIONS,
        prf: identifier(HMAC_WITH_SHA_256, Any::encode_from(&Null)?),
    };
    let pbes2 = Pbes2Parameters {
        key_derivation: identifier(PBKDF2, Any::encode_from(&pbkdf2)?),
        encryption: identifier(AES_256_CBC, Any::encode_from(&OctetString::new(iv)?)?),
    };
    let algorithm = identifier(PBES2, Any::encode_from(&pbes2)?);
    EncryptedPrivateKeyInfo { algorithm, data: OctetString::new(data)? }.to_der()
}
