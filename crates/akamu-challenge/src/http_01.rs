//! http-01 (RFC 8555 §8.3; RFC 8738 §5 for addresses): one GET, whose body must be the key authorization.
//!
//! Here are the rules; how one request travels is in `http_01/exchange.rs`, where a redirect may lead in
//! `http_01/redirect.rs`, how a connection comes about in `dial.rs`.

use std::ops::ControlFlow;
use std::sync::Arc;

use akamu_proto::{ChallengeType, ErrorType, Identifier, KeyAuthorization};
use async_trait::async_trait;
use http::{HeaderValue, StatusCode};

use crate::{
    ChallengeError, Deadline, Excerpt, Probe, TlsAlpn01, Transcript, Validated, ValidationReport, ValidationRequest,
    Validator,
};

mod exchange;
mod redirect;

use exchange::{Answer, BODY_LIMIT, Body, Target};
use redirect::Redirects;

/// The validator of http-01.
#[derive(Clone, Debug)]
pub struct Http01 {
    probe: Probe,
    port: u16,
    redirects: Option<Redirects>,
}

impl Http01 {
    /// The port that the RFC prescribes.
    pub const PORT: u16 = 80;

    /// The most redirects that can be followed.
    pub const MAX_REDIRECTS: u8 = 10;

    /// Asks at `port`, which is [`Http01::PORT`] everywhere but in tests. The Host field never names it. No redirect is
    /// followed.
    pub const fn new(probe: Probe, port: u16) -> Self {
        Self { probe, port, redirects: None }
    }

    /// Follows up to `max` redirects of one attempt, [`Http01::MAX_REDIRECTS`] at most: 301, 302, 307 and 308 with one
    /// Location, to http or https, at port 80, 443, that of [`Http01::new`] or one of `ports`.
    ///
    /// Each is looked up and dialled as the first request is, under the same address policy, limits and deadline. Over
    /// https any certificate is taken, since the host may have none yet, but the peer must have its key. Of the CA/Browser
    /// Forum's Baseline Requirements (§3.2.2.4.19) these are the statuses; to a public CA they allow no other ports than
    /// 80 and 443.
    #[must_use]
    pub fn with_redirects(mut self, max: u8, ports: impl IntoIterator<Item = u16>) -> Self {
        let mut allowed = vec![Self::PORT, TlsAlpn01::PORT];
        for port in [self.port].into_iter().chain(ports) {
            if !allowed.contains(&port) {
                allowed.push(port);
            }
        }
        self.redirects = (max > 0).then(|| Redirects {
            max: max.min(Self::MAX_REDIRECTS).into(),
            ports: allowed,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        });
        self
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
        let mut target = self.first_target(&request.identifier, key_authorization)?;
        let mut followed = 0;
        loop {
            let step = async {
                let answer = target.fetch(&self.probe, deadline, transcript).await?;
                if let Some(location) = answer.redirect() {
                    return self.follow(&target, &answer, location, followed).map(ControlFlow::Continue);
                }
                judge(&target, &answer, key_authorization).map(ControlFlow::Break)
            };
            match step.await {
                Ok(ControlFlow::Break(validated)) => return Ok(validated),
                Ok(ControlFlow::Continue(next)) => target = next,
                Err(error) if followed == 0 => return Err(error),
                Err(ChallengeError { error_type, detail }) => {
                    return Err(ChallengeError::new(error_type, format!("after redirect {followed}: {detail}")));
                }
            }
            followed += 1;
        }
    }

    fn first_target(&self, identifier: &Identifier, expected: &KeyAuthorization) -> Result<Target, ChallengeError> {
        let path = format!("/.well-known/acme-challenge/{}", expected.token());
        let path =
            path.parse().map_err(|it| ChallengeError::new(ErrorType::ServerInternal, format!("{path}: {it}")))?;
        Ok(Target { identifier: identifier.clone(), port: self.port, path, tls: None, names_port: false })
    }

    /// Where the redirect leads after `followed` others, if it is to be followed.
    fn follow(
        &self,
        target: &Target,
        answer: &Answer,
        location: &HeaderValue,
        followed: usize,
    ) -> Result<Target, ChallengeError> {
        let why = match &self.redirects {
            None => "; redirects are not followed".to_owned(),
            Some(Redirects { max, .. }) if followed >= *max => format!("; no more than {max} are followed"),
            Some(redirects) => match redirects.resolve(target, location) {
                Ok(next) => return Ok(next),
                Err(error) => format!(", which {error}"),
            },
        };
        let (place, status) = (answer.place(target), answer.status.as_u16());
        let detail = format!("{place} answers {status}, a redirect to \"{}\"{why}", redirect::show(location));
        Err(ChallengeError::new(ErrorType::IncorrectResponse, detail))
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
    let place = answer.place(target);
    let incorrect = |detail: String| Err(ChallengeError::new(ErrorType::IncorrectResponse, detail));
    if answer.status != StatusCode::OK {
        let (status, start) = (answer.status.as_u16(), Excerpt::new(answer.body.octets()));
        return incorrect(format!("{place} answers {status} instead of 200: \"{start}\""));
    }
    let body = match &answer.body {
        Body::Unread => &[],
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
