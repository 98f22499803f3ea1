//! The CRL: made off the request path, at start, at half of its life and after each revocation; served from memory.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use akamu_proto::Timestamp;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::app::App;
use crate::shutdown::stopped;

/// Revocations within this time share one new CRL.
const COALESCE: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// The newest CRL, and the wish for a newer one.
#[derive(Debug, Default)]
pub(crate) struct RevocationList {
    current: RwLock<Option<Current>>,
    wanted: Notify,
}

#[derive(Clone, Debug)]
struct Current {
    der: Bytes,
    next_update: Timestamp,
}

impl RevocationList {
    /// The newest CRL, DER.
    pub(crate) fn current(&self) -> Option<Bytes> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.der.clone())
    }

    /// When the newest CRL is out of date.
    pub(crate) fn next_update(&self) -> Option<Timestamp> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.next_update)
    }

    /// Says that something has been revoked.
    pub(crate) fn ask_for_new(&self) {
        self.wanted.notify_one();
    }
}

/// Makes a CRL now and serves it from here on.
pub(crate) async fn renew(app: &Arc<App>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = app.clock.now();
    let number = app.store.crl_number_next(now).await?;
    let revoked = app.store.revoked_certificates(now).await?;
    let next_update = now.plus(app.settings.crl_validity);
    let issuer = app.issuer.clone();
    let count = revoked.len();
    let der = tokio::task::spawn_blocking(move || {
        let entries: Vec<_> = revoked
            .iter()
            .map(|it| akamu_ca::Revoked { serial: it.serial.clone(), revoked_at: it.revoked_at, reason: it.reason })
            .collect();
        issuer.crl(number, now, next_update, &entries)
    })
    .await??;
    app.store.crl_record(number, &der, now, next_update).await?;
    tracing::info!(crl.number = number, certificates = count, "CRL made");
    let list = &app.revocation_list;
    *list.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Current { der: der.into(), next_update });
    app.metrics.crl_made(number, now);
    Ok(())
}

/// Renews the CRL until the server stops.
pub(crate) async fn renew_forever(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut wait = app.settings.crl_validity / 2;
    loop {
        tokio::select! {
            () = app.clock.sleep(wait) => {}
            () = app.revocation_list.wanted.notified() => app.clock.sleep(COALESCE).await,
            () = stopped(&mut stop) => return,
        }
        wait = match renew(&app).await {
            Ok(()) => app.settings.crl_validity / 2,
            Err(error) => {
                tracing::error!(%error, "the CRL could not be renewed");
                RETRY
            }
        };
    }
}
