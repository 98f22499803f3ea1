//! Authorizations (RFC 8555 §7.5).

use std::sync::Arc;

use akamu_proto::{
    AuthorizationObject, AuthorizationStatus, AuthorizationUpdateRequest, ChallengeObject, ChallengeStatus,
    ChallengeType, PersistMembers,
};
use akamu_store::{Authorization, Challenge};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::app::App;
use crate::authenticated::{ByOwner, Json};
use crate::error::AcmeError;
use crate::resource::order::RETRY_AFTER_PROCESSING;
use crate::router::{json, with_header};

fn is_processing(authorization: &Authorization) -> bool {
    authorization.status == AuthorizationStatus::Pending
        && authorization.challenges.iter().any(|it| it.status == ChallengeStatus::Processing)
}

pub(super) fn challenge_object(app: &App, authorization: &Authorization, challenge: &Challenge) -> ChallengeObject {
    let persist = (challenge.challenge_type == ChallengeType::DNS_PERSIST_01)
        .then(|| PersistMembers::new(app.settings.issuer_domains.clone(), app.base_url.account(authorization.account)));
    ChallengeObject {
        challenge_type: challenge.challenge_type.clone(),
        url: app.base_url.challenge(authorization.id, &challenge.challenge_type),
        status: challenge.status,
        token: challenge.token.clone(),
        persist,
        validated: challenge.validated_at,
        error: challenge.error.clone(),
    }
}

fn answer(app: &App, authorization: &Authorization) -> Response {
    // Of a valid authorization only the challenge that passed is shown, of an invalid one the one that failed
    // (RFC 8555 §7.1.4): the others have nothing to say any more.
    let decided = match authorization.status {
        AuthorizationStatus::Valid => Some(ChallengeStatus::Valid),
        AuthorizationStatus::Invalid => Some(ChallengeStatus::Invalid),
        AuthorizationStatus::Pending
        | AuthorizationStatus::Deactivated
        | AuthorizationStatus::Expired
        | AuthorizationStatus::Revoked => None,
    };
    let shown = authorization.challenges.iter().filter(|it| decided.is_none_or(|status| it.status == status));
    let object = AuthorizationObject {
        identifier: authorization.identifier.without_wildcard(),
        status: authorization.status,
        expires: authorization.expires_at,
        challenges: shown.map(|it| challenge_object(app, authorization, it)).collect(),
        wildcard: authorization.identifier.is_wildcard(),
    };
    let response = json(StatusCode::OK, &object);
    if is_processing(authorization) {
        with_header(response, RETRY_AFTER, &RETRY_AFTER_PROCESSING.to_string())
    } else {
        response
    }
}

/// POST-as-GET, held while a validation runs; or deactivation (§7.5.2).
pub(crate) async fn show_or_deactivate(
    State(app): State<Arc<App>>,
    ByOwner { account, object: mut authorization, payload, store }: ByOwner<
        Authorization,
        Option<Json<AuthorizationUpdateRequest>>,
    >,
) -> Result<Response, AcmeError> {
    let id = authorization.id;
    if let Some(Json(request)) = payload {
        if request.status.as_deref() != Some(AuthorizationStatus::Deactivated.as_str()) {
            return Err(AcmeError::StatusNotAllowed);
        }
        let deactivated = store.authorization_deactivate(account.id, id, app.clock.now()).await?;
        app.holds.wake(id, None);
        return Ok(answer(&app, &deactivated.ok_or(AcmeError::NotFound)?));
    }
    let read = async || store.authorization(account.id, id, app.clock.now()).await?.ok_or(AcmeError::NotFound);
    if is_processing(&authorization)
        && let Some(mut held) = app.holds.hold(account.id, vec![id])
    {
        // One that does not run here may have been decided since it was read.
        if !app.validations.run_all(&[id]) {
            authorization = read().await?;
        }
        if is_processing(&authorization) {
            authorization = match app.wait_for(&mut held).await {
                Some(recorded) => Arc::unwrap_or_clone(recorded),
                None => read().await?,
            };
        }
    }
    tracing::Span::current().record("identifiers", authorization.identifier.value());
    Ok(answer(&app, &authorization))
}
