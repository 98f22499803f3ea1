//! Certificates (RFC 8555 §7.4.2).

use std::sync::Arc;

use akamu_proto::CertificateId;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::authenticated::{ByAccount, PostAsGet};
use crate::error::AcmeError;

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ByAccount { account, payload: PostAsGet }: ByAccount<PostAsGet>,
) -> Result<Response, AcmeError> {
    let id: CertificateId = id.parse().map_err(|_| AcmeError::NotFound)?;
    let certificate = app.store.certificate(account.id, id).await?.ok_or(AcmeError::NotFound)?;
    let mut response = certificate.chain_pem.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/pem-certificate-chain"));
    Ok(response)
}
