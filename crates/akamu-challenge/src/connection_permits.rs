//! How many connections to one address are open at once.
//!
//! Applicants choose where a CA connects to; without a limit many of them together could make it flood one host.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out a limited number of permits for each address.
#[derive(Debug)]
pub(crate) struct ConnectionPermits {
    limit: usize,
    in_use: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A permit for one connection, or a place in the queue for one; given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    address: IpAddr,
    permits: Arc<ConnectionPermits>,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermits {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, in_use: Mutex::default() }
    }

    /// Waits for a permit, first come, first served.
    pub(crate) async fn acquire(self: &Arc<Self>, address: IpAddr) -> ConnectionPermit {
        let mut place = ConnectionPermit {
            address,
            permits: Arc::clone(self),
            semaphore: Arc::clone(self.lock().entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.limit)))),
            permit: None,
        };
        let permit = Arc::clone(&place.semaphore).acquire_owned().await;
        place.permit = Some(permit.expect("nobody closes the semaphore"));
        place
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.permit = None;
        let mut in_use = self.permits.lock();
        // The table's and ours: nobody else waits for this address or is connected to it.
        if Arc::strong_count(&self.semaphore) == 2 {
            in_use.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn an_address_has_so_many_and_is_forgotten_afterwards() {
        let permits = Arc::new(ConnectionPermits::new(1));
        let mut cx = Context::from_waker(Waker::noop());
        let (here, there) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());

        let Poll::Ready(first) = pin!(permits.acquire(here)).poll(&mut cx) else { panic!("the first is free") };
        let Poll::Ready(other) = pin!(permits.acquire(there)).poll(&mut cx) else { panic!("another address") };
        {
            let mut gives_up = pin!(permits.acquire(here));
            assert!(gives_up.as_mut().poll(&mut cx).is_pending());
        }
        let mut waits = pin!(permits.acquire(here));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let Poll::Ready(second) = waits.as_mut().poll(&mut cx) else { panic!("it is free again") };
        drop((second, other));
        assert!(permits.lock().is_empty());
    }
}
