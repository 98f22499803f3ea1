//! What goes wrong: a replica dies or is told to stop, the database cuts connections, crashes, fails over to its standby,
//! or is away for a while or for long.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::failure::Failure;
use crate::postgres::Pair;
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
    pair: Option<&'a mut Pair>,
    random: Rng,
    counts: Counts,
}

/// How many of each there were.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) kills: u32,
    pub(super) stops: u32,
    /// Cut connections and short crashes.
    pub(super) of_database: u32,
    pub(super) fail_overs: u32,
    /// So long that requests are refused without being waited for.
    pub(super) outages: u32,
}

/// One that has happened.
#[derive(Debug)]
pub(super) struct Happened {
    told: String,
    pub(super) is_long_outage: bool,
    /// When the database crashed, and when it was back.
    pub(super) crash: Option<RangeInclusive<Instant>>,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

/// On PostgreSQL each ten rounds begin with a fail-over and end with a long outage.
const TEN: u32 = 10;

/// How long a long outage lasts, at least.
const LONG: Duration = Duration::from_secs(8);

impl<'a> Replicas<'a> {
    /// The first makes the keys; the others are given them.
    pub(super) fn start(places: &'a [Place], binary: &'a Path) -> Result<Self, Failure> {
        let mut running: Vec<Server> = Vec::new();
        for (index, place) in places.iter().enumerate() {
            if let Some(first) = places.first().filter(|_| index > 0) {
                place.share_keys_of(first)?;
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
    pub(super) fn new(replicas: Replicas<'a>, pair: Option<&'a mut Pair>, random: Rng) -> Self {
        Self { replicas, pair, random, counts: Counts::default() }
    }

    /// Waits a while and lets the one of this round happen, counted from 1; says which.
    pub(super) fn next(&mut self, round: u32) -> Result<Happened, Failure> {
        sleep(Duration::from_millis(self.random.u64(50..1_500)));
        let index = self.random.usize(..self.replicas.running.len());
        let away = Duration::from_millis(self.random.u64(..1_000));
        let kind = self.random.u32(..10);
        let counts = &mut self.counts;
        let mut is_long_outage = false;
        let begun = Instant::now();
        let mut has_crashed = false;
        let told = match (&mut self.pair, round % TEN, kind) {
            (Some(pair), 1, _) => {
                counts.fail_overs += 1;
                has_crashed = true;
                pair.fail_over(away)?;
                format!("the database crashes, and {} ms later its standby takes over", away.as_millis())
            }
            (Some(pair), 0, _) => {
                counts.outages += 1;
                (is_long_outage, has_crashed) = (true, true);
                let away = LONG + away;
                pair.primary().crash()?;
                sleep(away);
                pair.primary().start_again()?;
                format!("the database crashes, and is away for {} ms", away.as_millis())
            }
            (Some(pair), _, 0) => {
                counts.of_database += 1;
                pair.primary().cut_connections()?;
                "the database cuts every connection".to_owned()
            }
            (Some(pair), _, 1) => {
                counts.of_database += 1;
                has_crashed = true;
                pair.primary().crash()?;
                sleep(away * 3);
                pair.primary().start_again()?;
                format!("the database crashes, and is away for {} ms", away.as_millis() * 3)
            }
            (_, _, 2) => {
                counts.stops += 1;
                self.replicas.replace(index, away, Server::stop)?;
                format!("a replica stops, and is away for {} ms", away.as_millis())
            }
            _ => {
                counts.kills += 1;
                self.replicas.replace(index, away, |server| {
                    drop(server);
                    Ok(())
                })?;
                format!("kill -9, and the replica is away for {} ms", away.as_millis())
            }
        };
        Ok(Happened { told, is_long_outage, crash: has_crashed.then(|| begun..=Instant::now()) })
    }

    /// Stops the replicas, each of which must end with success, and says how many faults of each kind there were.
    pub(super) fn stop(self) -> Result<Counts, Failure> {
        self.replicas.running.into_iter().try_for_each(Server::stop)?;
        Ok(self.counts)
    }
}
