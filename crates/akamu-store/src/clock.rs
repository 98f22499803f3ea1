//! The newest time that a server ever wrote, so that one whose clock is behind can be told so.

use std::time::Duration;

use akamu_proto::Timestamp;
use diesel::prelude::*;

use crate::connection::{AnyConnection, kept, on};
use crate::error::StoreError;
use crate::known;
use crate::schema::counters;
use crate::store::Store;

/// What the database knows of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockCheck {
    /// The newest time that was ever written; `None` in a new database.
    pub newest: Option<Timestamp>,
}

const NEWEST: &str = "newest_time";
/// A row this young is left alone: of several replicas that renew it once a minute, one writes.
const YOUNG: Duration = Duration::from_secs(30);

impl Store {
    /// Reads the newest time.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clock_check(&self) -> Result<ClockCheck, StoreError> {
        let newest: i64 = self
            .select("clock_check", |connection| {
                on!(connection, |it| counters::table.find(NEWEST).select(counters::value).first(it))
            })
            .await?;
        Ok(ClockCheck { newest: (newest > 0).then(|| Timestamp::from_unix_micros(newest)) })
    }

    /// Writes `now` as the newest time, where the one that is there is at least 30 s older. To be called once a minute.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn clock_renew(&self, now: Timestamp) -> Result<(), StoreError> {
        let renew = move |connection: &mut AnyConnection| {
            let update = diesel::update(counters::table.find(NEWEST))
                .filter(counters::value.le(now.minus(YOUNG).unix_micros()))
                .set(counters::value.eq(now.unix_micros()));
            on!(connection, |it| kept!(update).execute(it)).map(drop)
        };
        self.write("clock_renew", renew, known::nothing).await
    }
}
