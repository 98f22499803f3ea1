//! Redirects of http-01 (RFC 9110 §15.4): what is followed, where to, and what a hostile one gains.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akamu_challenge::{Deadline, Event, Http01, Validator as _};
use akamu_proto::ErrorType;
use futures_util::future::join_all;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::{DEADLINE, KEY_AUTHORIZATION, Seen, Then, World, read_until, request, run, serve};
use crate::tls_server::{self, chain_and_key};

const PATH: &str = "/.well-known/acme-challenge/evaGxf";

/// The first lines of requests and their Host fields, in the order in which they came.
type Requests = Arc<Mutex<Vec<String>>>;

/// A world whose servers redirect by a table.
struct Sites {
    world: World,
    requests: Requests,
}

impl Sites {
    fn new() -> Self {
        Self { world: World::new(), requests: Requests::default() }
    }

    /// At `address` each path of `answers` has its status and Location; every other one, the key authorization.
    fn site(&self, address: &str, answers: &[(&str, u16, &str)]) {
        let answers: Vec<_> =
            answers.iter().map(|&(path, status, to)| (path.to_owned(), status, to.to_owned())).collect();
        let requests = Arc::clone(&self.requests);
        self.world.watched.network.serve(address.parse().unwrap(), move |mut peer| {
            let (answers, requests) = (answers.clone(), Arc::clone(&requests));
            async move {
                let head = String::from_utf8(read_until(&mut peer, b"\r\n\r\n").await).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let host = head.lines().find_map(|it| it.strip_prefix("Host: ")).unwrap_or_default();
                requests.lock().unwrap().push(format!("{host} {path}"));
                let answer = match answers.iter().find(|(it, ..)| *it == path) {
                    Some((_, status, to)) => format!("HTTP/1.1 {status} Moved\r\nLocation: {to}\r\n\r\nbody"),
                    None => format!("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}"),
                };
                let _ = peer.write_all(answer.as_bytes()).await;
            }
        });
    }

    fn name(&self, name: &str, address: &str) {
        self.world.names.set_addresses(name, Ok(vec![address.parse().unwrap()]));
    }

    async fn follow(&self, max: u8) -> Seen {
        self.world.validate(&self.world.http_01().with_redirects(max, [5001])).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn dialled(&self) -> Vec<SocketAddr> {
        self.world.watched.network.dialled()
    }
}

/// An attempt at a site that answers the first request with `status` and `location`.
fn redirected(status: u16, location: &str) -> (Seen, Vec<String>, Vec<String>) {
    run(async {
        let sites = Sites::new();
        for port in [80, 443, 5001, 8080] {
            sites.site(&format!("10.0.0.80:{port}"), &[(PATH, status, location)]);
            sites.site(&format!("10.0.0.81:{port}"), &[]);
            sites.site(&format!("[fd00::81]:{port}"), &[]);
        }
        sites.name("other.example", "10.0.0.81");
        let seen = sites.follow(10).await;
        let dialled = sites.dialled().iter().skip(1).map(ToString::to_string).collect();
        (seen, sites.requests(), dialled)
    })
}

#[test]
fn four_statuses_are_followed_where_a_number_is_configured_and_none_is_else() {
    for status in [301, 302, 307, 308] {
        assert!(redirected(status, "/other").0.report.is_valid(), "{status}");
        let (seen, requests) = run(async {
            let sites = Sites::new();
            sites.site("10.0.0.80:80", &[(PATH, status, "/other")]);
            (sites.follow(0).await, sites.requests())
        });
        let words = format!("answers {status}, a redirect to \"/other\"; redirects are not followed");
        assert_eq!(seen.error().0, ErrorType::IncorrectResponse);
        assert!(seen.error().1.ends_with(&words), "{}", seen.report);
        assert_eq!(requests.len(), 1);
    }
    for status in [300, 303, 304, 305, 306, 399, 201, 404] {
        let (seen, requests, _) = redirected(status, "/other");
        assert!(seen.error().1.contains(&format!("answers {status} instead of 200")), "{}", seen.report);
        assert_eq!(requests.len(), 1);
    }
}

#[test]
fn a_location_is_resolved_against_the_url_that_gave_it() {
    for (location, asked) in [
        ("/a/b?c=d#fragment", "example.com /a/b?c=d"),
        ("b", "example.com /.well-known/acme-challenge/b"),
        ("../../up", "example.com /up"),
        ("?query", "example.com /.well-known/acme-challenge/evaGxf?query"),
        ("//other.example", "other.example /"),
        ("http://other.example/a", "other.example /a"),
        ("HTTP://OTHER.EXAMPLE.:80/a", "other.example /a"),
        ("http://other.example:443/a", "other.example:443 /a"),
        ("http://other.example:5001/a", "other.example:5001 /a"),
        ("http://10.0.0.81/a", "10.0.0.81 /a"),
        ("http://[fd00::81]/a", "[fd00::81] /a"),
        ("http://[fd00:0::81]:5001/a", "[fd00::81]:5001 /a"),
        ("/\u{e9} {}", "example.com /%C3%A9%20%7B%7D"),
    ] {
        let (seen, requests, _) = redirected(302, location);
        assert!(seen.report.is_valid(), "{location}\n{}", seen.report);
        assert_eq!(requests.last().unwrap(), asked, "{location}");
    }
}

#[test]
fn a_location_that_leads_astray_is_refused_and_never_dialled() {
    for (location, why) in [
        ("ftp://other.example/", "is neither http nor https"),
        ("file:///etc/passwd", "is neither http nor https"),
        ("javascript:alert(1)", "is neither http nor https"),
        ("http://user@other.example/", "names a user or a password"),
        ("http://:secret@other.example/", "names a user or a password"),
        ("http://other.example:8080/", "leads to port 8080; only [80, 443, 5001] are followed"),
        ("http://other.example:22/", "leads to port 22"),
        ("https://other.example:8443/", "leads to port 8443"),
        ("http://other.example:65536/", "is no URL: invalid port number"),
        ("http://under_score.example/", "names a host that is no DNS name"),
        ("http:///", "is no URL: empty host"),
        ("http://[fe80::1%25eth0]/", "is no URL: invalid IPv6 address"),
        ("http://a b/", "is no URL"),
        (&format!("/{}", "a".repeat(2_000)), "is longer than 2000 octets"),
    ] {
        let (seen, _, dialled) = redirected(302, location);
        assert_eq!(seen.error().0, ErrorType::IncorrectResponse, "{location}\n{}", seen.report);
        assert!(seen.error().1.contains(&format!("\", which {why}")), "{location}\n{}", seen.report);
        assert!(dialled.is_empty(), "{location}: {dialled:?}");
    }
}

#[test]
fn a_redirect_leads_nowhere_that_the_policy_refuses() {
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "inside.example",
    ] {
        let (seen, dialled) = run(async {
            let sites = Sites::new();
            sites.site("10.0.0.80:80", &[(PATH, 302, &format!("http://{host}/latest/meta-data/"))]);
            sites.name("inside.example", "127.0.0.1");
            (sites.follow(10).await, sites.dialled().len())
        });
        let (error_type, detail) = seen.error();
        assert_eq!((error_type, dialled), (ErrorType::Connection, 1), "{host}\n{}", seen.report);
        assert!(detail.starts_with("after redirect 1: ") && detail.contains("may"), "{detail}");
    }
}

