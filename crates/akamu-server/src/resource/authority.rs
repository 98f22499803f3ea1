//! /ca/: the CRL and the issuer's certificate, for whoever checks a certificate.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::error::AcmeError;

fn typed(body: impl Into<bytes::Bytes>, content_type: &'static str) -> Response {
    let mut response = body.into().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The newest CRL, DER (RFC 5280 §5, RFC 2585 §4.2).
pub(crate) async fn crl(State(app): State<Arc<App>>) -> Result<Response, AcmeError> {
    let crl = app.revocation_list.current(&*app.clock).await;
    let crl = crl.ok_or_else(|| AcmeError::Unavailable("there is no CRL yet".into()))?;
    Ok(typed(crl.der, "application/pkix-crl"))
}

/// The issuing certificate, DER (RFC 5280 §4.2.2.1).
pub(crate) async fn issuer_der(State(app): State<Arc<App>>) -> Response {
    typed(app.issuer.certificate_der().to_vec(), "application/pkix-cert")
}

/// The issuing certificate, PEM.
pub(crate) async fn issuer_pem(State(app): State<Arc<App>>) -> Response {
    typed(app.issuer.certificate_pem(), "application/x-pem-file")
}
