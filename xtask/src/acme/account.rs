//! An account's key, and what it signs.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::base64url;
use crate::failure::{Context, Failure};

/// A P-256 key; its URL once the server has made the account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    key: Arc<EcdsaKeyPair>,
    pub(super) url: Option<String>,
}

impl Account {
    pub(crate) fn generate() -> Result<Self, Failure> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Failure::new("cannot make an account key"))?;
        Ok(Self { key: Arc::new(key), url: None })
    }

    /// The same key, said to be that of the account at `url`.
    pub(crate) fn claiming(&self, url: &str) -> Self {
        Self { key: Arc::clone(&self.key), url: Some(url.to_owned()) }
    }

    /// Its URL; empty until the server has made it.
    pub(crate) fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    fn coordinates(&self) -> [String; 2] {
        // 4, x and y (SEC 1 §2.3.3).
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        [base64url(x), base64url(y)]
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> String {
        let [x, y] = self.coordinates();
        base64url(digest(&SHA256, format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()))
    }

    /// A flattened JWS over `payload`.
    pub(crate) fn jws(&self, url: &str, nonce: &str, payload: &str) -> Result<String, Failure> {
        let mut protected = json!({ "alg": "ES256", "nonce": nonce, "url": url });
        let (member, value) = if let Some(url) = &self.url {
            ("kid", Value::from(url.as_str()))
        } else {
            let [x, y] = self.coordinates();
            ("jwk", json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }))
        };
        if let Some(protected) = protected.as_object_mut() {
            protected.insert(member.to_owned(), value);
        }
        let (protected, payload) = (base64url(protected.to_string()), base64url(payload));
        let signed = format!("{protected}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.context(|| "cannot sign".to_owned())?;
        let jws = json!({ "protected": protected, "payload": payload, "signature": base64url(signature) });
        Ok(jws.to_string())
    }
}
