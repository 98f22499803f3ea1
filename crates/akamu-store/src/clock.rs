//! The newest time that a server ever wrote, so that one whose clock is behind can be told so.

use akamu_proto::Timestamp;

use crate::error::StoreError;
use crate::identity::{fact, set_fact};
use crate::store::Store;

/// What the database knows of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockCheck {
    /// The newest time that was ever written; `None` in a new database.
    pub newest: Option<Timestamp>,
}

const NEWEST: &str = "newest_time";

impl Store {
    /// Reads the newest time.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clock_check(&self) -> Result<ClockCheck, StoreError> {
        let newest = self.read("clock_check", |connection| fact(connection, NEWEST)).await?;
        Ok(ClockCheck { newest: newest.and_then(|it| it.parse().ok()).map(Timestamp::from_unix_micros) })
    }

    /// Writes `now` as the newest time, where it is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clock_renew(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write("clock_renew", move |connection| {
            let known = fact(connection, NEWEST)?.and_then(|it| it.parse::<i64>().ok());
            if known.is_none_or(|known| known < now.unix_micros()) {
                set_fact(connection, NEWEST, &now.unix_micros().to_string())?;
            }
            Ok(())
        })
        .await
    }
}
