//! The format of vectors/jws.json: keys and their thumbprints, and requests, checked in the order in which a server does
//! it.

use std::collections::HashMap;

use akamu_proto::{AccountStatus, ErrorType, Jwk, Jws, KeyAuthorization, KeyReference, Token, VerifyingKey};
use serde::de::{self, Deserializer};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::case_file::{self, one_of};

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Case {
    Thumbprint {
        jwk: Value,
        #[serde(default, deserialize_with = "token")]
        token: Option<Token>,
        expect: Expect,
    },
    Request {
        endpoint: Endpoint,
        request_url: String,
        nonces: Vec<String>,
        #[serde(default)]
        accounts: HashMap<String, Account>,
        #[serde(default)]
        body: String,
        /// More of the body, where it is long.
        #[serde(default)]
        body_parts: Vec<Part>,
        /// For whoever wants to make another request like it.
        #[serde(rename = "private_key")]
        _private_key: Option<IgnoredAny>,
        expect: Expect,
    },
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endpoint {
    Jwk,
    Kid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    status: AccountStatus,
    #[serde(deserialize_with = "account_key")]
    jwk: Jwk,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    text: String,
    repeat: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    ok: bool,
    thumbprint: Option<String>,
    key_authorization: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    error: Vec<String>,
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

fn account_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Jwk, D::Error> {
    Jwk::parse(&Value::deserialize(deserializer)?.to_string()).map_err(de::Error::custom)
}

/// What an accepted key or request shows.
#[derive(Debug)]
struct Accepted {
    thumbprint: String,
    key_authorization: Option<String>,
    payload: Option<String>,
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let (outcome, expect) = match self {
            Self::Thumbprint { jwk, token, expect } => (thumbprint(jwk, token.as_ref()), expect),
            Self::Request { body, body_parts, expect, .. } => {
                let parts: String = body_parts.iter().map(|it| it.text.repeat(it.repeat.unwrap_or(1))).collect();
                (self.request(&format!("{body}{parts}")), expect)
            }
        };
        Some(expect.difference(&outcome).into_iter().collect())
    }
}

fn thumbprint(jwk: &Value, token: Option<&Token>) -> Result<Accepted, ErrorType> {
    let jwk = Jwk::parse(&jwk.to_string()).map_err(|_| ErrorType::BadPublicKey)?;
    VerifyingKey::new(&jwk).map_err(|_| ErrorType::BadPublicKey)?;
    let key_authorization = token.map(|token| KeyAuthorization::new(token, &jwk.thumbprint()).as_str().to_owned());
    Ok(Accepted { thumbprint: jwk.thumbprint().to_string(), key_authorization, payload: None })
}

impl Case {
    fn request(&self, body: &str) -> Result<Accepted, ErrorType> {
        let Self::Request { endpoint, request_url, nonces, accounts, .. } = self else {
            return Err(ErrorType::ServerInternal);
        };
        let jws = Jws::parse(body.as_bytes()).map_err(|error| error.error_type())?;
        if jws.header().url != *request_url {
            return Err(ErrorType::Unauthorized);
        }
        if !jws.header().nonce.as_ref().is_some_and(|nonce| nonces.contains(nonce)) {
            return Err(ErrorType::BadNonce);
        }
        let jwk = match (&jws.header().key, endpoint) {
            (KeyReference::Jwk(jwk), Endpoint::Jwk) => &**jwk,
            (KeyReference::Kid(kid), Endpoint::Kid) => {
                let account = accounts.get(kid).ok_or(ErrorType::AccountDoesNotExist)?;
                if account.status != AccountStatus::Valid {
                    return Err(ErrorType::Unauthorized);
                }
                &account.jwk
            }
            _ => return Err(ErrorType::Malformed),
        };
        let key = VerifyingKey::new(jwk).map_err(|_| ErrorType::BadPublicKey)?;
        jws.verify(&key).map_err(|error| error.error_type())?;
        let payload = String::from_utf8_lossy(jws.payload()).into_owned();
        Ok(Accepted { thumbprint: jwk.thumbprint().to_string(), key_authorization: None, payload: Some(payload) })
    }
}

impl Expect {
    fn difference(&self, outcome: &Result<Accepted, ErrorType>) -> Option<String> {
        let is_expected = match outcome {
            Ok(got) => {
                self.ok
                    && self.thumbprint.as_ref().is_none_or(|it| *it == got.thumbprint)
                    && self.key_authorization == got.key_authorization
                    && self.payload == got.payload
            }
            Err(error) => !self.ok && self.error.iter().any(|it| it == error.name()),
        };
        let expected = || match self {
            Self { ok: true, thumbprint, key_authorization, payload, .. } => format!(
                "accepted, thumbprint {thumbprint:?}, key authorization {key_authorization:?}, payload {payload:?}"
            ),
            Self { error, .. } => format!("refused as {}", one_of(error)),
        };
        (!is_expected).then(|| match outcome {
            Ok(got) => format!("expected {}, got {got:?}", expected()),
            Err(error) => format!("expected {}, got refused as {error}", expected()),
        })
    }
}
