//! PostgreSQL as it fails: connections that die, answers that are lost, deadlocks.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akamu_proto::{AuthorizationStatus, CertificateId, ChallengeType, OrderStatus, RevocationReason};
use akamu_store::{
    AccountAnd, AccountCreated, IssuanceBegun, IssuanceRecorded, KeyChanged, Order, OrderCreated, Revoked, Store,
    ValidationBegun, ValidationRecorded,
};

use crate::database::{Database, NOW, Place, until_blocked};
use crate::postgres_groups::{busy, created, waiting};
use crate::scene::{
    self, NO_LIMITS, PROOF, VALID, account, begin, finalize, key, lease, new_account, new_certificate, new_issuance,
    new_order, record, reread,
};

/// Between a store and its server: loses the answer to the next message that has these octets, with its connection.
struct Proxy {
    port: u16,
    lost: Lost,
}

type Lost = Arc<Mutex<Option<Vec<u8>>>>;

impl Proxy {
    fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lost = Lost::default();
        let this = Self { port, lost: lost.clone() };
        // The thread ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).unwrap();
                let lost = lost.clone();
                std::thread::spawn(move || forward(client, server, &lost));
            }
        });
        this
    }

    fn lose_the_next_answer(&self) {
        self.lose_the_answer_to(b"COMMIT");
    }

    fn lose_the_answer_to(&self, octets: &[u8]) {
        *self.lost.lock().unwrap() = Some(octets.to_vec());
    }

    fn assert_lost(&self) {
        assert_eq!(*self.lost.lock().unwrap(), None, "no such message came by");
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, lost: &Lost) {
    let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let is_cut = Arc::new(AtomicBool::new(false));
    let answers = std::thread::spawn({
        let is_cut = is_cut.clone();
        move || {
            let mut octets = [0; 16_384];
            while let Ok(count @ 1..) = from_server.read(&mut octets) {
                // The server, which answers once it has committed, is heard no more.
                if is_cut.load(Ordering::SeqCst) || to_client.write_all(&octets[..count]).is_err() {
                    break;
                }
            }
            let _ = to_client.shutdown(Shutdown::Both);
        }
    });
    let mut octets = [0; 16_384];
    while let Ok(count @ 1..) = client.read(&mut octets) {
        let sent = &octets[..count];
        let has = |wanted: &Vec<u8>| sent.windows(wanted.len()).any(|it| it == wanted);
        let is_last = lost.lock().unwrap().take_if(|it| has(it)).is_some();
        is_cut.store(is_last, Ordering::SeqCst);
        if server.write_all(sent).is_err() || is_last {
            break;
        }
    }
    let _ = answers.join();
    let _ = server.shutdown(Shutdown::Both);
}

