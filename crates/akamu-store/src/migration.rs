//! Brings the schema up to date, one process at a time, and refuses one that is newer than this program.

use std::time::Duration;

use akamu_proto::Timestamp;
use diesel::connection::SimpleConnection as _;
use diesel::migration::{Migration as _, MigrationSource as _, MigrationVersion};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::OpenError;
use crate::connection::{AnyConnection, DbResult};
use crate::store::one_line;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// How long the lock lasts if its holder dies.
const LEASE: Duration = Duration::from_secs(60);
/// How long is waited for another process's migration.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often the lock is tried.
const PAUSE: Duration = Duration::from_millis(50);

diesel::table! {
    akamu_migration_lock (id) {
        id -> BigInt,
        held_until -> BigInt,
    }
}

/// Runs what is missing, under a lock that is a row with a lease: advisory locks are no-ops on some engines.
pub(crate) fn run(connection: &mut AnyConnection, now: Timestamp) -> Result<(), OpenError> {
    let failed = |error: DieselError| OpenError::Migration { reason: one_line(&error.to_string()) };
    create_lock(connection).map_err(failed)?;
    let mut waited = Duration::ZERO;
    loop {
        // Most starts find nothing to do, and need no lock for that.
        if pending(connection)? == 0 {
            return Ok(());
        }
        if take_lock(connection, now).map_err(failed)? {
            break;
        }
        if waited >= PATIENCE {
            return Err(OpenError::Locked { waited_secs: waited.as_secs() });
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
    let outcome = match connection {
        AnyConnection::Postgres(it) => it.run_pending_migrations(POSTGRES).map(drop),
        AnyConnection::Sqlite(it) => it.run_pending_migrations(SQLITE).map(drop),
    };
    let outcome = outcome.map_err(|error| OpenError::Migration { reason: one_line(&error.to_string()) });
    diesel::update(akamu_migration_lock::table)
        .set(akamu_migration_lock::held_until.eq(0))
        .execute(connection)
        .map_err(failed)?;
    outcome
}

/// How many migrations are to be run. Refuses a database that has one which we do not know.
fn pending(connection: &mut AnyConnection) -> Result<usize, OpenError> {
    let failed = |reason: String| OpenError::Migration { reason: one_line(&reason) };
    let versions = |migrations: Vec<String>| migrations;
    let (applied, known) = match connection {
        AnyConnection::Postgres(it) => (
            it.applied_migrations().map(texts).map_err(|error| failed(error.to_string())),
            MigrationSourceExt::versions::<diesel::pg::Pg>(&POSTGRES),
        ),
        AnyConnection::Sqlite(it) => (
            it.applied_migrations().map(texts).map_err(|error| failed(error.to_string())),
            MigrationSourceExt::versions::<diesel::sqlite::Sqlite>(&SQLITE),
        ),
    };
    let (applied, known) = (versions(applied?), known.map_err(failed)?);
    if let Some(found) = applied.iter().filter(|it| !known.contains(it)).max() {
        let known = known.iter().max().cloned().unwrap_or_default();
        return Err(OpenError::Newer { found: found.clone(), known });
    }
    Ok(known.iter().filter(|it| !applied.contains(it)).count())
}

fn texts(versions: Vec<MigrationVersion<'_>>) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

trait MigrationSourceExt {
    fn versions<DB: diesel::backend::Backend>(&self) -> Result<Vec<String>, String>
    where
        Self: diesel::migration::MigrationSource<DB>;
}

impl MigrationSourceExt for EmbeddedMigrations {
    fn versions<DB: diesel::backend::Backend>(&self) -> Result<Vec<String>, String>
    where
        Self: diesel::migration::MigrationSource<DB>,
    {
        let migrations = self.migrations().map_err(|error| error.to_string())?;
        Ok(migrations.iter().map(|it| it.name().version().to_string()).collect())
    }
}

fn create_lock(connection: &mut AnyConnection) -> DbResult<()> {
    let create =
        "CREATE TABLE IF NOT EXISTS akamu_migration_lock (id BIGINT NOT NULL PRIMARY KEY, held_until BIGINT NOT NULL);
                  INSERT INTO akamu_migration_lock (id, held_until) VALUES (1, 0) ON CONFLICT DO NOTHING;";
    match connection.batch_execute(create) {
        // `IF NOT EXISTS` races in PostgreSQL's catalogue: the loser of two first starts tries again.
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => connection.batch_execute(create),
        other => other,
    }
}

fn take_lock(connection: &mut AnyConnection, now: Timestamp) -> DbResult<bool> {
    let clock = || connection.lease_clock(now);
    let (before, until) = (clock(), clock());
    let lease = i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX / 4);
    let taken = diesel::update(akamu_migration_lock::table)
        .filter(akamu_migration_lock::held_until.lt(before))
        .set(akamu_migration_lock::held_until.eq(until + lease))
        .execute(connection)?;
    Ok(taken == 1)
}
