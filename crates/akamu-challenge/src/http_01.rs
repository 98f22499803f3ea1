//! http-01 (RFC 8555 §8.3; RFC 8738 §5 for addresses): one GET, whose body must be the key authorization.
//!
//! Here are the rules; how one request travels is in `http_01/exchange.rs`, how a connection comes about in `dial.rs`.
//! Redirects are not followed.

use akamu_proto::{ChallengeType, ErrorType, Identifier, KeyAuthorization};
use async_trait::async_trait;
use http::StatusCode;

use crate::{
    ChallengeError, Deadline, Excerpt, Probe, Transcript, Validated, ValidationReport, ValidationRequest, Validator,
};

mod exchange;

use exchange::{Answer, BODY_LIMIT, Body, Target};

/// The validator of http-01.
#[derive(Clone, Debug)]
pub struct Http01 {
    probe: Probe,
    port: u16,
}

impl Http01 {
    /// The port that the RFC prescribes.
    pub const PORT: u16 = 80;

    /// Asks at `port`, which is [`Http01::PORT`] everywhere but in tests. The Host field never names it.
    pub const fn new(probe: Probe, port: u16) -> Self {
        Self { probe, port }
    }

    async fn prove(
        &self,
        request: &ValidationRequest,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Validated, ChallengeError> {
        let key_authorization = request.key_authorization()?;
        if !self.supports(&request.identifier) {
            let detail = "http-01 cannot prove control of a wildcard's names";
            return Err(ChallengeError::new(ErrorType::Malformed, detail));
        }
        let target = Target {
            identifier: request.identifier.clone(),
            port: self.port,
            path: format!("/.well-known/acme-challenge/{}", key_authorization.token()),
        };
        let answer = target.fetch(&self.probe, deadline, transcript).await?;
        judge(&target, &answer, key_authorization)
    }
}

#[async_trait]
impl Validator for Http01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::HTTP_01
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        !identifier.is_wildcard()
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &*self.probe.clock);
        let conclusion = self.prove(request, deadline, &mut transcript).await;
        transcript.conclude(conclusion)
    }
}

/// Whether the answer proves control: status 200, and a body that is the key authorization but for ASCII white space
/// around it.
fn judge(target: &Target, answer: &Answer, expected: &KeyAuthorization) -> Result<Validated, ChallengeError> {
    let place = format!("{target} ({})", answer.peer);
    let incorrect = |detail: String| Err(ChallengeError::new(ErrorType::IncorrectResponse, detail));
    if answer.status != StatusCode::OK {
        let status = answer.status.as_u16();
        return incorrect(match &answer.location {
            Some(location) if answer.status.is_redirection() => {
                format!("{place} answers {status}, a redirect to \"{location}\"; redirects are not followed")
            }
            _ => format!("{place} answers {status} instead of 200: \"{}\"", Excerpt::new(answer.body.octets())),
        });
    }
    let body = match &answer.body {
        Body::Complete(octets) => octets.trim_ascii(),
        Body::TooLong(_) => return incorrect(format!("the body at {place} has {BODY_LIMIT} octets or more")),
        Body::Broken { error, .. } => return Err(error.clone()),
    };
    if body == expected.as_str().as_bytes() {
        return Ok(Validated::unlimited());
    }
    incorrect(format!("the body at {place} {}", difference(body, expected)))
}

/// In what a wrong body differs, with a guess at the cause.
fn difference(body: &[u8], expected: &KeyAuthorization) -> String {
    let shown = Excerpt::new(body);
    match body.strip_prefix(expected.token().as_bytes()) {
        _ if body.is_empty() => "is empty".to_owned(),
        Some([]) => "is the token alone; \".\" and the account key's thumbprint are missing".to_owned(),
        Some([b'.', ..]) => format!("is the key authorization of another account's key: \"{shown}\""),
        _ => format!("is not the key authorization but \"{shown}\""),
    }
}
