//! /healthz and /readyz on the admin listener: plain HTTP, for load balancers and supervisors.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

use crate::app::App;

/// The admin listener's routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(app.clone())
}

/// 200 where everything that issuing needs is there, else 503 and a line for each thing that is not.
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let mut failing = Vec::new();
    if let Err(error) = app.store.ping().await {
        tracing::warn!(%error, cause = ?error, "the database does not answer");
        failing.push(format!("database: {error}\n"));
    }
    match app.revocation_list.next_update() {
        None => failing.push("crl: there is none yet\n".to_owned()),
        Some(next_update) if next_update <= app.clock.now() => {
            failing.push(format!("crl: out of date since {next_update}\n"));
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
