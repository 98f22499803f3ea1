//! What a stop, a crash and a lost database leave, and what the next start makes of it.

use std::pin::pin;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::client::Client;
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{Processing, challenge, csr, finalize, provision, ready_order, verified_names};
use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, TestServer};
use crate::transport::half;

on_both_databases! {
    a_restart_finds_the_same_ca_and_the_same_accounts,
    a_stop_lets_a_validation_end,
    a_stop_gives_back_what_does_not_end,
    a_stop_does_not_wait_for_a_slow_client,
    a_crash_leaves_a_validation_that_is_done_again,
    what_another_replica_has_queued_is_validated_within_seconds,
    an_issuance_that_was_cut_off_is_taken_over_within_seconds,
}

/// The next start validates again, without being asked.
async fn assert_validated_again(server: &TestServer, client: Client, processing: Processing) {
    let client = Client { http: server.http.clone(), ..client };
    processing.provision(server, &client);
    let authorization = loop {
        let authorization = client.post_as_get(&processing.authorization).await.expect(200).json();
        if authorization["status"] != "pending" {
            break authorization;
        }
        server.clock.advance(Duration::from_secs(1));
    };
    assert_eq!(authorization["status"], "valid", "{authorization}");
    let order = client.post_as_get(&processing.order).await.expect(200).json();
    finalize(&client, &order, &[processing.name()]).await;
}

pub(crate) async fn a_restart_finds_the_same_ca_and_the_same_accounts(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = client.new_order(&["restart.test"]).await.expect(201);
    let root = std::fs::read(server.root_pem()).unwrap();
    let nonce = client.nonce().await;
    let server = server.shut_down().await.start().await;
    assert_eq!(std::fs::read(server.root_pem()).unwrap(), root);
    let client = Client { http: server.http.clone(), ..client };

    // A restart costs a client one badNonce at most.
    let protected = json!({ "alg": "ES256", "kid": client.kid, "nonce": nonce, "url": client.kid });
    let mut answer = client.post_raw(&client.kid, client.key.jws(&protected, "").to_string()).await;
    if answer.status != 200 {
        let nonce = answer.header("replay-nonce").to_owned();
        answer.expect_problem(400, "badNonce");
        let protected = json!({ "alg": "ES256", "kid": client.kid, "nonce": nonce, "url": client.kid });
        answer = client.post_raw(&client.kid, client.key.jws(&protected, "").to_string()).await;
    }
    answer.expect(200);
    let known = client.new_account(&json!({})).await.expect(200);
    assert_eq!(known.header("location"), client.kid);
    assert_eq!(client.post_as_get(order.header("location")).await.expect(200).json(), order.json());
}

async fn a_stop_lets_a_validation_end(database: Database) {
    let server = database.server_with("[server]\nvalidation_timeout_secs = 3600\n").await;
    let client = server.registered().await;
    let processing = Processing::begin(&server, &client).await;
    let tokens = server.tokens();
    let mut stopping = pin!(server.shut_down());
    // The stop waits for the validation, and only then for nothing.
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut stopping).is_pending());
        tokio::task::yield_now().await;
    }
    let token = processing.token();
    tokens.send_modify(|tokens| drop(tokens.insert(token.clone(), format!("{token}.{}", client.key.thumbprint()))));
    let server = stopping.await.start().await;
    let client = Client { http: server.http.clone(), ..client };
    let authorization = client.post_as_get(&processing.authorization).await.expect(200).json();
    assert_eq!(authorization["status"], "valid", "{authorization}");
}

async fn a_stop_gives_back_what_does_not_end(database: Database) {
    let server = database.server_with("[server]\nvalidation_timeout_secs = 3600\n").await;
    let client = server.registered().await;
    let processing = Processing::begin(&server, &client).await;
    let clock = server.clock.clone();
    let mut stopping = pin!(server.shut_down());
    // Twenty seconds are all that it gets.
    assert!(futures_util::poll!(&mut stopping).is_pending());
    clock.advance(Duration::from_secs(19));
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut stopping).is_pending());
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(1));
    let place = stopping.await;
    // At once, on PostgreSQL too: the lease went back, it did not expire.
    let server = place.start().await;
    assert_validated_again(&server, client, processing).await;
}

async fn a_stop_does_not_wait_for_a_slow_client(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let (mut stream, rest_of_it) = half(&server, &client, &client.kid, "").await;
    let clock = server.clock.clone();
    let begun = tokio::time::Instant::now();
    let mut stopping = pin!(server.shut_down());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    clock.advance(Duration::from_secs(20));
    let place = stopping.await;
    assert!(begun.elapsed() < Duration::from_secs(50), "a body may take 60 s");
    stream.write_all(rest_of_it.as_bytes()).await.unwrap();
    place.start().await;
}

pub(crate) async fn a_crash_leaves_a_validation_that_is_done_again(database: Database) {
    // A runtime that ends takes all tasks of its server with it, at whatever they are.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let place = Place::on(&database);
    let server = doomed.spawn(place.clone().start()).await.unwrap();
    let client = server.registered().await;
    let processing = Processing::begin(&server, &client).await;
    drop(server);
    doomed.shutdown_background();

    let server = place.later(60).start().await;
    assert_validated_again(&server, client, processing).await;
}

