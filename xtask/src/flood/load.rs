//! The flood itself: `cargo xtask flood` runs it as another process, which yields the processor to whoever wants it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::time::{Interval, interval};

use super::lateness::Lateness;
use super::{dead, requests};
use crate::acme::Directory;
use crate::failure::{Context, Failure};

/// What is sent to whom.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The server's directory
    #[arg(long)]
    directory: String,
    /// The certificate that it leads to
    #[arg(long)]
    root: PathBuf,
    #[arg(long, default_value_t = 0)]
    connections: u32,
    #[arg(long, default_value_t = 1)]
    connections_per_second: u32,
    /// At most so many, and none once every dead connection is closed
    #[arg(long, default_value_t = 0)]
    garbage: u32,
    /// Absent: as fast as it is answered
    #[arg(long)]
    garbage_per_second: Option<u32>,
    /// At most so many, and none once every dead connection is closed
    #[arg(long, default_value_t = 0)]
    nonces: u32,
    /// Absent: as fast as they are answered
    #[arg(long)]
    nonces_per_second: Option<u32>,
}

/// Floods, and prints what was seen as one line of JSON.
pub(crate) fn run(args: &LoadArgs) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context(|| "cannot open many files".to_owned())?;
    nice(19).context(|| "cannot be nice".to_owned())?;
    let runtime = Builder::new_current_thread().enable_all().build().context(|| "cannot start".to_owned())?;
    let said = runtime.block_on(flood(args))?;
    println!("{said}");
    Ok(())
}

async fn flood(args: &LoadArgs) -> Result<serde_json::Value, Failure> {
    let directory = Directory::fetch(&args.directory, &args.root).await?;
    let (begun, lateness) = (Instant::now(), Lateness::watch());
    let is_over = Arc::new(AtomicBool::new(false));
    let pace = |per_second: Option<u32>| per_second.map(every);
    let garbage = requests::garbage(&directory, args.garbage, pace(args.garbage_per_second), &is_over);
    let nonces = requests::nonces(&directory, args.nonces, pace(args.nonces_per_second), &is_over);
    let dead = async {
        let dead = dead::hold(&directory, args.connections, every(args.connections_per_second)).await;
        is_over.store(args.connections > 0, Ordering::Relaxed);
        dead
    };
    let (dead, garbage, nonces) = tokio::join!(dead, garbage, nonces);
    let (dead, garbage, nonces) = (dead?, garbage?, nonces?);
    let seconds = begun.elapsed().as_secs_f64();
    let late = lateness.longest().as_secs_f64();
    let told =
        format!("in {seconds:.1} s, itself up to {late:.1} s late: {dead}garbage: {garbage}; newNonce: {nonces}");
    Ok(json!({
        "requests": garbage.sent + nonces.sent,
        "server_errors": garbage.server_errors() + nonces.server_errors(),
        "open": dead.open(),
        "last_closed": dead.last_closed().as_secs_f64(),
        "late": late,
        "told": told,
    }))
}

fn every(per_second: u32) -> Interval {
    interval(Duration::from_secs(1) / per_second.max(1))
}