#[test]
fn redirects_end_at_their_number() {
    for (max, followed) in [(1, 1), (9, 9), (10, 10), (255, 10)] {
        let (seen, requests) = run(async {
            let sites = Sites::new();
            sites.site("10.0.0.80:80", &[(PATH, 302, PATH)]);
            (sites.follow(max).await, sites.requests().len())
        });
        let words = format!("a redirect to \"{PATH}\"; no more than {followed} are followed");
        assert_eq!((seen.error().0, requests), (ErrorType::IncorrectResponse, followed + 1), "{}", seen.report);
        assert!(seen.error().1.starts_with(&format!("after redirect {followed}: ")), "{}", seen.report);
        assert!(seen.error().1.ends_with(&words), "{}", seen.report);
    }
    // Ten in a row that end well are taken.
    let paths: Vec<_> = (0..10).map(|it| if it == 0 { PATH.to_owned() } else { format!("/{it}") }).collect();
    let seen = run(async {
        let sites = Sites::new();
        let to: Vec<_> = (1..=10).map(|it| format!("/{it}")).collect();
        let table: Vec<_> = paths.iter().zip(&to).map(|(path, to)| (path.as_str(), 302, to.as_str())).collect();
        sites.site("10.0.0.80:80", &table);
        sites.follow(Http01::MAX_REDIRECTS).await
    });
    assert!(seen.report.is_valid(), "{}", seen.report);
}

