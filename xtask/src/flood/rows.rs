//! How many rows each table has.

use std::process::Command;

use crate::failure::Failure;
use crate::packages::Needed;
use crate::postgres::Cluster;
use crate::process;
use crate::server::Server;

/// What SQLite's file is read with.
pub(super) const NEEDED: &[Needed] = &[Needed { program: "sqlite3", package: "sqlite3" }];

/// PostgreSQL's database.
pub(super) const DATABASE: &str = "akamu_flood";

/// `table 3, other 0`.
pub(super) fn count(server: &Server, cluster: Option<&Cluster>) -> Result<String, Failure> {
    let ask = |sql: &str| match cluster {
        Some(cluster) => cluster.query(DATABASE, sql),
        None => process::output(Command::new("sqlite3").arg(server.data_dir().join("akamu.db")).arg(sql)),
    };
    let tables = match cluster {
        Some(_) => "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
        None => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1",
    };
    let tables = ask(tables)?;
    let counted = tables.split_whitespace().map(|table| {
        let count = ask(&format!("SELECT count(*) FROM \"{table}\""))?;
        Ok(format!("{table} {}", count.trim()))
    });
    let counted = counted.collect::<Result<Vec<_>, Failure>>()?;
    if counted.is_empty() {
        return Err(Failure::new("the database has no table"));
    }
    Ok(counted.join(", "))
}
