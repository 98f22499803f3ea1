//! Every way in which a request can fail, and the one mapping to problem documents (RFC 8555 §6.7).

use akamu_ca::{CsrError, NameNotPermitted};
use akamu_proto::{
    AccountStatus, ContactError, ErrorType, Identifier, JwkError, JwsError, OrderStatus, Problem, Subproblem,
};
use akamu_store::StoreError;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

/// Seconds that a client should wait when the server cannot answer now.
const RETRY_AFTER_UNAVAILABLE: u32 = 5;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    #[error("POST requests need Content-Type: application/jose+json (RFC 8555 §6.2)")]
    ContentType,
    #[error("the request body is larger than {limit} octets")]
    BodyTooLarge { limit: usize },
    #[error("the request body ended early")]
    BodyTruncated,
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    #[error("the server waits for too many request bodies; try again")]
    TooManyBodies,
    #[error("the server has as many requests in hand as it can; try again")]
    TooManyRequests,
    #[error(transparent)]
    Jws(#[from] JwsError),
    #[error("the JWS is for the URL {signed:?}, and was sent to {expected:?}")]
    WrongUrl { signed: String, expected: String },
    #[error("JWS has no nonce; take one from newNonce")]
    NoNonce,
    #[error("the nonce is not base64url")]
    NonceMalformed,
    // acme.sh tries again only where it reads these very words.
    #[error("JWS has an invalid anti-replay nonce; take the one of this answer")]
    BadNonce,
    #[error("this request must be signed with \"jwk\", not \"kid\"")]
    JwkExpected,
    #[error("this request must be signed with \"kid\", the account's URL, not \"jwk\"")]
    KidExpected,
    #[error("there is no account {kid:?} here")]
    NoSuchAccount { kid: String },
    #[error("there is no account with this key")]
    NoAccountWithThisKey,
    #[error("the account is {status}")]
    AccountNotValid { status: AccountStatus },
    #[error("the payload must be empty (POST-as-GET)")]
    PostAsGetExpected,
    #[error("the payload is malformed: {reason}")]
    Payload { reason: String },
    #[error("there is no such object, or it is not this account's")]
    NotFound,
    #[error("there is no resource at this URL; the directory is at {directory}")]
    NoSuchResource { directory: String },
    #[error("this URL does not take {method} requests")]
    MethodNotAllowed { method: String },
    #[error(transparent)]
    Contact(#[from] ContactError),
    #[error("the terms of service at {terms} must be agreed to (\"termsOfServiceAgreed\": true)")]
    TermsNotAgreed { terms: String },
    #[error("{}", .0.detail)]
    Identifiers(Problem),
    #[error("\"{member}\" is not supported; leave it out, certificates have the validity that this CA gives")]
    ValidityNotSupported { member: &'static str },
    #[error("{}", rejected(.0))]
    Rejected(Vec<(Identifier, Rejection)>),
    #[error("the order is {status}; it can be finalized when it is ready")]
    OrderNotReady { status: OrderStatus },
    #[error("the order is being finalized with another CSR")]
    OtherCsr,
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error("the CSR is made with the account's own key; make a key for the certificate")]
    CsrWithAccountKey,
    #[error("the new status must be \"deactivated\"")]
    StatusNotAllowed,
    #[error("the inner JWS is wrong: {0}")]
    InnerJws(JwsError),
    #[error("key change: {reason}")]
    KeyChange { reason: &'static str },
    #[error("the new key is the key of another account")]
    KeyInUse { account_url: String },
    #[error("the certificate is not one of ours")]
    NotOurCertificate,
    #[error("the certificate is revoked already")]
    AlreadyRevoked,
    #[error("the revocation reason {code} is not allowed; allowed are 0, 1, 3, 4, 5 and 9")]
    BadRevocationReason { code: i64 },
    #[error("this account or key may not revoke this certificate")]
    RevocationNotAllowed,
    /// Of which the store's log tells once for all requests.
    #[error("the server cannot answer now; try again")]
    Outage(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server cannot answer now; try again")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server failed; its log says why")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why this CA gives no certificate for a name that is well formed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("no challenge type that is configured here can prove control of this identifier")]
    NoChallengeType,
    #[error("this CA may not certify this identifier: {0}")]
    NameNotPermitted(#[from] NameNotPermitted),
}

fn rejected(identifiers: &[(Identifier, Rejection)]) -> String {
    match identifiers {
        [(identifier, rejection)] => format!("{identifier}: {rejection}"),
        several => format!("{} identifiers are refused; see the subproblems", several.len()),
    }
}

impl From<JwkError> for AcmeError {
    fn from(error: JwkError) -> Self {
        Self::Jws(error.into())
    }
}

impl From<StoreError> for AcmeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadNonce => Self::BadNonce,
            StoreError::Outage(_) => Self::Outage(Box::new(error)),
            StoreError::Unavailable(_) | StoreError::Closed => Self::Unavailable(Box::new(error)),
            StoreError::Constraint(_) | StoreError::Corrupt(_) | StoreError::Failed(_) => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl AcmeError {
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }

    /// The problem document of this refusal.
    pub(crate) fn problem(&self) -> Problem {
        use ErrorType as T;
        let (error_type, status) = match self {
            Self::ContentType => (T::Malformed, 415),
            Self::BodyTooLarge { .. } => (T::Malformed, 413),
            Self::BodyTimeout => (T::Malformed, 408),
            Self::Jws(error) | Self::InnerJws(error) => {
                return Problem { detail: self.to_string(), ..error.problem() };
            }
            Self::WrongUrl { .. } | Self::AccountNotValid { .. } => (T::Unauthorized, 401),
            Self::NoNonce | Self::BadNonce => (T::BadNonce, 400),
            Self::NotFound | Self::NoSuchResource { .. } => (T::Malformed, 404),
            Self::MethodNotAllowed { .. } => (T::Malformed, 405),
            Self::NoSuchAccount { .. } | Self::NoAccountWithThisKey => (T::AccountDoesNotExist, 400),
            Self::Contact(error) => (error.error_type(), 400),
            Self::TermsNotAgreed { .. } => (T::UserActionRequired, 403),
            Self::Identifiers(problem) => return problem.clone(),
            Self::Rejected(identifiers) => {
                let about = |(identifier, rejection): &(Identifier, Rejection)| {
                    Subproblem::about(identifier, T::RejectedIdentifier, rejection.to_string())
                };
                return Problem::new(T::RejectedIdentifier, self.to_string())
                    .with_subproblems(identifiers.iter().map(about).collect());
            }
            Self::OrderNotReady { .. } | Self::OtherCsr => (T::OrderNotReady, 403),
            Self::Csr(_) | Self::CsrWithAccountKey => (T::BadCsr, 400),
            Self::KeyInUse { .. } => (T::Malformed, 409),
            Self::NotOurCertificate => (T::Malformed, 404),
            Self::AlreadyRevoked => (T::AlreadyRevoked, 400),
            Self::BadRevocationReason { .. } => (T::BadRevocationReason, 400),
            Self::RevocationNotAllowed => (T::Unauthorized, 403),
            Self::Outage(_) | Self::Unavailable(_) | Self::TooManyBodies | Self::TooManyRequests => {
                (T::ServerInternal, 503)
            }
            Self::Internal(_) => (T::ServerInternal, 500),
            Self::BodyTruncated
            | Self::NonceMalformed
            | Self::JwkExpected
            | Self::KidExpected
            | Self::PostAsGetExpected
            | Self::Payload { .. }
            | Self::ValidityNotSupported { .. }
            | Self::StatusNotAllowed
            | Self::KeyChange { .. } => (T::Malformed, 400),
        };
        Problem::new(error_type, self.to_string()).with_status(status)
    }
}

impl IntoResponse for AcmeError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if let Self::Unavailable(cause) | Self::Internal(cause) = &self {
            tracing::error!(error = ?cause, "request failed");
        }
        let status = problem.status.and_then(|it| StatusCode::from_u16(it).ok());
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self, Self::Outage(_) | Self::Unavailable(_) | Self::TooManyBodies | Self::TooManyRequests) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_UNAVAILABLE.into());
        }
        if let Self::KeyInUse { account_url } = &self
            && let Ok(location) = HeaderValue::from_str(account_url)
        {
            headers.insert(http::header::LOCATION, location);
        }
        response.extensions_mut().insert(Refusal { detail: problem.detail, error_type: problem.error_type });
        response
    }
}

/// What the request's log line says about a refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) error_type: ErrorType,
    pub(crate) detail: String,
}
