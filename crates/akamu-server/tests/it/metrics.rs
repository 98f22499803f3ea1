//! /metrics after real requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Clock as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{Processing, finalize, ready_order};
use crate::polls::hold;
use crate::server::{Place, TestServer};
use crate::transport::{half, rest};

on_both_databases! {
    a_certificate_takes_few_statements,
    an_issuance_is_counted,
    what_another_replica_left_is_counted,
}

const ADMIN: &str = "[admin]\nlisten_addr = \"127.0.0.1:0\"\n";

/// What /metrics says.
pub(crate) struct Scraped(String);

pub(crate) async fn scrape(server: &TestServer) -> Scraped {
    let url = format!("http://{}/metrics", server.running.admin_addr.unwrap());
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Scraped(response.text().await.unwrap())
}

/// Scrapes until what was asked for a moment ago is seen.
async fn until(server: &TestServer, is_so: impl Fn(&Scraped) -> bool) {
    for _ in 0..1_000 {
        if is_so(&scrape(server).await) {
            return;
        }
    }
    panic!("{}", scrape(server).await.0);
}

impl Scraped {
    /// A sample's value; 0 where there is none.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        values.map(|it| it.parse().unwrap()).next().unwrap_or(0.0)
    }

    /// Statements by operation since `before`, of the requests and validations of clients: what runs once a minute is
    /// left out.
    fn statements_since(&self, before: &Self) -> BTreeMap<String, f64> {
        let others =
            ["commit", "clock_renew", "validations_claim", "issuances_claim", "crl_check", "authorizations_processing"];
        let samples = self.0.lines().filter(|line| line.starts_with("akamu_store_statements_total{"));
        let since = samples.filter_map(|line| {
            let (sample, count) = line.split_once(' ')?;
            let operation = sample.split('"').nth(1)?;
            let since = count.parse::<f64>().unwrap() - before.value(sample);
            (since > 0.0 && !others.contains(&operation)).then(|| (operation.to_owned(), since))
        });
        since.collect()
    }

    #[track_caller]
    fn assert(&self, samples: &[(&str, f64)]) {
        for (sample, value) in samples {
            assert_eq!(self.value(sample), *value, "{sample}\n{}", self.0);
        }
    }
}

async fn an_issuance_is_counted(database: Database) {
    let server = Place::on(&database).path("/pki").settings(ADMIN).start().await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["counted.test"], "http-01").await.json();
    finalize(&client, &order, &["counted.test"]).await;
    client.get("/acme/nothing-of-ours").await.expect_problem(404, "malformed");
    client.post(&format!("{}/acme/order/{}", server.base, "A".repeat(22)), &json!({})).await.expect(400);
    let scraped = scrape(&server).await;
    scraped.assert(&[
        ("akamu_requests_total{route=\"/acme/new-order\",status=\"2xx\"}", 1.0),
        ("akamu_request_duration_seconds_count{route=\"/acme/new-order\"}", 1.0),
        ("akamu_requests_total{route=\"/acme/order/{id}/finalize\",status=\"2xx\"}", 1.0),
        ("akamu_requests_total{route=\"/acme/order/{id}\",status=\"4xx\"}", 1.0),
        ("akamu_requests_total{route=\"none\",status=\"4xx\"}", 1.0),
        ("akamu_refusals_total{type=\"malformed\"}", 2.0),
        ("akamu_validation_duration_seconds_count{type=\"http-01\",result=\"valid\"}", 1.0),
        ("akamu_certificates_issued_total", 1.0),
        ("akamu_store_operation_duration_seconds_count{operation=\"order_create\"}", 1.0),
        ("akamu_store_operation_errors_total{operation=\"order_create\"}", 0.0),
    ]);
    assert!(!scraped.0.contains("nothing-of-ours") && !scraped.0.contains("AAAA"), "{}", scraped.0);
    let number =
        Beside::of(&server.place).text("SELECT CAST(value AS TEXT) AS text FROM counters WHERE name = 'crl_number'");
    assert_eq!(scraped.value("akamu_crl_number"), number.parse::<f64>().unwrap());
    let now = server.clock.now().unix_secs() as f64;
    assert_eq!(scraped.value("akamu_crl_this_update_timestamp_seconds"), now);
    assert!(scraped.value("akamu_issuer_not_after_timestamp_seconds") > now + 9.0 * 365.0 * 86_400.0);
}

