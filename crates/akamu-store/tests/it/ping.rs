//! What a ping says of the embedded database after operations have failed.

use std::error::Error as _;

use akamu_store::StoreError;

use crate::database::{Database, NOW, Place};
use crate::scene::new_account;

/// Lets writes fail with SQLite's words for a cause that a test cannot bring about.
fn failing(database: &Database, words: &str) {
    for table in ["accounts", "counters"] {
        let trigger = format!(
            "CREATE TRIGGER {table}_fail BEFORE INSERT ON {table} BEGIN SELECT RAISE(ROLLBACK, '{words}'); END"
        );
        database.raw().execute(&trigger).unwrap();
    }
}

fn working(database: &Database) {
    database.raw().execute("DROP TRIGGER accounts_fail; DROP TRIGGER counters_fail").unwrap();
}

/// The text behind the error, which is the operator's alone.
fn source(error: &StoreError) -> String {
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn one_that_cannot_be_written_is_tried_again_by_each_ping() {
    let database = Database::new(Place::sqlite()).await;
    let store = &database.store;
    failing(&database, "database or disk is full");
    store.ping().await.unwrap();
    let error = store.account_create(new_account("a"), NOW).await.unwrap_err();
    let file = database.directory().join("akamu.db").display().to_string();
    assert_eq!(source(&error), format!("{file}: database or disk is full; make room on its file system"));
    for _ in 0..2 {
        let error = store.ping().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)) && source(&error).contains(&file), "{error:?}");
    }
    working(&database);
    store.ping().await.unwrap();
    failing(&database, "database or disk is full");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn one_that_is_damaged_stays_so() {
    let database = Database::new(Place::sqlite()).await;
    let store = &database.store;
    failing(&database, "database disk image is malformed");
    let error = store.account_create(new_account("a"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    working(&database);
    store.account_create(new_account("b"), NOW).await.unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    let file = database.directory().join("akamu.db").display().to_string();
    assert!(source(&error).starts_with(&file) && source(&error).ends_with("; restore a backup"), "{error:?}");
}

/// One row that somebody has changed by hand is no reason to take the server out of service.
#[tokio::test]
async fn a_row_that_cannot_be_read_leaves_the_database_ready() {
    let database = Database::new(Place::sqlite()).await;
    let id = crate::scene::account(&database.store).await;
    database.raw().execute("UPDATE accounts SET status = 'asleep'").unwrap();
    assert!(matches!(database.store.account(id).await, Err(StoreError::Corrupt(_))));
    database.store.ping().await.unwrap();
}
