//! What the database says in the end, beyond what clients can see.

use std::process::Command;

use super::DATABASE;
use crate::failure::{Context, Failure};
use crate::packages::Needed;
use crate::postgres::Cluster;
use crate::process;
use crate::server::Place;

/// What SQLite's file is read with.
pub(crate) const NEEDED: &[Needed] = &[Needed { program: "sqlite3", package: "sqlite3" }];

const STUCK: &str = "SELECT (SELECT count(*) FROM challenges WHERE status = 'processing') \
    + (SELECT count(*) FROM orders WHERE status = 'processing')";

const TWICE: &str = "SELECT (SELECT count(*) FROM certificates) - (SELECT count(DISTINCT order_id) FROM certificates)";

/// Orders that are further than what they rest on.
const UNFOUNDED: &str = "SELECT count(*) FROM orders WHERE (status = 'valid') <> EXISTS ( \
        SELECT 1 FROM certificates WHERE certificates.serial = orders.serial AND order_id = orders.id) \
    OR status IN ('processing', 'valid') AND EXISTS (SELECT 1 FROM order_authorizations \
        JOIN authorizations ON authorizations.id = authorization_id \
        WHERE order_id = orders.id AND authorizations.status <> 'valid')";

/// How many of each there are: none should be.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) stuck: u64,
    pub(crate) twice: u64,
    unfounded: u64,
}

impl State {
    /// Reads PostgreSQL, or else the first replica's file.
    pub(crate) fn read(places: &[Place], cluster: Option<&Cluster>) -> Result<Self, Failure> {
        let ask = |sql: &str| {
            let answer = match (cluster, places.first()) {
                (Some(cluster), _) => cluster.query(DATABASE, sql)?,
                (None, Some(place)) => {
                    process::output(Command::new("sqlite3").arg(place.data_dir().join("akamu.db")).arg(sql))?
                }
                (None, None) => return Err(Failure::new("there is no database")),
            };
            answer.trim().parse::<u64>().context(|| format!("the database answers {answer:?}"))
        };
        Ok(Self { stuck: ask(STUCK)?, twice: ask(TWICE)?, unfounded: ask(UNFOUNDED)? })
    }

    /// Each in a sentence.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let told = [
            (self.stuck, "challenges or orders are `processing` for ever"),
            (self.twice, "certificates share an order"),
            (self.unfounded, "orders are further than their authorizations and certificates"),
        ];
        told.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}
