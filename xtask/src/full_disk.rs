//! `cargo xtask full-disk`: the disk under the database fills up under real ACME traffic, and is given room again. Clients are
//! told to come back, nothing that was acknowledged is lost, and the server goes on by itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::acme::{Directory, Patience};
use crate::chaos::state::{NEEDED, State};
use crate::chaos::traffic::Traffic;
use crate::chaos::{CLIENTS, PATIENCE};
use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::name_server::NameServer;
use crate::packages::{self, Installing};
use crate::postgres::free_port;
use crate::process;
use crate::programs::Programs;
use crate::responder::Responder;
use crate::server::{self, Place, Ports};
use crate::table::Table;

/// The disk's size: more than any run writes.
const DISK: &str = "size=64m";
/// How long the server may take to notice what a request would tell it.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct FullDiskArgs {
    /// How often the disk fills up
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Draw moments and sizes from this number
    #[arg(long)]
    seed: Option<u64>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

impl FullDiskArgs {
    /// A few rounds, for the tests.
    pub(crate) fn short(no_install: bool) -> Self {
        Self { rounds: 3, seed: None, no_install }
    }
}

pub(crate) fn run(args: &FullDiskArgs) -> Result<(), Failure> {
    let name_server = NameServer::start()?;
    let common = Ports { listen: free_port()?, http: free_port()?, tls: free_port()?, admin: free_port()? };
    let admin = free_port()?;
    let place = Place::new(|_| {
        let common = server::on_loopback(common.listen, &common, &name_server, server::SQLITE);
        format!("{common}\n[admin]\nlisten_addr = \"127.0.0.1:{admin}\"\n")
    })?;
    let disk = match Disk::mount(place.data_dir()) {
        Ok(disk) => disk,
        Err(failure) => {
            println!("full-disk: left out, it mounts a small disk, and that needs root: {failure}");
            return Ok(());
        }
    };
    packages::ensure(NEEDED, Installing::unless_forbidden(args.no_install), process::in_path)?;
    let programs = Programs::collect()?;
    let binary = programs.server();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("full-disk: --seed {seed}");
    let mut random = Rng::with_seed(seed);

    let mut server = place.start(binary)?;
    let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
    let patience = Arc::new(Patience::new(PATIENCE));
    let traffic = runtime.block_on(async {
        let responder = Responder::start(common.http)?;
        let directory = Directory::fetch(server.directory_url(), &place.root()).await?;
        Ok::<_, Failure>(Traffic::start(CLIENTS, &directory, &patience, &responder))
    })?;
    let mut wrong = Vec::new();
    let (mut starts_refused, mut slowest) = (0_u32, Duration::ZERO);
    for round in 1..=args.rounds {
        // A stop takes the log away, in which there is room for 1,000 pages: what is slow would not fill it in time.
        server.stop()?;
        server = place.start(binary)?;
        sleep(Duration::from_millis(random.u64(100..1_000)));
        // What is left the clients fill.
        let full = disk.fill(random.usize(..256 * 1024))?;
        let before = patience.unavailable.load(Ordering::Relaxed);
        if !within(SOON, || patience.unavailable.load(Ordering::Relaxed) > before) {
            wrong.push(format!("round {round}: the disk is full, and no request is answered 503"));
        }
        if !within(SOON, || ready(admin) == Some(503)) {
            wrong.push(format!("round {round}: the disk is full, and /readyz says {:?}", ready(admin)));
        }
        if random.bool() || round == args.rounds {
            // Killed: what it has written since its last checkpoint is in the log.
            drop(server);
            disk.fill_up()?;
            // It may start: what a dead server has left in the log's file may be room enough.
            if let Err(failure) = place.start(binary) {
                starts_refused += 1;
                let said = failure.to_string();
                let last = said.lines().last().unwrap_or_default().trim_start();
                if !last.starts_with("akamu-server: ") || !last.contains("akamu.db") {
                    wrong.push(format!("round {round}: a start on the full disk does not say so:\n{said}"));
                }
            }
            drop(full);
            server = place.start(binary)?;
        } else {
            drop(full);
        }
        let room = Instant::now();
        if !within(SOON, || ready(admin) == Some(200)) {
            wrong.push(format!("round {round}: there is room again, and /readyz says {:?}", ready(admin)));
        }
        slowest = slowest.max(room.elapsed());
    }
    let outcome = runtime.block_on(traffic.finish(&[]));
    server.stop()?;
    let state = State::read(std::slice::from_ref(&place), None)?;
    let problems = outcome.wrong.iter().cloned().chain(state.wrong()).chain(patience.errors());
    wrong.extend(problems);
    let heading =
        ["full", "answered 503", "starts refused", "certificates", "lost", "stuck", "twice", "longest recovery"];
    let row = [
        args.rounds.to_string(),
        patience.unavailable.load(Ordering::Relaxed).to_string(),
        starts_refused.to_string(),
        outcome.certificates.to_string(),
        outcome.lost.to_string(),
        state.stuck.to_string(),
        (outcome.twice + state.twice).to_string(),
        format!("{:.1} s", slowest.as_secs_f64()),
    ];
    print!("{}", Table(vec![heading.map(str::to_owned), row]));
    for it in &wrong {
        println!("WRONG: {it}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("{} things went wrong (above)", wrong.len()))) }
}

/// A small disk in memory, gone when dropped.
struct Disk {
    directory: PathBuf,
    _mounted: Undone,
}

/// A file that takes the room, until it is dropped.
struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        // Where it is not there, there is room as well.
        let _ = fs::remove_file(&self.0);
    }
}

impl Disk {
    fn mount(directory: PathBuf) -> Result<Self, Failure> {
        fs::create_dir_all(&directory).context(|| "cannot make a directory for the disk".to_owned())?;
        process::output(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "akamu-full-disk"]).arg(&directory))?;
        let mounted = directory.clone();
        let unmount = move || {
            // Lazily: a server that is being killed may still have a file open.
            let _ = process::output(Command::new("umount").arg("--lazy").arg(&mounted));
        };
        Ok(Self { directory, _mounted: Undone::at_the_end(unmount) })
    }

    /// Leaves this much room.
    fn fill(&self, left: usize) -> Result<Full, Failure> {
        let path = self.directory.join("full");
        take_all(&path)?;
        let filling = || "cannot fill the disk".to_owned();
        let file = File::options().write(true).open(&path).context(filling)?;
        let length = file.metadata().context(filling)?.len();
        file.set_len(length.saturating_sub(left as u64)).context(filling)?;
        Ok(Full(path))
    }

    /// Takes what the server has left or given back, too.
    fn fill_up(&self) -> Result<(), Failure> {
        take_all(&self.directory.join("full"))
    }
}

fn take_all(path: &Path) -> Result<(), Failure> {
    let filling = || "cannot fill the disk".to_owned();
    let mut file = File::options().create(true).append(true).open(path).context(filling)?;
    let mut piece = vec![0xff; 1 << 16];
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(0) => piece.truncate(piece.len() / 2),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
            Err(error) => return Err(error).context(filling),
        }
    }
    Ok(())
}

/// The status of /readyz.
fn ready(port: u16) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Whether it becomes so in time.
fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}
