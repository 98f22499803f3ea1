//! Runs validations in the background. The database row is the queue; here are only the tasks of this replica.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use akamu_challenge::{ChallengeError, Clock, Deadline, Transcript, ValidationReport, ValidationRequest};
use akamu_proto::{AccountId, AccountUri, AuthorizationId, ErrorType, Identifier, Problem};
use akamu_store::{
    Authorization, ClaimLimits, Lease, LeaseRequest, ReplicaId, RunningCounts, Validation, ValidationOutcome,
    ValidationRecorded,
};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::app::App;
use crate::background;
use crate::metrics::Work;
use crate::shutdown::stopped;

/// The most validations at once for one base domain.
const MAX_FOR_DOMAIN: usize = 16;
/// The most that one claim takes.
const MAX_CLAIM: usize = 64;
/// What a lease lasts beyond the validation's own deadline.
const LEASE_SLACK: Duration = Duration::from_secs(20);
/// How often the database is asked for work that nobody does: a dead replica's, or what waited for its turn.
const CLAIM_INTERVAL: Duration = Duration::from_secs(5);

/// This replica's running validations, and their limits.
#[derive(Debug)]
pub(crate) struct Validations {
    replica: ReplicaId,
    timeout: Duration,
    max: usize,
    counts: Mutex<Counts>,
    tasks: TaskTracker,
    app: std::sync::OnceLock<Weak<App>>,
    /// Something waits in the database because there was no room here.
    queued: AtomicBool,
    freed: Notify,
    /// Nothing more is started.
    stop: watch::Sender<bool>,
    /// What still runs gives its leases back.
    give_up: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_account: BTreeMap<AccountId, usize>,
    by_domain: BTreeMap<String, usize>,
    /// The authorizations whose validation runs here.
    running: BTreeMap<AuthorizationId, usize>,
}

/// The right to run one validation here; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    validations: Arc<Validations>,
    account: AccountId,
    domain: String,
}

