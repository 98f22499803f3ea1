//! A limit of 0 lets nothing through: nowhere does it mean "without limit".

use std::time::Duration;

use akamu_store::{ClaimLimits, NonceError, Store};

use crate::database::{NOW, on_both_databases};
use crate::scene::{self, LEASE, NO_LIMITS, account, enqueue, finalize, lease, new_issuance, ready_order, started};

on_both_databases! {
    async fn a_claim_with_a_limit_of_0_takes_nothing(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["a.example"]).await.authorizations[0];
        enqueue(store, owner, id).await;
        for limits in [
            ClaimLimits { total: 0, ..NO_LIMITS },
            ClaimLimits { for_account: 0, ..NO_LIMITS },
            ClaimLimits { for_domain: 0, ..NO_LIMITS },
        ] {
            let claimed = store.validations_claim(lease(), limits.clone(), NOW).await.unwrap();
            assert!(claimed.is_empty(), "{limits:?}");
        }
        assert_eq!(store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap().len(), 1);

        let ready = ready_order(store, owner, &["b.example"]).await;
        let _dead = started(finalize(store, &ready, new_issuance(1)).await);
        let (other, later) = database.another_replica(LEASE * 2).await;
        assert!(other.issuances_claim(lease(), 0, later).await.unwrap().is_empty());
        assert_eq!(other.issuances_claim(lease(), 1, later).await.unwrap().len(), 1);
    }

    async fn a_store_with_0_connections_has_one(database) {
        let id = account(&database.store).await;
        database.store.close().await;
        let store = Store::open(database.options().max_connections(0), NOW).await.unwrap();
        let reads: Vec<_> = (0..10)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.account(id).await.unwrap() })
            })
            .collect();
        for read in reads {
            assert!(read.await.unwrap().is_some());
        }
    }

    async fn a_nonce_with_a_lifetime_of_0_ends_with_its_second(database) {
        database.store.close().await;
        let store = Store::open(database.options().nonce_lifetime(Duration::ZERO), NOW).await.unwrap();
        let nonce = store.nonce_issue(NOW);
        assert!(store.nonce_check(nonce.as_str(), NOW).is_ok());
        let next = NOW.plus(Duration::from_secs(1));
        assert_eq!(store.nonce_check(nonce.as_str(), next).unwrap_err(), NonceError::Bad);
    }
}
