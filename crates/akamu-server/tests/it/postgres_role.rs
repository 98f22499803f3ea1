//! The server's role on the page about PostgreSQL, which may read and write rows and nothing else: everything works with
//! it, once the owner has made the tables.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use akamu_store::{OpenError, Store, StoreOptions};

use crate::book::pages::{blocks, page};
use crate::database::Database;
use crate::postgres_database::{PostgresDatabase, new_name, server};
use crate::server::{Place, epoch};
use crate::{account, housekeeping, issuance, polls, restarts};

/// A new database with the roles that the page makes, as psql makes them; the server's is used.
fn documented() -> Option<PostgresDatabase> {
    let (server, name) = (server()?, new_name());
    let page = page("docs/src/postgresql.md");
    let sql = blocks(&page, "sql").first().unwrap().replace("akamu", &name);
    let database = PostgresDatabase { server, name, user: None };
    psql(&database.server, &sql);
    let user = Some(format!("{}_server", database.name));
    Some(with_user(database, user))
}

fn with_user(mut database: PostgresDatabase, user: Option<String>) -> PostgresDatabase {
    database.user = user;
    database
}

fn psql(url: &str, sql: &str) {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]).stdin(Stdio::piped());
    let mut psql = psql.spawn().expect("PostgreSQL's clients must be installed");
    psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert!(psql.wait().unwrap().success(), "{sql}");
}

/// The same, and the owner has run `akamu-server migrate`.
async fn migrated() -> Option<Database> {
    let database = documented()?;
    let (user, owner) = (database.user.clone(), format!("{}_owner", database.name));
    let database = with_user(database, Some(owner));
    Store::migrate(options(&database.url())).await.unwrap();
    Some(Database::Postgres(with_user(database, user)))
}

fn options(url: &str) -> StoreOptions {
    StoreOptions::parse(url, Path::new("/")).unwrap()
}

macro_rules! with_the_servers_role {
    ($($module:ident::$name:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $name() {
            if let Some(database) = migrated().await {
                $module::$name(database).await;
            }
        }
    )+ };
}

with_the_servers_role! {
    account::a_deactivated_account_can_do_nothing_any_more,
    account::a_key_is_changed_and_the_old_one_is_refused,
    issuance::every_type_gives_a_certificate,
    issuance::a_failed_validation_explains_itself_and_makes_the_order_invalid,
    issuance::a_revoked_certificate_is_on_the_crl,
    issuance::validations_beyond_the_limit_take_their_turn,
    housekeeping::an_order_is_gone_a_month_after_it_expired,
    restarts::a_restart_finds_the_same_ca_and_the_same_accounts,
    restarts::a_crash_leaves_a_validation_that_is_done_again,
    polls::polls_are_answered_when_an_authorization_is_deactivated,
}

#[tokio::test]
async fn without_tables_it_is_told_to_have_the_owner_migrate() {
    let Some(database) = documented().map(Database::Postgres) else { return };
    let Err(error) = Place::on(&database).try_start().await.map(drop) else { panic!("it starts") };
    let error = error.to_string();
    assert!(error.contains("no tables") && error.contains("`akamu-server migrate`"), "{error}");
    assert!(error.contains("AKAMU_DATABASE__URL=postgres://") && error.lines().count() == 1, "{error}");
}

/// As after an update of the program. The version before the first one is none.
#[tokio::test]
async fn with_older_tables_it_is_told_so_even_where_it_may_make_new_ones() {
    let Some(Database::Postgres(database)) = migrated().await else { return };
    // PostgreSQL 14 and earlier let everybody make tables, which nobody but the server could use.
    let user = database.user.clone();
    let database = with_user(database, None);
    psql(&database.url(), "GRANT CREATE ON SCHEMA public TO PUBLIC; DELETE FROM __diesel_schema_migrations;");
    let database = with_user(database, user);
    let error = Store::open(options(&database.url()), epoch()).await.unwrap_err();
    assert!(matches!(error, OpenError::MayNotMigrate { .. }), "{error}");
}
