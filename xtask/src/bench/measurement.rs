//! One row: a server under so many clients, for so long.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::cpu_time;
use super::figures::{Durations, Quantiles, resident};
use super::load::{Load, Seen, Step};
use super::machine::{Processors, fsyncs};
use super::proofs::{ChallengeType, Proofs};
use super::work::Work;
use crate::acme::Directory;
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::name_server::Records;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// Absent: that of a server which is not ours.
    pub(super) database: Option<Database>,
    pub(super) challenge: ChallengeType,
    pub(super) clients: u32,
    /// Of each order.
    pub(super) identifiers: u32,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = self.database {
            write!(f, "{database}, ")?;
        }
        write!(f, "{}, {} clients", self.challenge, self.clients)?;
        if self.identifiers == 1 { Ok(()) } else { write!(f, ", {} names", self.identifiers) }
    }
}

/// A server that runs, and what is known of it.
pub(super) struct Target<'a> {
    pub(super) directory_url: String,
    pub(super) root: PathBuf,
    /// Where it looks for http-01.
    pub(super) http_port: u16,
    /// Where it looks for tls-alpn-01.
    pub(super) tls_port: u16,
    /// What its DNS answers.
    pub(super) records: &'a Arc<Records>,
    pub(super) process: Option<u32>,
    /// The process above all those of its database, where that is one of its own.
    pub(super) database_process: Option<u32>,
    /// Beside its database's files.
    pub(super) directory: Option<&'a Path>,
    pub(super) work: &'a dyn Fn() -> Result<Work, Failure>,
}

/// A row of the report; times in milliseconds, what has `per_certificate` divided by the certificates. What could not be
/// known is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) server: String,
    pub(super) database: Option<Database>,
    pub(super) challenge: ChallengeType,
    pub(super) clients: u32,
    /// Of each order.
    pub(super) identifiers: u32,
    pub(super) seconds: f64,
    pub(super) certificates: usize,
    pub(super) certificates_per_second: f64,
    /// Those not counted that were answered 503 with Retry-After.
    pub(super) requests_per_certificate: f64,
    pub(super) refused_per_certificate: f64,
    pub(super) issuance_ms: Quantiles,
    /// In the order of the protocol.
    pub(super) steps_ms: Vec<(String, Quantiles)>,
    /// Of the whole machine, in per cent: the clients', the server's, the database's and everybody else's.
    pub(super) busy_per_cent: f64,
    /// User and system, of the server and of the processes that it started.
    pub(super) cpu_ms_per_certificate: Option<f64>,
    pub(super) database_cpu_ms_per_certificate: Option<f64>,
    pub(super) statements_per_certificate: Option<f64>,
    pub(super) own_statements_per_certificate: Option<f64>,
    pub(super) fsyncs_per_certificate: Option<f64>,
    pub(super) pages_read_per_certificate: Option<f64>,
    pub(super) written_octets_per_certificate: Option<f64>,
    /// Resident memory before the first client came.
    pub(super) idle_octets: Option<u64>,
    pub(super) most_octets: Option<u64>,
    /// From the process's start to its being ready, on the database that the run left; the median of a few.
    pub(super) start_ms: Option<f64>,
    /// Of a block of 4 KiB on the same disk, right before and after; a lone client's alone.
    pub(super) fsync_ms: Option<Quantiles>,
    /// The server's own, of a validation without what the store does for it: the mean.
    #[serde(default)]
    pub(super) validation_ms: Option<f64>,
}

impl Measurement {
    /// What a lone client's issuance takes beyond its waits for the disk and for the probes of its names.
    pub(super) fn beyond_fsyncs_and_probe_ms(&self) -> Option<f64> {
        let fsyncs_ms = self.fsyncs_per_certificate? * self.fsync_ms?.p50;
        Some(self.issuance_ms.p50 - fsyncs_ms - self.validation_ms? * f64::from(self.identifiers))
    }
}

/// Counters at one moment.
struct Counters {
    at: Instant,
    processors: Processors,
    cpu: Option<Duration>,
    database_cpu: Option<Duration>,
    work: Work,
}

impl Target<'_> {
    fn counters(&self) -> Result<Counters, Failure> {
        Ok(Counters {
            work: (self.work)()?,
            cpu: self.process.map(cpu_time::used).transpose()?,
            database_cpu: self.database_process.map(cpu_time::used).transpose()?,
            processors: Processors::read()?,
            at: Instant::now(),
        })
    }

    /// Runs the clients against it.
    pub(super) fn measure(&self, server: &str, setting: &Setting) -> Result<Measurement, Failure> {
        let alone = self.directory.filter(|_| setting.clients == 1);
        let idle = self.process.map(resident).transpose()?;
        let mut disk = alone.map(fsyncs).transpose()?.unwrap_or_default();
        let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
        let (before, after, seen) = runtime.block_on(self.run(setting))?;
        if let Some(directory) = alone {
            disk.extend(&fsyncs(directory)?);
        }
        let most = self.process.map(resident).transpose()?;
        let row = measurement(server, setting, &before, &after, &seen, &disk)?;
        println!("bench: {server}, {setting}: {:.0} certificates/s", row.certificates_per_second);
        Ok(Measurement { idle_octets: idle.map(|(now, _)| now), most_octets: most.map(|(_, most)| most), ..row })
    }

    async fn run(&self, setting: &Setting) -> Result<(Counters, Counters, Seen), Failure> {
        let proofs = Proofs::start(setting.challenge, self.http_port, self.tls_port, self.records)?;
        let directory = Directory::fetch(&self.directory_url, &self.root).await?;
        let mut load = Load::start(setting, &directory, &proofs).await?;
        load.work(setting.warm_up).await?;
        let before = self.counters()?;
        load.measure();
        load.work(setting.duration).await?;
        load.end();
        let after = self.counters()?;
        Ok((before, after, load.finish().await?))
    }
}

