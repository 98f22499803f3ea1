//! More requests at once than the server may have in hand.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::Processing;
use crate::polls::hold;

on_both_databases! {
    beyond_max_requests_what_was_begun_goes_on_and_nothing_new_is_begun,
    polls_that_are_held_are_not_in_hand,
}

async fn beyond_max_requests_what_was_begun_goes_on_and_nothing_new_is_begun(database: Database) {
    let server = database.server_with("[server]\nmax_requests = 1\n").await;
    let client = Arc::new(server.registered().await);
    let begun = client.new_order(&["begun.test"]).await.expect(201).json();
    let mut beside = Beside::of(&server.place);
    beside.execute(match database {
        Database::Sqlite => "BEGIN IMMEDIATE",
        Database::Postgres(_) => "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE",
    });
    // Whichever comes first waits for the database.
    let mut orders = JoinSet::new();
    for name in ["one.test", "two.test"] {
        let client = client.clone();
        orders.spawn(async move { client.new_order(&[name]).await });
    }
    let refused = orders.join_next().await.unwrap().unwrap().expect_problem(503, "serverInternal");
    assert_eq!(refused.header("retry-after"), "5");
    client.new_account(&json!({})).await.expect_problem(503, "serverInternal");
    client.post_as_get(begun["authorizations"][0].as_str().unwrap()).await.expect(200);
    beside.execute("COMMIT");
    orders.join_next().await.unwrap().unwrap().expect(201);
    client.new_order(&["three.test"]).await.expect(201);
}

async fn polls_that_are_held_are_not_in_hand(database: Database) {
    let settings = "[server]\nmax_requests = 1\nvalidation_timeout_secs = 3600\npoll_hold_ms = 60000\n";
    let server = database.server_with(settings).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let polls = hold(&client, &processing.authorization).await;
    client.new_order(&["other.test"]).await.expect(201);
    processing.provision(&server, &client);
    polls.join_all().await;
}
