//! CPU time as what criterion measures: what a stage costs a server whatever else the machine does meanwhile, and without
//! its waits for the disk or for a peer.
//!
//! One file for every crate that has benchmarks: each takes it in by `#[path]`.

use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// By a clock of the kernel: of all threads of the process, or of the measuring one alone where a peer's work has another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime(pub(crate) ClockId);

impl CpuTime {
    pub(crate) fn now(self) -> Duration {
        let time = clock_gettime(self.0);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
    }

    /// A run whose stages take a second or two each: CPU time needs no more.
    pub(crate) fn criterion(self) -> Criterion<Self> {
        Criterion::default()
            .with_measurement(self)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1))
            .sample_size(20)
            .without_plots()
            .configure_from_args()
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        self.now()
    }

    fn end(&self, start: Duration) -> Duration {
        self.now().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    /// Nanoseconds.
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_secs_f64() * 1e9
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
