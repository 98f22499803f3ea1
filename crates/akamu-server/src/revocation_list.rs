//! The CRL: made off the request path, after start, at half of its life and after each revocation, by whichever replica is
//! first; served from memory.

use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Clock;
use akamu_proto::Timestamp;
use akamu_store::{Revocations, StoreError, StoredCrl};
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::app::App;
use crate::background;
use crate::metrics::Removed;
use crate::shutdown::stopped;

/// Revocations within this time share one new CRL.
const COALESCE: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(30);
/// How often a replica looks for what another one has made, or has left undone.
const CHECK: Duration = Duration::from_secs(5);
/// How long a request waits for the CRL of before the start to be read.
const FIRST: Duration = Duration::from_secs(5);

/// The newest CRL, and the wish for a newer one.
#[derive(Debug, Default)]
pub(crate) struct RevocationList {
    current: watch::Sender<Option<Current>>,
    wanted: Notify,
}

/// The CRL that is served.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    number: i64,
    /// Its octets, DER.
    pub(crate) der: Bytes,
    this_update: Timestamp,
    /// When it is out of date.
    pub(crate) next_update: Timestamp,
}

impl RevocationList {
    /// The newest CRL. Just after a start it waits for one to be read or made, 5 s at most.
    pub(crate) async fn current(&self, clock: &dyn Clock) -> Option<Current> {
        let mut current = self.current.subscribe();
        tokio::select! {
            // It does not close: the sender is ours.
            there_is = current.wait_for(Option::is_some) => there_is.ok()?.clone(),
            () = clock.sleep(FIRST) => None,
        }
    }

    fn number(&self) -> i64 {
        self.current.borrow().as_ref().map_or(0, |it| it.number)
    }

    /// When the newest CRL was made.
    fn this_update(&self) -> Option<Timestamp> {
        self.current.borrow().as_ref().map(|it| it.this_update)
    }

    /// Says that something has been revoked.
    pub(crate) fn ask_for_new(&self) {
        self.wanted.notify_one();
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Why the CRL is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It is from before this start. The database may be one that was restored, and a newer CRL have been published: the
    /// next one's number is higher than that one's.
    Start,
    /// Half of its life, or the time to look what other replicas did.
    Time,
    /// Something was revoked here.
    Revocation,
}

/// Makes a CRL where there is none from before this start that is still good: the occasion for the next. The one from
/// before is read afterwards; with 100,000 entries that takes as long as half of a start does.
pub(crate) async fn begin(app: &App) -> Outcome<Occasion> {
    if app.store.crl_next_update().await?.is_some_and(|it| it > app.clock.now()) {
        return Ok(Occasion::Start);
    }
    renew(app).await?;
    Ok(Occasion::Time)
}

/// Makes a CRL now and serves it from here on.
async fn renew(app: &App) -> Outcome<()> {
    let now = app.clock.now();
    let number = app.store.crl_number_next(now).await?;
    let Revocations { certificates, count } = app.store.revocations(now).await?;
    let next_update = now.plus(app.settings.crl_validity);
    let issuer = app.issuer.clone();
    let listed = certificates.len();
    let der = tokio::task::spawn_blocking(move || {
        let entries: Vec<_> = certificates
            .into_iter()
            .map(|it| akamu_ca::Revoked { serial: it.serial, revoked_at: it.revoked_at, reason: it.reason })
            .collect();
        issuer.crl(number, now, next_update, &entries)
    })
    .await??;
    let crl = StoredCrl { number, der, this_update: now, next_update };
    app.metrics.removed(Removed::Crl, app.store.crl_record(&crl, count).await?);
    tracing::info!(crl.number = number, certificates = listed, "CRL made");
    serve(app, crl);
    Ok(())
}

fn serve(app: &App, crl: StoredCrl) {
    let StoredCrl { number, der, this_update, next_update } = crl;
    let current = Current { number, der: der.into(), this_update, next_update };
    app.revocation_list.current.send_replace(Some(current));
    app.metrics.crl_made(number, this_update);
}

/// Serves what another replica, or this one before it started, has made since; whether the newest CRL lacks a revocation.
async fn adopt(app: &App) -> Outcome<bool> {
    let check = app.store.crl_check(app.revocation_list.number()).await?;
    if let Some(newer) = check.newer {
        let issuer = app.issuer.clone();
        let (newer, is_ours) = tokio::task::spawn_blocking(move || {
            let is_ours = issuer.has_signed_crl(&newer.der);
            (newer, is_ours)
        })
        .await?;
        if is_ours {
            tracing::info!(crl.number = newer.number, "CRL of another replica, or of before");
            serve(app, newer);
        } else {
            tracing::warn!(crl.number = newer.number, "this CRL is not signed with our key, and is not served");
        }
    }
    Ok(!check.is_complete)
}

/// Renews the CRL until the server stops.
pub(crate) async fn renew_forever(app: Arc<App>, first: Occasion, mut stop: watch::Receiver<bool>) {
    let half = app.settings.crl_validity / 2;
    let mut lacks_before = false;
    let mut first = Some(first).filter(|it| *it == Occasion::Start);
    loop {
        let now = app.clock.now();
        let left = app.revocation_list.this_update().map_or(Duration::ZERO, |it| it.plus(half).since(now));
        // On SQLite there is nobody else.
        let wait = if app.store.is_sqlite() { left } else { left.min(CHECK) };
        let mut occasion = match first.take() {
            Some(first) => first,
            None => tokio::select! {
                () = app.clock.sleep(wait) => Occasion::Time,
                () = app.revocation_list.wanted.notified() => {
                    app.clock.sleep(COALESCE).await;
                    Occasion::Revocation
                }
                () = stopped(&mut stop) => return,
            },
        };
        while let Err(error) = look_after(&app, occasion, half, &mut lacks_before).await {
            match error.downcast_ref::<StoreError>() {
                Some(error) => background::failed(error, "the CRL could not be renewed"),
                None => tracing::error!(%error, cause = ?error, "the CRL could not be renewed"),
            }
            tokio::select! {
                () = app.clock.sleep(RETRY) => {}
                () = stopped(&mut stop) => return,
            }
            if occasion == Occasion::Time {
                occasion = Occasion::Revocation;
            }
        }
    }
}

/// Renews the CRL where it is old or from before the start, or where a revocation is missing from it: one of ours at once,
/// another replica's when that has not seen to it since the last time.
async fn look_after(app: &App, occasion: Occasion, half: Duration, lacks_before: &mut bool) -> Outcome<()> {
    let lacks = adopt(app).await?;
    let is_old = app.revocation_list.this_update().is_none_or(|it| it.plus(half) <= app.clock.now());
    let is_wanted = match occasion {
        Occasion::Start => true,
        Occasion::Time => lacks && *lacks_before,
        Occasion::Revocation => lacks,
    };
    if is_old || is_wanted {
        renew(app).await?;
        *lacks_before = false;
    } else {
        *lacks_before = lacks;
    }
    Ok(())
}
