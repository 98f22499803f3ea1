//! Which URL is answered by which handler (RFC 8555 §7.1), and what every answer carries.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{CACHE_CONTROL, LINK};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tracing::Instrument as _;

use crate::admission;
use crate::app::App;
use crate::error::{AcmeError, Refusal};
use crate::resource::{
    account, authority, authorization, certificate, challenge, directory, finalize, key_change, new_nonce, order,
    revocation,
};

static REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// The ACME server and, beside it, /ca/. The routes have their whole paths, because a JWS names the whole URL.
pub(crate) fn acme(app: &Arc<App>) -> Router {
    let at = |path: &str| format!("{}/acme/{path}", app.base_url.path());
    let begins = |it: MethodRouter<Arc<App>>| it.layer(middleware::from_fn_with_state(app.clone(), admission::begin));
    let routes = Router::new()
        .route(&at("directory"), get(directory::get).post(directory::post))
        .route(&at("new-nonce"), get(new_nonce::get).post(new_nonce::post))
        .route(&at("new-account"), begins(post(account::create)))
        .route(&at("account/{id}"), post(account::update))
        .route(&at("key-change"), post(key_change::post))
        .route(&at("new-order"), begins(post(order::create)))
        .route(&at("order/{id}"), post(order::show))
        .route(&at("order/{id}/finalize"), post(finalize::post))
        .route(&at("authz/{id}"), post(authorization::show_or_deactivate))
        .route(&at("chall/{authorization}/{type}"), post(challenge::post))
        .route(&at("cert/{id}"), post(certificate::show))
        .route(&at("revoke-cert"), post(revocation::post));
    finish(routes.merge(authority_routes(app.base_url.path())), app)
}

/// /ca/ alone, for the plain HTTP listener that CRL and AIA URLs name.
pub(crate) fn authority(app: &Arc<App>) -> Router {
    finish(authority_routes(""), app)
}

fn authority_routes(prefix: &str) -> Router<Arc<App>> {
    Router::new()
        .route(&format!("{prefix}/ca/crl"), get(authority::crl))
        .route(&format!("{prefix}/ca/issuer.pem"), get(authority::issuer_pem))
        .route(&format!("{prefix}/ca/issuer.der"), get(authority::issuer_der))
}

fn finish(routes: Router<Arc<App>>, app: &Arc<App>) -> Router {
    routes
        .fallback(no_such_resource)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app.clone())
}

async fn no_such_resource(State(app): State<Arc<App>>) -> AcmeError {
    AcmeError::NoSuchResource { directory: app.base_url.directory() }
}

async fn method_not_allowed(request: Request) -> AcmeError {
    AcmeError::MethodNotAllowed { method: request.method().to_string() }
}

/// Puts a fresh nonce on the answer to every POST, whatever it is, and writes the request's line into the log.
async fn around(State(app): State<Arc<App>>, matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let is_acme = path.strip_prefix(app.base_url.path()).unwrap_or(&path).starts_with("/acme/");
    let span = tracing::info_span!(
        "request",
        %method,
        path,
        route = matched.as_ref().map(MatchedPath::as_str),
        account.id = tracing::field::Empty,
        order.id = tracing::field::Empty,
        identifiers = tracing::field::Empty,
    );
    let working = app.admission.work();
    let mut response = next.run(request).instrument(span.clone()).await;
    drop(working);
    if method == Method::POST || response.extensions().get::<new_nonce::WithNonce>().is_some() {
        let nonce = app.store.nonce_issue(app.clock.now());
        if let Ok(value) = HeaderValue::from_str(nonce.as_str()) {
            response.headers_mut().insert(REPLAY_NONCE.clone(), value);
        }
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if is_acme && let Ok(value) = HeaderValue::from_str(&format!("<{}>;rel=\"index\"", app.base_url.directory())) {
        response.headers_mut().append(LINK, value);
    }
    let duration = started.elapsed();
    let duration_us = duration.as_micros();
    let route = matched.as_ref().map(|it| it.as_str().strip_prefix(app.base_url.path()).unwrap_or(it.as_str()));
    app.metrics.answered(route, response.status(), duration);
    let status = response.status().as_u16();
    let _entered = span.enter();
    match response.extensions().get::<Refusal>() {
        Some(refusal) => {
            app.metrics.refused(refusal.error_type);
            tracing::info!(status, duration_us, error.r#type = %refusal.error_type, detail = refusal.detail, "refused");
        }
        None => tracing::info!(status, duration_us, "answered"),
    }
    response
}

/// A JSON answer. HEAD is hyper's business.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = (status, Body::from(body)).into_response();
            response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => AcmeError::internal(error).into_response(),
    }
}

/// Adds a header whose value is one of our URLs.
pub(crate) fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
    response
}
