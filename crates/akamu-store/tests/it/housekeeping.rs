//! Housekeeping: what is removed and what is kept, each at the edge of its retention.

use std::time::Duration;

use akamu_proto::{AccountId, OrderStatus, Timestamp};
use akamu_store::{Authorization, Certificate, Expired, HousekeepingStep, LeaseRequest, Order, ReplicaId, Store};

use crate::database::{NOW, on_both_databases};
use crate::scene::{
    self, DAY, LEASE, VALID, account, begin, finalize, issued, lease, new_certificate, new_issuance, ready_order,
    record, started,
};

/// Just short of the end of the scene's orders, authorizations and certificates.
fn just_before_the_end() -> Timestamp {
    NOW.plus(DAY - Duration::from_micros(1))
}

/// A whole round by one server: how many were removed.
async fn round(store: &Store, kind: Expired, before: Timestamp) -> usize {
    let (mut removed, mut after) = (0, None);
    loop {
        match store.housekeeping_step(kind, before, after, lease(), NOW).await.unwrap() {
            HousekeepingStep::Made { removed: some, next } => {
                removed += some;
                if next.is_none() {
                    return removed;
                }
                after = next;
            }
            HousekeepingStep::NotOurs => panic!("another server"),
        }
    }
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM accounts) * 1000000 + (SELECT count(*) FROM account_thumbprints) * 100000 \
                      + (SELECT count(*) FROM orders) * 10000 + (SELECT count(*) FROM order_authorizations) * 1000 \
                      + (SELECT count(*) FROM authorizations) * 100 + (SELECT count(*) FROM challenges) * 10 \
                      + (SELECT count(*) FROM challenges WHERE report IS NOT NULL) AS number";

on_both_databases! {
    async fn an_order_and_then_its_authorizations_are_removed(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example"]).await;
        let lease = begin(store, owner, order.authorizations[0]).await;
        record(store, lease, VALID).await;
        // An account and its thumbprint, an order, its two links and authorizations, six challenges and a report.
        assert_eq!(database.raw().number(COUNTS), 1_112_261);
        for kind in [Expired::Orders, Expired::Authorizations] {
            assert_eq!(round(store, kind, just_before_the_end()).await, 0, "{kind:?}");
        }
        // Parents of an order that is kept are kept too, however old.
        assert_eq!(round(store, Expired::Authorizations, NOW.plus(DAY)).await, 0);
        assert_eq!(database.raw().number(COUNTS), 1_112_261);
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY)).await, 1);
        assert_eq!(scene::found::<Order>(store, owner, order.id, NOW).await, None);
        assert_eq!(database.raw().number(COUNTS), 1_100_261);
        assert_eq!(round(store, Expired::Authorizations, NOW.plus(DAY)).await, 2);
        assert_eq!(scene::found::<Authorization>(store, owner, order.authorizations[0], NOW).await, None);
        assert_eq!(database.raw().number(COUNTS), 1_100_000);
    }

    async fn an_order_in_processing_is_kept(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = ready_order(store, owner, &["a.example"]).await;
        let running = started(finalize(store, &order, new_issuance(1)).await);
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY * 100)).await, 0);
        assert_eq!(round(store, Expired::Authorizations, NOW.plus(DAY * 100)).await, 0);
        // Whoever has the lease finishes it, and then it is final.
        let certificate = new_certificate(store, &running).await;
        store.issuance_record(running, certificate, NOW).await.unwrap();
        assert_eq!(scene::reread(store, &order).await.status, OrderStatus::Valid);
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY)).await, 1);
    }

    async fn an_authorization_whose_validation_runs_is_kept(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example"]).await;
        let running = begin(store, owner, order.authorizations[0]).await;
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY)).await, 1);
        assert_eq!(round(store, Expired::Authorizations, NOW.plus(DAY)).await, 0);
        record(store, running, VALID).await;
        assert_eq!(round(store, Expired::Authorizations, NOW.plus(DAY)).await, 1);
    }

    async fn a_certificate_outlives_its_order_and_stays_the_only_one(database) {
        let store = &database.store;
        let owner = account(store).await;
        let (serial, id) = issued(store, owner, "a.example").await;
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY)).await, 1);
        assert_eq!(round(store, Expired::Certificates, just_before_the_end()).await, 0);
        assert!(scene::found::<Certificate>(store, owner, id, NOW).await.is_some());
        assert!(store.certificate_by_serial(&serial).await.unwrap().is_some());
        for (serial, order, what) in [("chain", "order_id", "of one order"), ("serial", "chain", "with one serial number")] {
            let second = format!(
                "INSERT INTO certificates (serial, account_id, order_id, der, chain, not_before, not_after) \
                 SELECT {serial}, account_id, {order}, der, chain, not_before, not_after FROM certificates"
            );
            assert!(database.raw().execute(&second).is_err(), "a second certificate {what}");
        }
        assert_eq!(round(store, Expired::Certificates, NOW.plus(DAY)).await, 1);
        assert_eq!(scene::found::<Certificate>(store, owner, id, NOW).await, None);
    }

    async fn a_round_comes_past_what_it_must_leave(database) {
        let store = &database.store;
        let owner = account(store).await;
        for name in 0..51 {
            scene::order(store, owner, &[&format!("{name}.example")]).await;
        }
        // As many as a step reads are in processing, older than the one that is not by their ids alone.
        database.raw().execute(
            "UPDATE orders SET status = 'processing' WHERE id <> (SELECT id FROM orders ORDER BY id DESC LIMIT 1)"
        ).unwrap();
        assert_eq!(round(store, Expired::Orders, NOW.plus(DAY)).await, 1);
    }

    async fn of_two_servers_one_cleans(database) {
        let store = &database.store;
        let owner: AccountId = account(store).await;
        scene::order(store, owner, &["a.example"]).await;
        let by = |octet| LeaseRequest { owner: ReplicaId::from_octets([octet; 16]), duration: LEASE };
        let step = async |store: &Store, octet, now| {
            store.housekeeping_step(Expired::Orders, NOW.plus(DAY), None, by(octet), now).await.unwrap()
        };
        let made = |removed| HousekeepingStep::Made { removed, next: None };
        assert_eq!(step(store, 1, NOW).await, made(1));
        scene::order(store, owner, &["b.example"]).await;
        assert_eq!(step(store, 2, NOW).await, HousekeepingStep::NotOurs);
        let (other, later) = database.another_replica(LEASE + Duration::from_secs(1)).await;
        assert_eq!(step(&other, 2, later).await, made(1));
        assert_eq!(step(&other, 1, later).await, HousekeepingStep::NotOurs);
        if store.is_sqlite() {
            // The next start of the only server waits for nobody.
            store.leases_void().await.unwrap();
            assert_eq!(step(store, 1, later).await, made(0));
        }
    }
}
