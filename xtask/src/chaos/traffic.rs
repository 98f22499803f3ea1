//! Clients that issue one certificate after the other, note what was acknowledged, and look for it again in the end.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use serde_json::Value;
use tokio::task::JoinSet;

use super::PATIENCE;
use crate::acme::{Challenge, Client, Directory, Patience, Replayed, csr};
use crate::failure::{Context, Failure};
use crate::name_server::ZONE;
use crate::responder::Responder;

/// Running clients.
pub(crate) struct Traffic {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<Outcome>,
}

/// What they saw.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) certificates: u64,
    /// Acknowledged, and not there in the end.
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) replays_refused: u64,
    /// Reads that were answered a second time, with one nonce: from the first answer to the second.
    taken_reads: Vec<RangeInclusive<Instant>>,
    pub(crate) slowest: Duration,
    pub(crate) wrong: Vec<String>,
    chains: Vec<String>,
}

/// An order of which the server has said that it exists, and what it has said since.
struct Acknowledged {
    order: String,
    /// URL and chain.
    certificate: Option<(String, String)>,
}

impl Traffic {
    pub(crate) fn start(clients: u32, directory: &Directory, patience: &Arc<Patience>, responder: &Responder) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (directory, patience, responder) = (directory.clone(), Arc::clone(patience), responder.clone());
            let is_over = Arc::clone(&is_over);
            tasks.spawn(async move {
                let mut outcome = Outcome::default();
                if let Err(failure) = issue(number, &directory, &patience, &responder, &is_over, &mut outcome).await {
                    outcome.wrong.push(format!("client {number}: {failure}"));
                }
                outcome
            });
        }
        Self { is_over, clients: tasks }
    }

    /// Lets each client end its order and look for all that was acknowledged. Across a crash of the database a read's nonce
    /// may be taken twice, and nothing else's.
    pub(crate) async fn finish(self, crashes: &[RangeInclusive<Instant>]) -> Outcome {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for one in self.clients.join_all().await {
            all.certificates += one.certificates;
            all.lost += one.lost;
            all.twice += one.twice;
            all.replays_refused += one.replays_refused;
            all.taken_reads.extend(one.taken_reads);
            all.slowest = all.slowest.max(one.slowest);
            all.wrong.extend(one.wrong);
            all.chains.extend(one.chains);
        }
        let is_across = |read: &RangeInclusive<Instant>| {
            crashes.iter().any(|crash| read.start() <= crash.end() && crash.start() <= read.end())
        };
        for _ in all.taken_reads.iter().filter(|it| !is_across(it)) {
            all.twice += 1;
            all.wrong.push("a read's nonce was taken twice".to_owned());
        }
        let distinct = all.chains.iter().collect::<HashSet<_>>().len();
        all.twice += u64::try_from(all.chains.len() - distinct).unwrap_or(u64::MAX);
        all
    }
}

async fn issue(
    number: u32,
    directory: &Directory,
    patience: &Arc<Patience>,
    responder: &Responder,
    is_over: &AtomicBool,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut client = Client::register_patiently(directory, patience).await?;
    let thumbprint = client.account().thumbprint();
    let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;
    let put = |_: &str, challenge: &Challenge| responder.put(challenge.key_authorization(&thumbprint));
    let mut acknowledged = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let names: Vec<_> = (0..=outcome.certificates % 3)
            .map(|it| format!("{it}.{}.client-{number}.{ZONE}", outcome.certificates))
            .collect();
        let order = client.new_order(&names).await?;
        acknowledged.push(Acknowledged { order: order.url.clone(), certificate: None });
        client.prove(&order, "http-01", &put).await?;
        let url = client.finalize(&order, &csr(&names, &key)?).await?;
        let chain = client.certificate(&url).await?;
        outcome.certificates += 1;
        if let Some(last) = acknowledged.last_mut() {
            last.certificate = Some((url, chain));
        }
        outcome.slowest = outcome.slowest.max(begun.elapsed());
        if begun.elapsed() > PATIENCE {
            outcome.wrong.push(format!("{} took {:.0} s", order.url, begun.elapsed().as_secs_f64()));
        }
        // The nonce of an answered request is used up, whichever replica is asked.
        match client.replay_change().await {
            Some(Replayed { is_refused: true, .. }) => outcome.replays_refused += 1,
            Some(Replayed { is_refused: false, .. }) => {
                outcome.twice += 1;
                outcome.wrong.push(format!("client {number}: a change's nonce was taken twice"));
            }
            None => {}
        }
        match client.replay().await {
            Some(Replayed { is_refused: true, .. }) => outcome.replays_refused += 1,
            Some(Replayed { is_refused: false, answered_at }) => {
                outcome.taken_reads.push(answered_at..=Instant::now());
            }
            None => {}
        }
    }
    look_again(&mut client, acknowledged, outcome).await
}

async fn look_again(
    client: &mut Client,
    acknowledged: Vec<Acknowledged>,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let account = client.show_account().await?;
    if account.get("status").and_then(Value::as_str) != Some("valid") {
        outcome.lost += 1;
        outcome.wrong.push(format!("an acknowledged account is now {account}"));
    }
    for Acknowledged { order: url, certificate } in acknowledged {
        let order = match client.order(&url).await {
            Ok(order) => order,
            Err(failure) => {
                outcome.lost += 1;
                outcome.wrong.push(format!("an acknowledged order is lost: {failure}"));
                continue;
            }
        };
        let Some((certificate, chain)) = certificate else {
            outcome.wrong.push(format!("{url} was given up as {order}"));
            continue;
        };
        let same_url = order.get("certificate").and_then(Value::as_str) == Some(&certificate);
        let is_same = same_url && client.certificate(&certificate).await.is_ok_and(|it| it == chain);
        if !is_same {
            outcome.lost += 1;
            outcome.wrong.push(format!("{certificate} of {url} is lost or another one: {order}"));
        }
        outcome.chains.push(chain);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_is_taken_twice_across_a_crash_alone() {
        let begun = Instant::now();
        let between = |from: u64, to: u64| begun + Duration::from_secs(from)..=begun + Duration::from_secs(to);
        let taken_reads = vec![between(0, 1), between(1, 2), between(3, 3), between(4, 6), between(7, 8)];
        let mut clients = JoinSet::new();
        clients.spawn(async { Outcome { taken_reads, ..Outcome::default() } });
        let traffic = Traffic { is_over: Arc::default(), clients };
        let outcome = traffic.finish(&[between(2, 5)]).await;
        assert_eq!((outcome.twice, outcome.wrong.len()), (2, 2));
    }
}