/// A store with so many connections, whose server is behind a proxy.
async fn behind_a_proxy(connections: u32) -> Option<(Database, Store, Proxy)> {
    let place = Place::postgres()?;
    let url = place.postgres_url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (user, host) =
        authority.rsplit_once('@').map_or((String::new(), authority), |(user, host)| (format!("{user}@"), host));
    let server = if host.contains(':') { host.to_owned() } else { format!("{host}:5432") };
    let proxy = Proxy::start(server);
    let url = format!("{scheme}://{user}127.0.0.1:{}/{path}", proxy.port);
    let options = akamu_store::StoreOptions::parse(&url, std::path::Path::new("/")).unwrap();
    let store = Store::open(options.max_connections(connections), NOW).await.unwrap();
    Some((Database::new(place).await, store, proxy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_answer_is_lost_is_done_once() {
    let Some((database, store, proxy)) = behind_a_proxy(10).await else { return };
    let store = &store;

    let new = new_account("a");
    proxy.lose_the_next_answer();
    let created = store.account_create(new.clone(), NOW).await.unwrap();
    assert!(matches!(created, AccountCreated::Created(_)), "{created:?}");
    proxy.assert_lost();

    let (jwk, b) = key("b");
    proxy.lose_the_next_answer();
    let changed = store.account_change_key(new.id, &new.thumbprint, &jwk, &b, NOW).await.unwrap();
    assert!(matches!(changed, KeyChanged::Changed(_)), "{changed:?}");
    proxy.assert_lost();

    // One statement, which commits by itself, as most of the others.
    proxy.lose_the_answer_to(b"a.example");
    let created = store.order_create(new_order(new.id, &["a.example"]), NOW).await.unwrap();
    let OrderCreated::Created(order) = created else { panic!("{created:?}") };
    proxy.assert_lost();

    let nonce = store.nonce_check(store.nonce_issue(NOW).as_str(), NOW).unwrap();
    // Its insert commits by itself. The nonce begins with the second of its issue.
    proxy.lose_the_answer_to(&u32::try_from(NOW.unix_secs()).unwrap().to_be_bytes());
    assert!(store.nonce_redeem(nonce, NOW).await.unwrap().is_some());
    proxy.assert_lost();

    let nonce = store.nonce_check(store.nonce_issue(NOW).as_str(), NOW).unwrap();
    proxy.lose_the_answer_to(&u32::try_from(NOW.unix_secs()).unwrap().to_be_bytes());
    let read = store.account_and::<Order>(new.id, order.id, Some(nonce), NOW).await.unwrap();
    assert!(matches!(read, AccountAnd::Found(_, Some(_), _)), "{read:?}");
    proxy.assert_lost();

    proxy.lose_the_answer_to(PROOF.as_bytes());
    let held = begin(store, new.id, order.authorizations[0]).await;
    assert_eq!(held.subject().attempt, 1);
    proxy.assert_lost();

    proxy.lose_the_answer_to(b"what was seen");
    let recorded = store.validation_record(held, VALID, b"what was seen", NOW).await.unwrap();
    assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
    proxy.assert_lost();

    let ready = reread(store, &order).await;
    let issuance = new_issuance(1);
    proxy.lose_the_answer_to(&issuance.csr_digest);
    let IssuanceBegun::Started(held) = finalize(store, &ready, issuance.clone()).await else { panic!() };
    proxy.assert_lost();

    let certificate = new_certificate(store, &held).await;
    let id = CertificateId::from_octets(held.subject().serial);
    proxy.lose_the_answer_to(id.as_octets());
    let recorded = store.issuance_record(held, certificate, NOW).await.unwrap();
    assert_eq!(recorded, IssuanceRecorded::Recorded(id));
    assert_eq!(reread(store, &ready).await.status, OrderStatus::Valid);
    proxy.assert_lost();

    proxy.lose_the_next_answer();
    let reason = RevocationReason::Superseded;
    assert_eq!(store.certificate_revoke(&issuance.serial, reason, NOW).await.unwrap(), Revoked::Revoked);
    proxy.assert_lost();

    let mut raw = database.raw();
    let rows = [("accounts", 1), ("orders", 1), ("authorizations", 1), ("certificates", 1), ("redeemed_nonces", 2)];
    for (table, count) in rows {
        assert_eq!(raw.number(&format!("SELECT count(*) AS number FROM {table}")), count, "{table}");
    }
}

#[tokio::test]
async fn a_group_whose_answer_is_lost_is_done_once() {
    let Some((database, store, proxy)) = behind_a_proxy(1).await else { return };
    let owner = account(&store).await;
    let mut busy = busy(database.place(), &store, owner, 1).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(waiting(created(store.clone(), new_order(owner, &["a.example"]))).await);
    }
    proxy.lose_the_next_answer();
    busy.execute("COMMIT").unwrap();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    proxy.assert_lost();
    let rows = "SELECT count(*) * 10 + count(DISTINCT xmin::text) AS number FROM orders";
    assert_eq!(busy.number(rows), 31, "three orders of one transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_validation_whose_answer_is_lost_waits_once() {
    let Some((_database, store, proxy)) = behind_a_proxy(10).await else { return };
    let owner = account(&store).await;
    let id = scene::order(&store, owner, &["a.example"]).await.authorizations[0];
    proxy.lose_the_answer_to(PROOF.as_bytes());
    let begun = scene::begin_as(&store, owner, id, &ChallengeType::HTTP_01, None, NOW).await;
    assert!(matches!(begun, ValidationBegun::Unchanged(_)), "{begun:?}");
    proxy.assert_lost();
    let claimed = store.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].subject().attempt, 1);
}

/// A statement that needs the name of this database, as `%I`.
fn in_this_database(statement: &str) -> String {
    format!("DO $$ BEGIN EXECUTE format('{}', current_database()); END $$", statement.replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_together_are_replaced() {
    let Some(place) = Place::postgres() else { return };
    let database = Database::new(place).await;
    let store = &database.store;
    let id = account(store).await;
    let mut raw = database.raw();
    // As many connections as the pool has.
    raw.execute("BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").unwrap();
    let reads: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.account(id).await.unwrap() })
        })
        .collect();
    until_blocked(&mut database.raw(), 10).await;
    raw.execute("COMMIT").unwrap();
    for read in reads {
        assert!(read.await.unwrap().is_some());
    }
    raw.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .unwrap();
    assert!(store.account(id).await.unwrap().is_some());
    account(store).await;
    store.ping().await.unwrap();
}

