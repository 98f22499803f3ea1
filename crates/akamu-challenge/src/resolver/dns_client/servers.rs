//! Servers that stand in for each other, and which of them is asked first.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_net::proto::op::Message;
use hickory_net::proto::rr::{Name, RecordType};
use tokio::time::Instant;

use super::exchange::Network;
use super::question::Question;
use super::steps::Steps;
use super::{Dnssec, LookupError, more_telling};
use crate::Deadline;

/// How long a server that did not answer in its share of the time is asked after the others.
const REST: Duration = Duration::from_secs(30);

/// Name servers that answer the same questions.
#[derive(Debug)]
pub(super) struct Servers {
    network: Network,
    addresses: Box<[SocketAddr]>,
    pub(super) dnssec: Dnssec,
    /// Until when each is asked last.
    rests_until: Mutex<Box<[Option<Instant>]>>,
}

impl Servers {
    pub(super) fn new(addresses: impl IntoIterator<Item = SocketAddr>, dnssec: Dnssec) -> Self {
        let addresses: Box<[_]> = addresses.into_iter().collect();
        let rests_until = Mutex::new(vec![None; addresses.len()].into());
        Self { network: Network::default(), addresses, dnssec, rests_until }
    }

    pub(super) fn with_dnssec(&self, dnssec: Dnssec) -> Self {
        Self { network: self.network.clone(), ..Self::new(self.addresses.iter().copied(), dnssec) }
    }

    /// The same servers, asked over this network: whether they answer there is not known yet.
    pub(super) fn over(&self, network: Network) -> Self {
        Self { network, ..Self::new(self.addresses.iter().copied(), self.dnssec) }
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// One question, put to each server until one answers it, each within (what is left) ÷ (servers left).
    pub(super) async fn ask(
        &self,
        name: &Name,
        record_type: RecordType,
        signatures: bool,
        deadline: Deadline,
        steps: &Steps,
    ) -> Result<Message, LookupError> {
        let mut failure = None;
        for (asked, (index, server)) in self.in_order().into_iter().enumerate() {
            let share = deadline.share(self.addresses.len() - asked);
            if share.has_passed() {
                break;
            }
            let question = Question { server, network: &self.network, name, record_type, signatures };
            let answer = question.ask(share, steps).await;
            self.remember(index, matches!(answer, Err(LookupError::Timeout)));
            match (answer, failure.take()) {
                (Ok(answer), _) => return Ok(answer),
                (Err(error), None) => failure = Some(error),
                (Err(error), Some(earlier)) => failure = Some(more_telling(earlier, error)),
            }
        }
        Err(failure.unwrap_or(if self.addresses.is_empty() { LookupError::NoServer } else { LookupError::Timeout }))
    }

    /// Every server with its index: as configured, but those that rest last.
    fn in_order(&self) -> Vec<(usize, SocketAddr)> {
        let now = Instant::now();
        let rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let (resting, others): (Vec<_>, Vec<_>) = (self.addresses.iter().copied().zip(&**rests_until).enumerate())
            .partition(|(_, (_, until))| until.is_some_and(|until| now < until));
        others.into_iter().chain(resting).map(|(index, (address, _))| (index, address)).collect()
    }

    fn remember(&self, index: usize, timed_out: bool) {
        let mut rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = rests_until.get_mut(index) {
            *until = timed_out.then(|| Instant::now() + REST);
        }
    }
}
