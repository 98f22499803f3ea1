//! Brings the schema up to date, one process at a time, and refuses one that is newer than this program.
//!
//! That is one transaction: whatever cuts a start off, none of it has happened, and nobody waits for the dead. On
//! PostgreSQL, whose replicas start at once, it holds a row's lock, however long it takes.

use std::time::Duration;

use diesel::backend::Backend;
use diesel::connection::SimpleConnection as _;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::OpenError;
use crate::connection::{AnyConnection, DbResult};
use crate::error::one_line;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// How long is waited for another process's migration.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often the row's lock is tried.
const PAUSE: Duration = Duration::from_millis(50);

diesel::table! {
    akamu_migration_turn (id) {
        id -> BigInt,
    }
}

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

#[derive(QueryableByName)]
struct Right {
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    text: String,
}

/// Runs what is missing.
pub(crate) fn run(connection: &mut AnyConnection) -> Result<(), OpenError> {
    match connection {
        AnyConnection::Sqlite(it) => {
            // SQLite changes a table by making another one in its place. It would not drop one that rows refer to.
            it.batch_execute("PRAGMA foreign_keys = OFF")?;
            let outcome = it.immediate_transaction(|it| {
                if pending_of(it, &SQLITE)? > 0 {
                    it.run_pending_migrations(SQLITE).map_err(|error| failed(&*error))?;
                    assert_references(it)?;
                }
                Ok(())
            });
            it.batch_execute("PRAGMA foreign_keys = ON")?;
            outcome
        }
        AnyConnection::Postgres(it) => run_in_turn(it),
    }
}

/// Refuses what a migration left behind without what it refers to.
fn assert_references(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let lost = "SELECT parent AS text FROM pragma_foreign_key_check LIMIT 1";
    match diesel::sql_query(lost).get_result::<Word>(connection).optional()? {
        None => Ok(()),
        Some(Word { text }) => Err(OpenError::Migration {
            reason: format!("rows refer to rows of {text} that are gone; PRAGMA foreign_key_check lists them"),
        }),
    }
}

/// The lock is a row's: advisory locks are no-ops on some engines. Where nothing is missing nothing is written, and no
/// right to make tables is needed.
fn run_in_turn(connection: &mut PgConnection) -> Result<(), OpenError> {
    let found = recorded(connection);
    if let Some(applied) = &found
        && missing::<Pg>(&POSTGRES, applied)? == 0
    {
        return Ok(());
    }
    if !may_migrate(connection) {
        let needed = versions::<Pg>(&POSTGRES)?.into_iter().max().unwrap_or_default();
        return Err(OpenError::MayNotMigrate { found: found.and_then(|it| it.into_iter().max()), needed });
    }
    despite_races(|| create_turn(connection))?;
    despite_races(|| applied_of(connection))?;
    let mut waited = Duration::ZERO;
    // Of several starts all but one find nothing to do.
    while pending_of(connection, &POSTGRES)? > 0 && !run_alone(connection)? {
        if waited >= PATIENCE {
            return Err(OpenError::Locked { waited_secs: waited.as_secs() });
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
    Ok(())
}

/// Whether it is this process's turn, which ends with the transaction or with the connection.
fn run_alone(connection: &mut PgConnection) -> Result<bool, OpenError> {
    connection.transaction(|it| {
        let turn = akamu_migration_turn::table.for_update().skip_locked();
        if turn.load::<(i64,)>(it)?.is_empty() {
            return Ok(false);
        }
        // An index over a large table takes longer than a request may.
        it.batch_execute("SET LOCAL statement_timeout = 0")?;
        it.run_pending_migrations(POSTGRES).map_err(|error| failed(&*error))?;
        Ok(true)
    })
}

fn failed(error: &dyn std::error::Error) -> OpenError {
    OpenError::Migration { reason: one_line(&error.to_string()) }
}

/// Of the transaction around the migrations.
impl From<DieselError> for OpenError {
    fn from(error: DieselError) -> Self {
        failed(&error)
    }
}

/// The versions that the database has; `None` where it has no table of them, or none that we may read.
fn recorded(connection: &mut PgConnection) -> Option<Vec<String>> {
    __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection).ok()
}

/// Whether this role may change the schema: it owns the tables, or may make them where there are none. An engine that
/// knows no such question is asked by trying.
fn may_migrate(connection: &mut PgConnection) -> bool {
    const RIGHT: &str = "SELECT coalesce( \
         (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('__diesel_schema_migrations')), \
         has_schema_privilege(current_schema(), 'CREATE'), false) AS is_ours";
    diesel::sql_query(RIGHT).get_result::<Right>(connection).map_or(true, |it| it.is_ours)
}

/// How many migrations are to be run. Refuses a database that has one which we do not know.
fn pending(connection: &mut AnyConnection) -> Result<usize, OpenError> {
    match connection {
        AnyConnection::Postgres(it) => pending_of(it, &POSTGRES),
        AnyConnection::Sqlite(it) => pending_of(it, &SQLITE),
    }
}

fn pending_of<DB: Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: &EmbeddedMigrations,
) -> Result<usize, OpenError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    missing(source, &applied_of(connection)?)
}

/// How many migrations are not among `applied`. Refuses one that we do not know.
fn missing<DB: Backend>(source: &EmbeddedMigrations, applied: &[String]) -> Result<usize, OpenError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let known = versions(source)?;
    if let Some(found) = applied.iter().filter(|it| !known.contains(it)).max() {
        let known = known.iter().max().cloned().unwrap_or_default();
        return Err(OpenError::Newer { found: found.clone(), known });
    }
    Ok(known.iter().filter(|it| !applied.contains(it)).count())
}

/// The newest version that the database has. Refuses a database that has one which we do not know.
pub(crate) fn version(connection: &mut AnyConnection) -> Result<String, OpenError> {
    pending(connection)?;
    Ok(applied(connection)?.into_iter().max().unwrap_or_default())
}

/// The versions that the database has. Makes diesel's table where it is not there.
fn applied(connection: &mut AnyConnection) -> Result<Vec<String>, OpenError> {
    match connection {
        AnyConnection::Postgres(it) => applied_of(it),
        AnyConnection::Sqlite(it) => applied_of(it),
    }
}

fn applied_of<DB: Backend>(connection: &mut impl MigrationHarness<DB>) -> Result<Vec<String>, OpenError> {
    let applied = connection.applied_migrations().map_err(|error| failed(&*error))?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// The versions that this program has.
fn versions<DB: Backend>(source: &EmbeddedMigrations) -> Result<Vec<String>, OpenError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations = source.migrations().map_err(|error| failed(&*error))?;
    Ok(migrations.iter().map(|it| it.name().version().to_string()).collect())
}

/// Makes the row, and removes what the versions before had in its place.
fn create_turn(connection: &mut PgConnection) -> DbResult<()> {
    connection.batch_execute(
        "CREATE TABLE IF NOT EXISTS akamu_migration_turn (id BIGINT NOT NULL PRIMARY KEY);
         INSERT INTO akamu_migration_turn (id) VALUES (1) ON CONFLICT DO NOTHING;
         DROP TABLE IF EXISTS akamu_migration_lock;",
    )
}

/// `IF NOT EXISTS` races in PostgreSQL's catalogue, ours and that of diesel's own table, and fails in more than one way:
/// the losers of several first starts try again.
fn despite_races<T, E>(mut create: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    const TRIES: usize = 10;
    let mut outcome = create();
    for _ in 1..TRIES {
        if outcome.is_ok() {
            break;
        }
        outcome = create();
    }
    outcome
}
