//! What was measured on, without which no figure says anything.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::figures::Durations;
use super::measurement::as_f64;
use crate::failure::{Context, Failure};
use crate::process;

/// What SQLite writes for each page and PostgreSQL for each page of its log, but for a header.
const BLOCK: usize = 4_096;

/// As many fsyncs as are timed at once, each of the next block of a file that is not extended.
const FSYNCS: u32 = 100;

/// The machine, as the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) kernel: String,
    /// Of the directory that databases are made in.
    pub(super) file_system: String,
    /// How many processes wanted a processor before anything was measured, over a minute.
    pub(super) load_before: f64,
}

impl Machine {
    pub(super) fn read() -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).context(|| format!("cannot read {path}"));
        let info = read("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let mut file_system = Command::new("stat");
        file_system.args(["--file-system", "--format=%T"]).arg(std::env::temp_dir());
        let load = read("/proc/loadavg")?;
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            processors: available_parallelism().context(|| "cannot count the processors".to_owned())?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: process::output(&mut file_system)?.trim().to_owned(),
            load_before: load.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, file_system, load_before } = self;
        write!(f, "{processors} × {processor}, Linux {kernel}, {file_system}, load before {load_before}")
    }
}

/// What all processors have done since the machine started, in ticks of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    pub(super) fn read() -> Result<Self, Failure> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).context(|| format!("cannot read {path}"))?;
        Self::parse(&text).ok_or_else(|| Failure::new(format!("{path} does not say what the processors did")))
    }

    /// From the first line of /proc/stat (proc_stat(5)).
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let of_all = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // What guests used is in the first two already.
        let ticks = of_all.take(8).map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        Some(Self { idle: ticks.get(3)? + ticks.get(4)?, all: ticks.iter().sum() })
    }

    /// The share of the time since `before` in which a processor did something, whoever for, in per cent.
    pub(super) fn busy_since(self, before: Self) -> f64 {
        let all = as_f64(self.all.saturating_sub(before.all));
        100.0 * (1.0 - as_f64(self.idle.saturating_sub(before.idle)) / all.max(1.0))
    }
}

/// How long it takes in `directory` until a written block is on the disk.
pub(super) fn fsyncs(directory: &Path) -> Result<Durations, Failure> {
    let path = directory.join("fsyncs");
    let timing = || format!("cannot write {}", path.display());
    let file = File::create(&path).context(timing)?;
    let block = [0x5a; BLOCK];
    let offset = |number: u32| u64::from(number) * BLOCK as u64;
    for number in 0..FSYNCS {
        file.write_all_at(&block, offset(number)).context(timing)?;
    }
    file.sync_all().context(timing)?;
    let mut durations = Durations::default();
    for number in 0..FSYNCS {
        let begun = Instant::now();
        file.write_all_at(&block, offset(number)).context(timing)?;
        file.sync_data().context(timing)?;
        durations.push(begun.elapsed());
    }
    fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
    Ok(durations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_processors_and_a_file_system() {
        let machine = Machine::read().unwrap();
        assert!(machine.processors > 0 && !machine.file_system.is_empty() && !machine.kernel.is_empty());
    }

    #[test]
    fn processors_are_busy_where_they_neither_idle_nor_wait_for_a_disk() {
        let at = |text: &str| Processors::parse(text).unwrap();
        let before = at("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 100 0 50 800 50 0 0 0 7 7\n");
        let after = at("cpu  160 5 70 810 60 3 4 8 99 99\n");
        assert_eq!((before, after), (Processors { idle: 850, all: 1_000 }, Processors { idle: 870, all: 1_120 }));
        assert!((after.busy_since(before) - 100.0 * 100.0 / 120.0).abs() < 1e-9);
        assert_eq!(Processors::parse("intr 1 2 3"), None);
        assert!(Processors::read().is_ok());
    }

    #[test]
    fn fsyncs_are_timed_and_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(fsyncs(directory.path()).unwrap().count(), 100);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
