//! The key with which each account was last seen, so that a signature is checked before the database is asked.
//!
//! It may have been changed since on another replica: whoever relies on it compares it with the account's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use akamu_proto::{AccountId, Jwk, JwkError, VerifyingKey};

/// Keys kept; about 1 KB each.
const CAPACITY: usize = 4_096;

/// An account's key, parsed.
#[derive(Debug)]
pub(crate) struct SeenKey {
    /// The canonical JWK.
    pub(crate) jwk: Box<str>,
    pub(crate) key: VerifyingKey,
}

/// The cache. When it is full it is emptied: a parse costs a tenth of a signature check.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    keys: Mutex<HashMap<AccountId, Arc<SeenKey>>>,
}

impl KeyCache {
    /// The account's key, as it was last seen.
    pub(crate) fn last(&self, account: AccountId) -> Option<Arc<SeenKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&account).cloned()
    }

    /// The account's key, whose canonical JWK is `jwk` now.
    pub(crate) fn now(&self, account: AccountId, jwk: &str) -> Result<Arc<SeenKey>, JwkError> {
        if let Some(seen) = self.last(account).filter(|it| *it.jwk == *jwk) {
            return Ok(seen);
        }
        let seen = Arc::new(SeenKey { jwk: jwk.into(), key: VerifyingKey::new(&Jwk::parse(jwk)?)? });
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CAPACITY {
            keys.clear();
        }
        keys.insert(account, seen.clone());
        Ok(seen)
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

    fn account(n: i64) -> AccountId {
        AccountId::from_i64(n).unwrap()
    }

    #[test]
    fn a_key_is_parsed_once_and_a_full_cache_is_emptied() {
        let cache = KeyCache::default();
        let count = || cache.keys.lock().unwrap().len();
        let first = cache.now(account(1), &key(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.now(account(1), &key(1)).unwrap()));
        for n in 2..=4_096 {
            cache.now(account(n), &key(1)).unwrap();
        }
        assert_eq!(count(), 4_096);
        cache.now(account(4_097), &key(1)).unwrap();
        assert_eq!(count(), 1);
        assert!(cache.now(account(1), "{}").is_err());
    }

    #[test]
    fn a_changed_key_takes_the_place_of_the_one_before() {
        let cache = KeyCache::default();
        assert!(cache.last(account(1)).is_none());
        cache.now(account(1), &key(1)).unwrap();
        assert_eq!(*cache.now(account(1), &key(2)).unwrap().jwk, *key(2));
        assert_eq!(*cache.last(account(1)).unwrap().jwk, *key(2));
    }
}