/// Who waits last looks for the deadlock and ends; that is the store's transaction, whatever the scheduler does. A row's
/// lock would not do for the other one: whoever comes first gets it once it is free, and the second run could be ended as
/// the first was. A table's goes to who has waited longest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_a_deadlock_ended_runs_again() {
    let Some(place) = Place::postgres() else { return };
    place.raw().execute(&in_this_database("ALTER DATABASE %I SET deadlock_timeout = '10ms'")).unwrap();
    let database = Database::new(place).await;
    let store = &database.store;
    let owner = account(store).await;
    let order = scene::order(store, owner, &["a.example"]).await;
    let held = begin(store, owner, order.authorizations[0]).await;
    let (mut gate, mut other) = (database.raw(), database.raw());
    other.execute("SET deadlock_timeout = '1h'; BEGIN; SELECT token FROM challenges FOR UPDATE").unwrap();
    // The store comes as far as the authorization, and waits.
    gate.execute("BEGIN; LOCK TABLE challenges IN SHARE MODE").unwrap();
    let recording = tokio::spawn({
        let store = store.clone();
        async move { record(&store, held, VALID).await }
    });
    until_blocked(&mut database.raw(), 1).await;
    let waiting = tokio::task::spawn_blocking(move || {
        other.execute("LOCK TABLE authorizations IN EXCLUSIVE MODE").unwrap();
        other.execute("COMMIT").unwrap();
    });
    until_blocked(&mut database.raw(), 2).await;
    gate.execute("COMMIT").unwrap();
    let recorded = recording.await.unwrap();
    assert!(matches!(recorded, ValidationRecorded::Recorded(_)), "{recorded:?}");
    waiting.await.unwrap();
    assert_eq!(reread(store, &order).await.status, OrderStatus::Ready);
}

/// Whoever has the authorization may take the challenge too; the result finds what they made of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_waits_for_the_authorization_before_it_takes_the_challenge() {
    let Some(place) = Place::postgres() else { return };
    let database = Database::new(place).await;
    let store = &database.store;
    let owner = account(store).await;
    for (left, is_wanted) in [("pending", true), ("deactivated", false)] {
        let order = scene::order(store, owner, &["a.example"]).await;
        let held = begin(store, owner, order.authorizations[0]).await;
        let mut other = database.raw();
        other.execute("BEGIN; SELECT id FROM authorizations FOR UPDATE").unwrap();
        let recording = tokio::spawn({
            let store = store.clone();
            async move { record(&store, held, VALID).await }
        });
        until_blocked(&mut database.raw(), 1).await;
        other.execute("SET LOCAL lock_timeout = '1ms'; SELECT token FROM challenges FOR UPDATE").unwrap();
        other
            .execute(&format!("UPDATE authorizations SET status = '{left}' WHERE status = 'pending'; COMMIT"))
            .unwrap();
        match recording.await.unwrap() {
            ValidationRecorded::Recorded(it) => assert!(is_wanted && it.status == AuthorizationStatus::Valid, "{it:?}"),
            ValidationRecorded::NoLongerWanted => assert!(!is_wanted),
            ValidationRecorded::LeaseLost => panic!("nobody else had it"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_on_one_order_never_wait_for_each_other_in_a_ring() {
    let Some(place) = Place::postgres() else { return };
    let database = Database::new(place).await;
    let (store, _) = database.another_replica(Duration::ZERO).await;
    for _ in 0..20 {
        let owner = account(&store).await;
        let order = scene::order(&store, owner, &["a.example", "b.example"]).await;
        let mut tasks = Vec::new();
        for id in order.authorizations.clone() {
            let held = begin(&store, owner, id).await;
            let other = store.clone();
            tasks.push(tokio::spawn(async move { drop(record(&other, held, VALID).await) }));
            let other = store.clone();
            tasks.push(tokio::spawn(async move {
                drop(other.authorization_deactivate(owner, id, NOW).await.unwrap());
            }));
        }
        let other = store.clone();
        tasks.push(tokio::spawn(async move { drop(other.account_deactivate(owner, NOW).await.unwrap()) }));
        let other = store.clone();
        tasks.push(tokio::spawn(async move {
            drop(other.validations_claim(lease(), NO_LIMITS, NOW).await.unwrap());
        }));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(reread(&store, &order).await.status, OrderStatus::Invalid);
    }
    // A backend writes its statistics at its end.
    drop(store);
    let mut raw = database.raw();
    let others = "SELECT count(*) AS number FROM pg_stat_activity \
                  WHERE datname = current_database() AND application_name LIKE 'akamu-server%'";
    while raw.number(others) > 1 {
        tokio::task::yield_now().await;
    }
    let deadlocks = "SELECT deadlocks AS number FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(raw.number(deadlocks), 0);
}
