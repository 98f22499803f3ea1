//! Issuances: one certificate for an order, whoever finishes it.

use akamu_proto::{AuthorizationStatus, CertificateId, OrderStatus};
use akamu_store::{Authorization, Certificate, Issuance, IssuanceBegun, IssuanceRecorded, Order};

use crate::database::{NOW, on_both_databases};
use crate::scene::{
    self, DAY, LEASE, account, finalize, lease, new_certificate, new_issuance, problem, ready_order, reread, started,
};

on_both_databases! {
    async fn a_ready_order_becomes_valid(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = ready_order(store, owner, &["a.example"]).await;
        let new = new_issuance(1);
        let lease = started(finalize(store, &order, new.clone()).await);
        assert_eq!(lease.subject(), &Issuance { account: owner, order: order.id, serial: new.serial, tbs: new.tbs.clone() });
        assert_eq!(reread(store, &order).await.status, OrderStatus::Processing);
        let certificate = new_certificate(store, &lease).await;
        let (id, der) = (CertificateId::from_octets(new.serial), certificate.der.clone());
        let recorded = store.issuance_record(lease, certificate, NOW).await.unwrap();
        assert_eq!(recorded, IssuanceRecorded::Recorded(id));
        let valid = reread(store, &order).await;
        assert_eq!((valid.status, valid.certificate), (OrderStatus::Valid, Some(id)));
        let stored = scene::found::<Certificate>(store, owner, id, NOW).await.unwrap();
        assert_eq!((stored.der, stored.serial, stored.account), (der, new.serial.to_vec(), owner));
        // A valid order does not expire.
        assert_eq!(scene::found::<Order>(store, owner, order.id, NOW.plus(DAY * 2)).await.unwrap().status, OrderStatus::Valid);
    }

    async fn the_same_csr_again_gets_the_order_as_it_is(database) {
        let store = &database.store;
        let order = ready_order(store, account(store).await, &["a.example"]).await;
        let lease = started(finalize(store, &order, new_issuance(1)).await);
        let expected = reread(store, &order).await;
        let begun = finalize(store, &order, new_issuance(1)).await;
        assert!(matches!(&begun, IssuanceBegun::Existing(it) if *it == expected), "{begun:?}");
        let begun = finalize(store, &order, new_issuance(2)).await;
        assert!(matches!(&begun, IssuanceBegun::OtherCsr(it) if *it == expected), "{begun:?}");
        let certificate = new_certificate(store, &lease).await;
        store.issuance_record(lease, certificate, NOW).await.unwrap();
        let begun = finalize(store, &order, new_issuance(1)).await;
        assert!(matches!(&begun, IssuanceBegun::Existing(it) if it.status == OrderStatus::Valid), "{begun:?}");
    }

    async fn only_a_ready_order_is_finalized(database) {
        let store = &database.store;
        let owner = account(store).await;
        let pending = scene::order(store, owner, &["a.example"]).await;
        let begun = finalize(store, &pending, new_issuance(1)).await;
        assert!(matches!(&begun, IssuanceBegun::NotReady(it) if *it == pending), "{begun:?}");
        let ready = ready_order(store, owner, &["b.example"]).await;
        let foreign = account(store).await;
        let begun = store.issuance_begin(foreign, ready.id, new_issuance(1), lease(), NOW).await.unwrap();
        assert!(matches!(begun, IssuanceBegun::NotFound), "{begun:?}");
        let begun = store.issuance_begin(owner, ready.id, new_issuance(1), lease(), NOW.plus(DAY)).await.unwrap();
        assert!(matches!(&begun, IssuanceBegun::NotReady(it) if it.status == OrderStatus::Invalid), "{begun:?}");
        store.account_deactivate(owner, NOW).await.unwrap();
        let begun = finalize(store, &ready, new_issuance(1)).await;
        assert!(matches!(&begun, IssuanceBegun::NotReady(it) if it.status == OrderStatus::Invalid), "{begun:?}");
    }

    async fn every_authorization_must_be_good_at_this_moment(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = ready_order(store, owner, &["a.example", "b.example"]).await;
        store.authorization_deactivate(owner, order.authorizations[1], NOW).await.unwrap();
        let begun = finalize(store, &order, new_issuance(1)).await;
        let IssuanceBegun::NotReady(refused) = begun else { panic!("{begun:?}") };
        assert_eq!(refused.status, OrderStatus::Invalid);
        assert!(refused.error.is_some());
        assert_eq!(reread(store, &order).await, refused);
        let other = scene::found::<Authorization>(store, owner, order.authorizations[0], NOW).await.unwrap();
        assert_eq!(other.status, AuthorizationStatus::Valid);

        let order = ready_order(store, owner, &["c.example"]).await;
        store.account_deactivate(owner, NOW).await.unwrap();
        let begun = finalize(store, &order, new_issuance(2)).await;
        assert!(matches!(&begun, IssuanceBegun::NotReady(it) if it.status == OrderStatus::Invalid), "{begun:?}");
    }

    async fn finalizes_at_once_give_one_certificate(database) {
        let store = &database.store;
        let order = ready_order(store, account(store).await, &["a.example"]).await;
        let replicas = database.replicas().await;
        let tasks: Vec<_> = (0..9)
            .map(|it| {
                let (store, order) = (replicas[it % 3].clone(), order.clone());
                tokio::spawn(async move {
                    let begun = finalize(&store, &order, new_issuance(1)).await;
                    let IssuanceBegun::Started(lease) = begun else {
                        assert!(matches!(begun, IssuanceBegun::Existing(_)), "{begun:?}");
                        return None;
                    };
                    let certificate = new_certificate(&store, &lease).await;
                    let id = CertificateId::from_octets(lease.subject().serial);
                    store.issuance_record(lease, certificate, NOW).await.unwrap();
                    Some(id)
                })
            })
            .collect();
        let mut recorded = Vec::new();
        for task in tasks {
            recorded.extend(task.await.unwrap());
        }
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        let order = reread(store, &order).await;
        assert_eq!((order.status, order.certificate), (OrderStatus::Valid, Some(recorded[0])));
        assert_eq!(database.raw().number("SELECT count(*) AS number FROM certificates"), 1);
    }

    async fn a_lost_and_a_held_lease_recorded_at_once_give_one_certificate(database) {
        let store = &database.store;
        let order = ready_order(store, account(store).await, &["a.example"]).await;
        let lost = started(finalize(store, &order, new_issuance(1)).await);
        let (other, later) = database.another_replica(LEASE * 2).await;
        let held = other.issuances_claim(lease(), 10, later).await.unwrap().remove(0);
        let [of_lost, of_held] = [new_certificate(store, &lost).await, new_certificate(store, &held).await];
        let id = CertificateId::from_octets(held.subject().serial);
        let (lost, held) =
            tokio::join!(store.issuance_record(lost, of_lost, NOW), other.issuance_record(held, of_held, later));
        assert_eq!(lost.unwrap(), IssuanceRecorded::LeaseLost);
        assert_eq!(held.unwrap(), IssuanceRecorded::Recorded(id));
        assert_eq!(database.raw().number("SELECT count(*) AS number FROM certificates"), 1);
    }

    async fn a_dead_replicas_issuance_is_finished_with_the_same_octets(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = ready_order(store, owner, &["a.example"]).await;
        let lost = started(finalize(store, &order, new_issuance(1)).await);
        assert!(store.issuances_claim(lease(), 10, NOW).await.unwrap().is_empty(), "it is held");
        let (other, later) = database.another_replica(LEASE * 2).await;
        let mut claimed = other.issuances_claim(lease(), 10, later).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let claimed = claimed.remove(0);
        assert_eq!(claimed.subject(), lost.subject());
        assert!(other.issuances_claim(lease(), 10, later).await.unwrap().is_empty(), "it is held again");

        let certificate = new_certificate(store, &lost).await;
        assert_eq!(store.issuance_record(lost, certificate, NOW).await.unwrap(), IssuanceRecorded::LeaseLost);
        let certificate = new_certificate(store, &claimed).await;
        let id = CertificateId::from_octets(claimed.subject().serial);
        let recorded = other.issuance_record(claimed, certificate, later).await.unwrap();
        assert_eq!(recorded, IssuanceRecorded::Recorded(id));
        assert_eq!(database.raw().number("SELECT count(*) AS number FROM certificates"), 1);
    }

    async fn a_voided_lease_is_claimed_at_once(database) {
        let store = &database.store;
        let order = ready_order(store, account(store).await, &["a.example"]).await;
        let _before = started(finalize(store, &order, new_issuance(1)).await);
        store.leases_void().await.unwrap();
        assert_eq!(store.issuances_claim(lease(), 10, NOW).await.unwrap().len(), 1);
    }

    async fn a_certificate_that_cannot_be_made_ends_the_order(database) {
        let store = &database.store;
        let order = ready_order(store, account(store).await, &["a.example"]).await;
        let lease = started(finalize(store, &order, new_issuance(1)).await);
        store.issuance_fail(lease, problem("no key"), NOW).await.unwrap();
        let failed = reread(store, &order).await;
        assert_eq!((failed.status, failed.error), (OrderStatus::Invalid, Some(problem("no key"))));
        let (other, later) = database.another_replica(LEASE * 2).await;
        assert!(other.issuances_claim(scene::lease(), 10, later).await.unwrap().is_empty());
    }
}
