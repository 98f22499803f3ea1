//! The directory (RFC 8555 §7.1.1).

use std::sync::Arc;

use akamu_proto::{Directory, DirectoryMeta};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::authenticated::{ByAccount, PostAsGet};
use crate::base_url::BaseUrl;

/// The directory's octets. It lists what works.
pub(crate) fn render(base_url: &BaseUrl, meta: &DirectoryMeta) -> Bytes {
    let directory = Directory {
        new_nonce: base_url.resource("new-nonce"),
        new_account: base_url.resource("new-account"),
        new_order: base_url.resource("new-order"),
        revoke_cert: base_url.resource("revoke-cert"),
        key_change: base_url.resource("key-change"),
        meta: meta.clone(),
    };
    serde_json::to_vec(&directory).unwrap_or_default().into()
}

pub(crate) async fn get(State(app): State<Arc<App>>) -> Response {
    let mut response = app.directory.clone().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// POST-as-GET works here too (§6.3).
pub(crate) async fn post(state: State<Arc<App>>, _: ByAccount<PostAsGet>) -> Response {
    get(state).await
}
