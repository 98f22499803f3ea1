//! Certificates (RFC 8555 §7.4.2).

use akamu_ca::certificate_pem;
use akamu_store::Certificate;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::authenticated::{ByOwner, PostAsGet};

pub(crate) async fn show(ByOwner { object: certificate, .. }: ByOwner<Certificate, PostAsGet>) -> Response {
    let mut response = format!("{}{}", certificate_pem(&certificate.der), certificate.issuers_pem).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/pem-certificate-chain"));
    response
}
