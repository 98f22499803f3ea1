//! The CRL is made anew in time, also after a failure.

use std::time::Duration;

use akamu_challenge::Clock as _;

use crate::client::Key;
use crate::database::{Beside, Database, on_both_databases};

on_both_databases! {
    a_crl_that_could_not_be_made_is_tried_again,
}

/// Half of a CRL's life, by default.
const HALF: Duration = Duration::from_secs(43_200);

async fn a_crl_that_could_not_be_made_is_tried_again(database: Database) {
    let server = database.server_with("[admin]\nlisten_addr = \"127.0.0.1:0\"\n").await;
    let client = server.client(Key::p256());
    let first = client.get("/ca/crl").await.expect(200).body;
    let next_update = server.clock.now().plus(HALF * 2);
    let ready = format!("http://{}/readyz", server.running.admin_addr.unwrap());
    let readiness = async || reqwest::get(&ready).await.unwrap().text().await.unwrap();
    let mut beside = Beside::of(&server.place);
    // Each attempt draws a number before anything else, and keeps it whatever comes of the attempt.
    let number = "SELECT CAST(value AS TEXT) AS text FROM counters WHERE name = 'crl_number'";
    beside.execute("ALTER TABLE crls RENAME TO lost_crls");
    let mut last = beside.text(number);
    server.clock.advance(HALF);
    // The second number says that the first attempt has failed.
    for _ in 0..2 {
        let mut seconds = 0;
        while beside.text(number) == last {
            assert!(seconds < HALF.as_secs() / 3, "no attempt in {seconds} s");
            seconds += 1;
            server.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        last = beside.text(number);
    }
    // The one before is served until it is out of date, and then too.
    assert_eq!(readiness().await, "ready\n");
    server.clock.advance(next_update.since(server.clock.now()));
    assert_eq!(readiness().await, format!("crl: out of date since {next_update}\n"));
    assert!(client.get("/ca/crl").await.expect(200).body == first);
    beside.execute("ALTER TABLE lost_crls RENAME TO crls");
    let mut seconds = 0;
    while client.get("/ca/crl").await.expect(200).body == first {
        assert!(seconds < HALF.as_secs() / 3, "no CRL in {seconds} s");
        seconds += 1;
        server.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(readiness().await, "ready\n");
}
