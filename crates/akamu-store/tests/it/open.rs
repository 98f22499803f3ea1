//! Opening: whose database it is, what state it is in, and who else opens it.

use std::time::Duration;

use akamu_store::{
    ClockCheck, DataDirLock, Identity, IdentityOutcome, LockError, OpenError, Store, StoreError, StoreOptions,
};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::database::{Database, NOW, Place, Raw, on_both_databases};
use crate::scene::{account, new_account};

on_both_databases! {
    async fn an_identity_is_recorded_once(database) {
        let store = &database.store;
        assert_eq!(store.identity().await.unwrap(), None);
        let ours = Identity { base_url: "https://ca.example".to_owned(), issuers: vec![[1; 32], [2; 32]] };
        let theirs = Identity { base_url: "https://other.example".to_owned(), ..ours.clone() };
        assert_eq!(store.identity_record(ours.clone(), NOW).await.unwrap(), IdentityOutcome::Recorded);
        assert_eq!(store.identity_record(ours.clone(), NOW).await.unwrap(), IdentityOutcome::Same);
        assert_eq!(store.identity_record(theirs.clone(), NOW).await.unwrap(), IdentityOutcome::Differs(ours.clone()));
        assert_eq!(store.identity().await.unwrap(), Some(ours));
        store.identity_adopt(theirs.clone()).await.unwrap();
        assert_eq!(store.identity_record(theirs, NOW).await.unwrap(), IdentityOutcome::Same);
    }

    async fn the_newest_time_is_kept(database) {
        let store = &database.store;
        assert_eq!(store.clock_check().await.unwrap(), ClockCheck { newest: None });
        let minute = NOW.plus(Duration::from_secs(60));
        let soon = NOW.plus(Duration::from_secs(29));
        for (now, newest) in [(NOW, NOW), (soon, NOW), (minute, minute), (NOW, minute)] {
            store.clock_renew(now).await.unwrap();
            assert_eq!(store.clock_check().await.unwrap(), ClockCheck { newest: Some(newest) });
        }
    }

    async fn a_database_opened_again_has_everything(database) {
        let id = account(&database.store).await;
        database.store.close().await;
        let again = Store::open(database.options(), NOW).await.unwrap();
        assert!(again.account(id).await.unwrap().is_some());
        again.ping().await.unwrap();
    }

    async fn a_newer_schema_is_refused(database) {
        database
            .raw()
            .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231235959')")
            .unwrap();
        let error = Store::open(database.options(), NOW).await.unwrap_err();
        let OpenError::Newer { found, known } = &error else { panic!("{error:?}") };
        assert_eq!((found.as_str(), known.as_str()), ("20991231235959", "20261130000004"));
        assert!(error.to_string().contains(found.as_str()) && error.to_string().contains(known.as_str()));
    }

    async fn a_row_that_cannot_be_read_is_corrupt(database) {
        let id = account(&database.store).await;
        database.raw().execute("UPDATE accounts SET status = 'asleep'").unwrap();
        let error = database.store.account(id).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    }
}

