//! Accounts: one for a key, and what becomes of a closed one's work.

use akamu_proto::{AccountStatus, AuthorizationStatus, OrderStatus};
use akamu_store::{
    AccountAnd, AccountCreated, Authorization, KeyChanged, Order, OrderCreated, RedeemedNonce, StoreError,
    ValidationBegun, ValidationRecorded,
};

use crate::database::{NOW, on_both_databases};
use crate::scene::{
    self, DAY, NO_LIMITS, VALID, account, begin, enqueue, key, lease, new_account, new_order, record, reread,
};

on_both_databases! {
    async fn a_key_has_one_account(database) {
        let store = &database.store;
        let new = new_account("a");
        let AccountCreated::Created(created) = store.account_create(new.clone(), NOW).await.unwrap() else { panic!() };
        assert_eq!((created.id, &created.jwk, &created.contact), (new.id, &new.jwk, &new.contact));
        assert_eq!(created.status, AccountStatus::Valid);
        assert_eq!(store.account(new.id).await.unwrap(), Some(created.clone()));
        assert_eq!(store.account_by_thumbprint(&new.thumbprint).await.unwrap(), Some(created.clone()));
        let again = store.account_create(new_account("a"), NOW).await.unwrap();
        assert_eq!(again, AccountCreated::Existing(created));
    }

    async fn an_account_id_is_never_given_twice(database) {
        let store = &database.store;
        let first = new_account("a");
        store.account_create(first.clone(), NOW).await.unwrap();
        let mut second = new_account("b");
        second.id = first.id;
        let error = store.account_create(second, NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Constraint(_)), "{error:?}");
    }

    async fn twenty_new_accounts_with_one_key_are_one(database) {
        let replicas = database.replicas().await;
        let tasks: Vec<_> = (0..20)
            .map(|it| {
                let store = replicas[it % 3].clone();
                tokio::spawn(async move { store.account_create(new_account("a"), NOW).await.unwrap() })
            })
            .collect();
        let mut created = Vec::new();
        let mut existing = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                AccountCreated::Created(account) => created.push(account.id),
                AccountCreated::Existing(account) => existing.push(account.id),
            }
        }
        assert_eq!((created.len(), existing.len()), (1, 19));
        assert!(existing.iter().all(|it| *it == created[0]));
    }

    async fn contacts_are_replaced(database) {
        let store = &database.store;
        let id = account(store).await;
        let updated = store.account_update_contact(id, vec!["mailto:b@example.com".to_owned()], NOW).await.unwrap();
        assert_eq!(updated.unwrap().contact, ["mailto:b@example.com"]);
        store.account_deactivate(id, NOW).await.unwrap();
        assert_eq!(store.account_update_contact(id, Vec::new(), NOW).await.unwrap(), None);
    }

    async fn a_key_change_keeps_every_thumbprint(database) {
        let store = &database.store;
        let new = new_account("a");
        store.account_create(new.clone(), NOW).await.unwrap();
        let ((_, a), (jwk, b)) = (key("a"), key("b"));
        let KeyChanged::Changed(changed) = store.account_change_key(new.id, &a, &jwk, &b, NOW).await.unwrap() else {
            panic!()
        };
        assert_eq!((&changed.jwk, &changed.thumbprint), (&jwk, &b));
        assert_eq!(store.account_thumbprints(new.id).await.unwrap(), [b.clone(), a.clone()]);
        assert_eq!(store.account_by_thumbprint(&a).await.unwrap(), None);
        // The key that was given up is anybody's.
        assert!(matches!(store.account_create(new_account("a"), NOW).await.unwrap(), AccountCreated::Created(_)));
        // And back is not possible now, nor from a key that is not the account's.
        let (jwk, _) = key("a");
        let in_use = store.account_change_key(new.id, &b, &jwk, &a, NOW).await.unwrap();
        assert!(matches!(in_use, KeyChanged::KeyInUse(other) if other != new.id), "{in_use:?}");
        let (jwk, c) = key("c");
        assert_eq!(store.account_change_key(new.id, &a, &jwk, &c, NOW).await.unwrap(), KeyChanged::Conflict);
    }

    async fn who_asks_after_a_change_is_told_of_it(database) {
        let store = &database.store;
        let new = new_account("a");
        store.account_create(new.clone(), NOW).await.unwrap();
        let order = scene::order(store, new.id, &["a.example"]).await;
        let asked = || async {
            let read = store.account(new.id).await.unwrap().unwrap();
            let with_order = store.account_and::<Order>(new.id, order.id, None, NOW).await.unwrap();
            let AccountAnd::Found(account, Some(order), _) = with_order else { panic!("{with_order:?}") };
            assert_eq!(*account, read);
            let alone = store.account_and::<()>(new.id, (), None, NOW).await.unwrap();
            assert_eq!(alone, AccountAnd::Found(read.into(), Some(()), RedeemedNonce::default()));
            (account, order.status)
        };
        let (before, status) = asked().await;
        assert_eq!((&before.contact, status), (&new.contact, OrderStatus::Pending));
        store.account_update_contact(new.id, vec!["mailto:b@example.com".to_owned()], NOW).await.unwrap();
        assert_eq!(asked().await.0.contact, ["mailto:b@example.com"]);
        let (jwk, b) = key("b");
        store.account_change_key(new.id, &new.thumbprint, &jwk, &b, NOW).await.unwrap();
        assert_eq!(asked().await.0.thumbprint, b);
        store.account_deactivate(new.id, NOW).await.unwrap();
        let (after, status) = asked().await;
        assert_eq!((after.status, status), (AccountStatus::Deactivated, OrderStatus::Invalid));
    }

    async fn two_accounts_that_take_one_key_at_once_do_not_share_it(database) {
        let store = &database.store;
        let ids = [new_account("a"), new_account("b")];
        for new in &ids {
            store.account_create(new.clone(), NOW).await.unwrap();
        }
        let (jwk, c) = key("c");
        let change = |index: usize| store.account_change_key(ids[index].id, &ids[index].thumbprint, &jwk, &c, NOW);
        let (one, other) = tokio::join!(change(0), change(1));
        let outcomes = [one.unwrap(), other.unwrap()];
        let changed = outcomes.iter().filter(|it| matches!(it, KeyChanged::Changed(_))).count();
        let refused = outcomes.iter().filter(|it| matches!(it, KeyChanged::KeyInUse(_))).count();
        assert_eq!((changed, refused), (1, 1), "{outcomes:?}");
    }

    async fn a_closed_account_ends_its_work(database) {
        let store = &database.store;
        let id = account(store).await;
        let running = scene::order(store, id, &["a.example"]).await;
        let waiting = scene::order(store, id, &["b.example"]).await;
        let held = begin(store, id, running.authorizations[0]).await;
        enqueue(store, id, waiting.authorizations[0]).await;

        let closed = store.account_deactivate(id, NOW).await.unwrap().unwrap();
        assert_eq!(closed.status, AccountStatus::Deactivated);
        for order in [&running, &waiting] {
            let order = reread(store, order).await;
            assert_eq!(order.status, OrderStatus::Invalid);
            assert!(order.error.is_some());
        }
        assert!(store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap().is_empty());
        assert_eq!(record(store, held, VALID).await, ValidationRecorded::NoLongerWanted);
        let authorization = scene::found::<Authorization>(store, id, running.authorizations[0], NOW).await.unwrap();
        assert_eq!(authorization.status, AuthorizationStatus::Deactivated);
        let begun = scene::begin_as(
            store,
            id,
            running.authorizations[0],
            &akamu_proto::ChallengeType::DNS_01,
            Some(lease()),
            NOW,
        ).await;
        assert!(matches!(begun, ValidationBegun::Unchanged(_)), "{begun:?}");
        let refused = store.order_create(new_order(id, &["c.example"]), NOW).await.unwrap();
        assert_eq!(refused, OrderCreated::AccountNotValid);
        // Its key stays its own.
        let known = store.account_create(new_account("other"), NOW.plus(DAY)).await.unwrap();
        assert!(matches!(known, AccountCreated::Created(_)));
        assert_eq!(store.account_by_thumbprint(&closed.thumbprint).await.unwrap(), Some(closed));
    }
}
