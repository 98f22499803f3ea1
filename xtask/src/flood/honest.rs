//! Honest clients: each gets one certificate after the other, and is never in a hurry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::lateness::Lateness;
use crate::acme::{Challenge, Client, Directory, Patience};
use crate::bench::figures::Durations;
use crate::failure::{Context, Failure};
use crate::name_server::ZONE;
use crate::responder::Responder;

/// How many of each kind there are.
const CLIENTS: u32 = 3;
/// How long each waits between two certificates: they measure the server, they do not load it.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a request is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// Running clients.
pub(super) struct Clients {
    is_over: Arc<AtomicBool>,
    lateness: Lateness,
    kept: Kind,
    anew: Kind,
}

struct Kind {
    patience: Arc<Patience>,
    tasks: JoinSet<Result<Durations, Failure>>,
}

/// What those of one kind saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) durations: Durations,
    patience: Arc<Patience>,
    failures: Vec<String>,
}

/// What all saw.
#[derive(Debug)]
pub(super) struct Outcome {
    /// With connections that are kept.
    pub(super) kept: Seen,
    /// With a connection for each request.
    pub(super) anew: Seen,
    /// The longest that their process waited for the processor.
    pub(super) late: Duration,
}

impl Clients {
    pub(super) async fn start(directory: &Directory, responder: &Responder) -> Result<Self, Failure> {
        let is_over = Arc::new(AtomicBool::new(false));
        let kept = Kind::start(Patience::new(PATIENCE).keeping_connections(), directory, responder, &is_over).await?;
        let anew = Kind::start(Patience::new(PATIENCE), directory, responder, &is_over).await?;
        Ok(Self { is_over, lateness: Lateness::watch(), kept, anew })
    }

    /// Lets each end what it does.
    pub(super) async fn finish(self) -> Outcome {
        self.is_over.store(true, Ordering::Relaxed);
        let late = self.lateness.longest();
        Outcome { kept: self.kept.finish().await, anew: self.anew.finish().await, late }
    }
}

impl Kind {
    async fn start(
        patience: Patience,
        directory: &Directory,
        responder: &Responder,
        is_over: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let patience = Arc::new(patience);
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = Client::register_patiently(directory, &patience).await?;
            tasks.spawn(issue(client, responder.clone(), Arc::clone(is_over)));
        }
        Ok(Self { patience, tasks })
    }

    async fn finish(self) -> Seen {
        let mut seen = Seen { durations: Durations::default(), patience: self.patience, failures: Vec::new() };
        for one in self.tasks.join_all().await {
            match one {
                Ok(durations) => seen.durations.extend(&durations),
                Err(failure) => seen.failures.push(format!("an honest client failed: {failure}")),
            }
        }
        seen
    }
}

async fn issue(mut client: Client, responder: Responder, is_over: Arc<AtomicBool>) -> Result<Durations, Failure> {
    let thumbprint = client.account().thumbprint();
    let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;
    let put = |_: &str, challenge: &Challenge| responder.put(challenge.key_authorization(&thumbprint));
    let names = [format!("honest.{ZONE}")];
    let mut durations = Durations::default();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.issue(&names, &key, "http-01", &put).await?;
        durations.push(begun.elapsed());
        sleep(PAUSE).await;
    }
    Ok(durations)
}

impl Seen {
    /// Requests that were sent again because no answer came.
    pub(super) fn tried_again(&self) -> u64 {
        self.patience.unanswered.load(Ordering::Relaxed)
    }

    fn server_errors(&self) -> u64 {
        self.patience.unavailable.load(Ordering::Relaxed) + self.patience.errors().len() as u64
    }

    /// How many times as long the slowest took, but for one in a hundred.
    pub(super) fn ratio(alone: &Self, meanwhile: &Self) -> f64 {
        let p99 = |it: &Self| it.durations.percentile(99).as_secs_f64();
        p99(meanwhile) / p99(alone).max(f64::MIN_POSITIVE)
    }
}

impl Outcome {
    pub(super) fn server_errors(&self) -> u64 {
        self.kept.server_errors() + self.anew.server_errors()
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = &String> {
        self.kept.failures.iter().chain(&self.anew.failures)
    }
}
