//! `cargo xtask power-cut`: the power fails at any moment, in a first start and under real ACME traffic. The server comes up
//! on whatever the disk could hold then, and all that was acknowledged is there.

mod disk;
mod log;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use fastrand::Rng;
use tokio::runtime::Runtime;

use self::disk::{Disk, Figures};
use self::log::{Record, records};
use crate::acme::{Directory, Patience};
use crate::chaos::state::{NEEDED, State};
use crate::chaos::traffic::Traffic;
use crate::chaos::{CLIENTS, PATIENCE};
use crate::failure::{Context, Failure};
use crate::name_server::NameServer;
use crate::packages::{self, Installing};
use crate::postgres::free_port;
use crate::process;
use crate::programs::{self, Programs};
use crate::responder::Responder;
use crate::server::{self, Place, Ports, Server};
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct PowerCutArgs {
    /// How many cuts, first in first starts and then under traffic
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Draw moments and losses from this number
    #[arg(long)]
    seed: Option<u64>,
    /// See it fail: syncs of what is so called (-wal, /keys.new, /data) count for nothing
    #[arg(long, value_name = "END OF PATH")]
    forget: Option<String>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

impl PowerCutArgs {
    /// A few cuts, for the tests.
    pub(crate) fn short(no_install: bool) -> Self {
        Self { rounds: 8, seed: None, forget: None, no_install }
    }
}

pub(crate) fn run(args: &PowerCutArgs) -> Result<(), Failure> {
    if !cfg!(target_os = "linux") {
        println!("power-cut: left out, it needs Linux");
        return Ok(());
    }
    packages::ensure(NEEDED, Installing::unless_forbidden(args.no_install), process::in_path)?;
    let programs = Programs::collect()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("power-cut: --seed {seed}");
    let mut cutter = Cutter { shim: shim()?, args, random: Rng::with_seed(seed) };
    let heading = [
        "cut in",
        "cuts",
        "unsynced writes",
        "dropped",
        "torn",
        "unsynced names",
        "dropped",
        "certificates",
        "lost",
        "twice",
    ];
    let mut wrong = Vec::new();
    let rows = [
        heading.map(str::to_owned),
        cutter.first_starts(programs.server(), &mut wrong)?,
        cutter.traffic(programs.server(), &mut wrong)?,
    ];
    print!("{}", Table(rows.to_vec()));
    for it in &wrong {
        println!("WRONG: {it}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("{} things went wrong (above)", wrong.len()))) }
}

/// The library that notes what the server writes.
fn shim() -> Result<PathBuf, Failure> {
    process::run(process::cargo().args(["build", "--locked", "--quiet", "--package", "power-cut-shim"]))?;
    Ok(programs::target().join("debug/libpower_cut_shim.so"))
}

struct Cutter<'a> {
    shim: PathBuf,
    args: &'a PowerCutArgs,
    random: Rng,
}

impl Cutter<'_> {
    /// Starts the server with everything that it writes noted from here on.
    fn start(&self, place: &Place, binary: &Path) -> Result<Server, Failure> {
        let log = log_of(place);
        if log.exists() {
            fs::remove_file(&log).context(|| "cannot begin a log anew".to_owned())?;
        }
        let data = place.data_dir();
        let environment: [(&str, &OsStr); 3] = [
            ("LD_PRELOAD", self.shim.as_os_str()),
            ("POWER_CUT_DIRECTORY", data.as_os_str()),
            ("POWER_CUT_LOG", log.as_os_str()),
        ];
        place.start_in(binary, &environment)
    }

    /// What has been written since, of a server that is dead.
    fn noted(place: &Place) -> Result<Vec<Record>, Failure> {
        fs::read(log_of(place)).map(|log| records(&log)).context(|| "cannot read the log of writes".to_owned())
    }

    fn disk(&self, place: &Place) -> Result<Disk, Failure> {
        Disk::read(&place.data_dir(), self.args.forget.as_deref())
    }

    /// Puts what the disk could hold in the place of what the server left.
    fn cut(&mut self, place: &Place, disk: &Disk, figures: &mut Figures) -> Result<(), Failure> {
        let (data, held) = (place.data_dir(), place.directory().join("held"));
        disk.cut(&held, &mut self.random, figures)?;
        let replaced = if data.exists() { fs::remove_dir_all(&data) } else { Ok(()) };
        replaced.and_then(|()| fs::rename(&held, &data)).context(|| "cannot replace the data directory".to_owned())
    }

    /// One first start, cut at as many of its moments; each of them comes up.
    fn first_starts(&mut self, binary: &Path, wrong: &mut Vec<String>) -> Result<[String; 10], Failure> {
        let name_server = NameServer::start()?;
        let place = Place::new(|own| server::on_loopback(own.listen, own, &name_server, server::SQLITE))?;
        let empty = self.disk(&place)?;
        drop(self.start(&place, binary)?);
        let noted = Self::noted(&place)?;
        let issuing = place.data_dir().join("keys/issuing.pem");
        let promised = fs::read(&issuing).context(|| "a first start makes no issuer".to_owned())?;
        let (mut figures, mut lost) = (Figures::default(), 0_u64);
        for round in 1..=self.args.rounds {
            // The last one is after the server has said that it is ready: it has promised its root.
            let is_ready = round == self.args.rounds;
            let calls = if is_ready { noted.len() } else { self.random.usize(..noted.len()) };
            let mut disk = empty.clone();
            noted.iter().take(calls).for_each(|it| disk.apply(it));
            self.cut(&place, &disk, &mut figures)?;
            let told = format!("a first start, cut after {calls} of {} calls", noted.len());
            match place.start_in(binary, &[]) {
                Ok(server) => drop(server),
                Err(failure) => wrong.push(format!("{told}: {failure}")),
            }
            if is_ready && fs::read(&issuing).ok().as_ref() != Some(&promised) {
                lost += 1;
                wrong.push(format!("{told}: it is another CA"));
            }
        }
        Ok(row("a first start", &figures, 0, lost, 0))
    }

    /// One server under traffic, cut and started again on what was left, over and over.
    fn traffic(&mut self, binary: &Path, wrong: &mut Vec<String>) -> Result<[String; 10], Failure> {
        let name_server = NameServer::start()?;
        let common = Ports { listen: free_port()?, http: free_port()?, tls: free_port()?, admin: free_port()? };
        let place = Place::new(|_| server::on_loopback(common.listen, &common, &name_server, server::SQLITE))?;
        let mut disk = self.disk(&place)?;
        let mut server = self.start(&place, binary)?;
        let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
        let patience = Arc::new(Patience::new(PATIENCE));
        let traffic = runtime.block_on(async {
            let responder = Responder::start(common.http)?;
            let directory = Directory::fetch(server.directory_url(), &place.root()).await?;
            Ok::<_, Failure>(Traffic::start(CLIENTS, &directory, &patience, &responder))
        })?;
        let mut figures = Figures::default();
        for round in 1..=self.args.rounds {
            sleep(Duration::from_millis(self.random.u64(50..1_000)));
            drop(server);
            Self::noted(&place)?.iter().for_each(|it| disk.apply(it));
            self.cut(&place, &disk, &mut figures)?;
            disk = self.disk(&place)?;
            server = self.start(&place, binary).context(|| format!("after cut {round} under traffic"))?;
        }
        let outcome = runtime.block_on(traffic.finish(&[]));
        server.stop()?;
        let state = State::read(std::slice::from_ref(&place), None)?;
        let problems = outcome.wrong.iter().cloned().chain(state.wrong()).chain(patience.errors());
        wrong.extend(problems.map(|it| format!("traffic: {it}")));
        Ok(row("traffic", &figures, outcome.certificates, outcome.lost, outcome.twice + state.twice))
    }
}

fn log_of(place: &Place) -> PathBuf {
    place.directory().join("writes.log")
}

fn row(what: &str, figures: &Figures, certificates: u64, lost: u64, twice: u64) -> [String; 10] {
    let Figures { cuts, writes, dropped, torn, names, names_dropped } = *figures;
    let numbers = [cuts, writes, dropped, torn, names, names_dropped, certificates, lost, twice];
    let mut row = [const { String::new() }; 10];
    for (cell, text) in row.iter_mut().zip([what.to_owned()].into_iter().chain(numbers.map(|it| it.to_string()))) {
        *cell = text;
    }
    row
}