/// A site over TLS whose certificate is for another name and long expired.
fn https_site(sites: &Sites, address: &str, id: &str, version: &'static SupportedProtocolVersion) {
    let (chain, key) = chain_and_key(id);
    let config = tls_server::config(chain, key, version, &[]);
    sites.world.watched.network.serve(address.parse().unwrap(), move |peer| {
        let config = Arc::clone(&config);
        async move {
            let Ok(mut tls) = tls_server::accept(&config, peer).await else { return };
            let _ = tls.read(&mut [0; 1024]).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{KEY_AUTHORIZATION}");
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
}

#[test]
fn https_is_followed_with_any_certificate_whose_key_the_server_has() {
    let follow = |location: &'static str, id: &'static str, version| {
        run(async {
            let sites = Sites::new();
            sites.site("10.0.0.80:80", &[(PATH, 301, location)]);
            https_site(&sites, "10.0.0.80:443", id, version);
            (sites.follow(1).await, sites.dialled())
        })
    };
    for version in [&TLS12, &TLS13] {
        for (location, name) in [("https://example.com/a", "example.com"), ("https://10.0.0.80/a", "10.0.0.80")] {
            let (seen, dialled) = follow(location, "good-expired", version);
            assert!(seen.report.is_valid(), "{}", seen.report);
            assert_eq!(dialled, ["10.0.0.80:80".parse().unwrap(), "10.0.0.80:443".parse().unwrap()]);
            assert!(
                seen.report.to_string().contains(&format!("TLS handshake for {name}: complete")),
                "{}",
                seen.report
            );
        }
        let (seen, _) = follow("https://example.com/a", "key-not-of-certificate", version);
        let expected = "after redirect 1: https://example.com/a (10.0.0.80:443): the TLS handshake failed: \
                        the server does not have the certificate's key";
        assert_eq!(seen.error(), (ErrorType::Tls, expected), "{}", seen.report);
    }
}

#[test]
fn a_failure_says_after_which_redirect_and_the_report_tells_each() {
    let seen = run(async {
        let sites = Sites::new();
        sites.site("10.0.0.80:80", &[(PATH, 301, "http://www.example.com/a")]);
        sites.site("10.0.0.81:80", &[("/a", 308, "http://gone.example/\"\\")]);
        sites.name("www.example.com", "10.0.0.81");
        sites.follow(10).await
    });
    let locations: Vec<_> = seen
        .report
        .transcript
        .iter()
        .filter_map(|it| match &it.event {
            Event::HttpResponse { status, location: Some(location), .. } => Some((*status, location.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(locations, [(301, "http://www.example.com/a"), (308, r#"http://gone.example/\"\\"#)]);
    let expected = "after redirect 2: no address of gone.example was found (A, AAAA): NXDOMAIN";
    assert_eq!(seen.error(), (ErrorType::Dns, expected), "{}", seen.report);
}

#[test]
fn all_redirects_together_have_one_deadline() {
    let seen = run(async {
        let sites = Sites::new();
        sites.world.watched.network.serve("10.0.0.80:80".parse().unwrap(), |mut peer| async move {
            read_until(&mut peer, b"\r\n\r\n").await;
            sleep(Duration::from_millis(3_300)).await;
            let _ = peer.write_all(format!("HTTP/1.1 302 x\r\nLocation: {PATH}\r\n\r\n").as_bytes()).await;
        });
        sites.follow(10).await
    });
    assert_eq!(seen.took, DEADLINE, "{}", seen.report);
    assert!(seen.error().1.starts_with("after redirect 3: "), "{}", seen.report);
    assert!(seen.error().1.ends_with("timed out waiting for an answer"), "{}", seen.report);
}

#[test]
fn a_redirect_does_not_wait_for_its_body_nor_hold_its_connection() {
    let seen = run(async {
        let sites = Sites::new();
        serve(
            &sites.world.watched.network,
            "10.0.0.80:80",
            "HTTP/1.1 302 x\r\nLocation: http://10.0.0.81/\r\n\r\n",
            Then::Drip(b"x".into()),
        );
        sites.site("10.0.0.81:80", &[]);
        sites.follow(1).await
    });
    assert!(seen.report.is_valid(), "{}", seen.report);
    assert_eq!(seen.took, Duration::ZERO);
}

#[test]
fn forty_attempts_that_redirect_to_the_address_they_came_from_do_not_lock_each_other_out() {
    run(async {
        let sites = Sites::new();
        sites.site("10.0.0.80:80", &[(PATH, 302, "/there")]);
        let validator = sites.world.http_01().with_redirects(1, []);
        let request = request("example.com");
        let attempts = (0..40).map(|_| validator.validate(&request, Deadline::after(DEADLINE)));
        for report in join_all(attempts).await {
            assert!(report.is_valid() && report.duration_ms == 0, "{report}");
        }
    });
}

#[test]
fn the_limits_of_header_and_body_hold_after_a_redirect() {
    let (too_long, too_many) = ("a".repeat(8_192), "X: y\r\n".repeat(101));
    for (answer, words) in [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n{too_long}"), "has 8192 octets or more"),
        (format!("HTTP/1.1 200 OK\r\n{too_many}\r\n"), "is no HTTP/1.1 response that we take"),
        (format!("HTTP/1.1 302 Found\r\n{too_many}Location: /\r\n\r\n"), "is no HTTP/1.1 response that we take"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), "answers 404 instead of 200"),
    ] {
        let seen = run(async {
            let sites = Sites::new();
            sites.site("10.0.0.80:80", &[(PATH, 302, "http://10.0.0.81/")]);
            serve(&sites.world.watched.network, "10.0.0.81:80", answer, Then::Hang);
            sites.follow(10).await
        });
        assert_eq!(seen.error().0, ErrorType::IncorrectResponse, "{}", seen.report);
        assert!(seen.error().1.starts_with("after redirect 1: "), "{}", seen.report);
        assert!(seen.error().1.contains(words), "{}", seen.report);
    }
}
