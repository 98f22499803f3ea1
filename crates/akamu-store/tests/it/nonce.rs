//! Nonces: each is good once.

use std::time::Duration;

use akamu_proto::{AccountId, OrderId};
use akamu_store::{
    AccountAnd, Authorization, Certificate, CheckedNonce, NonceError, Order, OrderCreated, Owned, Store, StoreError,
};

use crate::database::{Database, NOW, Place, Raw, on_both_databases};
use crate::scene::{DAY, account, issued, new_account, new_order, order};

const HOUR: Duration = Duration::from_secs(3600);

async fn redeem(store: &Store, text: &str) -> bool {
    let checked = store.nonce_check(text, NOW).unwrap();
    store.nonce_redeem(checked, NOW).await.unwrap().is_some()
}

fn fresh(store: &Store) -> CheckedNonce {
    store.nonce_check(store.nonce_issue(NOW).as_str(), NOW).unwrap()
}

/// Whether what is asked for is found, by a nonce that is good once.
async fn found_once<T: Owned + std::fmt::Debug>(store: &Store, account: AccountId, id: T::Id) -> bool {
    let nonce = store.nonce_issue(NOW);
    let checked = || Some(store.nonce_check(nonce.as_str(), NOW).unwrap());
    let first = store.account_and::<T>(account, id, checked(), NOW).await.unwrap();
    let second = store.account_and::<T>(account, id, checked(), NOW).await.unwrap();
    assert!(matches!(second, AccountAnd::BadNonce), "{second:?}");
    let AccountAnd::Found(found, object, _) = first else { panic!("{first:?}") };
    assert_eq!(found.id, account);
    assert!(!redeem(store, nonce.as_str()).await);
    object.is_some()
}

on_both_databases! {
    async fn what_an_account_has_is_read_by_a_nonce_that_is_good_once(database) {
        let store = &database.store;
        let (owner, other) = (account(store).await, account(store).await);
        let order = order(store, owner, &["a.example"]).await;
        let (_, certificate) = issued(store, owner, "b.example").await;
        for (asks, is_found) in [(owner, true), (other, false)] {
            assert!(found_once::<()>(store, asks, ()).await);
            assert_eq!(found_once::<Order>(store, asks, order.id).await, is_found);
            assert_eq!(found_once::<Authorization>(store, asks, order.authorizations[0]).await, is_found);
            assert_eq!(found_once::<Certificate>(store, asks, certificate).await, is_found);
        }
        assert!(!found_once::<Order>(store, owner, OrderId::from_octets([7; 16])).await);
        let nobody = store.account_and::<()>(new_account("nobody").id, (), Some(fresh(store)), NOW).await.unwrap();
        assert!(matches!(nobody, AccountAnd::NoAccount), "{nobody:?}");
    }

    async fn a_nonce_is_redeemed_once(database) {
        let store = &database.store;
        let nonces: Vec<_> = (0..100).map(|_| store.nonce_issue(NOW)).collect();
        for nonce in nonces.iter().rev() {
            assert_eq!(nonce.as_str().len(), 43);
            assert!(redeem(store, nonce.as_str()).await);
            assert!(!redeem(store, nonce.as_str()).await);
        }
    }

    async fn a_nonce_redeemed_many_times_at_once_is_good_once(database) {
        let nonce = database.store.nonce_issue(NOW);
        let replicas = database.replicas().await;
        let owner = account(&database.store).await;
        let tasks: Vec<_> = (0..20)
            .map(|it| {
                let (store, nonce) = (replicas[it % 3].clone(), nonce.clone());
                tokio::spawn(async move {
                    if it % 2 == 0 {
                        return redeem(&store, nonce.as_str()).await;
                    }
                    let nonce = store.nonce_check(nonce.as_str(), NOW).unwrap();
                    let found = store.account_and::<()>(owner, (), Some(nonce), NOW).await.unwrap();
                    matches!(found, AccountAnd::Found(..))
                })
            })
            .collect();
        let mut good = 0;
        for task in tasks {
            good += i32::from(task.await.unwrap());
        }
        assert_eq!(good, 1);
    }

    async fn what_is_not_ours_is_refused(database) {
        let store = &database.store;
        let ours = store.nonce_issue(NOW);
        // A changed octet among time, id and tag; the key's number is not sealed by a key that we have.
        for index in (0..16).chain(22..43) {
            let mut text = ours.as_str().to_owned();
            let changed = if &text[index..=index] == "E" { "I" } else { "E" };
            text.replace_range(index..=index, changed);
            assert_eq!(store.nonce_check(&text, NOW).unwrap_err(), NonceError::Bad, "{text}");
        }
        for (text, expect) in [
            ("", NonceError::Bad),
            ("AAAA", NonceError::Bad),
            (&ours.as_str()[1..], NonceError::Bad),
            (&format!("{}A", ours.as_str()), NonceError::Bad),
            (&format!("{}=", ours.as_str()), NonceError::Malformed),
            ("a+b/", NonceError::Malformed),
            ("ä", NonceError::Malformed),
        ] {
            assert_eq!(store.nonce_check(text, NOW).unwrap_err(), expect, "{text}");
        }
    }

    async fn a_nonce_has_a_lifetime(database) {
        let store = &database.store;
        let nonce = store.nonce_issue(NOW);
        assert!(store.nonce_check(nonce.as_str(), NOW.plus(HOUR)).is_ok());
        let too_late = NOW.plus(HOUR + Duration::from_secs(1));
        assert_eq!(store.nonce_check(nonce.as_str(), too_late).unwrap_err(), NonceError::Bad);
    }

    async fn another_databases_nonce_is_refused(database) {
        let place = if database.store.is_sqlite() { Place::sqlite() } else { Place::postgres().unwrap() };
        let other = Database::new(place).await;
        let nonce = other.store.nonce_issue(NOW);
        assert_eq!(database.store.nonce_check(nonce.as_str(), NOW).unwrap_err(), NonceError::Bad);
    }
}

