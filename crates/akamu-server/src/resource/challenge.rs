//! Challenges (RFC 8555 §7.5.1): the client says that it is ready.

use std::sync::Arc;

use akamu_proto::{ChallengeType, Jwk, KeyAuthorization};
use akamu_store::{Authorization, ValidationBegun};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{LINK, RETRY_AFTER};
use serde_json::value::RawValue;

use crate::app::App;
use crate::authenticated::{ByOwner, Payload};
use crate::error::AcmeError;
use crate::resource::authorization::challenge_object;
use crate::resource::order::RETRY_AFTER_PROCESSING;
use crate::router::{json, with_header};

/// `{}` starts the validation, and so does a whole challenge object, as old clients send; an empty payload only looks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready,
    Look,
}

impl Payload for Answer {
    fn parse(octets: &[u8]) -> Result<Self, AcmeError> {
        if octets.is_empty() {
            return Ok(Self::Look);
        }
        let is_object = octets.trim_ascii_start().first() == Some(&b'{');
        match serde_json::from_slice::<&RawValue>(octets) {
            Ok(_) if is_object => Ok(Self::Ready),
            Ok(_) => {
                Err(AcmeError::Payload { reason: "a JSON object is expected; {} starts the validation".to_owned() })
            }
            Err(error) => Err(AcmeError::Payload { reason: error.to_string() }),
        }
    }
}

fn answer(app: &App, authorization: &Authorization, challenge_type: &ChallengeType) -> Result<Response, AcmeError> {
    let challenge = authorization.challenges.iter().find(|it| it.challenge_type == *challenge_type);
    let object = challenge_object(app, authorization, challenge.ok_or(AcmeError::NotFound)?);
    let up = format!("<{}>;rel=\"up\"", app.base_url.authorization(authorization.id));
    let response = with_header(json(StatusCode::OK, &object), LINK, &up);
    Ok(if object.status == akamu_proto::ChallengeStatus::Processing {
        with_header(response, RETRY_AFTER, &RETRY_AFTER_PROCESSING.to_string())
    } else {
        response
    })
}

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    Path((_, challenge_type)): Path<(String, String)>,
    ByOwner { account, object: authorization, payload, store }: ByOwner<Authorization, Answer>,
) -> Result<Response, AcmeError> {
    let challenge_type = ChallengeType::new(challenge_type);
    let now = app.clock.now();
    tracing::Span::current().record("identifiers", authorization.identifier.value());
    let challenge = authorization.challenges.iter().find(|it| it.challenge_type == challenge_type);
    let challenge = challenge.ok_or(AcmeError::NotFound)?;
    if payload == Answer::Look {
        return answer(&app, &authorization, &challenge_type);
    }
    // The key authorization is that of the key which the account has now, whatever happens to the key later.
    let proof = match &challenge.token {
        Some(token) => KeyAuthorization::new(token, &Jwk::parse(&account.jwk)?.thumbprint()).as_str().to_owned(),
        None => app.base_url.account(account.id).as_str().to_owned(),
    };
    let permit = app.validations.permit(account.id, &authorization.identifier);
    let lease = permit.as_ref().map(|_| app.validations.lease());
    match store.validation_begin(&authorization, &challenge_type, &proof, lease, now).await? {
        ValidationBegun::Started(lease) => {
            let authorization = lease.subject().authorization.clone();
            if let Some(permit) = permit {
                app.validations.spawn(lease, permit);
            }
            answer(&app, &authorization, &challenge_type)
        }
        ValidationBegun::Queued(authorization) | ValidationBegun::Unchanged(authorization) => {
            answer(&app, &authorization, &challenge_type)
        }
        ValidationBegun::NotFound => Err(AcmeError::NotFound),
    }
}
