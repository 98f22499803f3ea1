//! What a web server answers to http-01, over a network in memory.
//!
//! The first octet says how: its low two bits how the connection ends, the next two in what pieces the rest comes.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork, TestPeer};
use akamu_challenge::{
    AddressPolicy, ChallengeError, Deadline, Http01, MAX_REPORT_OCTETS, Probe, ValidationReport, ValidationRequest,
    Validator as _,
};
use akamu_proto::{Identifier, Timestamp};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// As in vectors/http_01.json, so that its answers are good here too.
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
const ADDRESS: &str = "10.0.0.80";
/// How many octets come one by one.
const MAX_SINGLE: usize = 128;
const LIMIT: Duration = Duration::from_secs(10);

static REQUEST: LazyLock<ValidationRequest> = LazyLock::new(|| {
    ValidationRequest::with_key_authorization(
        Identifier::dns("example.com").expect("it is a name"),
        KEY_AUTHORIZATION.parse().expect("it is one"),
    )
});

fuzz_target!(|octets: &[u8]| {
    let Some((how, answer)) = octets.split_first() else { return };
    // Each run has a runtime of its own: it ends the tasks that the run before left behind.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(async {
        let (names, network) = (TestNames::default(), TestNetwork::default());
        let address = ADDRESS.parse().expect("it is an address");
        names.set_addresses("example.com", Ok(vec![address]));
        let (how, served) = (*how, answer.to_vec());
        network.serve((address, 80).into(), move |peer| serve(peer, how, served.clone()));
        let clock = TestClock::at(Timestamp::from_unix_secs(1_772_366_400));
        let probe = Probe::new(names, network.clone(), clock, AddressPolicy::default());
        let start = Instant::now();
        let report = Http01::new(probe, Http01::PORT).validate(&REQUEST, Deadline::after(LIMIT)).await;
        assert!(start.elapsed() <= LIMIT + Duration::from_millis(1), "{report}");
        assert_eq!(network.dialled().len(), 1, "{report}");
        check(&report, answer);
    });
});

async fn serve(mut peer: TestPeer, how: u8, answer: Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = peer.read_u8().await else { return };
        head.push(octet);
    }
    let (piece, pause) = match how >> 2 & 3 {
        0 => (usize::MAX, 0),
        1 => (1, 0),
        2 => (7, 100),
        _ => (512, 3_000),
    };
    // One by one is slow, and a body of thousands of octets tells nothing new.
    let (in_pieces, rest) = answer.split_at(if piece == 1 { answer.len().min(MAX_SINGLE) } else { answer.len() });
    for piece in in_pieces.chunks(piece).chain(rest.chunks(usize::MAX)) {
        if peer.write_all(piece).await.is_err() {
            return;
        }
        // Now the other side reads what is there. A sleep of no time would not let it.
        if pause == 0 { yield_now().await } else { sleep(Duration::from_millis(pause)).await }
    }
    match how & 3 {
        0 | 1 => {}
        2 => peer.reset(),
        _ => std::future::pending().await,
    }
}

fn check(report: &ValidationReport, answer: &[u8]) {
    assert!(report.to_octets().len() <= MAX_REPORT_OCTETS);
    assert!(!report.to_string().chars().any(|c| c.is_control() && c != '\n'), "{report}");
    match report.result() {
        Ok(_) => {
            assert!(answer.windows(3).any(|it| it == b"200"), "no such status was sent: {report}");
            // In one piece, or chunked; but every octet was sent, in this order.
            let mut sent = answer.iter();
            assert!(KEY_AUTHORIZATION.bytes().all(|octet| sent.any(|it| *it == octet)), "it was not sent: {report}");
        }
        Err(error) => {
            assert!(error.detail.len() <= ChallengeError::MAX_DETAIL);
            assert!(!error.detail.chars().any(char::is_control), "{:?}", error.detail);
        }
    }
}
