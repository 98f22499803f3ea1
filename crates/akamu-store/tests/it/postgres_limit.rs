//! The limits of PostgreSQL's connections, each seen at work.

use std::error::Error as _;
use std::time::Duration;

use akamu_store::{AccountCreated, Store, StoreError, StoreOptions};

use crate::database::{NOW, Place, Raw, until_blocked};
use crate::scene::{account, new_account};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Something to read while the table is locked, and who has locked it.
async fn locked(place: &Place, options: StoreOptions) -> (Store, akamu_proto::AccountId, Raw) {
    let store = Store::open(options, NOW).await.unwrap();
    let id = account(&store).await;
    let mut raw = place.raw();
    raw.execute("BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").unwrap();
    (store, id, raw)
}

/// What ended a read of a locked table.
async fn ended_by(place: &Place, options: StoreOptions) -> String {
    let (store, id, _raw) = locked(place, options).await;
    let error = store.account(id).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn a_statement_waits_as_long_for_a_lock_as_it_may() {
    let Some(place) = Place::postgres() else { return };
    let options = place.options().lock_timeout(MILLISECOND).statement_timeout(SECOND * 4);
    let cause = ended_by(&place, options).await;
    assert!(cause.contains("lock timeout"), "{cause}");
}

#[tokio::test]
async fn a_statement_takes_as_long_as_it_may() {
    let Some(place) = Place::postgres() else { return };
    let cause = ended_by(&place, place.options().statement_timeout(SECOND)).await;
    assert!(cause.contains("statement timeout"), "{cause}");
}

#[tokio::test]
async fn an_operation_waits_as_long_for_a_connection_as_it_may() {
    let Some(place) = Place::postgres() else { return };
    let options = place.options().max_connections(1).connection_wait(HOUR).lock_timeout(HOUR).statement_timeout(HOUR);
    let (store, id, mut raw) = locked(&place, options).await;
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.account(id).await }
    });
    until_blocked(&mut place.raw(), 1).await;
    let second = tokio::spawn(async move { store.account(id).await });
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(HOUR - SECOND).await;
    // Its timer, were it over, is seen to before the last of these.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished());
    tokio::time::advance(SECOND * 2).await;
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    raw.execute("COMMIT").unwrap();
    assert!(first.await.unwrap().unwrap().is_some());
}

/// Connections with this name.
fn count(raw: &mut Raw, name: &str) -> i64 {
    raw.number(&format!(
        "SELECT count(*) AS number FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = '{name}'"
    ))
}

/// Waits until there are so many: they are made and closed in the background.
async fn until(raw: &mut Raw, name: &str, expected: i64) {
    let reached = async {
        while count(raw, name) != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("not {expected} {name}"));
}

#[tokio::test]
async fn connections_have_the_name_of_the_options_unless_the_url_has_one() {
    let Some(place) = Place::postgres() else { return };
    let mut raw = place.raw();
    let ours = "akamu-server [::1]:443";
    let store = Store::open(place.options().application_name(ours).min_idle_connections(3), NOW).await.unwrap();
    until(&mut raw, ours, 3).await;
    drop(store);
    until(&mut raw, ours, 0).await;
    let url = place.postgres_url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}application_name=theirs");
    let options = StoreOptions::parse(&url, std::path::Path::new("/")).unwrap();
    let _store = Store::open(options.application_name(ours), NOW).await.unwrap();
    until(&mut raw, "theirs", 1).await;
    assert_eq!(count(&mut raw, ours), 0);
}

/// The server process of the one connection, once there is one. One query counts and names it: between two, it may
/// be replaced.
async fn sole_process(raw: &mut Raw) -> i64 {
    let query = "SELECT CASE count(*) WHEN 1 THEN max(pid) ELSE 0 END::bigint AS number FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'akamu-server'";
    let found = async {
        loop {
            match raw.number(query) {
                0 => tokio::task::yield_now().await,
                process => return process,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("not one connection")
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_not_used_again() {
    let Some(place) = Place::postgres() else { return };
    // Its age is real time: one that is just made may be used once more.
    for (lifetime, is_replaced, most_uses) in [(HOUR, false, 3), (MILLISECOND, true, 1_000)] {
        let store = Store::open(place.options().max_connections(1).connection_lifetime(lifetime), NOW).await.unwrap();
        let mut raw = place.raw();
        let before = sole_process(&mut raw).await;
        let mut was_replaced = false;
        for _ in 0..most_uses {
            account(&store).await;
            was_replaced = sole_process(&mut raw).await != before;
            if was_replaced {
                break;
            }
        }
        assert_eq!(was_replaced, is_replaced, "{lifetime:?}");
        drop(store);
        until(&mut raw, "akamu-server", 0).await;
    }
}

/// As a primary that was demoted: connections that it had go on, and write nothing.
#[tokio::test]
async fn a_server_that_takes_no_writes_any_more_is_left() {
    let Some(place) = Place::postgres() else { return };
    let store = Store::open(place.options().max_connections(1), NOW).await.unwrap();
    let mut raw = place.raw();
    raw.execute(
        "CREATE FUNCTION demote() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM set_config('default_transaction_read_only', 'on', false); RETURN new; END $$;
         CREATE TRIGGER demote BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION demote();",
    )
    .unwrap();
    account(&store).await;
    raw.execute("DROP TRIGGER demote ON accounts").unwrap();
    let created = store.account_create(new_account("b"), NOW).await.unwrap();
    assert!(matches!(created, AccountCreated::Created(_)), "{created:?}");
}
