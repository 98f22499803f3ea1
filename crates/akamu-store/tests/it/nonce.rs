//! Nonces: each is good once.

use std::time::Duration;

use akamu_store::{NonceError, Store};

use crate::database::{Database, NOW, Place, on_both_databases};
use crate::scene::DAY;

const HOUR: Duration = Duration::from_secs(3600);

async fn redeem(store: &Store, text: &str) -> bool {
    let checked = store.nonce_check(text, NOW).unwrap();
    store.nonce_redeem(checked, NOW).await.unwrap()
}

on_both_databases! {
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
        let tasks: Vec<_> = (0..20)
            .map(|it| {
                let (store, nonce) = (replicas[it % 3].clone(), nonce.clone());
                tokio::spawn(async move { redeem(&store, nonce.as_str()).await })
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
    assert!(store.nonce_redeem(checked, tomorrow).await.unwrap());
    // Two keys are accepted, so those that were sealed before are good still.
    assert!(redeem(&other, old.as_str()).await);
    // A number that no key has is refused when it is redeemed.
    let mut forged = new.as_str().to_owned();
    forged.replace_range(18..=18, "E");
    let checked = store.nonce_check(&forged, tomorrow).unwrap();
    assert!(!store.nonce_redeem(checked, tomorrow).await.unwrap());
    other.nonces_tidy(NOW.plus(DAY * 2)).await.unwrap();
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
