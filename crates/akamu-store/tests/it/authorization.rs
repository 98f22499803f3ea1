//! Authorizations: who sees them, how they end, what they authorize.

use std::collections::HashSet;

use akamu_proto::{AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, OrderStatus};
use akamu_store::Authorization;

use crate::database::{NOW, on_both_databases};
use crate::scene::{self, DAY, VALID, account, begin, record, reread};

on_both_databases! {
    async fn anothers_and_an_expired_authorization_are_absent(database) {
        let store = &database.store;
        let owner = account(store).await;
        let id = scene::order(store, owner, &["*.a.example"]).await.authorizations[0];
        let found = scene::found::<Authorization>(store, owner, id, NOW).await.unwrap();
        assert_eq!((found.id, found.account, found.status), (id, owner, AuthorizationStatus::Pending));
        assert_eq!(found.identifier, Identifier::dns("*.a.example").unwrap());
        let types: Vec<_> = found.challenges.iter().map(|it| it.challenge_type.clone()).collect();
        assert_eq!(types, [ChallengeType::HTTP_01, ChallengeType::DNS_01, ChallengeType::DNS_PERSIST_01]);
        assert!(found.challenges.iter().all(|it| it.status == ChallengeStatus::Pending && it.attempt == 0));
        assert_eq!(scene::found::<Authorization>(store, account(store).await, id, NOW).await, None);
        assert_eq!(scene::found::<Authorization>(store, owner, id, NOW.plus(DAY)).await, None);
    }

    async fn giving_up_an_authorization_ends_its_orders(database) {
        let store = &database.store;
        let owner = account(store).await;
        let pending = scene::order(store, owner, &["a.example"]).await;
        let ready = scene::ready_order(store, owner, &["b.example"]).await;
        for order in [&pending, &ready] {
            let id = order.authorizations[0];
            let stranger = account(store).await;
            assert_eq!(store.authorization_deactivate(stranger, id, NOW).await.unwrap(), None);
            assert_eq!(reread(store, order).await.status, order.status);
            let given_up = store.authorization_deactivate(owner, id, NOW).await.unwrap().unwrap();
            assert_eq!(given_up.status, AuthorizationStatus::Deactivated);
            let order = reread(store, order).await;
            assert_eq!(order.status, OrderStatus::Invalid);
            assert!(order.error.is_some());
        }
        assert_eq!(store.authorization_deactivate(owner, pending.authorizations[0], NOW.plus(DAY)).await.unwrap(), None);
    }

    async fn giving_up_a_failed_authorization_changes_nothing(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example"]).await;
        let lease = begin(store, owner, order.authorizations[0]).await;
        record(store, lease, akamu_store::ValidationOutcome::Invalid(scene::problem("no"))).await;
        let found = store.authorization_deactivate(owner, order.authorizations[0], NOW).await.unwrap().unwrap();
        assert_eq!(found.status, AuthorizationStatus::Invalid);
    }

    async fn all_identifiers_must_be_authorized_now(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::ready_order(store, owner, &["a.example", "*.b.example"]).await;
        let check = async |names: &[&str], account, now| {
            let identifiers: Vec<_> = names.iter().map(|it| Identifier::dns(it).unwrap()).collect();
            store.identifiers_authorized(account, &identifiers, now).await.unwrap()
        };
        for (names, expect) in [
            (&["a.example"][..], true),
            (&["a.example", "*.b.example"], true),
            (&["b.example"], false),
            (&["*.a.example"], false),
            (&["a.example", "c.example"], false),
            (&[], false),
        ] {
            assert_eq!(check(names, owner, NOW).await, expect, "{names:?}");
        }
        assert!(!check(&["a.example"], owner, NOW.plus(DAY)).await);
        assert!(!check(&["a.example"], account(store).await, NOW).await);
        store.authorization_deactivate(owner, order.authorizations[0], NOW).await.unwrap();
        assert!(!check(&["a.example"], owner, NOW).await);
        let pending = scene::order(store, owner, &["d.example"]).await;
        assert!(!check(&["d.example"], owner, NOW).await);
        let lease = begin(store, owner, pending.authorizations[0]).await;
        record(store, lease, VALID).await;
        assert!(check(&["d.example"], owner, NOW).await);
    }

    async fn what_is_processing_is_told_until_it_is_decided_or_given_up(database) {
        let store = &database.store;
        let owner = account(store).await;
        let order = scene::order(store, owner, &["a.example", "b.example", "c.example", "d.example"]).await;
        let [a, b, c, d] = order.authorizations[..] else { panic!("{order:?}") };
        let processing = async || store.authorizations_processing(&[a, b, d]).await.unwrap();
        assert_eq!(processing().await, HashSet::new());
        let running = begin(store, owner, a).await;
        scene::enqueue(store, owner, b).await;
        let _of_another = begin(store, owner, c).await;
        assert_eq!(processing().await, HashSet::from([a, b]));
        store.authorization_deactivate(owner, b, NOW).await.unwrap();
        assert_eq!(processing().await, HashSet::from([a]));
        record(store, running, VALID).await;
        assert_eq!(processing().await, HashSet::new());
    }
}
