//! The CRL is made anew in time, also after a failure.

use std::time::Duration;

use crate::client::Key;
use crate::database::{Beside, Database, on_both_databases};

on_both_databases! {
    a_crl_that_could_not_be_made_is_tried_again,
}

/// Half of a CRL's life, by default.
const HALF: Duration = Duration::from_secs(43_200);

async fn a_crl_that_could_not_be_made_is_tried_again(database: Database) {
    let server = database.server().await;
    let client = server.client(Key::p256());
    let first = client.get("/ca/crl").await.expect(200).body;
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
            assert!(seconds < HALF.as_secs() / 2, "no attempt in {seconds} s");
            seconds += 1;
            server.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        last = beside.text(number);
    }
    assert!(client.get("/ca/crl").await.expect(200).body == first, "the CRL before is served meanwhile");
    beside.execute("ALTER TABLE lost_crls RENAME TO crls");
    let mut seconds = 0;
    while client.get("/ca/crl").await.expect(200).body == first {
        assert!(seconds < HALF.as_secs() / 2, "no CRL in {seconds} s");
        seconds += 1;
        server.clock.advance(Duration::from_secs(1));
    }
}
