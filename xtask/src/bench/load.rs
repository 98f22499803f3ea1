//! Clients in a closed loop: each begins its next certificate as soon as it has the last one. Keys, accounts and CSRs are
//! made before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rcgen::KeyPair;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::figures::Durations;
use super::measurement::Setting;
use super::proofs::{ChallengeType, Proofs};
use crate::acme::{Client, Directory, Patience, csr};
use crate::failure::{Context, Failure};
use crate::name_server::ZONE;

/// For how many orders each client has names; it makes one after the other, and then again the first.
const ORDERS: usize = 32;

/// No server may need longer for what was begun before the end.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// A step of an issuance, as a client waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    NewNonce,
    NewOrder,
    Authorization,
    Challenge,
    Poll,
    Finalize,
    Certificate,
}

impl Step {
    pub(super) const ALL: [Self; 7] = [
        Self::NewNonce,
        Self::NewOrder,
        Self::Authorization,
        Self::Challenge,
        Self::Poll,
        Self::Finalize,
        Self::Certificate,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NewNonce => "newNonce",
            Self::NewOrder => "newOrder",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Poll => "poll until valid",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
        }
    }
}

/// What the clients saw of the issuances that ended while they were measured.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) issuances: Durations,
    /// In the order of [`Step::ALL`].
    pub(super) steps: [Durations; Step::ALL.len()],
    pub(super) requests: u64,
    /// Tries that were answered 503 with Retry-After.
    pub(super) refused: u64,
}

impl Seen {
    fn add(&mut self, step: Step, duration: Duration) {
        let place = Step::ALL.iter().zip(&mut self.steps).find(|(it, _)| **it == step);
        if let Some((_, durations)) = place {
            durations.push(duration);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.issuances.extend(&other.issuances);
        self.steps.iter_mut().zip(&other.steps).for_each(|(all, some)| all.extend(some));
        self.requests += other.requests;
        self.refused += other.refused;
    }
}

/// Where a run stands, told to its clients.
type Phase = AtomicU8;

const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// Clients that issue one certificate after the other.
#[derive(Debug)]
pub(super) struct Load {
    phase: Arc<Phase>,
    running: JoinSet<Result<Seen, Failure>>,
}

/// A client, and what it asks for.
struct Issuing {
    client: Client,
    patience: Arc<Patience>,
    challenge: ChallengeType,
    /// Of each order, and its CSR.
    names: Vec<(Vec<String>, Vec<u8>)>,
    proofs: Proofs,
}

impl Load {
    /// Registers the clients and has them begin.
    pub(super) async fn start(setting: &Setting, directory: &Directory, proofs: &Proofs) -> Result<Self, Failure> {
        let made = (0..setting.clients).map(|number| Issuing::new(number, setting, directory, proofs));
        let made = try_join_all(made).await?;
        let phase = Arc::<Phase>::default();
        let mut running = JoinSet::new();
        for issuing in made {
            running.spawn(issuing.run(Arc::clone(&phase)));
        }
        Ok(Self { phase, running })
    }

    /// Lets the clients work for this long.
    pub(super) async fn work(&mut self, duration: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = sleep(duration) => Ok(()),
            // None ends before it is told to, unless something fails.
            Some(ended) = self.running.join_next() => {
                ended.context(|| "a client panicked".to_owned())?.map(drop)
            }
        }
    }

    /// From now on what ends is measured.
    pub(super) fn measure(&self) {
        self.phase.store(MEASURED, Ordering::Relaxed);
    }

    /// From now on nothing is measured or begun.
    pub(super) fn end(&self) {
        self.phase.store(OVER, Ordering::Relaxed);
    }

    /// Waits for what was begun.
    pub(super) async fn finish(mut self) -> Result<Seen, Failure> {
        let ending = async {
            let mut all = Seen::default();
            while let Some(ended) = self.running.join_next().await {
                all.merge(&ended.context(|| "a client panicked".to_owned())??);
            }
            Ok(all)
        };
        let late = || format!("an issuance is not over after {} s", OVER_WITHIN.as_secs());
        timeout(OVER_WITHIN, ending).await.context(late)?
    }
}

impl Issuing {
    /// Each in a domain of its own: a server may bound what it does for one.
    async fn new(number: u32, setting: &Setting, directory: &Directory, proofs: &Proofs) -> Result<Self, Failure> {
        let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;
        let name = |order: usize, host: u32| format!("host-{host}.order-{order}.client-{number}.{ZONE}");
        let orders = (0..ORDERS).map(|order| {
            let names: Vec<String> = (0..setting.identifiers).map(|host| name(order, host)).collect();
            let csr = csr(&names, &key)?;
            Ok((names, csr))
        });
        let names = orders.collect::<Result<_, Failure>>()?;
        let patience = Arc::new(Patience::new(OVER_WITHIN).keeping_connections());
        let client = Client::register_patiently(directory, &patience).await?;
        Ok(Self { client, patience, challenge: setting.challenge, names, proofs: proofs.clone() })
    }

    async fn run(mut self, phase: Arc<Phase>) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        for index in (0..self.names.len()).cycle() {
            let mut one = Seen::default();
            self.issue(index, &mut one).await?;
            match phase.load(Ordering::Relaxed) {
                MEASURED => seen.merge(&one),
                OVER => break,
                _ => {}
            }
        }
        Ok(seen)
    }

    async fn issue(&mut self, index: usize, seen: &mut Seen) -> Result<(), Failure> {
        let Self { client, patience, challenge, names, proofs } = self;
        let Some((names, csr)) = names.get(index) else { return Ok(()) };
        let refused = || patience.unavailable.load(Ordering::Relaxed);
        let (mut begun, before, refused_before) = (Instant::now(), client.requests(), refused());
        let mut mark = begun;
        let mut lap = |seen: &mut Seen, step: Option<Step>| {
            let now = Instant::now();
            if let Some(step) = step {
                seen.add(step, now - mark);
            }
            mark = now;
        };

        if client.ensure_nonce().await? {
            lap(seen, Some(Step::NewNonce));
        }
        let order = client.new_order(names).await?;
        if refused() == refused_before {
            lap(seen, Some(Step::NewOrder));
        } else {
            // It counts from its being let in.
            begun = Instant::now();
            lap(seen, None);
        }
        let mut answered = Vec::with_capacity(order.authorizations.len());
        for authorization in &order.authorizations {
            let found = client.challenge(authorization, challenge.name()).await?;
            lap(seen, Some(Step::Authorization));
            // A server may have kept an earlier proof.
            let Some((name, challenge)) = found else { continue };
            proofs.put(&name, &challenge, client.account())?;
            // That is no step of the protocol.
            lap(seen, None);
            client.answer(&challenge).await?;
            lap(seen, Some(Step::Challenge));
            answered.push(authorization);
        }
        for authorization in answered {
            let (is_valid, authorization) = client.decided(authorization).await?;
            if !is_valid {
                return Err(Failure::new(format!("an authorization ends as {authorization}")));
            }
            lap(seen, Some(Step::Poll));
        }
        let certificate = client.finalize(&order, csr).await?;
        lap(seen, Some(Step::Finalize));
        client.certificate(&certificate).await?;
        lap(seen, Some(Step::Certificate));
        seen.issuances.push(begun.elapsed());
        seen.refused = refused() - refused_before;
        seen.requests = client.requests() - before - seen.refused;
        Ok(())
    }
}
