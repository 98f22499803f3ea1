//! Parsed account keys, by their JWK's octets, never by account: a key changed on another replica is refused at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use akamu_proto::{Jwk, JwkError, VerifyingKey};

/// Keys kept; about 1 KB each.
const CAPACITY: usize = 4_096;

/// The cache. When it is full it is emptied: a parse costs a tenth of a signature check.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    keys: Mutex<HashMap<Box<str>, Arc<VerifyingKey>>>,
}

impl KeyCache {
    /// The key of the account whose canonical JWK is `canonical`.
    pub(crate) fn of_canonical(&self, canonical: &str) -> Result<Arc<VerifyingKey>, JwkError> {
        if let Some(key) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(canonical) {
            return Ok(key.clone());
        }
        let key = Arc::new(VerifyingKey::new(&Jwk::parse(canonical)?)?);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CAPACITY {
            keys.clear();
        }
        keys.insert(canonical.into(), key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use base64ct::{Base64UrlUnpadded, Encoding as _};

    fn key(n: u16) -> String {
        let mut modulus = [0xff; 256];
        let [a, b] = n.to_be_bytes();
        (modulus[100], modulus[101]) = (a, b);
        Jwk::parse(&format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, Base64UrlUnpadded::encode_string(&modulus)))
            .unwrap()
            .canonical()
            .to_owned()
    }

    #[test]
    fn a_key_is_parsed_once_and_a_full_cache_is_emptied() {
        let cache = KeyCache::default();
        let count = || cache.keys.lock().unwrap().len();
        let first = cache.of_canonical(&key(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.of_canonical(&key(0)).unwrap()));
        for n in 1..4_096 {
            cache.of_canonical(&key(n)).unwrap();
        }
        assert_eq!(count(), 4_096);
        cache.of_canonical(&key(4_096)).unwrap();
        assert_eq!(count(), 1);
        assert!(cache.of_canonical("{}").is_err());
    }
}
