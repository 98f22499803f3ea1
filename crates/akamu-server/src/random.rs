//! Randomness, injected, so that a test can replay what was drawn.

use std::fmt;

use akamu_proto::AccountId;

/// A source of random octets for ids, tokens and serial numbers.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `octets`.
    fn fill(&self, octets: &mut [u8]);
}

/// The operating system's, by aws-lc-rs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, octets: &mut [u8]) {
        aws_lc_rs::rand::fill(octets).expect("aws-lc-rs aborts by itself where the system has no randomness");
    }
}

/// Has the process gather its entropy while it does something else: the first random octets wait for that, for some tens
/// of milliseconds.
pub(crate) fn begin_to_gather() {
    tokio::task::spawn_blocking(|| SystemRandom.fill(&mut [0]));
}

/// `N` random octets.
pub(crate) fn octets<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut octets = [0; N];
    random.fill(&mut octets);
    octets
}

/// A new account id.
pub(crate) fn account_id(random: &dyn Random) -> AccountId {
    loop {
        if let Some(id) = AccountId::from_random(octets(random)) {
            return id;
        }
    }
}