/// The database refuses what the store asks.
#[tokio::test]
async fn errors_of_the_store_are_counted() {
    let server = Database::Sqlite.server_with(ADMIN).await;
    let client = server.registered().await;
    Beside::of(&server.place).execute("ALTER TABLE orders RENAME TO lost_orders");
    client.new_order(&["lost.test"]).await.expect_problem(500, "serverInternal");
    let scraped = scrape(&server).await;
    assert!(scraped.value("akamu_store_operation_errors_total{operation=\"order_create\"}") >= 1.0, "{}", scraped.0);
    scraped.assert(&[
        ("akamu_refusals_total{type=\"serverInternal\"}", 1.0),
        ("akamu_requests_total{route=\"/acme/new-order\",status=\"5xx\"}", 1.0),
    ]);
}

#[tokio::test]
async fn held_polls_are_counted_while_they_are_held() {
    let settings = format!("{ADMIN}[server]\nvalidation_timeout_secs = 3600\n");
    let server = Database::Sqlite.server_with(&settings).await;
    let client = Arc::new(server.registered().await);
    let processing = Processing::begin(&server, &client).await;
    let polls = hold(&client, &processing.authorization).await;
    // Each has its place before it is held, so the last ones may be a moment behind.
    until(&server, |scraped| scraped.value("akamu_held_polls") == 20.0).await;
    processing.provision(&server, &client);
    polls.join_all().await;
    scrape(&server).await.assert(&[("akamu_held_polls", 0.0)]);
}

async fn what_another_replica_left_is_counted(database: Database) {
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let place = Place::on(&database).settings(ADMIN);
    let server = doomed.spawn(place.clone().start()).await.unwrap();
    let client = server.registered().await;
    let _processing = Processing::begin(&server, &client).await;
    drop(server);
    doomed.shutdown_background();

    let server = place.later(60).start().await;
    let sample = "akamu_leases_taken_over_total{work=\"validation\"}";
    let mut seconds = 0;
    while scrape(&server).await.value(sample) == 0.0 {
        assert!(seconds < 60, "not taken over in {seconds} s");
        seconds += 1;
        server.clock.advance(Duration::from_secs(1));
    }
    scrape(&server).await.assert(&[(sample, 1.0)]);
}

#[tokio::test]
async fn slow_clients_are_counted() {
    let server = Database::Sqlite.server_with(ADMIN).await;
    let client = server.registered().await;
    let tcp = async || TcpStream::connect(server.place.address()).await.unwrap();
    let before = scrape(&server).await.value("akamu_connections");
    let silent = tcp().await;
    until(&server, |scraped| scraped.value("akamu_connections") > before).await;
    let plain = TcpStream::connect(server.running.admin_addr.unwrap()).await.unwrap();
    let mut header = TcpStream::connect(server.running.admin_addr.unwrap()).await.unwrap();
    header.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    let (body, _) = half(&server, &client, &client.kid, "").await;
    // From here on time passes as fast as all wait for it.
    tokio::time::pause();
    for stream in [silent, plain, header] {
        rest(stream).await;
    }
    rest(body).await;
    tokio::time::resume();
    scrape(&server).await.assert(&[
        ("akamu_connection_timeouts_total{phase=\"handshake\"}", 1.0),
        ("akamu_connection_timeouts_total{phase=\"first_octet\"}", 1.0),
        ("akamu_connection_timeouts_total{phase=\"body\"}", 1.0),
    ]);
    assert!(scrape(&server).await.value("akamu_connection_timeouts_total{phase=\"request\"}") >= 1.0);
}

async fn a_certificate_takes_few_statements(database: Database) {
    // PostgreSQL makes an order in one statement, records a result in one, and a certificate; it redeems a nonce by itself
    // before an account's key has been seen.
    let expected = if matches!(database, Database::Postgres(_)) { 12.0 } else { 10.0 };
    let server = database.server_with(ADMIN).await;
    let client = Arc::new(server.registered().await);
    let before = scrape(&server).await;
    let processing = Processing::begin(&server, &client).await;
    let poll = tokio::spawn({
        let (client, url) = (client.clone(), processing.authorization.clone());
        async move { client.post_as_get(&url).await }
    });
    // A poll that comes while the result is recorded reads once more.
    until(&server, |scraped| scraped.value("akamu_held_polls") == 1.0).await;
    processing.provision(&server, &client);
    assert_eq!(poll.await.unwrap().expect(200).json()["status"], "valid");
    let order = json!({ "finalize": format!("{}/finalize", processing.order) });
    finalize(&client, &order, &[processing.name()]).await;
    let statements = scrape(&server).await.statements_since(&before);
    assert_eq!(statements.values().sum::<f64>(), expected, "{statements:#?}");
}
