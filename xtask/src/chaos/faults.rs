//! What goes wrong: a replica dies or is told to stop, the database cuts connections, crashes, or is away for a while.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;

use super::share_keys;
use crate::failure::Failure;
use crate::postgres::Cluster;
use crate::server::{Place, Server};

/// The server's processes.
pub(super) struct Replicas<'a> {
    binary: &'a Path,
    places: &'a [Place],
    running: Vec<Server>,
}

/// The faults of a run.
pub(super) struct Faults<'a> {
    replicas: Replicas<'a>,
    cluster: Option<&'a mut Cluster>,
    random: Rng,
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) of_database: u32,
}

impl<'a> Replicas<'a> {
    /// The first makes the keys; the others are given them.
    pub(super) fn start(places: &'a [Place], binary: &'a Path) -> Result<Self, Failure> {
        let mut running: Vec<Server> = Vec::new();
        for (index, place) in places.iter().enumerate() {
            if let Some(first) = places.first().filter(|_| index > 0) {
                share_keys(first, place)?;
            }
            running.push(place.start(binary)?);
        }
        Ok(Self { binary, places, running })
    }

    /// The certificate that clients are told to trust.
    pub(super) fn root(&self) -> PathBuf {
        self.places.first().map(Place::root).unwrap_or_default()
    }

    /// Ends one by `end` and starts it again `away` later.
    fn replace(
        &mut self,
        index: usize,
        away: Duration,
        end: impl FnOnce(Server) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        end(self.running.swap_remove(index))?;
        sleep(away);
        // The last one has taken its place.
        self.running.push(self.places.get(self.place_of_missing()).ok_or_else(no_place)?.start(self.binary)?);
        Ok(())
    }

    fn place_of_missing(&self) -> usize {
        let ports: Vec<u16> = self.running.iter().map(|it| it.ports().listen).collect();
        self.places.iter().position(|place| !ports.contains(&place.ports().listen)).unwrap_or_default()
    }
}

fn no_place() -> Failure {
    Failure::new("a replica has no place")
}

impl<'a> Faults<'a> {
    pub(super) fn new(replicas: Replicas<'a>, cluster: Option<&'a mut Cluster>, random: Rng) -> Self {
        Self { replicas, cluster, random, kills: 0, stops: 0, of_database: 0 }
    }

    /// Waits a while and lets one happen; says which.
    pub(super) fn next(&mut self) -> Result<String, Failure> {
        sleep(Duration::from_millis(self.random.u64(50..1_500)));
        let index = self.random.usize(..self.replicas.running.len());
        let away = Duration::from_millis(self.random.u64(..1_000));
        let kind = self.random.u32(..10);
        match (&mut self.cluster, kind) {
            (Some(cluster), 0) => {
                self.of_database += 1;
                cluster.cut_connections()?;
                Ok("the database cuts every connection".to_owned())
            }
            (Some(cluster), 1) => {
                self.of_database += 1;
                cluster.crash()?;
                sleep(away * 3);
                cluster.start_again()?;
                Ok(format!("the database crashes, and is away for {} ms", away.as_millis() * 3))
            }
            (_, 2) => {
                self.stops += 1;
                self.replicas.replace(index, away, Server::stop)?;
                Ok(format!("a replica stops, and is away for {} ms", away.as_millis()))
            }
            _ => {
                self.kills += 1;
                self.replicas.replace(index, away, |server| {
                    drop(server);
                    Ok(())
                })?;
                Ok(format!("kill -9, and the replica is away for {} ms", away.as_millis()))
            }
        }
    }

    /// Stops the replicas; each must end with success.
    pub(super) fn stop(self) -> Result<(), Failure> {
        self.replicas.running.into_iter().try_for_each(Server::stop)
    }
}
