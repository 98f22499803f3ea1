//! What a server does and has its database do: its own metrics, and what PostgreSQL counts.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use crate::failure::{Context, Failure};
use crate::postgres::{Cluster, has_statement_statistics};

const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

const STATEMENTS: &str = "akamu_store_statements_total";
const VALIDATIONS: &str = "akamu_validation_duration_seconds_count";
const VALIDATED_SECONDS: &str = "akamu_validation_duration_seconds_sum";

/// SQLite's.
const PAGE: u64 = 4_096;

const PAGES_READ: &str = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()";

/// SQLite's shared commits, which [`STATEMENTS`] counts too.
const COMMIT: &str = r#"{operation="commit"}"#;

/// Since the server and its database started. What nobody knows is absent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Those that begin and end transactions not counted.
    pub(super) statements: Option<u64>,
    /// The same as PostgreSQL counts them.
    pub(super) own_statements: Option<u64>,
    /// SQLite: commits, each of which waits for the disk once. PostgreSQL: fsyncs of its log.
    pub(super) fsyncs: Option<u64>,
    /// SQLite: of 4 KiB, what the process reads of its files beyond what it has in memory. PostgreSQL: of 8 KiB, what its
    /// processes look at, in its memory or not.
    pub(super) pages_read: Option<u64>,
    /// SQLite: what the process has the disk write. PostgreSQL: what it writes into its log.
    pub(super) written: Option<u64>,
    /// From the start of a validation to its outcome, that of the store not counted.
    pub(super) validations: Option<Validations>,
}

/// How many, and how long they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Validations {
    pub(super) count: u64,
    pub(super) seconds: f64,
}

/// Has PostgreSQL count a database's statements, where it can.
pub(super) fn prepare(cluster: &Cluster, database: &str) -> Result<(), Failure> {
    if has_statement_statistics() {
        cluster.query(database, "CREATE EXTENSION pg_stat_statements")?;
    }
    Ok(())
}

/// On SQLite.
pub(super) fn embedded(process: u32, admin_port: u16) -> Result<Work, Failure> {
    let metrics = metrics(admin_port)?;
    let io = fs::read_to_string(format!("/proc/{process}/io")).ok();
    let io = |field| io.as_ref()?.lines().find_map(|line| line.strip_prefix(field)?.parse::<u64>().ok());
    // What comes by a socket is not in it: it is received, not read.
    let pages_read = io("rchar: ").map(|octets| octets / PAGE);
    let (statements, commits) = statements(&metrics);
    Ok(Work {
        statements: Some(statements),
        own_statements: None,
        fsyncs: Some(commits),
        pages_read,
        written: io("write_bytes: "),
        validations: Some(validations(&metrics)),
    })
}

/// On PostgreSQL.
pub(super) fn shared(cluster: &Cluster, database: &str, admin_port: u16) -> Result<Work, Failure> {
    let number = |text: &str| text.trim().parse::<u64>().context(|| format!("PostgreSQL says {text:?}"));
    let is_18 = number(&cluster.query(database, "SHOW server_version_num")?)? >= 180_000;
    let fsyncs = if is_18 {
        "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'"
    } else {
        "SELECT wal_sync FROM pg_stat_wal"
    };
    let own_statements = if has_statement_statistics() {
        let sql = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements \
                   WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND query !~* '^ *(begin|start|commit|rollback|savepoint|release|set|reset|show)'";
        Some(number(&cluster.query(database, sql)?)?)
    } else {
        None
    };
    let metrics = metrics(admin_port)?;
    Ok(Work {
        statements: Some(statements(&metrics).0),
        own_statements,
        fsyncs: Some(number(&cluster.query(database, fsyncs)?)?),
        pages_read: Some(number(&cluster.query(database, PAGES_READ)?)?),
        written: Some(number(&cluster.query(database, "SELECT wal_bytes::bigint FROM pg_stat_wal")?)?),
        validations: Some(validations(&metrics)),
    })
}

/// Statements without shared commits, and shared commits.
fn statements(metrics: &str) -> (u64, u64) {
    let (mut statements, mut commits) = (0, 0);
    for (labels, count) in samples::<u64>(metrics, STATEMENTS) {
        if labels == COMMIT {
            commits += count;
        } else {
            statements += count;
        }
    }
    (statements, commits)
}

/// Of every type, whatever came of them.
fn validations(metrics: &str) -> Validations {
    Validations {
        count: samples::<u64>(metrics, VALIDATIONS).map(|(_, count)| count).sum(),
        seconds: samples::<f64>(metrics, VALIDATED_SECONDS).map(|(_, seconds)| seconds).sum(),
    }
}

/// The labels and the value of each of this name.
fn samples<'a, T: FromStr>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, T)> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        Some((labels, value.parse().ok()?))
    })
}

/// The text of /metrics.
fn metrics(port: u16) -> Result<String, Failure> {
    let asking = || format!("the server's metrics cannot be read at port {port}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context(asking)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).context(asking)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").context(asking)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context(asking)?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(answer) } else { Err(Failure::new(asking())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_commits_are_counted_apart_from_statements() {
        let text = "# TYPE akamu_store_statements counter\n\
                    akamu_store_statements_total{operation=\"commit\"} 12\n\
                    akamu_store_statements_total{operation=\"new_order\"} 400\n\
                    akamu_store_statements_total{operation=\"redeem_nonce\"} 30\n\
                    akamu_store_operation_errors_total{operation=\"new_order\"} 5\n";
        assert_eq!(statements(text), (430, 12));
        assert_eq!(statements(""), (0, 0));
    }
    #[test]
    fn validations_are_counted_and_timed_whatever_came_of_them() {
        let text = "# TYPE akamu_validation_duration_seconds histogram\n\
                    akamu_validation_duration_seconds_sum{type=\"http-01\",result=\"valid\"} 0.75\n\
                    akamu_validation_duration_seconds_count{type=\"http-01\",result=\"valid\"} 3\n\
                    akamu_validation_duration_seconds_bucket{le=\"0.001\",type=\"http-01\",result=\"valid\"} 3\n\
                    akamu_validation_duration_seconds_sum{type=\"dns-01\",result=\"invalid\"} 0.5\n\
                    akamu_validation_duration_seconds_count{type=\"dns-01\",result=\"invalid\"} 1\n";
        assert_eq!(validations(text), Validations { count: 4, seconds: 1.25 });
        assert_eq!(validations(""), Validations::default());
    }
}
