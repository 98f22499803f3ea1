//! Orders: what they read as.

use std::time::Duration;

use akamu_proto::{ErrorType, Identifier, OrderStatus};
use akamu_store::{Authorization, IssuanceBegun, Order, OrderCreated, StoreError, ValidationOutcome};

use crate::database::{NOW, on_both_databases};
use crate::scene::{self, DAY, account, begin, new_issuance, new_order, record, reread};

on_both_databases! {
    async fn an_order_is_read_as_it_was_asked(database) {
        let store = &database.store;
        let account = account(store).await;
        let names = ["z.example", "*.a.example", "a.example", "m.example"];
        let order = scene::order(store, account, &names).await;
        let identifiers: Vec<_> = names.iter().map(|it| Identifier::dns(it).unwrap()).collect();
        assert_eq!(order.identifiers, identifiers);
        assert_eq!((order.status, order.expires_at, order.created_at), (OrderStatus::Pending, NOW.plus(DAY), NOW));
        assert_eq!(reread(store, &order).await, order);
        for (id, identifier) in order.authorizations.iter().zip(identifiers) {
            assert_eq!(scene::found::<Authorization>(store, account, *id, NOW).await.unwrap().identifier, identifier);
        }
    }

    async fn another_accounts_order_is_absent(database) {
        let store = &database.store;
        let order = scene::order(store, account(store).await, &["a.example"]).await;
        assert_eq!(scene::found::<Order>(store, account(store).await, order.id, NOW).await, None);
    }

    async fn an_expired_order_reads_invalid(database) {
        let store = &database.store;
        let account = account(store).await;
        let order = scene::order(store, account, &["a.example"]).await;
        let just_before = NOW.plus(DAY - Duration::from_micros(1));
        assert_eq!(scene::found::<Order>(store, account, order.id, just_before).await.unwrap().status, OrderStatus::Pending);
        let expired = scene::found::<Order>(store, account, order.id, NOW.plus(DAY)).await.unwrap();
        assert_eq!(expired.status, OrderStatus::Invalid);
        assert_eq!(expired.error.unwrap().error_type, ErrorType::Malformed);
    }

    async fn an_order_whose_authorization_expired_reads_invalid(database) {
        let store = &database.store;
        let account = account(store).await;
        let hour = NOW.plus(Duration::from_secs(3600));
        let pending = scene::order(store, account, &["a.example", "b.example"]).await;
        let ready = scene::order(store, account, &["b.example"]).await;
        for (order, status) in [(&pending, OrderStatus::Pending), (&ready, OrderStatus::Ready)] {
            let lease = begin(store, account, order.authorizations[0]).await;
            record(store, lease, ValidationOutcome::Valid { expires_no_later_than: Some(hour) }).await;
            assert_eq!(reread(store, order).await.status, status);
            let expired = scene::found::<Order>(store, account, order.id, hour).await.unwrap();
            assert_eq!(expired.status, OrderStatus::Invalid);
            assert_eq!(expired.error.unwrap().error_type, ErrorType::Malformed);
            let begun = store.issuance_begin(account, order.id, new_issuance(1), scene::lease(), hour).await.unwrap();
            assert!(matches!(&begun, IssuanceBegun::NotReady(it) if it.status == OrderStatus::Invalid), "{begun:?}");
        }
    }

    async fn an_order_made_again_is_the_same(database) {
        let store = &database.store;
        let new = new_order(account(store).await, &["a.example", "b.example"]);
        let OrderCreated::Created(first) = store.order_create(new.clone(), NOW).await.unwrap() else { panic!() };
        assert_eq!(store.order_create(new.clone(), NOW).await.unwrap(), OrderCreated::Created(first));
        // Another account's order with this id is an accident, not an answer.
        let mut foreign = new_order(account(store).await, &["c.example"]);
        foreign.id = new.id;
        let error = store.order_create(foreign, NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Constraint(_)), "{error:?}");
    }

    async fn a_hundred_identifiers_fit(database) {
        let store = &database.store;
        let names: Vec<_> = (0..100).map(|it| format!("host-{it}.example")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let order = scene::ready_order(store, account(store).await, &names).await;
        assert_eq!((order.status, order.identifiers.len()), (OrderStatus::Ready, 100));
    }
}
