//! Names that lead where they must not: to ourselves, to a metadata service, to a thousand places, to another each time.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use akamu_challenge::{
    AddressPolicy, Connector, Deadline, Event, Http01, Lookup, LookupError, Probe, Resolver, Stream, TlsAlpn01,
    TxtRecord, Validator,
};
use akamu_proto::{DnsName, ErrorType};
use async_trait::async_trait;
use futures_util::future::{join, join_all};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::{DEADLINE, KEY_AUTHORIZATION, Seen, Then, World, clock, read_until, request, run, serve};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn answer() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}")
}

/// An attempt by both probing types at a name with these addresses, and what was dialled.
fn at(addresses: &[IpAddr]) -> Vec<(Seen, Vec<SocketAddr>)> {
    let attempt = |validator: fn(&World) -> Box<dyn Validator>| {
        run(async {
            let world = World::new();
            world.names.set_addresses("example.com", Ok(addresses.to_vec()));
            (world.validate(&*validator(&world)).await, world.watched.network.dialled())
        })
    };
    vec![attempt(|it| Box::new(it.http_01())), attempt(|it| Box::new(it.tls_alpn_01()))]
}

#[test]
fn no_wrapping_of_a_forbidden_address_is_dialled() {
    let forbidden =
        ["127.0.0.1", "127.255.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0"];
    for inner in forbidden {
        let inner: Ipv4Addr = inner.parse().unwrap();
        let [a, b, c, d] = inner.octets();
        let pairs = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        let [high, low] = pairs;
        for wrapped in [
            IpAddr::V4(inner),
            inner.to_ipv6_mapped().into(),
            ip(&format!("::{inner}")),
            ip(&format!("64:ff9b::{inner}")),
            ip(&format!("64:ff9b:1::{inner}")),
            ip(&format!("2002:{high:x}:{low:x}::1")),
            ip(&format!("2001:0:808:808:0:ffff:{:x}:{:x}", !high, !low)),
        ] {
            for (seen, dialled) in at(&[wrapped]) {
                assert_eq!(seen.error().0, ErrorType::Connection, "{wrapped}\n{}", seen.report);
                assert!(dialled.is_empty(), "{wrapped}: {dialled:?}");
            }
        }
    }
    for address in ["::1", "::", "fe80::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "255.255.255.255", "224.0.0.1"]
    {
        for (_, dialled) in at(&[ip(address)]) {
            assert!(dialled.is_empty(), "{address}: {dialled:?}");
        }
    }
}

#[test]
fn a_thousand_forbidden_addresses_are_told_shortly_and_hide_nothing() {
    let forbidden: Vec<IpAddr> = (0..1_000_u32).map(|it| Ipv4Addr::from(0x7f00_0000 + it).into()).collect();
    for (seen, dialled) in at(&forbidden) {
        assert!(dialled.is_empty());
        assert_eq!(seen.error().0, ErrorType::Connection);
        assert!(seen.report.to_string().contains("984 more addresses may not be dialled"), "{}", seen.report);
    }
    let with_one: Vec<IpAddr> = forbidden.into_iter().chain([ip("10.0.0.80")]).collect();
    for (seen, dialled) in at(&with_one) {
        assert_eq!(dialled.len(), 1);
        let last = &seen.report.transcript.last().unwrap().event;
        assert!(matches!(last, Event::Dialled { .. }), "{}", seen.report);
    }
}

#[test]
fn each_of_a_thousand_addresses_that_is_tried_has_its_share_and_no_more() {
    let (seen, dialled) = run(async {
        let world = World::new();
        let addresses: Vec<IpAddr> = (0..1_000_u32).map(|it| Ipv4Addr::from(0x0a00_0000 + it).into()).collect();
        for address in &addresses {
            world.watched.network.hang(SocketAddr::new(*address, 80));
        }
        world.names.set_addresses("example.com", Ok(addresses));
        (world.validate(&world.http_01()).await, world.watched.network.dialled())
    });
    let took = seen.report.transcript.iter().filter_map(|it| match it.event {
        Event::Dialled { duration_ms, .. } => Some(duration_ms),
        _ => None,
    });
    assert_eq!((dialled.len(), took.collect::<Vec<_>>()), (16, vec![625; 16]), "{}", seen.report);
    assert_eq!(seen.took, DEADLINE);
}

/// Answers each question with the next of these addresses.
#[derive(Clone, Debug)]
struct Rebinding {
    addresses: Vec<IpAddr>,
    asked: Arc<AtomicUsize>,
}

impl Rebinding {
    fn to(addresses: &[&str]) -> Self {
        Self { addresses: addresses.iter().map(|it| ip(it)).collect(), asked: Arc::default() }
    }
}

#[async_trait]
impl Resolver for Rebinding {
    async fn txt(&self, _: &str, _: Deadline) -> Lookup<TxtRecord> {
        Lookup { outcome: Err(LookupError::NoData), steps: Vec::new() }
    }

    async fn addresses(&self, _: &DnsName, _: Deadline) -> Lookup<IpAddr> {
        let question = self.asked.fetch_add(1, Ordering::SeqCst);
        let address = self.addresses[question.min(self.addresses.len() - 1)];
        Lookup { outcome: Ok(vec![address]), steps: Vec::new() }
    }
}

#[test]
fn what_was_judged_is_dialled_and_nobody_asks_again() {
    run(async {
        let world = World::new();
        let names = Rebinding::to(&["10.0.0.80", "127.0.0.1"]);
        serve(&world.watched.network, "10.0.0.80:80", answer(), Then::Close);
        let validator = Http01::new(world.probe_with(names.clone()), 80);
        assert!(world.validate(&validator).await.report.is_valid());
        assert_eq!((names.asked.load(Ordering::SeqCst), world.watched.network.dialled().len()), (1, 1));
        // The next attempt asks anew, and judges anew.
        let seen = world.validate(&validator).await;
        assert!(seen.error().1.contains("127.0.0.1 is loopback"), "{}", seen.report);
        assert_eq!((names.asked.load(Ordering::SeqCst), world.watched.network.dialled().len()), (2, 1));
    });
}

#[test]
fn a_redirect_to_the_same_name_is_looked_up_and_judged_anew() {
    run(async {
        let world = World::new();
        let names = Rebinding::to(&["10.0.0.80", "169.254.169.254"]);
        serve(&world.watched.network, "10.0.0.80:80", "HTTP/1.1 302 x\r\nLocation: /again\r\n\r\n", Then::Close);
        let seen = world.validate(&Http01::new(world.probe_with(names), 80).with_redirects(1, [])).await;
        assert!(seen.error().1.contains("169.254.169.254 is link-local"), "{}", seen.report);
        assert_eq!(world.watched.network.dialled(), ["10.0.0.80:80".parse().unwrap()]);
    });
}

#[test]
fn a_lookup_and_a_connection_end_at_the_deadline_with_what_was_seen() {
    let seen = run(async {
        let world = World::new();
        world.names.set_addresses("example.com", Err(LookupError::Timeout));
        world.validate(&world.http_01()).await
    });
    assert_eq!((seen.took, seen.error().0), (DEADLINE, ErrorType::Dns), "{}", seen.report);
    let seen = run(async {
        let world = World::new();
        world.watched.network.fail("10.0.0.80:80".parse().unwrap(), ErrorKind::ConnectionReset);
        world.watched.network.hang("10.0.0.81:80".parse().unwrap());
        world.names.set_addresses("example.com", Ok(vec![ip("10.0.0.80"), ip("10.0.0.81")]));
        world.validate(&world.http_01()).await
    });
    let expected = "TCP connect to example.com:80 failed at each address: \
                    10.0.0.80: connection reset; 10.0.0.81: timed out";
    assert_eq!((seen.took, seen.error()), (DEADLINE, (ErrorType::Connection, expected)));
}

#[test]
fn five_hundred_validations_of_a_slow_target_delay_no_other_and_wait_within_their_own_time() {
    run(async {
        let world = World::new();
        world.names.set_addresses("slow.example", Ok(vec![ip("10.0.0.81")]));
        serve(&world.watched.network, "10.0.0.80:80", answer(), Then::Close);
        world.watched.network.serve("10.0.0.81:80".parse().unwrap(), |mut peer| async move {
            read_until(&mut peer, b"\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = peer.write_all(answer().as_bytes()).await;
        });
        let validator = world.http_01();
        let (slow, good) = (request("slow.example"), request("example.com"));
        let start = Instant::now();
        let waiting = join_all((0..500).map(|_| validator.validate(&slow, Deadline::after(DEADLINE))));
        let other = async {
            // Only when all the others wait or are connected.
            tokio::time::sleep(Duration::from_secs(1)).await;
            validator.validate(&good, Deadline::after(DEADLINE)).await
        };
        let (reports, other) = join(waiting, other).await;
        assert!(other.is_valid() && other.duration_ms == 0, "{other}");
        assert_eq!(start.elapsed(), DEADLINE);
        // Three rounds of 32 in nine seconds; the fourth is connected and out of time; the rest never were.
        assert_eq!(reports.iter().filter(|it| it.is_valid()).count(), 96);
        let details: Vec<_> = reports.iter().filter_map(|it| it.result().err()).map(|it| &it.detail).collect();
        let waited = details.iter().filter(|it| {
            it.ends_with("not tried: too many connections to this address were open until the time was over")
        });
        assert_eq!((details.len(), waited.count()), (404, 372));
        assert!(reports.iter().all(|it| it.duration_ms <= 10_000));
        let slow = world.watched.network.dialled().iter().filter(|it| it.ip() == ip("10.0.0.81")).count();
        assert_eq!((slow, world.watched.open()), (128, 0));
    });
}

/// Connections to peers that take one octet and no more.
#[derive(Debug)]
struct Clogged;

#[async_trait]
impl Connector for Clogged {
    async fn connect(&self, _: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(1);
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(theirs);
        });
        Ok(Box::new(ours))
    }
}

