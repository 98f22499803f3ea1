//! Housekeeping as clients and operators see it.

use std::time::Duration;

use serde_json::json;

use crate::client::Client;
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{finalize, ready_order};
use crate::metrics::{Scraped, scrape};
use crate::server::TestServer;

on_both_databases! {
    an_order_is_gone_a_month_after_it_expired,
    nothing_is_removed_where_housekeeping_is_off,
}

const DAY: Duration = Duration::from_secs(86_400);
const ADMIN: &str = "[admin]\nlisten_addr = \"127.0.0.1:0\"\n";

fn removed(scraped: &Scraped, kind: &str) -> f64 {
    scraped.value(&format!("akamu_housekeeping_removed_total{{kind=\"{kind}\"}}"))
}

/// Waits, an hour of the server's time after another, until so many of a kind have been removed.
async fn until_removed(server: &TestServer, kind: &str, count: f64) {
    let mut hours = 0;
    while removed(&scrape(server).await, kind) < count {
        assert!(hours < 48, "{kind}: {}", removed(&scrape(server).await, kind));
        hours += 1;
        server.clock.advance(Duration::from_secs(3600));
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn an_order_is_gone_a_month_after_it_expired(database: Database) {
    let shares_nonces = matches!(database, Database::Postgres(_));
    let server = database.server_with(ADMIN).await;
    let client = server.registered().await;
    let ready = ready_order(&server, &client, &["gone.test"], "http-01").await;
    let url = ready.header("location").to_owned();
    let order = ready.json();
    finalize(&client, &order, &["gone.test"]).await;
    let certificate = client.post_as_get(&url).await.expect(200).json()["certificate"].as_str().unwrap().to_owned();
    until_removed_orders(&server, &client, &url).await;
    client.post_as_get(&url).await.expect_problem(404, "malformed");
    let authorization = order["authorizations"][0].as_str().unwrap();
    client.post_as_get(authorization).await.expect_problem(404, "malformed");
    // The certificate is kept, and so is the account.
    client.post_as_get(&certificate).await.expect(200);
    client.post(&client.kid, &json!({})).await.expect(200);
    assert_eq!(removed(&scrape(&server).await, "certificate"), 0.0);
    // A CRL once three newer ones are there; a nonce an hour after it was redeemed.
    until_removed(&server, "crl", 1.0).await;
    if shares_nonces {
        until_removed(&server, "nonce", 10.0).await;
    }
}

async fn until_removed_orders(server: &TestServer, client: &Client, url: &str) {
    // An order takes a day, and is kept for thirty.
    server.clock.advance(DAY * 31 - Duration::from_secs(1));
    client.post_as_get(url).await.expect(200);
    until_removed(server, "order", 1.0).await;
    until_removed(server, "authorization", 1.0).await;
}

async fn nothing_is_removed_where_housekeeping_is_off(database: Database) {
    let server = database.server_with("[housekeeping]\nenabled = false\n").await;
    let client = server.registered().await;
    let url = client.new_order(&["kept.test"]).await.expect(201).header("location").to_owned();
    for time in [DAY * 40, DAY, DAY / 24] {
        server.clock.advance(time);
        client.post_as_get(&url).await.expect(200);
    }
    let count = "SELECT CAST(count(*) AS TEXT) AS text FROM orders";
    assert_eq!(Beside::of(&server.place).text(count), "1");
}
