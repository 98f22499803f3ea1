//! What a run measured, as tables and as JSON.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::figures::megabytes;
use super::machine::Machine;
use super::measurement::Measurement;
use super::paired::{self, Ratio};
use crate::failure::{Context, Failure};
use crate::table::Table;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Measurement>,
    /// Where two servers were measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ratios: Vec<Ratio>,
}

impl Report {
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        write_json(self, path)
    }

    /// All tables; of two servers, how they compare.
    pub(super) fn tables(&self) -> String {
        let machine = self.machine.to_string();
        if !self.ratios.is_empty() {
            return format!("{machine}\n{}", paired::table(&self.ratios));
        }
        let tables = [machine, self.whole().to_string(), self.server().to_string(), self.steps().to_string()];
        let mut text = tables.join("\n");
        let lone = self.lone();
        if lone.0.len() > 1 {
            text += &format!("\n{lone}");
        }
        text
    }

    /// What a client sees.
    fn whole(&self) -> Table<9> {
        let heading =
            ["database", "challenge", "clients", "names", "certificates/s", "requests", "refused", "issuance ms", "of"];
        let rows = self.rows.iter().map(|row| {
            let [database, challenge, clients] = names(row);
            [
                database,
                challenge,
                clients,
                row.identifiers.to_string(),
                format!("{:.0}", row.certificates_per_second),
                format!("{:.2}", row.requests_per_certificate),
                format!("{:.2}", row.refused_per_certificate),
                row.issuance_ms.to_string(),
                row.certificates.to_string(),
            ]
        });
        table(heading, rows)
    }

    /// What it costs, of each certificate.
    fn server(&self) -> Table<15> {
        let heading = [
            "database",
            "challenge",
            "clients",
            "names",
            "busy %",
            "CPU ms",
            "database's",
            "statements",
            "PostgreSQL's count",
            "fsyncs",
            "pages read",
            "written KB",
            "idle",
            "at most",
            "start ms",
        ];
        let rows = self.rows.iter().map(|row| {
            let [database, challenge, clients] = names(row);
            [
                database,
                challenge,
                clients,
                row.identifiers.to_string(),
                format!("{:.0}", row.busy_per_cent),
                figure(row.cpu_ms_per_certificate, 2),
                figure(row.database_cpu_ms_per_certificate, 2),
                figure(row.statements_per_certificate, 1),
                figure(row.own_statements_per_certificate, 1),
                figure(row.fsyncs_per_certificate, 2),
                figure(row.pages_read_per_certificate, 1),
                figure(row.written_octets_per_certificate.map(|it| it / 1_000.0), 1),
                row.idle_octets.map_or_else(absent, megabytes),
                row.most_octets.map_or_else(absent, megabytes),
                figure(row.start_ms, 0),
            ]
        });
        table(heading, rows)
    }

    /// Milliseconds of each step that occurred.
    fn steps(&self) -> Table<5> {
        let heading = ["database", "challenge", "clients", "step", "p50 / p90 / p99 ms"];
        let rows = self.rows.iter().flat_map(|row| {
            row.steps_ms.iter().map(|(step, quantiles)| {
                let [database, challenge, clients] = names(row);
                [database, challenge, clients, step.clone(), quantiles.to_string()]
            })
        });
        table(heading, rows)
    }

    /// What a lone client waits for.
    fn lone(&self) -> Table<7> {
        let heading = ["database", "challenge", "issuance ms", "fsyncs", "one fsync ms", "probe ms", "without both ms"];
        let rows = self.rows.iter().filter_map(|row| {
            let [database, challenge, _] = names(row);
            Some([
                database,
                challenge,
                row.issuance_ms.to_string(),
                figure(row.fsyncs_per_certificate, 2),
                row.fsync_ms?.to_string(),
                figure(row.validation_ms, 1),
                figure(row.beyond_fsyncs_and_probe_ms(), 1),
            ])
        });
        table(heading, rows)
    }
}

/// Figures for other programs.
pub(super) fn write_json(figures: &impl Serialize, path: &Path) -> Result<(), Failure> {
    let writing = || format!("cannot write {}", path.display());
    let json = serde_json::to_string_pretty(figures).context(writing)?;
    fs::write(path, json + "\n").context(writing)
}

/// A table with this heading.
pub(super) fn table<const COLUMNS: usize>(
    heading: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> Table<COLUMNS> {
    Table([heading.map(str::to_owned)].into_iter().chain(rows).collect())
}

fn names(row: &Measurement) -> [String; 3] {
    let database = row.database.map_or_else(|| row.server.clone(), |it| it.to_string());
    [database, row.challenge.to_string(), row.clients.to_string()]
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(absent, |value| format!("{value:.digits$}"))
}

fn absent() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::measurement::tests::row;
    use super::*;

    fn report() -> Report {
        Report { machine: Machine::read().unwrap(), rows: vec![row()], ratios: Vec::new() }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        report().write(&path).unwrap();
        let read: Report = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read.rows, report().rows);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let text = report().tables();
        assert!(
            text.contains(
                "sqlite    http-01    1        1      2               6.25      0.00     20.0 / 40.0 / 40.0  4\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("sqlite    http-01    1        1      75      0.50    –           12.0        –"),
            "{text}"
        );
    }
}
