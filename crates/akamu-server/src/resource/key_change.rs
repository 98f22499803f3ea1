//! keyChange (RFC 8555 §7.3.5).

use std::sync::Arc;

use akamu_proto::{Jwk, KeyChangeRequest};
use akamu_store::KeyChanged;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use crate::app::App;
use crate::authenticated::{ByAccount, verify_inner};
use crate::error::AcmeError;
use crate::resource::account;

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    ByAccount { account, payload, store }: ByAccount<Bytes>,
) -> Result<Response, AcmeError> {
    let (new_key, inner) = verify_inner(&payload, &app.base_url.resource("key-change"))?;
    let request: KeyChangeRequest<'_> = serde_json::from_slice(inner.payload())
        .map_err(|error| AcmeError::Payload { reason: format!("inner JWS: {error}") })?;
    if request.account != app.base_url.account(account.id).as_str() {
        return Err(AcmeError::KeyChange { reason: "the inner payload's \"account\" is not the account that signed" });
    }
    let old_key = Jwk::parse(request.old_key.get())?;
    if old_key.canonical() != account.jwk {
        return Err(AcmeError::KeyChange { reason: "the inner payload's \"oldKey\" is not the account's key" });
    }
    let now = app.clock.now();
    let old = old_key.thumbprint();
    match store.account_change_key(account.id, &old, new_key.canonical(), &new_key.thumbprint(), now).await? {
        KeyChanged::Changed(changed) => Ok(account::answer(&app, &changed, StatusCode::OK)),
        KeyChanged::KeyInUse(other) => {
            Err(AcmeError::KeyInUse { account_url: app.base_url.account(other).as_str().to_owned() })
        }
        KeyChanged::Conflict => Err(AcmeError::KeyChange { reason: "the account's key has just been changed" }),
    }
}
