//! Two PostgreSQL servers: one takes writes, the other follows it synchronously and takes over.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Cluster, free_port};
use crate::failure::Failure;
use crate::packages::Installing;

/// How long the follower may take to catch up.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(60);

/// A primary, and the standby without which nothing is committed.
#[derive(Debug)]
pub(crate) struct Pair {
    primary: Cluster,
    standby: Cluster,
    ports: [u16; 2],
}

impl Pair {
    /// Starts both.
    pub(crate) fn start(installing: Installing) -> Result<Self, Failure> {
        let primary = Cluster::start(installing)?;
        let standby = Cluster::follow(&primary, free_port()?)?;
        let ports = [primary.port, standby.port];
        let pair = Self { primary, standby, ports };
        pair.make_synchronous()?;
        Ok(pair)
    }

    /// The one that takes writes.
    pub(crate) fn primary(&self) -> &Cluster {
        &self.primary
    }

    /// A URL that names both, always in the same order: whoever connects finds the one that takes writes.
    pub(crate) fn url(&self, database: &str) -> String {
        let hosts = self.ports.map(|port| format!("127.0.0.1:{port}"));
        format!("postgres://postgres@{}/{database}", hosts.join(","))
    }

    /// Ends the primary as a crash would and has the standby take over `away` later; then a new standby takes the place of
    /// the one that ended.
    pub(crate) fn fail_over(&mut self, away: Duration) -> Result<(), Failure> {
        self.primary.crash()?;
        sleep(away);
        self.standby.promote()?;
        std::mem::swap(&mut self.primary, &mut self.standby);
        // The old one may have what the new one has not: nothing of it is kept.
        self.standby = Cluster::follow(&self.primary, self.standby.port)?;
        self.make_synchronous()
    }

    /// From here on a commit is acknowledged when both have it.
    fn make_synchronous(&self) -> Result<(), Failure> {
        let ask = |sql: &str| self.primary.query("postgres", sql);
        ask("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        ask("SELECT pg_reload_conf()")?;
        let deadline = Instant::now() + FOLLOWS_WITHIN;
        while ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")?.trim() == "0" {
            if Instant::now() > deadline {
                let waited = FOLLOWS_WITHIN.as_secs();
                return Err(Failure::new(format!("the standby does not follow within {waited} s")));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
