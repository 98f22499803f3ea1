//! Held polls: who asks for a state that is about to change learns of the change at once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Answer, Client, Key};
use crate::database::{Database, on_both_databases};
use crate::issuance::{Processing, settled};
use crate::postgres_database::PostgresDatabase;

on_both_databases! {
    polls_of_an_authorization_are_answered_when_it_changes,
    polls_of_an_order_are_answered_when_it_is_ready,
    a_poll_is_held_for_poll_hold_ms_at_most,
    without_poll_hold_ms_no_poll_is_held,
    polls_are_answered_when_an_authorization_is_deactivated,
}

/// A probe waits until the test lets it end, however slow the machine is.
const PATIENT: &str = "[server]\nvalidation_timeout_secs = 3600\n";
/// How many polls are held for one account.
const HELD: usize = 20;

/// More polls than are held: the last is answered at once, so the others are held for certain.
pub(crate) async fn hold(client: &Arc<Client>, url: &str) -> JoinSet<Answer> {
    let mut polls = JoinSet::new();
    for _ in 0..=HELD {
        let (client, url) = (client.clone(), url.to_owned());
        polls.spawn(async move { client.post_as_get(&url).await });
    }
    let at_once = polls.join_next().await.unwrap().unwrap().expect(200);
    assert_eq!(at_once.json()["status"], "pending");
    assert_eq!(polls.len(), HELD);
    polls
}

async fn polls_of_an_authorization_are_answered_when_it_changes(database: Database) {
    let server = database.server_with(PATIENT).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let polls = hold(&client, &processing.authorization).await;
    // Others are answered meanwhile: a held poll has no connection of the database.
    server.registered().await.new_order(&["other.test"]).await.expect(201);
    processing.provision(&server, &client);
    for answer in polls.join_all().await {
        assert_eq!(answer.expect(200).json()["status"], "valid");
    }
}

async fn polls_of_an_order_are_answered_when_it_is_ready(database: Database) {
    let server = database.server_with(PATIENT).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let polls = hold(&client, &processing.order).await;
    processing.provision(&server, &client);
    for answer in polls.join_all().await {
        assert_eq!(answer.expect(200).json()["status"], "ready");
    }
}

async fn a_poll_is_held_for_poll_hold_ms_at_most(database: Database) {
    let server = database.server_with(&format!("{PATIENT}poll_hold_ms = 1500\n")).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let mut polls = hold(&client, &processing.authorization).await;
    while !polls.is_empty() {
        tokio::select! {
            Some(answer) = polls.join_next() => {
                let answer = answer.unwrap();
                assert_eq!(answer.json()["status"], "pending");
                assert_eq!(answer.header("retry-after"), "1");
            }
            // Some begin to wait only now. A request takes long enough for the day not to pass meanwhile.
            _ = client.nonce() => server.clock.advance(Duration::from_millis(1_500)),
        }
    }
    processing.provision(&server, &client);
    assert_eq!(settled(&client, &processing.authorization).await["status"], "valid");
}

async fn without_poll_hold_ms_no_poll_is_held(database: Database) {
    let server = database.server_with(&format!("{PATIENT}poll_hold_ms = 0\n")).await;
    let client = server.registered().await;
    let processing = Processing::begin(&server, &client).await;
    for url in [&processing.authorization, &processing.order] {
        assert_eq!(client.post_as_get(url).await.expect(200).json()["status"], "pending");
    }
}

pub(crate) async fn polls_are_answered_when_an_authorization_is_deactivated(database: Database) {
    let server = database.server_with(PATIENT).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let polls = hold(&client, &processing.order).await;
    client.post(&processing.authorization, &json!({ "status": "deactivated" })).await.expect(200);
    for answer in polls.join_all().await {
        assert_eq!(answer.expect(200).json()["status"], "invalid");
    }
    // Nobody waits for it any more.
    let deactivated = client.post_as_get(&processing.authorization).await.expect(200);
    assert!(!deactivated.headers.contains_key("retry-after"), "{deactivated:?}");
    // The validation ends, and its result changes nothing any more.
    processing.provision(&server, &client);
    let deactivated = client.post_as_get(&processing.authorization).await.expect(200).json();
    assert_eq!(deactivated["status"], "deactivated");
}

/// Neither balancer nor client knows where a validation runs.
#[tokio::test]
async fn a_poll_is_answered_when_another_replica_has_decided() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let here = database.server_with(&format!("{PATIENT}poll_hold_ms = 60000\n")).await;
    let there = here.place.replica().start().await;
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let mut client = here.client(Key::p256_from_pkcs8(&key));
    client.register().await;
    let elsewhere = there.client(Key::p256_from_pkcs8(&key));
    let elsewhere = Arc::new(Client { kid: client.kid.clone(), ..elsewhere });
    for url in [|it: &Processing| it.authorization.clone(), |it: &Processing| it.order.clone()] {
        let processing = Processing::begin(&here, &client).await;
        let polls = hold(&elsewhere, &url(&processing)).await;
        processing.provision(&here, &client);
        assert_eq!(settled(&client, &processing.authorization).await["status"], "valid");
        let mut polls = std::pin::pin!(polls.join_all());
        let mut steps = 0;
        let answers = loop {
            tokio::select! {
                answers = &mut polls => break answers,
                _ = client.nonce() => {
                    there.clock.advance(Duration::from_millis(50));
                    steps += 1;
                }
            }
        };
        assert!(steps < 1_200, "they were held until their time was over");
        for answer in answers {
            assert_ne!(answer.expect(200).json()["status"], "pending");
        }
    }
    there.shut_down().await;
}
