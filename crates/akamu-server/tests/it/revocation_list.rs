//! The CRL is made anew in time, also after a failure.

use std::time::Duration;

use akamu_challenge::Clock as _;
use serde_json::json;

use crate::client::{Client, Key, base64url};
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{finalize, openssl_crl, pem_der, ready_order};
use crate::server::TestServer;

on_both_databases! {
    a_crl_that_could_not_be_made_is_tried_again,
    an_expired_certificate_leaves_the_crl_one_crl_later,
    a_start_serves_the_crl_of_before_and_soon_a_newer_one,
}

/// Half of a CRL's life.
const HALF: Duration = Duration::from_secs(21_600);

async fn a_crl_that_could_not_be_made_is_tried_again(database: Database) {
    let server =
        database.server_with("[admin]\nlisten_addr = \"127.0.0.1:0\"\n[ca]\ncrl_next_update_secs = 43200\n").await;
    let client = server.client(Key::p256());
    let first = client.get("/ca/crl").await.expect(200).body;
    let next_update = server.clock.now().plus(HALF * 2);
    let ready = format!("http://{}/readyz", server.running.admin_addr.unwrap());
    let readiness = async || reqwest::get(&ready).await.unwrap().text().await.unwrap();
    let mut beside = Beside::of(&server.place);
    // Each attempt draws a number before anything else, and keeps it whatever comes of the attempt.
    let number = "SELECT CAST(value AS TEXT) AS text FROM counters WHERE name = 'crl_number'";
    beside.execute("ALTER TABLE certificates RENAME TO lost_certificates");
    let mut last = beside.text(number);
    server.clock.advance(HALF);
    // The second number says that the first attempt has failed.
    for at_least in [0, 20] {
        let mut seconds = 0;
        while beside.text(number) == last {
            assert!(seconds < HALF.as_secs() / 3, "no attempt in {seconds} s");
            seconds += 1;
            server.clock.advance(Duration::from_secs(1));
            client.get("/ca/crl").await.expect(200);
        }
        assert!(seconds >= at_least, "again after {seconds} s");
        last = beside.text(number);
    }
    // The one before is served until it is out of date, and then too.
    assert_eq!(readiness().await, "ready\n");
    server.clock.advance(next_update.since(server.clock.now()));
    assert_eq!(readiness().await, format!("crl: out of date since {next_update}\n"));
    assert!(client.get("/ca/crl").await.expect(200).body == first);
    beside.execute("ALTER TABLE lost_certificates RENAME TO certificates");
    let second = newer(&server, &client, &first).await;
    assert_eq!(readiness().await, "ready\n");
    server.clock.advance(HALF);
    newer(&server, &client, &second).await;
}

/// The next CRL, which comes without much time passing.
async fn newer(server: &TestServer, client: &Client, before: &[u8]) -> Vec<u8> {
    for _ in 0..HALF.as_secs() / 3 {
        let crl = client.get("/ca/crl").await.expect(200).body;
        if crl != before {
            return crl;
        }
        server.clock.advance(Duration::from_secs(1));
    }
    panic!("there is no newer CRL");
}

/// Also where the database is a restored one: CRLs that were published since had numbers between the two.
async fn a_start_serves_the_crl_of_before_and_soon_a_newer_one(database: Database) {
    let server = database.server().await;
    let of_before = server.client(Key::p256()).get("/ca/crl").await.expect(200).body;
    let place = server.shut_down().await;
    let mut beside = Beside::of(&place);
    // Until it has its table again, no CRL can be made.
    beside.execute("ALTER TABLE certificates RENAME TO lost_certificates");
    let server = place.start().await;
    let client = server.client(Key::p256());
    assert!(client.get("/ca/crl").await.expect(200).body == of_before);
    beside.execute("ALTER TABLE lost_certificates RENAME TO certificates");
    let next = newer(&server, &client, &of_before).await;
    let (before, next) = (crl_number(&of_before), crl_number(&next));
    assert!(next > before, "{next} after {before}");

    // Not one that our key has not signed: who asks for the CRL waits for the next, and not without end.
    let place = server.shut_down().await;
    beside.execute("UPDATE crls SET der = substr(der, 1, 40)");
    beside.execute("ALTER TABLE certificates RENAME TO lost_certificates");
    let server = place.start().await;
    let client = server.client(Key::p256());
    let waited = async {
        let asked_at = server.clock.now();
        let refused = client.get("/ca/crl").await.expect(503);
        assert_eq!(refused.header("retry-after"), "5");
        server.clock.now().since(asked_at)
    };
    let waited = tokio::select! {
        waited = waited => waited,
        () = second_by_second(&server) => unreachable!("it does not end"),
    };
    assert!(waited >= Duration::from_secs(5), "it was not waited for: {waited:?}");
    beside.execute("ALTER TABLE lost_certificates RENAME TO certificates");
    let made_at_start = async {
        loop {
            let answer = client.get("/ca/crl").await;
            if answer.status == 200 {
                return answer.body;
            }
        }
    };
    let made_at_start = tokio::select! {
        made = made_at_start => made,
        () = second_by_second(&server) => unreachable!("it does not end"),
    };
    assert!(crl_number(&made_at_start) > next);
}

/// Time that passes while something else happens.
async fn second_by_second(server: &TestServer) {
    loop {
        // A request of its own: whatever is due takes place before the next second.
        server.client(Key::p256()).get("/acme/directory").await.expect(200);
        server.clock.advance(Duration::from_secs(1));
    }
}

fn crl_number(crl: &[u8]) -> u128 {
    let text = openssl_crl(crl);
    let (_, number) = text.split_once("X509v3 CRL Number:").unwrap();
    let number = number.split_whitespace().next().unwrap();
    number.strip_prefix("0x").map_or_else(|| number.parse(), |it| u128::from_str_radix(it, 16)).unwrap()
}

async fn an_expired_certificate_leaves_the_crl_one_crl_later(database: Database) {
    let server = database.server_with("[ca]\nvalidity_days = 1\n").await;
    let client = server.registered().await;
    let order = ready_order(&server, &client, &["brief.test"], "dns-01").await.json();
    let (_, leaf) = pem_der(&finalize(&client, &order, &["brief.test"]).await);
    let has_entry = |crl: &[u8]| openssl_crl(crl).contains("Serial Number");
    let none = client.get("/ca/crl").await.expect(200).body;
    assert!(!has_entry(&none));
    client.post(&client.url("/acme/revoke-cert"), &json!({ "certificate": base64url(leaf) })).await.expect(200);
    let with_entry = newer(&server, &client, &none).await;
    assert!(has_entry(&with_entry));
    server.clock.advance(Duration::from_secs(25 * 3_600));
    let expired = newer(&server, &client, &with_entry).await;
    assert!(has_entry(&expired), "one CRL that is made after it has expired (RFC 5280 §3.3)");
    server.clock.advance(Duration::from_secs(24 * 3_600));
    assert!(!has_entry(&newer(&server, &client, &expired).await));
}
