//! What an error says to whoever is not the operator: no SQL, no path, no address. Those are in its source.

use std::error::Error as _;
use std::time::Duration;

use akamu_store::{Store, StoreError};

use crate::database::{NOW, on_both_databases};
use crate::scene::{key, new_account};

/// Checks that the database's own words are kept, and not shown.
fn assert_shows_nothing(error: &StoreError) {
    let text = error.to_string();
    let plain = |it: char| it.is_ascii_lowercase() || it == ' ';
    assert!(text.chars().all(plain), "{text}: neither names, numbers nor punctuation");
    assert!(!text.contains("account"), "{text}: a table is named");
    match error {
        StoreError::Closed => assert!(error.source().is_none()),
        _ => assert!(!error.source().unwrap().to_string().is_empty()),
    }
}

on_both_databases! {
    async fn an_error_shows_no_sql_path_or_address(database) {
        let store = &database.store;
        let mut raw = database.raw();
        let first = new_account("a");
        store.account_create(first.clone(), NOW).await.unwrap();

        let mut second = new_account("b");
        second.id = first.id;
        let error = store.account_create(second, NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Constraint(_)), "{error:?}");
        assert_shows_nothing(&error);

        raw.execute("UPDATE accounts SET status = 'asleep'").unwrap();
        let error = store.account(first.id).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        assert_shows_nothing(&error);

        raw.execute("ALTER TABLE account_thumbprints RENAME TO elsewhere").unwrap();
        let error = store.account_create(new_account("c"), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
        assert!(error.source().unwrap().to_string().contains("account_thumbprints"));
        assert_shows_nothing(&error);
        let (_, thumbprint) = key("c");
        assert_eq!(store.account_by_thumbprint(&thumbprint).await.unwrap(), None, "nothing of it happened");
        raw.execute("ALTER TABLE elsewhere RENAME TO account_thumbprints").unwrap();

        let impatient = database.options().connection_wait(Duration::from_millis(1));
        let impatient = if store.is_sqlite() { store.clone() } else { Store::open(impatient, NOW).await.unwrap() };
        if store.is_sqlite() {
            // SQLite's words where the disk is full.
            raw.execute(
                "CREATE TRIGGER full BEFORE INSERT ON accounts \
                 BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END",
            )
            .unwrap();
        } else {
            // As the replicas of a cluster are, to which a fail-over went. Committed before the connections are cut: the
            // pool makes new ones at once.
            raw.execute(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
            )
            .unwrap();
            raw.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .unwrap();
        }
        let error = impatient.account_create(new_account("d"), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert_shows_nothing(&error);
        if store.is_sqlite() {
            store.close().await;
            let error = store.account_create(new_account("e"), NOW).await.unwrap_err();
            assert!(matches!(error, StoreError::Closed), "{error:?}");
            assert_shows_nothing(&error);
        }
    }
}
