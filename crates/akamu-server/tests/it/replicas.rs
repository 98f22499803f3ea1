//! Several servers on one PostgreSQL.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Key, base64url};
use crate::database::{Beside, Database};
use crate::issuance::{finalize, openssl_crl, pem_der, ready_order};
use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, TestServer};

#[tokio::test]
async fn of_three_first_starts_at_once_one_comes_up_and_two_say_what_they_need() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let first = Place::on(&database);
    let places = [first.clone(), first.replica_without_keys(), first.replica_without_keys()];
    let [a, b, c] = places.map(Place::try_start);
    let (a, b, c) = tokio::join!(a, b, c);
    let (up, refused): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    assert_eq!((up.len(), refused.len()), (1, 2));
    for line in refused.into_iter().map(|it| it.err().unwrap().to_string()) {
        // One that came as soon as the first has made keys for nothing; one that came later made none.
        let soon = line.starts_with("the issuing certificate has SHA-256 ")
            && line.contains(", and the database expects ")
            && line.contains("give this server the same ca.key_file and ca.cert_file");
        let later = line.contains("/keys: the database has an issuer, and its keys are not here; ")
            && line.contains("copy the first server's");
        assert!((soon || later) && !line.contains('\n'), "{line}");
    }
    // Given the first one's keys, another comes up.
    let up = up.into_iter().next().unwrap().unwrap();
    let second = up.place.replica().start().await;
    second.registered().await.new_order(&["a.test"]).await.expect(201);
}

/// Lets time pass at `server` until its CRL has so many entries: at most a quarter of a minute.
async fn lists(server: &TestServer, client: &Client, entries: usize) {
    for _ in 0..150 {
        let crl = openssl_crl(&client.get("/ca/crl").await.expect(200).body);
        if crl.matches("Serial Number").count() == entries {
            return;
        }
        server.clock.advance(Duration::from_millis(100));
    }
    panic!("the CRL does not list {entries}");
}

#[tokio::test]
async fn a_revocation_is_on_every_replicas_crl_also_where_its_own_has_died() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let here = database.server().await;
    let there = here.place.replica().start().await;
    let client = here.registered().await;
    let elsewhere = there.client(Key::p256());
    let order = ready_order(&here, &client, &["a.test"], "dns-01").await.json();
    let (_, leaf) = pem_der(&finalize(&client, &order, &["a.test"]).await);
    client.post(&client.url("/acme/revoke-cert"), &json!({ "certificate": base64url(&leaf) })).await.expect(200);
    lists(&here, &client, 1).await;
    lists(&there, &elsewhere, 1).await;

    // One that was recorded by a replica that made no CRL any more.
    let order = ready_order(&here, &client, &["b.test"], "dns-01").await.json();
    finalize(&client, &order, &["b.test"]).await;
    here.shut_down().await;
    Beside::of(&there.place).execute(
        "UPDATE certificates SET revoked_at = 1, revocation_reason = 0 WHERE revoked_at IS NULL; \
         UPDATE counters SET value = value + 1 WHERE name = 'revocations'",
    );
    lists(&there, &elsewhere, 2).await;
}