/// A PostgreSQL database and a second replica on it.
async fn replicas() -> Option<(Database, Store)> {
    let database = Database::new(Place::postgres()?).await;
    let (other, _) = database.another_replica(Duration::ZERO).await;
    Some((database, other))
}

#[tokio::test]
async fn a_nonce_is_good_on_every_replica_but_once_in_all() {
    let Some((database, other)) = replicas().await else { return };
    let nonces = [database.store.nonce_issue(NOW), other.nonce_issue(NOW)];
    assert!(redeem(&other, nonces[0].as_str()).await);
    assert!(!redeem(&database.store, nonces[0].as_str()).await);
    assert!(redeem(&database.store, nonces[1].as_str()).await);
    assert!(!redeem(&other, nonces[1].as_str()).await);
}

#[tokio::test]
async fn a_key_made_by_another_replica_is_read() {
    let Some((database, other)) = replicas().await else { return };
    let store = &database.store;
    let old = store.nonce_issue(NOW);
    let tomorrow = NOW.plus(DAY);
    other.nonces_tidy(tomorrow).await.unwrap();
    let new = other.nonce_issue(tomorrow);
    let checked = store.nonce_check(new.as_str(), tomorrow).unwrap();
    assert!(store.nonce_redeem(checked, tomorrow).await.unwrap().is_some());
    // Two keys are accepted, so those that were sealed before are good still.
    assert!(redeem(&other, old.as_str()).await);
    let owner = account(store).await;
    let read = async |text: &str| {
        let nonce = store.nonce_check(text, tomorrow).unwrap();
        store.account_and::<()>(owner, (), Some(nonce), tomorrow).await.unwrap()
    };
    // A number that no key has is refused when it is redeemed.
    let mut forged = new.as_str().to_owned();
    forged.replace_range(18..=18, "E");
    let checked = store.nonce_check(&forged, tomorrow).unwrap();
    assert!(store.nonce_redeem(checked, tomorrow).await.unwrap().is_none());
    assert!(matches!(read(&forged).await, AccountAnd::BadNonce));
    other.nonces_tidy(NOW.plus(DAY * 2)).await.unwrap();
    let newest = other.nonce_issue(tomorrow);
    assert!(matches!(read(newest.as_str()).await, AccountAnd::Found(..)));
    assert_eq!(database.raw().number("SELECT count(*) AS number FROM nonce_keys"), 2);
}

