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
