//! A private key under a passphrase (RFC 5958 §3, RFC 8018 §6.2): PBKDF2 with HMAC-SHA-256, then AES-256-CBC, as OpenSSL
//! writes and reads it. For backups: the server takes keys without a passphrase alone.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use pkcs8::der::asn1::OctetString;
use pkcs8::der::pem::LineEnding;
use pkcs8::der::{self, Decode as _, EncodePem as _};
use pkcs8::pkcs5::pbes2::{self, EncryptionScheme, Kdf, Pbkdf2Params, Pbkdf2Prf};
use pkcs8::{EncryptedPrivateKeyInfoOwned, PrivateKeyInfoRef};

use crate::key::KeyError;

/// How often the passphrase is hashed (OWASP, Password Storage Cheat Sheet: PBKDF2-HMAC-SHA256).
const ITERATIONS: u32 = 600_000;
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PLAIN: &str = "PRIVATE KEY";

/// The private key in `pem`, PKCS #8, as one that `passphrase` opens (`openssl pkey -in`). `random` fills octets.
///
/// # Errors
/// Where `pem` is no such key, or the cryptographic library fails.
pub fn encrypted_pem(pem: &str, passphrase: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<String, KeyError> {
    let failed = KeyError::Failed("be encrypted");
    match der::pem::decode_vec(pem.as_bytes()) {
        Ok((PLAIN, key)) => encrypted(key, passphrase, random).ok_or(failed),
        _ => Err(failed),
    }
}

/// The private key in what [`encrypted_pem`] made with the same passphrase, as PKCS #8 in PEM.
///
/// # Errors
/// Where the passphrase is another one, or the key was encrypted in another way.
pub fn decrypted_pem(pem: &str, passphrase: &str) -> Result<String, KeyError> {
    let failed = KeyError::Failed("be opened with this passphrase");
    match der::pem::decode_vec(pem.as_bytes()) {
        Ok((ENCRYPTED, info)) => decrypted(&info, passphrase).ok_or(failed),
        _ => Err(failed),
    }
}

/// The key that encrypts the key.
fn cipher_key(pbkdf2: &Pbkdf2Params, passphrase: &str) -> Option<UnboundCipherKey> {
    let mut secret = [0; 32];
    let iterations = NonZeroU32::new(pbkdf2.iteration_count)?;
    pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, pbkdf2.salt.as_bytes(), passphrase.as_bytes(), &mut secret);
    UnboundCipherKey::new(&AES_256, &secret).ok()
}

fn encrypted(mut key: Vec<u8>, passphrase: &str, random: &mut dyn FnMut(&mut [u8])) -> Option<String> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random(&mut salt);
    random(&mut iv);
    let pbkdf2 = Pbkdf2Params::hmac_sha256(ITERATIONS, &salt).ok()?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(cipher_key(&pbkdf2, passphrase)?).ok()?;
    cipher.less_safe_encrypt(&mut key, EncryptionContext::Iv128((&iv).into())).ok()?;
    let encryption = EncryptionScheme::Aes256Cbc { iv };
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: pbes2::Parameters { kdf: Kdf::Pbkdf2(pbkdf2), encryption }.into(),
        encrypted_data: OctetString::new(key).ok()?,
    };
    info.to_pem(LineEnding::LF).ok()
}

fn decrypted(info: &[u8], passphrase: &str) -> Option<String> {
    let info = EncryptedPrivateKeyInfoOwned::from_der(info).ok()?;
    let parameters = info.encryption_algorithm.pbes2()?;
    let pbkdf2 = parameters.kdf.pbkdf2()?;
    let EncryptionScheme::Aes256Cbc { iv } = parameters.encryption else { return None };
    if pbkdf2.prf != Pbkdf2Prf::HmacWithSha256 {
        return None;
    }
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(pbkdf2, passphrase)?).ok()?;
    let mut key = info.encrypted_data.into_bytes().into_vec();
    let key: &[u8] = cipher.decrypt(&mut key, DecryptionContext::Iv128((&iv).into())).ok()?;
    // One wrong passphrase in 256 leaves octets that end like padding.
    PrivateKeyInfoRef::try_from(key).ok()?;
    der::pem::encode_string(PLAIN, LineEnding::LF, key).ok()
}