#[tokio::test]
async fn redeemed_nonces_are_forgotten_when_no_clock_takes_them_any_more() {
    let Some((database, store)) = replicas().await else { return };
    for _ in 0..3 {
        let nonce = store.nonce_issue(NOW);
        assert!(redeem(&store, nonce.as_str()).await);
    }
    let mut raw = database.raw();
    raw.execute(
        "INSERT INTO redeemed_nonces SELECT decode('0000' || lpad(to_hex(it), 20, '0'), 'hex'), 'x' FROM generate_series(1, 2500) it",
    )
    .unwrap();
    let rows = "SELECT count(*) AS number FROM redeemed_nonces";
    assert_eq!(store.nonces_tidy(NOW.plus(HOUR + Duration::from_secs(300))).await.unwrap(), 2_500);
    assert_eq!(raw.number(rows), 3);
    assert_eq!(store.nonces_tidy(NOW.plus(HOUR + Duration::from_secs(301))).await.unwrap(), 3);
    assert_eq!(raw.number(rows), 0);
}

/// Notes in `noted` how a commit of rows of these tables waits for the disk.
const NOTE_COMMITS: &str = "
    CREATE TABLE noted (what TEXT NOT NULL, waits TEXT NOT NULL);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO noted VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER note AFTER INSERT ON redeemed_nonces DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note();
    CREATE CONSTRAINT TRIGGER note AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note();";

#[tokio::test]
async fn a_redemption_does_not_wait_for_the_disk_and_what_its_request_changes_does() {
    let Some(place) = Place::postgres() else { return };
    let store = Store::open(place.options().max_connections(1), NOW).await.unwrap();
    let owner = account(&store).await;
    let mut raw = place.raw();
    raw.execute(NOTE_COMMITS).unwrap();
    store.account_and::<()>(owner, (), Some(fresh(&store)), NOW).await.unwrap();
    order(&store, owner, &["a.example"]).await;
    store.nonce_redeem(fresh(&store), NOW).await.unwrap();
    order(&store, owner, &["b.example"]).await;
    for (what, waits) in [("redeemed_nonces", "off"), ("orders", "on")] {
        let query = format!("SELECT count(*) AS number FROM noted WHERE what = '{what}' AND waits = '{waits}'");
        assert_eq!(raw.number(&query), 2, "{what} {waits}");
    }
    assert_eq!(raw.number("SELECT count(*) AS number FROM noted"), 4);
}

fn end_sessions(raw: &mut Raw) {
    const OTHERS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    raw.execute(&format!("SELECT pg_terminate_backend(pid, 10000) {OTHERS}")).unwrap();
}

/// What a store sees of a crash of PostgreSQL: what waited for no disk is lost, and its sessions end.
fn crash(raw: &mut Raw) {
    raw.execute("DELETE FROM redeemed_nonces").unwrap();
    end_sessions(raw);
}

/// An operation of one statement, or one with a transaction of its own.
async fn change(store: Store, owner: AccountId, is_one_statement: bool, name: &str) -> Result<(), StoreError> {
    if is_one_statement {
        let created = store.order_create(new_order(owner, &[name]), NOW).await?;
        assert!(matches!(created, OrderCreated::Created(_)), "{created:?}");
    } else {
        store.account_update_contact(owner, vec![format!("mailto:a@{name}")], NOW).await?.unwrap();
    }
    Ok(())
}

#[tokio::test]
async fn a_nonce_that_a_crash_has_lost_is_redeemed_again_with_what_its_request_changes() {
    let Some(place) = Place::postgres() else { return };
    let store = &place.open().await.unwrap();
    let mut raw = place.raw();
    for is_one_statement in [true, false] {
        let owner = account(store).await;
        let text = store.nonce_issue(NOW);
        let nonce = store.nonce_check(text.as_str(), NOW).unwrap();
        let read = store.account_and::<()>(owner, (), Some(nonce), NOW).await.unwrap();
        let AccountAnd::Found(_, _, redeemed) = read else { panic!("{read:?}") };
        let change = async |name| change(store.for_request(redeemed.clone()), owner, is_one_statement, name).await;

        end_sessions(&mut raw);
        change("a.example").await.unwrap();
        crash(&mut raw);
        change("b.example").await.unwrap();
        assert!(!redeem(store, text.as_str()).await);

        crash(&mut raw);
        assert!(redeem(store, text.as_str()).await);
        let refused = change("c.example").await.unwrap_err();
        assert!(matches!(refused, StoreError::BadNonce), "{refused:?}");
        const CHANGED: &str = "SELECT (SELECT count(*) FROM authorizations WHERE identifier_value = 'c.example')
            + (SELECT count(*) FROM accounts WHERE contact LIKE '%c.example%') AS number";
        assert_eq!(raw.number(CHANGED), 0);
    }
}