fn measurement(
    server: &str,
    setting: &Setting,
    before: &Counters,
    after: &Counters,
    seen: &Seen,
    disk: &Durations,
) -> Result<Measurement, Failure> {
    let certificates = seen.issuances.count();
    let none = || Failure::new(format!("no certificate in {} s", setting.duration.as_secs()));
    let issuance_ms = seen.issuances.quantiles().ok_or_else(none)?;
    let seconds = (after.at - before.at).as_secs_f64();
    let count = as_f64(certificates as u64);
    let each = |before: Option<u64>, after: Option<u64>| Some(as_f64(after?.saturating_sub(before?)) / count);
    let cpu = |before: Option<Duration>, after: Option<Duration>| {
        Some(after?.saturating_sub(before?).as_secs_f64() * 1_000.0 / count)
    };
    let steps = Step::ALL.iter().zip(&seen.steps);
    Ok(Measurement {
        server: server.to_owned(),
        database: setting.database,
        challenge: setting.challenge,
        clients: setting.clients,
        identifiers: setting.identifiers,
        seconds,
        certificates,
        certificates_per_second: count / seconds,
        requests_per_certificate: as_f64(seen.requests) / count,
        refused_per_certificate: as_f64(seen.refused) / count,
        issuance_ms,
        steps_ms: steps.filter_map(|(step, them)| Some((step.name().to_owned(), them.quantiles()?))).collect(),
        busy_per_cent: after.processors.busy_since(before.processors),
        cpu_ms_per_certificate: cpu(before.cpu, after.cpu),
        database_cpu_ms_per_certificate: cpu(before.database_cpu, after.database_cpu),
        statements_per_certificate: each(before.work.statements, after.work.statements),
        own_statements_per_certificate: each(before.work.own_statements, after.work.own_statements),
        fsyncs_per_certificate: each(before.work.fsyncs, after.work.fsyncs),
        pages_read_per_certificate: each(before.work.pages_read, after.work.pages_read),
        written_octets_per_certificate: each(before.work.written, after.work.written),
        idle_octets: None,
        most_octets: None,
        start_ms: None,
        fsync_ms: disk.quantiles(),
        validation_ms: before.work.validations.zip(after.work.validations).and_then(|(before, after)| {
            let count = after.count - before.count;
            (count > 0).then(|| (after.seconds - before.seconds) * 1_000.0 / as_f64(count))
        }),
    })
}

/// Exact to 15 digits.
#[expect(clippy::cast_precision_loss, reason = "a figure of a report has fewer digits")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::work::Validations;
    use super::*;

    /// The processors had something to do for 15 ticks a millisecond, and nothing for 10 after the first 100.
    fn counters(at: Instant, cpu_ms: u64, statements: u64, validations: Validations) -> Counters {
        let work = Work { statements: Some(statements), validations: Some(validations), ..Work::default() };
        let idle = 10 * u64::from(cpu_ms > 100);
        let processors = Processors::parse(&format!("cpu  {} 0 0 {idle} 0", 15 * cpu_ms)).unwrap();
        Counters { at, processors, cpu: Some(Duration::from_millis(cpu_ms)), database_cpu: None, work }
    }

    /// Four certificates in two seconds, of 10 to 40 ms.
    pub(in crate::bench) fn row() -> Measurement {
        let setting = Setting {
            database: Some(Database::Sqlite),
            challenge: ChallengeType::Http01,
            clients: 1,
            identifiers: 1,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(2),
        };
        let mut seen = Seen { requests: 25, ..Seen::default() };
        (1..=4).for_each(|it| seen.issuances.push(Duration::from_millis(it * 10)));
        let mut disk = Durations::default();
        disk.push(Duration::from_millis(2));
        let begun = Instant::now();
        let before = counters(begun, 100, 7, Validations { count: 3, seconds: 0.5 });
        let after = counters(begun + Duration::from_secs(2), 102, 55, Validations { count: 253, seconds: 0.625 });
        measurement("akamu", &setting, &before, &after, &seen, &disk).unwrap()
    }

    #[test]
    fn counters_are_divided_by_certificates_and_those_by_time() {
        let row = row();
        assert_eq!((row.certificates, row.certificates_per_second), (4, 2.0));
        assert_eq!(row.requests_per_certificate, 6.25);
        assert_eq!((row.cpu_ms_per_certificate, row.busy_per_cent), (Some(0.5), 75.0));
        assert_eq!(row.statements_per_certificate, Some(12.0));
        assert_eq!((row.fsyncs_per_certificate, row.database_cpu_ms_per_certificate), (None, None));
        assert_eq!(row.issuance_ms, Quantiles { p50: 20.0, p90: 40.0, p99: 40.0 });
        assert!(row.steps_ms.is_empty());
    }

    #[test]
    fn a_lone_clients_waits_for_the_disk_and_for_probes_are_told_apart() {
        assert_eq!((row().validation_ms, row().beyond_fsyncs_and_probe_ms()), (Some(0.5), None));
        let row = Measurement { fsyncs_per_certificate: Some(5.0), ..row() };
        assert_eq!(row.beyond_fsyncs_and_probe_ms(), Some(9.5));
        assert_eq!(Measurement { identifiers: 3, ..row.clone() }.beyond_fsyncs_and_probe_ms(), Some(8.5));
        assert_eq!(Measurement { validation_ms: None, ..row }.beyond_fsyncs_and_probe_ms(), None);
    }

    #[test]
    fn a_row_survives_its_json() {
        let json = serde_json::to_string(&row()).unwrap();
        assert_eq!(serde_json::from_str::<Measurement>(&json).unwrap(), row());
    }
}
