//! newNonce (RFC 8555 §7.2). The nonce itself is put on the answer by the router.

use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};

use crate::authenticated::{ByAccount, PostAsGet};

/// Marks an answer that gets a nonce although it is not one to a POST.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WithNonce;

/// 200 for HEAD, 204 for GET.
pub(crate) async fn get(method: Method) -> Response {
    let status = if method == Method::HEAD { StatusCode::OK } else { StatusCode::NO_CONTENT };
    let mut response = status.into_response();
    response.extensions_mut().insert(WithNonce);
    response
}

/// POST-as-GET works here too (§6.3).
pub(crate) async fn post(_: ByAccount<PostAsGet>) -> StatusCode {
    StatusCode::NO_CONTENT
}