#[test]
fn a_peer_that_does_not_read_is_left_at_the_deadline() {
    run(async {
        let world = World::new();
        let probe = Probe::new(world.names.clone(), Clogged, clock(), AddressPolicy::default());
        let seen = world.validate(&Http01::new(probe.clone(), 80)).await;
        assert_eq!((seen.error().0, seen.took), (ErrorType::Connection, DEADLINE), "{}", seen.report);
        let seen = world.validate(&TlsAlpn01::new(probe, 443)).await;
        assert_eq!((seen.error().0, seen.took), (ErrorType::Tls, DEADLINE), "{}", seen.report);
    });
}

#[test]
fn a_peer_that_leaves_as_it_comes_is_told_so() {
    for (resets, cause) in [(true, "connection reset"), (false, "connection closed")] {
        let attempt = |validator: fn(&World) -> Box<dyn Validator>| {
            run(async {
                let world = World::new();
                for port in [80, 443] {
                    world.watched.network.serve(SocketAddr::new(ip("10.0.0.80"), port), move |peer| async move {
                        if resets {
                            peer.reset();
                        }
                    });
                }
                world.validate(&*validator(&world)).await
            })
        };
        let http_01 = attempt(|it| Box::new(it.http_01()));
        assert_eq!((http_01.error().0, http_01.took), (ErrorType::Connection, Duration::ZERO), "{}", http_01.report);
        assert!(http_01.error().1.contains(cause), "{}", http_01.report);
        let tls_alpn_01 = attempt(|it| Box::new(it.tls_alpn_01()));
        assert_eq!(
            (tls_alpn_01.error().0, tls_alpn_01.took),
            (ErrorType::Tls, Duration::ZERO),
            "{}",
            tls_alpn_01.report
        );
        assert!(tls_alpn_01.error().1.contains(cause), "{}", tls_alpn_01.report);
    }
}
