//! Whoever has many validations, or slow ones, does not make the others wait.

use std::time::Duration;

use akamu_challenge::LookupError;
use serde_json::{Value, json};

use crate::client::Client;
use crate::database::{Database, on_both_databases};
use crate::issuance::{challenge, provision, settled};
use crate::server::TestServer;

on_both_databases! {
    five_hundred_dead_targets_of_one_account_delay_no_other,
    five_hundred_dead_targets_of_ten_accounts_delay_no_other,
    a_place_that_gets_free_goes_round_the_accounts,
}

/// What is begun does not end before the test does.
const ENDLESS: &str = "[server]\nvalidation_timeout_secs = 3600\n";

/// Begins to validate `count` names, of which nothing will ever be heard.
async fn begin_dead(server: &TestServer, client: &Client, count: usize) {
    let names: Vec<_> = (0..count).map(|n| format!("n{n}.dead.test")).collect();
    for name in &names {
        server.names.set_addresses(name, Err(LookupError::Timeout));
    }
    for names in names.chunks(100) {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let order = client.new_order(&names).await.expect(201).json();
        for url in order["authorizations"].as_array().unwrap() {
            let url = format!("{}/http-01", url.as_str().unwrap().replace("/authz/", "/chall/"));
            assert_eq!(client.post(&url, &json!({})).await.expect(200).json()["status"], "processing");
        }
    }
}

/// Begins to validate a name by http-01: the authorization, and its challenge.
async fn begin(server: &TestServer, client: &Client, name: &str) -> (String, Value, Value) {
    server.name_here(name);
    let order = client.new_order(&[name]).await.expect(201).json();
    let url = order["authorizations"][0].as_str().unwrap().to_owned();
    let authorization = client.post_as_get(&url).await.expect(200).json();
    let http_01 = challenge(&authorization, "http-01");
    client.post(http_01["url"].as_str().unwrap(), &json!({})).await.expect(200);
    (url, authorization, http_01)
}

async fn assert_validates(server: &TestServer, name: &str) {
    let client = server.registered().await;
    let (url, authorization, http_01) = begin(server, &client, name).await;
    provision(server, &client, &authorization, &http_01);
    assert_eq!(settled(&client, &url).await["status"], "valid");
}

async fn five_hundred_dead_targets_of_one_account_delay_no_other(database: Database) {
    let server = database.server_with(&format!("{ENDLESS}max_concurrent_validations = 400\n")).await;
    begin_dead(&server, &server.registered().await, 500).await;
    assert_validates(&server, "alive.test").await;
}

async fn five_hundred_dead_targets_of_ten_accounts_delay_no_other(database: Database) {
    let server = database.server_with(ENDLESS).await;
    for _ in 0..10 {
        begin_dead(&server, &server.registered().await, 50).await;
    }
    assert_validates(&server, "alive.test").await;
}

async fn a_place_that_gets_free_goes_round_the_accounts(database: Database) {
    let server = database.server_with(&format!("{ENDLESS}max_concurrent_validations = 4\n")).await;
    // Each has a quarter: together they have all places, and more that wait.
    let mut busy = Vec::new();
    for n in 0..4 {
        let client = server.registered().await;
        let mut begun = Vec::new();
        for m in 0..5 {
            // Ids begin with the time: the queue is in this order.
            server.clock.advance(Duration::from_millis(1));
            begun.push(begin(&server, &client, &format!("n{m}.busy{n}.test")).await);
        }
        busy.push((client, begun));
    }
    let late = server.registered().await;
    let (url, authorization, http_01) = begin(&server, &late, "late.test").await;
    provision(&server, &late, &authorization, &http_01);
    // The first of the busy ones ends, and the second: by then it was the late one's turn.
    let (client, begun) = &busy[0];
    for (url, authorization, http_01) in &begun[..2] {
        provision(&server, client, authorization, http_01);
        assert_eq!(settled(client, url).await["status"], "valid");
    }
    assert_eq!(settled(&late, &url).await["status"], "valid");
}
