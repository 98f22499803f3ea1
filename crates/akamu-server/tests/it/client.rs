//! An ACME client that says exactly what a test wants it to say, right or wrong.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::HeaderMap;
use serde_json::{Value, json};

pub(crate) fn base64url(octets: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(octets.as_ref())
}

/// An account key of each kind that is accepted.
pub(crate) enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn p256_from_pkcs8(der: &[u8]) -> Self {
        Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).unwrap())
    }

    pub(crate) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = |curve: &str, octets: &[u8]| {
            let (x, y) = octets[1..].split_at(octets.len() / 2);
            json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
        };
        match self {
            Self::P256(key) => point("P-256", key.public_key().as_ref()),
            Self::P384(key) => point("P-384", key.public_key().as_ref()),
            Self::Rsa(key) => {
                let public = key.public_key();
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Self::Ed25519(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref()) }),
        }
    }

    pub(crate) fn thumbprint(&self) -> akamu_proto::Thumbprint {
        akamu_proto::Jwk::parse(&self.jwk().to_string()).unwrap().thumbprint()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) | Self::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A flattened JWS over `payload` with exactly this protected header.
    pub(crate) fn jws(&self, protected: &Value, payload: &str) -> Value {
        let protected = base64url(protected.to_string());
        let payload = base64url(payload);
        let signature = base64url(self.sign(format!("{protected}.{payload}").as_bytes()));
        json!({ "protected": protected, "payload": payload, "signature": signature })
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.to_str().unwrap()
    }

    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The name of the problem's type; asserts that the answer is one problem document, with a status that agrees.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], json!(self.status), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{problem}");
        let urn = problem["type"].as_str().unwrap_or_else(|| panic!("{problem}"));
        urn.strip_prefix("urn:ietf:params:acme:error:").unwrap_or_else(|| panic!("{urn}")).to_owned()
    }

    /// A fresh nonce, the directory's link, one link in a line, nothing to be cached, no `null`.
    pub(crate) fn assert_acme(&self, directory: &str) {
        let links = self.headers_named("link");
        assert!(links.contains(&format!("<{directory}>;rel=\"index\"").as_str()), "{links:?}");
        assert!(links.iter().all(|it| it.matches(";rel=\"").count() == 1 && !it.contains(',')), "{links:?}");
        let nonce = self.header("replay-nonce");
        assert!(nonce.len() >= 22 && nonce.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
        assert_eq!(self.header("cache-control"), "no-store");
        if self.body.starts_with(b"{") {
            let content_type = if self.status < 400 { "application/json" } else { "application/problem+json" };
            assert_eq!(self.header("content-type"), content_type);
            assert!(!self.text().contains("null"), "{}", self.text());
        }
    }

    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}", String::from_utf8_lossy(&self.body), self.headers);
        self
    }

    pub(crate) fn expect_problem(self, status: u16, error: &str) -> Self {
        assert_eq!((self.status, self.problem().as_str()), (status, error), "{}", self.json());
        self
    }
}

/// A client with a key and, once it has registered, an account.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) key: Key,
    pub(crate) kid: String,
}

impl Client {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(self.url(path))).await
    }

    pub(crate) async fn nonce(&self) -> String {
        let answer = self.send(self.http.head(self.url("/acme/new-nonce"))).await.expect(200);
        answer.header("replay-nonce").to_owned()
    }

    /// Posts octets as they are; asserts what every answer to a POST has.
    pub(crate) async fn post_raw(&self, url: &str, body: impl Into<reqwest::Body>) -> Answer {
        let answer = self.send(self.http.post(url).header("content-type", "application/jose+json").body(body)).await;
        answer.assert_acme(&self.url("/acme/directory"));
        answer
    }

    /// A protected header as it should be, with `kid`.
    pub(crate) async fn protected(&self, url: &str) -> Value {
        json!({ "alg": self.key.algorithm(), "kid": self.kid, "nonce": self.nonce().await, "url": url })
    }

    /// Posts a payload, signed by the account.
    pub(crate) async fn post_text(&self, url: &str, payload: &str) -> Answer {
        let jws = self.key.jws(&self.protected(url).await, payload);
        self.post_raw(url, jws.to_string()).await
    }

    pub(crate) async fn post(&self, url: &str, payload: &Value) -> Answer {
        self.post_text(url, &payload.to_string()).await
    }

    pub(crate) async fn post_as_get(&self, url: &str) -> Answer {
        self.post_text(url, "").await
    }

    /// Posts a payload, signed by the key in `jwk`.
    pub(crate) async fn post_with_key(&self, key: &Key, url: &str, payload: &Value) -> Answer {
        let protected = json!({ "alg": key.algorithm(), "jwk": key.jwk(), "nonce": self.nonce().await, "url": url });
        self.post_raw(url, key.jws(&protected, &payload.to_string()).to_string()).await
    }

    pub(crate) async fn new_account(&self, payload: &Value) -> Answer {
        self.post_with_key(&self.key, &self.url("/acme/new-account"), payload).await
    }

    pub(crate) async fn register(&mut self) {
        let answer = self.new_account(&json!({ "termsOfServiceAgreed": true })).await.expect(201);
        self.kid = answer.header("location").to_owned();
    }

    /// The payload by which keyChange gives the account this key.
    pub(crate) fn key_change(&self, new_key: &Key) -> Value {
        let payload = json!({ "account": self.kid, "oldKey": self.key.jwk() }).to_string();
        let url = self.url("/acme/key-change");
        new_key.jws(&json!({ "alg": new_key.algorithm(), "jwk": new_key.jwk(), "url": url }), &payload)
    }

    pub(crate) async fn new_order(&self, names: &[&str]) -> Answer {
        let identifiers: Vec<_> = names
            .iter()
            .map(|name| {
                let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
                json!({ "type": kind, "value": name })
            })
            .collect();
        self.post(&self.url("/acme/new-order"), &json!({ "identifiers": identifiers })).await
    }
}