/// Lets time pass until the order has this status: twenty seconds at most, less than a lease lasts.
async fn becomes(server: &TestServer, client: &Client, order: &str, status: &str) -> Value {
    let mut seconds = 20;
    let mut pass = || {
        if seconds > 0 {
            seconds -= 1;
            server.clock.advance(Duration::from_secs(1));
        }
    };
    let reached = async {
        loop {
            let mut poll = pin!(client.post_as_get(order));
            let answer = loop {
                tokio::select! {
                    answer = &mut poll => break answer.expect(200).json(),
                    // The server may hold the poll.
                    _ = client.nonce() => pass(),
                }
            };
            if answer["status"] == status {
                return answer;
            }
            pass();
        }
    };
    // Far more than it takes: only so that a server that forgets it does not hang the test.
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, reached).await.unwrap_or_else(|_| panic!("{order} does not become {status}"))
}

async fn what_another_replica_has_queued_is_validated_within_seconds(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = client.new_order(&["queued.test"]).await.expect(201);
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let authorization = client.post_as_get(&authorization).await.expect(200).json();
    let dns_01 = challenge(&authorization, "dns-01");
    provision(&server, &client, &authorization, &dns_01);
    let proof = format!("{}.{}", dns_01["token"].as_str().unwrap(), client.key.thumbprint());
    let mut beside = Beside::of(&server.place);
    beside.execute(&format!(
        "UPDATE challenges SET status = 'processing', key_auth = '{proof}' WHERE challenge_type = 'dns-01'"
    ));
    becomes(&server, &client, order.header("location"), "ready").await;
    // Of a type that this server does not know, or not any more.
    let order = client.new_order(&["gone.test"]).await.expect(201);
    beside.execute(
        "UPDATE challenges SET status = 'processing', key_auth = 'x', challenge_type = 'gone-01' \
         WHERE challenge_type = 'dns-01' AND status = 'pending'",
    );
    let invalid = becomes(&server, &client, order.header("location"), "invalid").await;
    assert_eq!(invalid["error"]["type"], "urn:ietf:params:acme:error:serverInternal");
    assert!(invalid["error"]["detail"].as_str().unwrap().contains("not configured any more"), "{invalid}");
}

async fn an_issuance_that_was_cut_off_is_taken_over_within_seconds(database: Database) {
    let server = database.server().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["cut.test"], "dns-01").await;
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let payload = json!({ "csr": csr(&["cut.test"]) });
    let mut beside = Beside::of(&server.place);
    // What the CA has signed cannot be stored.
    beside.execute("ALTER TABLE certificates RENAME TO lost_certificates");
    let failed = client.post(&finalize, &payload).await.expect_problem(500, "serverInternal");
    assert!(!failed.text().contains("certificates"), "nothing of the database: {}", failed.text());
    assert!(!failed.headers.contains_key("retry-after"), "to wait is of no use");
    let processing = client.post_as_get(order.header("location")).await.expect(200);
    assert_eq!(processing.json()["status"], "processing");
    assert_eq!(processing.header("retry-after"), "1");
    assert_eq!(client.post(&finalize, &payload).await.expect(200).json(), processing.json());
    let other = json!({ "csr": csr(&["cut.test"]) });
    client.post(&finalize, &other).await.expect_problem(403, "orderNotReady");
    beside.execute("ALTER TABLE lost_certificates RENAME TO certificates");
    beside.execute("UPDATE orders SET lease_expires_at = 1");
    let valid = becomes(&server, &client, order.header("location"), "valid").await;
    let chain = client.post_as_get(valid["certificate"].as_str().unwrap()).await.expect(200);
    assert_eq!(verified_names(&server, chain.text()), ["cut.test"]);
}

#[tokio::test]
async fn without_its_database_the_server_says_so_and_recovers() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let server = database.server_with("[admin]\nlisten_addr = \"127.0.0.1:0\"\n").await;
    let client = server.registered().await;
    let ready = format!("http://{}/readyz", server.running.admin_addr.unwrap());
    let url = database.url();
    let (server_url, name) = url.rsplit_once('/').unwrap();
    let allow = |allowed: bool| {
        let mut beside = PgConnection::establish(&format!("{server_url}/postgres")).unwrap();
        beside.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")).unwrap();
        let all = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        beside.batch_execute(&all).unwrap();
    };
    allow(false);
    let response = reqwest::get(&ready).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.starts_with("database: "), "{text}");
    // From here on nothing waits: each that did would take seconds.
    for _ in 0..100 {
        let answer = client.post(&client.kid, &json!({})).await.expect_problem(503, "serverInternal");
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
        assert!(!answer.text().contains("akamu_"), "nothing of the database: {}", answer.text());
    }
    allow(true);
    // By itself: the pool connects, whether anybody asks or not.
    while reqwest::get(&ready).await.unwrap().status() != 200 {}
    client.post(&client.kid, &json!({})).await.expect(200);
}