fn domain_of(identifier: &Identifier) -> String {
    identifier.without_wildcard().value()
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Validations {
    pub(crate) fn new(replica: ReplicaId, timeout: Duration, max: usize) -> Self {
        Self {
            replica,
            timeout,
            max,
            counts: Mutex::default(),
            tasks: TaskTracker::new(),
            app: std::sync::OnceLock::new(),
            queued: AtomicBool::new(false),
            freed: Notify::new(),
            stop: watch::Sender::new(false),
            give_up: watch::Sender::new(false),
        }
    }

    /// Ties the knot: the tasks need the server's parts, of which this is one.
    pub(crate) fn attach(&self, app: &Arc<App>) {
        let _ = self.app.set(Arc::downgrade(app));
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn max_for_account(&self) -> usize {
        let quarter = self.max / 4;
        if quarter == 0 { 1 } else { quarter }
    }

    /// The lease that a validation of this replica takes.
    pub(crate) fn lease(&self) -> LeaseRequest {
        LeaseRequest { owner: self.replica.clone(), duration: self.timeout + LEASE_SLACK }
    }

    /// A place for one more validation; `None` where it must wait its turn in the database.
    pub(crate) fn permit(self: &Arc<Self>, account: AccountId, identifier: &Identifier) -> Option<Permit> {
        let domain = domain_of(identifier);
        let mut counts = self.counts();
        let of_account = counts.by_account.get(&account).copied().unwrap_or(0);
        let of_domain = counts.by_domain.get(&domain).copied().unwrap_or(0);
        if *self.stop.borrow()
            || counts.total >= self.max
            || of_account >= self.max_for_account()
            || of_domain >= MAX_FOR_DOMAIN
        {
            self.queued.store(true, Ordering::Relaxed);
            return None;
        }
        counts.total += 1;
        *counts.by_account.entry(account).or_default() += 1;
        *counts.by_domain.entry(domain.clone()).or_default() += 1;
        Some(Permit { validations: self.clone(), account, domain })
    }

    /// Those of `authorizations` whose validation runs here.
    pub(crate) fn running_among(&self, authorizations: &[AuthorizationId]) -> Vec<AuthorizationId> {
        let counts = self.counts();
        authorizations.iter().copied().filter(|id| counts.running.contains_key(id)).collect()
    }

    /// Whether the validations of all these run here: none has been recorded yet, and each wakes its polls when it is.
    pub(crate) fn run_all(&self, authorizations: &[AuthorizationId]) -> bool {
        let counts = self.counts();
        authorizations.iter().all(|id| counts.running.contains_key(id))
    }

    /// Runs the leased validation in a task of its own.
    pub(crate) fn spawn(self: &Arc<Self>, lease: Lease<Validation>, permit: Permit) {
        let Some(app) = self.app.get().and_then(Weak::upgrade) else { return };
        let validation = lease.subject();
        let span = tracing::info_span!(
            parent: None,
            "validation",
            account.id = validation.authorization.account.as_i64(),
            authorization.id = %validation.authorization.id,
            identifier = %validation.authorization.identifier,
            challenge.r#type = %validation.challenge_type,
            attempt = validation.attempt,
        );
        let authorization = validation.authorization.id;
        *self.counts().running.entry(authorization).or_default() += 1;
        let running = Running { app, authorization, recorded: None, _permit: permit };
        let run = async move {
            let recorded = running.app.validations.run(&running.app, lease).await;
            running.end(recorded);
        };
        self.tasks.spawn(run.instrument(span));
    }

    /// The authorization as it is then, where a result was recorded.
    async fn run(&self, app: &App, lease: Lease<Validation>) -> Option<Authorization> {
        let started = tokio::time::Instant::now();
        let mut give_up = self.give_up.subscribe();
        let deadline = Deadline::after(self.timeout);
        let report = tokio::select! {
            report = attempt(app, lease.subject(), deadline) => report,
            // The lease goes back uncounted: another replica, or the next start, validates again.
            () = stopped(&mut give_up) => {
                if let Err(error) = app.store.validation_release(lease).await {
                    background::failed(&error, "a lease could not be given back; it will expire");
                }
                return None;
            }
        };
        let duration = started.elapsed();
        let duration_us = duration.as_micros();
        let (outcome, result, detail) = match report.result() {
            Ok(validated) => (
                ValidationOutcome::Valid { expires_no_later_than: validated.expires_no_later_than },
                "valid",
                String::new(),
            ),
            Err(error) => {
                let problem = Problem { status: None, ..error.to_problem() };
                let detail = format!("{}: {}", problem.error_type, problem.detail);
                (ValidationOutcome::Invalid(problem), "invalid", detail)
            }
        };
        app.metrics.validated(&lease.subject().challenge_type, result, duration);
        tracing::debug!(%report, "report");
        match app.store.validation_record(lease, outcome, &report.to_octets(), app.clock.now()).await {
            Ok(ValidationRecorded::Recorded(authorization)) => {
                tracing::info!(result, duration_us, detail, "validated");
                return Some(authorization);
            }
            Ok(ValidationRecorded::LeaseLost) => tracing::warn!(result, duration_us, "validated too late"),
            Ok(ValidationRecorded::NoLongerWanted) => {
                tracing::info!(result, duration_us, "validated, not wanted any more")
            }
            Err(error) => {
                background::failed(&error, "a result could not be recorded; it will be validated again");
            }
        }
        None
    }

    /// Looks for work that nobody does, until the server stops.
    pub(crate) async fn claim_forever(self: Arc<Self>, app: Arc<App>) {
        let mut stop = self.stop.subscribe();
        while !*stop.borrow() {
            self.claim(&app).await;
            tokio::select! {
                () = app.clock.sleep(CLAIM_INTERVAL) => {}
                () = self.freed.notified() => {}
                () = stopped(&mut stop) => {}
            }
        }
    }

    async fn claim(self: &Arc<Self>, app: &App) {
        let limits = self.claim_limits();
        // What is left waiting for this reason is asked for again when something ends.
        if limits.is_reached() {
            self.queued.store(true, Ordering::Relaxed);
        }
        if limits.total == 0 {
            return;
        }
        let leases = match app.store.validations_claim(self.lease(), limits, app.clock.now()).await {
            Ok(leases) => leases,
            Err(error) => {
                background::failed(&error, "waiting validations could not be claimed");
                return;
            }
        };
        // Where one was waiting, more may be.
        if !leases.is_empty() {
            self.queued.store(true, Ordering::Relaxed);
        }
        for lease in leases {
            match self.permit(lease.subject().authorization.account, &lease.subject().authorization.identifier) {
                Some(permit) => {
                    // An attempt is counted before it is made: another one was begun and not finished.
                    if lease.subject().attempt > 1 {
                        app.metrics.taken_over(Work::Validation);
                    }
                    self.spawn(lease, permit);
                }
                None => {
                    if let Err(error) = app.store.validation_release(lease).await {
                        background::failed(&error, "a lease could not be given back; it will expire");
                    }
                }
            }
        }
    }

    fn claim_limits(&self) -> ClaimLimits {
        let counts = self.counts();
        ClaimLimits {
            total: self.max.saturating_sub(counts.total).min(MAX_CLAIM),
            for_account: self.max_for_account(),
            for_domain: MAX_FOR_DOMAIN,
            running: RunningCounts { by_account: counts.by_account.clone(), by_domain: counts.by_domain.clone() },
        }
    }

    /// Starts nothing more, and waits for what runs: at most `grace`, then the leases go back.
    pub(crate) async fn shut_down(&self, clock: &dyn Clock, grace: Duration) {
        self.stop.send_replace(true);
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = clock.sleep(grace) => {
                self.give_up.send_replace(true);
                self.tasks.wait().await;
            }
        }
    }
}

async fn attempt(app: &App, validation: &Validation, deadline: Deadline) -> ValidationReport {
    let request = match validation.proof.parse() {
        Ok(key_authorization) if validation.challenge_type.has_token() => {
            ValidationRequest::with_key_authorization(validation.authorization.identifier.clone(), key_authorization)
        }
        _ => ValidationRequest::with_account(
            validation.authorization.identifier.clone(),
            AccountUri::new(validation.proof.clone()),
            validation.thumbprints.clone(),
        ),
    };
    match app.validators.get(&validation.challenge_type) {
        Some(validator) => validator.validate(&request, deadline).await,
        None => {
            let error =
                ChallengeError::new(ErrorType::ServerInternal, "this challenge type is not configured any more");
            Transcript::begin(validation.challenge_type.clone(), &request, &*app.clock).conclude(Err(error))
        }
    }
}

/// A validation that runs here. However it ends, polls of its authorization are woken after its result is recorded.
#[derive(Debug)]
struct Running {
    app: Arc<App>,
    authorization: AuthorizationId,
    recorded: Option<Authorization>,
    _permit: Permit,
}

impl Running {
    /// Ends it; polls are answered with what was recorded.
    fn end(mut self, recorded: Option<Authorization>) {
        self.recorded = recorded;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let validations = &self.app.validations;
        decrement(&mut validations.counts().running, &self.authorization);
        self.app.holds.wake(self.authorization, self.recorded.take());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.validations.counts();
        counts.total -= 1;
        decrement(&mut counts.by_account, &self.account);
        decrement(&mut counts.by_domain, &self.domain);
        drop(counts);
        // Asking the database costs a transaction, so only where something was turned away.
        if self.validations.queued.swap(false, Ordering::Relaxed) {
            self.validations.freed.notify_one();
        }
    }
}
