//! Certificates, revocation and CRLs.

use std::time::Duration;

use akamu_proto::{CertificateId, RevocationReason};
use akamu_store::{Certificate, CrlCheck, Revocations, Revoked, RevokedCertificate, StoredCrl};

use crate::database::{NOW, on_both_databases};
use crate::scene::{
    self, DAY, ISSUERS, account, certificate_under, finalize, issued, new_issuance, ready_order, started,
};

on_both_databases! {
    async fn a_certificate_is_its_accounts(database) {
        let store = &database.store;
        let owner = account(store).await;
        let (serial, id) = issued(store, owner, "a.example").await;
        let found = scene::found::<Certificate>(store, owner, id, NOW).await.unwrap();
        assert_eq!((found.not_after, found.revoked_at), (NOW.plus(DAY), None));
        assert_eq!(store.certificate_by_serial(&serial).await.unwrap(), Some(found));
        assert_eq!(scene::found::<Certificate>(store, account(store).await, id, NOW).await, None);
        assert_eq!(store.certificate_by_serial(&[0xff; 16]).await.unwrap(), None);
    }

    async fn a_certificate_is_revoked_once(database) {
        let store = &database.store;
        let (serial, _) = issued(store, account(store).await, "a.example").await;
        issued(store, account(store).await, "b.example").await;
        let revoke = |serial, reason, now| store.certificate_revoke(serial, reason, now);
        let reason = RevocationReason::KeyCompromise;
        assert_eq!(revoke(&[0xff; 16], reason, NOW).await.unwrap(), Revoked::NotFound);
        assert_eq!(revoke(&serial, reason, NOW).await.unwrap(), Revoked::Revoked);
        for again in [NOW, NOW.plus(Duration::from_micros(1))] {
            let revoked = revoke(&serial, RevocationReason::Superseded, again).await.unwrap();
            assert_eq!(revoked, Revoked::AlreadyRevoked);
        }
        assert_eq!(store.certificate_by_serial(&serial).await.unwrap().unwrap().revoked_at, Some(NOW));
        let entry = RevokedCertificate { serial: serial.to_vec(), revoked_at: NOW, reason };
        let revocations = Revocations { certificates: vec![entry], count: 1 };
        assert_eq!(store.revocations(NOW).await.unwrap(), revocations);
    }

    async fn a_chain_is_kept_once_and_each_certificate_has_its_own(database) {
        let store = &database.store;
        let owner = account(store).await;
        let (first, _) = issued(store, owner, "a.example").await;
        let (second, _) = issued(store, owner, "b.example").await;
        assert_eq!(database.raw().number("SELECT count(*) AS number FROM chains"), 1);
        // As after the server has been given another issuer.
        let chain = store.chain_record("other issuers").await.unwrap();
        assert_eq!(store.chain_record("other issuers").await.unwrap(), chain);
        let order = ready_order(store, owner, &["c.example"]).await;
        let lease = started(finalize(store, &order, new_issuance(1)).await);
        let (third, certificate) = (lease.subject().serial, certificate_under(chain, &lease));
        store.issuance_record(lease, certificate, NOW).await.unwrap();
        for (serial, issuers) in [(first, ISSUERS), (second, ISSUERS), (third, "other issuers")] {
            let id = CertificateId::from_octets(serial);
            assert_eq!(scene::found::<Certificate>(store, owner, id, NOW).await.unwrap().issuers_pem.as_ref(), issuers);
        }
    }

    async fn an_expired_certificate_stays_for_one_more_crl(database) {
        let store = &database.store;
        let (serial, _) = issued(store, account(store).await, "a.example").await;
        store.certificate_revoke(&serial, RevocationReason::Unspecified, NOW).await.unwrap();
        let hour = Duration::from_secs(3600);
        let crl = StoredCrl { number: 1, der: b"crl".to_vec(), this_update: NOW, next_update: NOW.plus(hour) };
        store.crl_record(&crl, 1).await.unwrap();
        let listed = async |now| store.revocations(now).await.unwrap().certificates.len();
        assert_eq!(listed(NOW.plus(DAY)).await, 1);
        assert_eq!(listed(NOW.plus(DAY + hour - Duration::from_micros(1))).await, 1);
        assert_eq!(listed(NOW.plus(DAY + hour)).await, 0);
    }

    async fn crl_numbers_grow_whoever_draws_them(database) {
        let store = &database.store;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.crl_number_next(NOW).await.unwrap() })
            })
            .collect();
        let mut numbers = Vec::new();
        for task in tasks {
            numbers.push(task.await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..8).map(|it| NOW.unix_secs() + it).collect::<Vec<_>>());
        // As after a restored backup: the numbers that were drawn since are behind us.
        database.raw().execute("UPDATE counters SET value = 5 WHERE name = 'crl_number'").unwrap();
        let later = NOW.plus(DAY);
        assert_eq!(store.crl_number_next(later).await.unwrap(), later.unix_secs());
        // A clock that goes back does not take them back.
        assert_eq!(store.crl_number_next(NOW).await.unwrap(), later.unix_secs() + 1);
    }

    async fn a_replica_learns_of_a_newer_crl_and_of_one_that_is_missing(database) {
        let store = &database.store;
        assert_eq!(store.crl_check(0).await.unwrap(), CrlCheck { newer: None, is_complete: false });
        assert_eq!(store.crl_next_update().await.unwrap(), None);
        let crl = |number: u8| {
            let next_update = NOW.plus(DAY * u32::from(number));
            StoredCrl { number: number.into(), der: vec![number], this_update: NOW, next_update }
        };
        for number in [1, 5, 3, 9, 7] {
            store.crl_record(&crl(number), 0).await.unwrap();
        }
        assert_eq!(database.raw().number("SELECT count(*) AS number FROM crls"), 3);
        assert_eq!(store.crl_next_update().await.unwrap(), Some(NOW.plus(DAY * 9)));
        assert_eq!(store.crl_check(7).await.unwrap(), CrlCheck { newer: Some(crl(9)), is_complete: true });
        assert_eq!(store.crl_check(9).await.unwrap(), CrlCheck { newer: None, is_complete: true });
        let (serial, _) = issued(store, account(store).await, "a.example").await;
        for _ in 0..2 {
            store.certificate_revoke(&serial, RevocationReason::Unspecified, NOW).await.unwrap();
        }
        assert!(!store.crl_check(9).await.unwrap().is_complete);
        store.crl_record(&crl(10), store.revocations(NOW).await.unwrap().count).await.unwrap();
        assert_eq!(store.crl_check(9).await.unwrap(), CrlCheck { newer: Some(crl(10)), is_complete: true });
    }
}