/// Eight processes start at once on a new database.
async fn eight_starts_at_once(place: Place) {
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(Store::open(place.options(), NOW))).collect();
    let mut stores = Vec::new();
    for task in tasks {
        stores.push(task.await.unwrap().unwrap());
    }
    for store in &stores {
        account(store).await;
    }
    let mut raw = place.raw();
    assert_eq!(raw.number("SELECT count(*) AS number FROM __diesel_schema_migrations"), 4);
    assert_eq!(raw.number("SELECT count(*) AS number FROM accounts"), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_starts_at_once_migrate_once_sqlite() {
    eight_starts_at_once(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_starts_at_once_migrate_once_postgres() {
    if let Some(place) = Place::postgres() {
        eight_starts_at_once(place).await;
    }
}

/// How many tables there are of this name.
fn tables(raw: &mut Raw, name: &str) -> i64 {
    raw.number(&format!("SELECT count(*) AS number FROM pg_tables WHERE tablename = '{name}'"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_migrates_is_waited_for_and_who_is_dead_is_not() {
    let Some(place) = Place::postgres() else { return };
    let (mut other, mut raw) = (place.raw(), place.raw());
    other
        .execute(
            "CREATE TABLE akamu_migration_turn (id BIGINT NOT NULL PRIMARY KEY);
             INSERT INTO akamu_migration_turn VALUES (1);
             CREATE TABLE akamu_migration_lock (id BIGINT NOT NULL PRIMARY KEY, held_until BIGINT NOT NULL)",
        )
        .unwrap();
    other.execute("BEGIN; SELECT id FROM akamu_migration_turn FOR UPDATE").unwrap();
    let opening = tokio::spawn(Store::open(place.options(), NOW));
    let asks = "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND query LIKE '%akamu_migration_turn% SKIP LOCKED%'";
    while raw.number(asks) == 0 {
        assert!(!opening.is_finished(), "{:?}", opening.await);
        tokio::task::yield_now().await;
    }
    assert_eq!(tables(&mut raw, "accounts"), 0);
    drop(other);
    account(&opening.await.unwrap().unwrap()).await;
    assert_eq!(tables(&mut raw, "akamu_migration_lock"), 0, "earlier versions had it");
}

#[tokio::test]
async fn postgresql_is_migrated_whole_or_not_at_all() {
    let Some(place) = Place::postgres() else { return };
    let mut raw = place.raw();
    // The last migration comes upon it.
    raw.execute("CREATE TABLE chains (id BIGINT)").unwrap();
    let error = Store::open(place.options(), NOW).await.unwrap_err();
    assert!(matches!(error, OpenError::Migration { .. }), "{error:?}");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert_eq!(raw.number("SELECT count(*) AS number FROM __diesel_schema_migrations"), 0);
    assert_eq!(tables(&mut raw, "accounts"), 0);
    raw.execute("DROP TABLE chains").unwrap();
    account(&Store::open(place.options(), NOW).await.unwrap()).await;
}

/// What a start was cut off in is not there, and there is no lock that the next one could wait for.
#[tokio::test]
async fn the_embedded_database_is_migrated_whole_or_not_at_all() {
    let place = Place::sqlite();
    let mut raw = place.raw();
    // The migration comes upon it near its end, and fails.
    raw.execute("PRAGMA application_id = 1097559413; CREATE TABLE redeemed_nonces (nonce INTEGER)").unwrap();
    let error = Store::open(place.options(), NOW).await.unwrap_err();
    assert!(matches!(error, OpenError::Migration { .. }), "{error:?}");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert_eq!(raw.number("SELECT count(*) AS number FROM sqlite_master"), 1, "nothing was added");
    raw.execute("DROP TABLE redeemed_nonces").unwrap();
    account(&Store::open(place.options(), NOW).await.unwrap()).await;
    let locks = "SELECT count(*) AS number FROM sqlite_master WHERE name = 'akamu_migration_turn'";
    assert_eq!(raw.number(locks), 0);
}

#[tokio::test]
async fn a_file_that_is_no_database_of_ours_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = |name: &str| StoreOptions::parse(&format!("sqlite://{name}"), directory.path()).unwrap();
    let text = "[server]\nlisten_addr = \"0.0.0.0:443\"\n".repeat(40);
    std::fs::write(directory.path().join("config.toml"), &text).unwrap();
    let error = Store::open(options("config.toml"), NOW).await.unwrap_err();
    assert!(matches!(&error, OpenError::NotADatabase { path, .. } if path.ends_with("config.toml")), "{error:?}");
    assert_eq!(error.to_string().lines().count(), 1);
    assert_eq!(std::fs::read_to_string(directory.path().join("config.toml")).unwrap(), text);

    let path = directory.path().join("places.sqlite");
    let mut foreign = diesel::Connection::establish(path.to_str().unwrap()).map(Raw::Sqlite).unwrap();
    foreign.execute("CREATE TABLE bookmarks (url TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(options("places.sqlite"), NOW).await.unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { path } if path.ends_with("places.sqlite")), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let error = Store::open(options("absent/akamu.db"), NOW).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    let nobody = StoreOptions::parse("postgres://nobody:secret@127.0.0.1:1/none", directory.path()).unwrap();
    let error = Store::open(nobody, NOW).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[tokio::test]
async fn a_damaged_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::parse("sqlite://akamu.db", directory.path()).unwrap();
    let path = directory.path().join("akamu.db");
    // Not made by a store: its readers may still be closing, and would write the good pages back.
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.batch_execute("CREATE TABLE anything (value INTEGER); INSERT INTO anything VALUES (1);").unwrap();
    drop(connection);
    let mut octets = std::fs::read(&path).unwrap();
    octets[100..4096].fill(0xff);
    std::fs::write(&path, octets).unwrap();
    let error = Store::open(options, NOW).await.unwrap_err();
    assert!(matches!(&error, OpenError::NotADatabase { path, .. } if path.ends_with("akamu.db")), "{error:?}");
}

#[tokio::test]
async fn a_log_that_is_none_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = || StoreOptions::parse("sqlite://akamu.db", directory.path()).unwrap();
    let log = directory.path().join("akamu.db-wal");
    let text = "what another program keeps here\n".repeat(20);
    std::fs::write(&log, &text).unwrap();
    for has_database in [false, true] {
        if has_database {
            std::fs::remove_file(&log).unwrap();
            let path = directory.path().join("akamu.db");
            let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
            connection.batch_execute("PRAGMA application_id = 1097559413").unwrap();
            drop(connection);
            std::fs::write(&log, &text).unwrap();
        }
        let error = Store::open(options(), NOW).await.unwrap_err();
        assert!(matches!(&error, OpenError::NotALog { path } if path.ends_with("akamu.db-wal")), "{error:?}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), text);
        assert_eq!(directory.path().join("akamu.db").exists(), has_database);
    }
    // Cut off before its header was whole.
    std::fs::write(&log, [0; 32]).unwrap();
    Store::open(options(), NOW).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::sqlite();
    let database = Database::new(place).await;
    account(&database.store).await;
    let directory = database.directory();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_closed_store_does_nothing_more_and_leaves_no_log_behind() {
    let database = Database::new(Place::sqlite()).await;
    let id = account(&database.store).await;
    assert!(database.store.account(id).await.unwrap().is_some());
    database.store.close().await;
    database.store.close().await;
    let error = database.store.account_create(new_account("b"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Closed), "{error:?}");
    assert!(error.is_unavailable());
    let error = database.store.account(id).await.unwrap_err();
    assert!(matches!(error, StoreError::Closed), "{error:?}");
    // Its readers' connections would keep the log there.
    let files = std::fs::read_dir(database.directory()).unwrap().map(|it| it.unwrap().file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["akamu.db"]);
}

#[test]
fn a_data_directory_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let held = DataDirLock::acquire(directory.path()).unwrap();
    let error = DataDirLock::acquire(directory.path()).unwrap_err();
    assert!(matches!(error, LockError::Held { .. }), "{error:?}");
    drop(held);
    assert!(DataDirLock::acquire(directory.path()).is_ok());
    let error = DataDirLock::acquire(&directory.path().join("absent")).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }), "{error:?}");
}
