//! The trait of all challenge types, what it is asked, and the set of those that a CA offers.

use std::fmt;
use std::sync::Arc;

use akamu_proto::{AccountUri, ChallengeType, ErrorType, Identifier, KeyAuthorization, Thumbprint};
use async_trait::async_trait;

use crate::{ChallengeError, Deadline, ValidationReport};

/// One attempt at one challenge.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValidationRequest {
    /// What the client claims to control.
    pub identifier: Identifier,
    /// What must be found there.
    pub expected: Expected,
}

/// What a validator looks for.
///
/// A challenge type of an embedder's own uses whichever it needs: a key authorization for what the client provisions
/// anew each time, the account for what is to be trusted for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key authorization (RFC 8555 §8.1), as it was when the client answered the challenge.
    KeyAuthorization(KeyAuthorization),
    /// The account itself (draft-ietf-acme-dns-persist).
    Account {
        /// Its URL.
        uri: AccountUri,
        /// The thumbprints of every key that it ever had, the current one first.
        thumbprints: Vec<Thumbprint>,
    },
}

impl ValidationRequest {
    /// A request.
    pub const fn new(identifier: Identifier, expected: Expected) -> Self {
        Self { identifier, expected }
    }

    /// A request for a challenge that carries a token.
    pub const fn with_key_authorization(identifier: Identifier, key_authorization: KeyAuthorization) -> Self {
        Self { identifier, expected: Expected::KeyAuthorization(key_authorization) }
    }

    /// A request for a challenge about an account; `thumbprints` has the current key's first.
    pub const fn with_account(identifier: Identifier, uri: AccountUri, thumbprints: Vec<Thumbprint>) -> Self {
        Self { identifier, expected: Expected::Account { uri, thumbprints } }
    }

    /// The key authorization.
    ///
    /// # Errors
    /// `serverInternal` where the request is about an account: the CA has mixed up its challenge types.
    pub fn key_authorization(&self) -> Result<&KeyAuthorization, ChallengeError> {
        match &self.expected {
            Expected::KeyAuthorization(it) => Ok(it),
            Expected::Account { .. } => Err(ChallengeError::new(
                ErrorType::ServerInternal,
                "this challenge type needs a key authorization, and was given an account",
            )),
        }
    }

    /// The account's URL and its thumbprints, the current one first.
    ///
    /// # Errors
    /// `serverInternal` where the request is about a key authorization: the CA has mixed up its challenge types.
    pub fn account(&self) -> Result<(&AccountUri, &[Thumbprint]), ChallengeError> {
        match &self.expected {
            Expected::Account { uri, thumbprints } => Ok((uri, thumbprints)),
            Expected::KeyAuthorization(_) => Err(ChallengeError::new(
                ErrorType::ServerInternal,
                "this challenge type needs an account, and was given a key authorization",
            )),
        }
    }
}

/// A challenge type's check.
#[async_trait]
pub trait Validator: Send + Sync + fmt::Debug {
    /// The type's name.
    fn method(&self) -> ChallengeType;

    /// Whether this type can prove control of `identifier`. A CA offers it for those only.
    fn supports(&self, identifier: &Identifier) -> bool;

    /// Looks, once, and tells what it saw.
    ///
    /// Returns at the deadline at the latest, with what was seen by then: never wrap it in a timeout, which would drop
    /// the report.
    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport;
}

#[async_trait]
impl<T: Validator + ?Sized> Validator for Arc<T> {
    fn method(&self) -> ChallengeType {
        (**self).method()
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        (**self).supports(identifier)
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        (**self).validate(request, deadline).await
    }
}

/// The validators of a CA, one for each challenge type.
///
/// Their order is the order in which challenges are offered: http-01, dns-01, tls-alpn-01, dns-persist-01, then others
/// as they were added.
#[derive(Clone, Debug, Default)]
pub struct ValidatorSet {
    validators: Vec<Arc<dyn Validator>>,
}

impl ValidatorSet {
    /// A set of none.
    pub const fn new() -> Self {
        Self { validators: Vec::new() }
    }

    /// This set and one more; one of the same type is replaced.
    #[must_use]
    pub fn with(mut self, validator: impl Validator + 'static) -> Self {
        self.insert(Arc::new(validator));
        self
    }

    /// Adds a validator; one of the same type is replaced.
    pub fn insert(&mut self, validator: Arc<dyn Validator>) {
        let method = validator.method();
        match self.validators.iter_mut().find(|it| it.method() == method) {
            Some(present) => *present = validator,
            None => {
                self.validators.push(validator);
                self.validators.sort_by_key(|it| rank(&it.method()));
            }
        }
    }

    /// The validator of this type.
    pub fn get(&self, method: &ChallengeType) -> Option<&Arc<dyn Validator>> {
        self.validators.iter().find(|it| it.method() == *method)
    }

    /// The types to offer for `identifier`, in order.
    pub fn offered_for<'a>(&'a self, identifier: &'a Identifier) -> impl Iterator<Item = ChallengeType> + 'a {
        self.validators.iter().filter(|it| it.supports(identifier)).map(|it| it.method())
    }

    /// All validators, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Validator>> {
        self.validators.iter()
    }
}

fn rank(method: &ChallengeType) -> usize {
    let known =
        [ChallengeType::HTTP_01, ChallengeType::DNS_01, ChallengeType::TLS_ALPN_01, ChallengeType::DNS_PERSIST_01];
    known.iter().position(|it| it == method).unwrap_or(known.len())
}
