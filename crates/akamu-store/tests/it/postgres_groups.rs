//! Changes on PostgreSQL that wait together and are committed together.

use std::future::Future;
use std::time::Duration;

use akamu_proto::AccountId;
use akamu_store::{NewOrder, Order, OrderCreated, Store, StoreError, ValidationRecorded};
use tokio::task::{JoinHandle, yield_now};

use crate::database::{NOW, Place, Raw, until_blocked};
use crate::scene::{VALID, account, begin, new_order, order, record};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// How many transactions have made the orders that there are.
const TRANSACTIONS: &str = "SELECT count(DISTINCT xmin::text) AS number FROM orders";
const ORDERS: &str = "SELECT count(*) AS number FROM orders";

/// A store with so many connections, and an account.
async fn with_connections(place: &Place, connections: u32) -> (Store, AccountId) {
    let options = place.options().max_connections(connections).connection_wait(HOUR);
    let store = Store::open(options.lock_timeout(HOUR).statement_timeout(HOUR), NOW).await.unwrap();
    let owner = account(&store).await;
    (store, owner)
}

/// Reads that keep all the store's connections busy, until the lock is given up.
pub(crate) async fn busy(place: &Place, store: &Store, owner: AccountId, connections: i64) -> Raw {
    let mut raw = place.raw();
    raw.execute("BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").unwrap();
    for _ in 0..connections {
        let store = store.clone();
        tokio::spawn(async move { store.account(owner).await });
    }
    until_blocked(&mut place.raw(), connections).await;
    raw
}

/// Begins with an operation, which waits for a connection once this returns.
pub(crate) async fn waiting<T: Send + 'static>(operation: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let task = tokio::spawn(operation);
    yield_now().await;
    task
}

pub(crate) async fn created(store: Store, new: NewOrder) -> Result<(), StoreError> {
    let created = store.order_create(new, NOW).await?;
    assert!(matches!(created, OrderCreated::Created(_)), "{created:?}");
    Ok(())
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let Some(place) = Place::postgres() else { return };
    let (store, owner) = with_connections(&place, 1).await;
    let mut busy = busy(&place, &store, owner, 1).await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        tasks.push(waiting(created(store.clone(), new_order(owner, &["a.example"]))).await);
    }
    let last = waiting(created(store.clone(), new_order(owner, &["b.example"]))).await;
    busy.execute("COMMIT").unwrap();
    for task in tasks.into_iter().chain([last]) {
        task.await.unwrap().unwrap();
    }
    assert_eq!((busy.number(ORDERS), busy.number(TRANSACTIONS)), (17, 2), "the first of a group waits for sixteen");
}

#[tokio::test]
async fn what_fails_is_undone_alone() {
    let Some(place) = Place::postgres() else { return };
    let (store, owner) = with_connections(&place, 1).await;
    let before = order(&store, owner, &["a.example"]).await;
    let mut bad = new_order(owner, &["bad.example"]);
    bad.authorizations[0].id = before.authorizations[0];
    let mut busy = busy(&place, &store, owner, 1).await;
    let good = new_order(owner, &["b.example"]);
    let first = waiting(created(store.clone(), good.clone())).await;
    let second = waiting(created(store.clone(), bad)).await;
    let third = waiting(created(store.clone(), new_order(owner, &["c.example"]))).await;
    busy.execute("COMMIT").unwrap();
    first.await.unwrap().unwrap();
    let refused = second.await.unwrap().unwrap_err();
    assert!(matches!(refused, StoreError::Constraint(_)), "{refused:?}");
    third.await.unwrap().unwrap();
    assert_eq!((busy.number(ORDERS), busy.number(TRANSACTIONS)), (3, 3));
    assert_eq!(store.order(owner, good.id, NOW).await.unwrap().unwrap().identifiers.len(), 1);
}

/// A result for each authorization, all of which are locked.
async fn blocked_results(
    store: &Store,
    order: &Order,
    locked: &mut Raw,
) -> Vec<impl Future<Output = ValidationRecorded> + Send + 'static> {
    let mut results = Vec::new();
    for id in &order.authorizations {
        let (store, held) = (store.clone(), begin(store, order.account, *id).await);
        results.push(async move { record(&store, held, VALID).await });
    }
    locked.execute("BEGIN; SELECT FROM authorizations FOR UPDATE").unwrap();
    results
}

async fn assert_recorded(tasks: Vec<JoinHandle<ValidationRecorded>>) {
    for task in tasks {
        let recorded = task.await.unwrap();
        assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_lock_keeps_nobody_in_its_group_waiting() {
    let Some(place) = Place::postgres() else { return };
    let (store, owner) = with_connections(&place, 2).await;
    let order = order(&store, owner, &["a.example"]).await;
    let mut locked = place.raw();
    let mut results = blocked_results(&store, &order, &mut locked).await;
    let mut busy = busy(&place, &store, owner, 2).await;
    let result = waiting(results.remove(0)).await;
    let other = waiting(created(store.clone(), new_order(owner, &["b.example"]))).await;
    busy.execute("COMMIT").unwrap();
    tokio::time::timeout(MINUTE, other).await.unwrap().unwrap().unwrap();
    assert!(!result.is_finished());
    locked.execute("COMMIT").unwrap();
    assert_recorded(vec![result]).await;
}

#[tokio::test]
async fn who_waits_for_a_lock_keeps_nobody_behind_it_waiting() {
    let Some(place) = Place::postgres() else { return };
    let (store, owner) = with_connections(&place, 6).await;
    let order = order(&store, owner, &["a.example", "b.example", "c.example"]).await;
    let mut locked = place.raw();
    let mut tasks = Vec::new();
    for result in blocked_results(&store, &order, &mut locked).await {
        tasks.push(waiting(result).await);
        until_blocked(&mut place.raw(), i64::try_from(tasks.len()).unwrap()).await;
    }
    let other = created(store.clone(), new_order(owner, &["d.example"]));
    tokio::time::timeout(MINUTE, other).await.unwrap().unwrap();
    assert!(tasks.iter().all(|it| !it.is_finished()));
    locked.execute("COMMIT").unwrap();
    assert_recorded(tasks).await;
}

#[tokio::test]
async fn what_is_given_up_is_not_run() {
    let Some(place) = Place::postgres() else { return };
    let (store, owner) = with_connections(&place, 1).await;
    let mut busy = busy(&place, &store, owner, 1).await;
    let given_up = waiting(created(store.clone(), new_order(owner, &["a.example"]))).await;
    tokio::time::pause();
    tokio::time::advance(HOUR + MINUTE).await;
    let refused = given_up.await.unwrap().unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    tokio::time::resume();
    busy.execute("COMMIT").unwrap();
    created(store, new_order(owner, &["b.example"])).await.unwrap();
    assert_eq!(busy.number(ORDERS), 1);
}
