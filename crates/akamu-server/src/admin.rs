//! /healthz, /readyz and /metrics on the admin listener: plain HTTP, for load balancers, supervisors and Prometheus.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::prometheus_text;

use crate::app::App;
use crate::background;

/// The admin listener's routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app.clone())
}

/// 200 where everything that issuing needs is there, else 503 and a line for each thing that is not.
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let mut failing = Vec::new();
    if let Err(error) = app.store.ping().await {
        background::failed(&error, "the database does not answer");
        failing.push(format!("database: {error}\n"));
    }
    match app.revocation_list.current(&*app.clock).await {
        None => failing.push("crl: there is none yet\n".to_owned()),
        Some(crl) if crl.next_update <= app.clock.now() => {
            failing.push(format!("crl: out of date since {}\n", crl.next_update));
        }
        Some(_) => {}
    }
    if app.issuer.not_after() <= app.clock.now() {
        failing.push(format!("issuing certificate: expired at {}\n", app.issuer.not_after()));
    }
    if failing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, failing.concat())
    }
}

/// What the server counts.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
