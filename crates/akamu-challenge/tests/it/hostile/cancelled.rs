//! An attempt that is dropped, at whichever await, leaves no connection, no task and no permit behind.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use akamu_challenge::{Deadline, Dns01, LookupError, Validator};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{DEADLINE, KEY_AUTHORIZATION, World, clock, read_until, request, run};
use crate::tls_server::{self, chain_and_key};

/// Polls `future` so often, and then drops it. Whether it came to its end before.
async fn polled<F: Future>(future: F, times: usize) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            // The last poll is followed by the drop at once, not when something happens.
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops attempts after each number of polls until one comes to its end, and returns how many were dropped.
async fn drop_everywhere(world: &World, validator: &dyn Validator) -> usize {
    let request = request("example.com");
    let mut times = 0;
    while !polled(validator.validate(&request, Deadline::after(DEADLINE)), times).await {
        assert_eq!(world.watched.open(), 0, "after {times} polls");
        // The servers in memory see the end, and end.
        sleep(Duration::from_secs(30)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "after {times} polls");
        times += 1;
        assert!(times < 10_000);
    }
    times
}

/// That 32 connections to `address` can be had at once: no permit is taken.
async fn all_permits_are_free(world: &World, validator: &dyn Validator, address: &str) {
    world.watched.network.hang(address.parse().unwrap());
    let before = world.watched.network.dialled().len();
    let request = request("example.com");
    let attempts = (0..40).map(|_| validator.validate(&request, Deadline::after(Duration::from_secs(1))));
    futures_util::future::join_all(attempts).await;
    assert_eq!(world.watched.network.dialled().len() - before, 32);
}

#[test]
fn http_01_and_its_redirects_can_be_dropped_anywhere() {
    run(async {
        let world = World::new();
        let (chain, key) = chain_and_key("good-p256");
        let config = tls_server::config(chain, key, &TLS13, &[]);
        world.watched.network.serve("10.0.0.80:80".parse().unwrap(), |mut peer| async move {
            let head = String::from_utf8(read_until(&mut peer, b"\r\n\r\n").await).unwrap();
            let answer = if head.starts_with("GET /2") {
                "HTTP/1.1 302 x\r\nLocation: https://example.com/3\r\n\r\n"
            } else {
                "HTTP/1.1 302 x\r\nLocation: /2\r\n\r\n"
            };
            for octet in answer.bytes() {
                sleep(Duration::from_millis(1)).await;
                if peer.write_u8(octet).await.is_err() {
                    return;
                }
            }
        });
        world.watched.network.serve("10.0.0.80:443".parse().unwrap(), move |peer| {
            let config = Arc::clone(&config);
            async move {
                let Ok(mut tls) = tls_server::accept(&config, peer).await else { return };
                let _ = tls.read(&mut [0; 1024]).await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}");
                for octet in answer.bytes() {
                    if tls.write_u8(octet).await.is_err() || tls.flush().await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let validator = world.http_01().with_redirects(2, []);
        let dropped = drop_everywhere(&world, &validator).await;
        assert!(dropped > 100, "{dropped}");
        all_permits_are_free(&world, &validator, "10.0.0.80:80").await;
    });
}

#[test]
fn tls_alpn_01_can_be_dropped_anywhere() {
    for version in [&TLS12, &TLS13] {
        run(async {
            let world = World::new();
            let (chain, key) = chain_and_key("good-p256");
            let config = tls_server::config(chain, key, version, &["acme-tls/1"]);
            world.watched.network.serve("10.0.0.80:443".parse().unwrap(), move |peer| {
                let config = Arc::clone(&config);
                async move {
                    if let Ok(mut tls) = tls_server::accept(&config, peer).await {
                        let _ = tls.read_to_end(&mut Vec::new()).await;
                    }
                }
            });
            let validator = world.tls_alpn_01();
            assert!(drop_everywhere(&world, &validator).await > 1);
            all_permits_are_free(&world, &validator, "10.0.0.80:443").await;
        });
    }
}

#[test]
fn an_attempt_that_looks_up_connects_or_waits_for_its_turn_can_be_dropped() {
    run(async {
        let world = World::new();
        let (http_01, request) = (world.http_01(), request("example.com"));
        let attempt = || http_01.validate(&request, Deadline::after(DEADLINE));
        let second = Duration::from_secs(1);
        // While 32 connect, and eight wait for their turn.
        world.watched.network.hang("10.0.0.80:80".parse().unwrap());
        let forty = futures_util::future::join_all((0..40).map(|_| attempt()));
        assert!(tokio::time::timeout(second, forty).await.is_err());
        all_permits_are_free(&world, &http_01, "10.0.0.80:80").await;
        // While the address, or the record, is looked up.
        world.names.set_addresses("example.com", Err(LookupError::Timeout));
        world.names.set_txt("_acme-challenge.example.com", Err(LookupError::Timeout));
        assert!(tokio::time::timeout(second, attempt()).await.is_err());
        let dns_01 = Dns01::new(world.names.clone(), clock());
        assert!(tokio::time::timeout(second, dns_01.validate(&request, Deadline::after(DEADLINE))).await.is_err());
        assert_eq!((world.watched.open(), Handle::current().metrics().num_alive_tasks()), (0, 0));
    });
}
