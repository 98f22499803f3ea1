//! Several servers on one PostgreSQL.

use std::time::Duration;

use akamu_proto::Timestamp;
use serde_json::json;

use crate::client::{Client, Key, base64url};
use crate::database::{Beside, Database};
use crate::issuance::{authorize, finalize, openssl_crl, pem_der, ready_order, verified_names};
use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, TestServer, epoch};

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

#[tokio::test]
async fn a_key_that_was_changed_at_another_replica_is_refused_at_once() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let here = database.server().await;
    let there = here.place.replica().start().await;
    let mut client = here.registered().await;
    // From here on the key is known here.
    client.post_as_get(&client.kid).await.expect(200);

    let mut elsewhere = there.client(Key::p256());
    let new_key = Key::p256();
    std::mem::swap(&mut client.http, &mut elsewhere.http);
    client.post(&client.url("/acme/key-change"), &client.key_change(&new_key)).await.expect(200);
    std::mem::swap(&mut client.http, &mut elsewhere.http);

    client.post_as_get(&client.kid).await.expect_problem(400, "malformed");
    let old_key = std::mem::replace(&mut client.key, new_key);
    client.post_as_get(&client.kid).await.expect(200);
    client.key = old_key;
    client.post_as_get(&client.kid).await.expect_problem(400, "malformed");
}

#[tokio::test]
async fn clocks_that_disagree_by_30_s_change_nothing() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let right = database.server().await;
    let ahead = right.place.replica().clock_error(30).start().await;
    let behind = right.place.replica().clock_error(-30).start().await;

    let mut leaves = Vec::new();
    for [a, b, c] in [[&right, &ahead, &behind], [&ahead, &behind, &right], [&behind, &right, &ahead]] {
        // Each step is taken by another replica than the one before.
        let mut client = a.registered().await;
        client.http = b.http.clone();
        let order = client.new_order(&["a.test"]).await.expect(201).json();
        client.http = c.http.clone();
        authorize(c, &client, &order, "dns-01").await;
        client.http = a.http.clone();
        let chain = finalize(&client, &order, &["a.test"]).await;
        assert_eq!(verified_names(&right, &chain), ["a.test"], "valid by the right time");

        // A nonce is good at each of them, and for one of them only.
        let url = client.kid.clone();
        for (giver, taker, other) in [(a, b, c), (b, c, a), (c, a, b), (a, c, b), (b, a, c), (c, b, a)] {
            client.http = giver.http.clone();
            let jws = client.key.jws(&client.protected(&url).await, "").to_string();
            client.http = taker.http.clone();
            client.post_raw(&url, jws.clone()).await.expect(200);
            client.http = other.http.clone();
            client.post_raw(&url, jws).await.expect_problem(400, "badNonce");
        }

        client.http = b.http.clone();
        let (_, leaf) = pem_der(&chain);
        client.post(&client.url("/acme/revoke-cert"), &json!({ "certificate": base64url(&leaf) })).await.expect(200);
        leaves.push(chain);
        for server in [a, b, c] {
            client.http = server.http.clone();
            lists(server, &client, leaves.len()).await;
        }
    }

    // Whoever made it, the newest CRL is valid to a client whose clock is a minute behind the one that is ahead.
    let crl = right.client(Key::p256()).get("/ca/crl").await.expect(200).body;
    for chain in leaves {
        let judged = judged(&right, &chain, &crl, epoch().minus(Duration::from_secs(30)));
        let errors: Vec<_> = judged.lines().filter(|it| it.contains(" depth lookup: ")).collect();
        assert_eq!(errors, ["error 23 at 0 depth lookup: certificate revoked"], "{judged}");
    }
}

/// What openssl says of a certificate, given a CRL, to a client whose clock says `now`.
fn judged(server: &TestServer, chain: &str, crl: &[u8], now: Timestamp) -> String {
    let [chain_file, crl_file] = ["judged.pem", "judged.crl"].map(|it| server.data_dir().join(it));
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&crl_file, crl).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["verify", "-crl_check", "-attime", &now.unix_secs().to_string(), "-CAfile"])
        .arg(server.root_pem())
        .arg("-CRLfile")
        .arg(&crl_file)
        .arg("-untrusted")
        .arg(&chain_file)
        .arg(&chain_file)
        .output()
        .expect("openssl must be installed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
