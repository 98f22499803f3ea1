//! What a certificate costs where a million lie already, beside what it costs where none does.

mod fill;
mod rows;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use self::rows::{Population, Sample};
use super::issuance::{Site, Stage};
use super::lone_client;
use super::machine::Machine;
use super::measurement::Setting;
use super::paired::{self, Ratio};
use super::proofs::ChallengeType;
use super::report::Report;
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::packages::Installing;
use crate::programs::Programs;

/// What may grow by how much.
const BOUNDS: [(&str, f64); 4] =
    [("statements", 1.25), ("pages read", 1.25), ("written octets", 1.25), ("CPU ms", 1.15)];

/// A server's start on a database that is full, in milliseconds.
const START: f64 = 100.0;

/// Of the orders filled in, half have been over for longer.
const HOUSEKEEPING: &str =
    "[housekeeping]\ninterval_secs = 1\norder_retention_days = 10\nauthorization_retention_days = 10\n";

#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    /// On these databases
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Database::BOTH.to_vec())]
    database: Vec<Database>,
    /// So many certificates lie there already
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    certificates: u64,
    /// So many orders, each with an authorization and its challenges: every third ended with a certificate
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    orders: u64,
    /// Of so many accounts
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    accounts: u64,
    /// So many of the certificates are revoked
    #[arg(long, default_value_t = 0)]
    revoked: u64,
    /// Remove all the while what expired ten days ago, as housekeeping does once an hour
    #[arg(long)]
    housekeeping: bool,
    /// With so many clients at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// How often both are measured, twice each time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Write the figures here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(args: &GrowthArgs) -> Result<(), Failure> {
    let mut report = Report { machine: Machine::read()?, rows: Vec::new(), ratios: Vec::new() };
    let programs = Programs::collect()?;
    let stage = Stage::new(&args.database, Installing::unless_forbidden(args.no_install))?;
    for &database in &args.database {
        let tables = if args.housekeeping { HOUSEKEEPING } else { "" };
        let (empty, full) = (stage.site(Some(database), tables)?, stage.site(Some(database), tables)?);
        fill(&stage, &full, programs.server(), args)?;
        let setting = Setting {
            database: Some(database),
            challenge: ChallengeType::Http01,
            clients: args.clients,
            identifiers: 1,
            warm_up: Duration::from_secs(2),
            duration: Duration::from_secs(args.seconds),
        };
        let measure = |site: &Site, name: &str| stage.measure_at(site, programs.server(), name, &setting);
        let measured = paired::measure(&setting, args.rounds, || measure(&empty, "empty"), || measure(&full, "full"))?;
        report.rows.extend(measured.0);
        report.ratios.extend(measured.1);
    }
    print!("{}", report.tables());
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    let too_much: Vec<String> = report.ratios.iter().filter_map(too_much).collect();
    if too_much.is_empty() { Ok(()) } else { Err(Failure::new(too_much.join("; "))) }
}

/// What of a figure is beyond its bound.
fn too_much(it: &Ratio) -> Option<String> {
    if it.figure == paired::START && it.second > START {
        return Some(format!("{}: the start takes {:.0} ms, and may take {START:.0}", it.setting, it.second));
    }
    let (_, bound) = BOUNDS.iter().find(|(figure, _)| *figure == it.figure)?;
    (it.ratio > *bound)
        .then(|| format!("{}: {} grew by a factor of {:.3}, and may by {bound:.2}", it.setting, it.figure, it.ratio))
}

/// Has a server make the tables and one certificate, and multiplies it.
fn fill(stage: &Stage, site: &Site, server: &Path, args: &GrowthArgs) -> Result<(), Failure> {
    let sample = sample(site, server)?;
    let now = SystemTime::UNIX_EPOCH.elapsed().context(|| "the clock is before 1970".to_owned())?;
    let population = Population {
        accounts: args.accounts,
        orders: args.orders,
        certificates: args.certificates,
        revoked: args.revoked.min(args.certificates),
        now: i64::try_from(now.as_micros()).context(|| "the clock is far ahead".to_owned())?,
        sample,
    };
    let begun = Instant::now();
    match site.database.as_deref().zip(stage.cluster()) {
        Some((database, cluster)) => fill::postgres(cluster, database, &population)?,
        None => fill::sqlite(&site.place.data_dir().join("akamu.db"), &population)?,
    }
    println!("growth: filled in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Where a certificate ends.
const END: &str = "-----END CERTIFICATE-----\n";

fn sample(site: &Site, server: &Path) -> Result<Sample, Failure> {
    let server = site.place.start(server)?;
    let chain = lone_client::issue(&server, 1)?;
    server.stop()?;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).context(|| "the chain is not PEM".to_owned())?;
    let (_, issuers) = chain.split_once(END).ok_or_else(|| Failure::new("the chain is one certificate"))?;
    Sample::new(leaf.to_vec(), issuers.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_beyond_its_bound_is_named() {
        let ratio = |figure: &str, second: f64, ratio: f64| Ratio {
            setting: "sqlite".to_owned(),
            figure: figure.to_owned(),
            first: 1.0,
            second,
            ratio,
            least: ratio,
            most: ratio,
        };
        assert_eq!(too_much(&ratio("statements", 20.0, 1.24)), None);
        let grown = too_much(&ratio("CPU ms", 1.2, 1.2)).unwrap();
        assert_eq!(grown, "sqlite: CPU ms grew by a factor of 1.200, and may by 1.15");
        assert_eq!(too_much(&ratio("certificates/s", 1.0, 9.0)), None, "more is better");
        assert!(too_much(&ratio(paired::START, 101.0, 1.0)).is_some());
        assert_eq!(too_much(&ratio(paired::START, 99.0, 9.0)), None);
    }
}
