//! What time it is, and how long is left.
//!
//! Wall time comes from an injected [`Clock`]; durations and deadlines come from tokio's timer, so a paused test clock
//! moves both.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::Timestamp;
use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

/// The time of day, and a way to let some of it pass.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Returns after `duration`.
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[async_trait]
impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    async fn sleep(&self, duration: Duration) {
        (**self).sleep(duration).await;
    }
}

/// The operating system's clock.
#[cfg(feature = "net")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(feature = "net")]
#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place where the real time is read")]
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp::from_unix_secs(0).plus(since),
            Err(before) => Timestamp::from_unix_secs(0).minus(before.duration()),
        }
    }
}

/// The moment at which a validation must be over, however far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct DeadlinePassed;

impl Deadline {
    /// `duration` from now, at most a year.
    pub fn after(duration: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        Self(Instant::now() + duration.min(YEAR))
    }

    /// At this moment of tokio's clock.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The moment.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// How long is left; zero where it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The end of the first of `parts` equal parts of what is left; this deadline itself for 0 and 1.
    #[must_use]
    pub fn share(self, parts: usize) -> Self {
        match u32::try_from(parts) {
            Ok(0 | 1) => self,
            Ok(parts) => Self(Instant::now() + self.remaining() / parts),
            Err(_) => Self(Instant::now()),
        }
    }

    /// Runs `future` for as long as is left.
    ///
    /// # Errors
    /// [`DeadlinePassed`], and the future is dropped.
    pub async fn bound<F: Future>(self, future: F) -> Result<F::Output, DeadlinePassed> {
        timeout_at(self.0, future).await.map_err(|_| DeadlinePassed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_shared_among_what_is_left_to_do() {
        let deadline = Deadline::after(Duration::from_secs(10));
        assert_eq!(deadline.share(4).remaining(), Duration::from_millis(2_500));
        assert_eq!(deadline.share(1), deadline);
        assert_eq!(deadline.share(0), deadline);
        assert_eq!(deadline.bound(std::future::ready(7)).await, Ok(7));
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(DeadlinePassed));
        assert!(deadline.has_passed());
        assert_eq!(deadline.share(4).remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_duration_is_too_long_for_a_deadline() {
        assert_eq!(Deadline::after(Duration::MAX).remaining().as_secs(), 365 * 86_400);
    }
}
