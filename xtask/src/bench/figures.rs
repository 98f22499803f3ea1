//! What was measured: durations by rank, memory from the kernel.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure};

/// Durations of the same thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Vec<Duration>);

impl Durations {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest duration that so many per cent do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        ranked(&sorted, percent)
    }

    /// What a report shows of them, if there are any.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let ms = |percent| ranked(&sorted, percent).as_secs_f64() * 1_000.0;
        (!sorted.is_empty()).then(|| Quantiles { p50: ms(50), p90: ms(90), p99: ms(99) })
    }
}

fn ranked(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Milliseconds that 50, 90 and 99 per cent do not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} / {:.1} / {:.1}", self.p50, self.p90, self.p99)
    }
}

/// Milliseconds of median, 99th percentile and maximum.
impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1_000.0;
        write!(f, "{:.1} / {:.1} / {:.1}", ms(50), ms(99), ms(100))
    }
}

/// Octets of memory that a process has, and the most that it had.
pub(crate) fn resident(process: u32) -> Result<(u64, u64), Failure> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).context(|| format!("cannot read {path}"))?;
    let octets = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|it| it.trim_start_matches(':').trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib * 1_024).ok_or_else(|| Failure::new(format!("{path} has no {field}")))
    };
    Ok((octets("VmRSS")?, octets("VmHWM")?))
}

/// In MB.
pub(crate) fn megabytes(octets: u64) -> String {
    format!("{:.1} MB", f64::from(u32::try_from(octets / 1_000).unwrap_or(u32::MAX)) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        let mut durations = Durations::default();
        assert_eq!(durations.percentile(50), Duration::ZERO);
        assert_eq!(durations.quantiles(), None);
        (1..=200).rev().for_each(|ms| durations.push(Duration::from_millis(ms)));
        assert_eq!(durations.percentile(50), Duration::from_millis(100));
        assert_eq!(durations.percentile(99), Duration::from_millis(198));
        assert_eq!(durations.to_string(), "100.0 / 198.0 / 200.0");
        assert_eq!(durations.quantiles().unwrap().to_string(), "100.0 / 180.0 / 198.0");
    }

    #[test]
    fn this_process_has_memory() {
        let (now, most) = resident(std::process::id()).unwrap();
        assert!(1_000_000 < now && now <= most);
    }
}
