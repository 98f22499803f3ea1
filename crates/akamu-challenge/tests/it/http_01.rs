//! vectors/http_01.json, and servers that misbehave in other ways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNetwork, TestPeer};
use akamu_challenge::{
    AddressPolicy, Connector, Deadline, Event, Http01, Probe, Stream, ValidationReport, ValidationRequest,
    Validator as _,
};
use akamu_proto::{ErrorType, Identifier, Timestamp};
use async_trait::async_trait;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::case_file;
use crate::formats::http_01::{After, Case, Requests, parse_request, read_head, serve};
use crate::formats::setting::{Setting, run};

#[test]
fn every_vector_ends_as_it_says() {
    case_file::assert_holds::<Case>("http_01", 58);
}

const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

/// A validation of `example.com` within ten seconds, and how long it took.
async fn validate(setting: Setting) -> (ValidationReport, Duration) {
    let request = ValidationRequest::with_key_authorization(
        Identifier::dns("example.com").unwrap(),
        KEY_AUTHORIZATION.parse().unwrap(),
    );
    let start = Instant::now();
    let report = Http01::new(setting.probe, 80).validate(&request, Deadline::after(Duration::from_secs(10))).await;
    (report, start.elapsed())
}

/// A validation at a server that has read the request and goes on as `serve` says.
fn at_server<F, T>(serve: F) -> (ValidationReport, Duration)
where
    F: Fn(TestPeer) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        setting.network.serve("10.0.0.80:80".parse().unwrap(), move |mut peer| {
            let serve = serve.clone();
            async move {
                read_head(&mut peer).await;
                serve(peer).await;
            }
        });
        validate(setting).await
    })
}

fn detail(report: &ValidationReport) -> (ErrorType, &str) {
    let error = report.result().unwrap_err();
    (error.error_type, &error.detail)
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn a_slow_drip_ends_at_the_deadline_and_the_report_keeps_what_came() {
    let (report, took) = at_server(|mut peer| async move {
        peer.write_all(format!("{OK}Content-Length: 87\r\n\r\n").as_bytes()).await.unwrap();
        for octet in KEY_AUTHORIZATION.bytes() {
            sleep(Duration::from_secs(1)).await;
            if peer.write_u8(octet).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(took.as_secs(), 10);
    let url = "http://example.com/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    let expected = format!("{url} (10.0.0.80:80): timed out after 9 octets of the body");
    assert_eq!(detail(&report), (ErrorType::Connection, expected.as_str()));
    assert!(report.to_string().contains("body of 9 octets, incomplete: \"evaGxfADs\""), "{report}");
}

#[test]
fn a_head_that_drips_shows_its_start() {
    let (report, took) = at_server(|mut peer| async move {
        for octet in OK.bytes().cycle() {
            sleep(Duration::from_millis(900)).await;
            if peer.write_u8(octet).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(took.as_secs(), 10);
    assert!(detail(&report).1.ends_with("timed out after 11 octets of the answer's head: \"HTTP/1.1 20\""), "{report}");
}

#[test]
fn endless_header_fields_end_at_their_limit() {
    let (report, took) = at_server(|mut peer| async move {
        peer.write_all(OK.as_bytes()).await.unwrap();
        while peer
            .write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
            .await
            .is_ok()
        {}
    });
    assert_eq!(took, Duration::ZERO);
    assert_eq!(detail(&report).0, ErrorType::IncorrectResponse, "{report}");
    assert!(detail(&report).1.contains("too large"), "{report}");
}

#[test]
fn endless_interim_responses_end_at_the_octet_limit() {
    let (report, took) =
        at_server(|mut peer| async move { while peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {} });
    assert_eq!(took, Duration::ZERO);
    assert!(detail(&report).1.contains("more than 128 KiB"), "{report}");
}

#[test]
fn interim_responses_count_only_as_far_as_the_final_one() {
    let (report, _) = at_server(|mut peer| async move {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </s>; rel=preload\r\n\r\n".repeat(3);
        let answer = format!("{interim}{OK}Content-Length: 87\r\n\r\n{KEY_AUTHORIZATION}");
        for octet in answer.bytes() {
            peer.write_u8(octet).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(report.is_valid(), "{report}");
}

#[test]
fn a_reset_in_the_body_is_told_as_one() {
    let (report, _) = at_server(|mut peer| async move {
        peer.write_all(format!("{OK}Content-Length: 87\r\n\r\nevaG").as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        peer.reset();
    });
    assert_eq!(detail(&report).0, ErrorType::Connection);
    assert!(detail(&report).1.ends_with("connection reset after 4 octets of its body"), "{report}");
}

#[test]
fn http_0_9_is_refused() {
    let (report, _) = at_server(|mut peer| async move { peer.write_all(KEY_AUTHORIZATION.as_bytes()).await.unwrap() });
    assert_eq!(detail(&report).0, ErrorType::IncorrectResponse, "{report}");
}

/// Hands a connection over only after the peer had time to speak.
#[derive(Debug)]
struct Late(TestNetwork);

#[async_trait]
impl Connector for Late {
    async fn connect(&self, address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        let stream = self.0.connect(address).await?;
        sleep(Duration::from_secs(1)).await;
        Ok(stream)
    }
}

#[test]
fn a_server_that_speaks_first_is_judged_by_what_it_says() {
    let (report, _) = run(async {
        let Setting { names, network, .. } = Setting::of_example_com(&["10.0.0.80"]);
        network.serve("10.0.0.80:80".parse().unwrap(), |mut peer| async move {
            let _ = peer.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await;
            std::future::pending().await
        });
        let clock = TestClock::at(Timestamp::from_unix_secs(0));
        let probe = Probe::new(names.clone(), Late(network.clone()), clock, AddressPolicy::default());
        validate(Setting { names, network, probe }).await
    });
    let (error_type, detail) = detail(&report);
    assert_eq!(error_type, ErrorType::IncorrectResponse, "{report}");
    assert!(detail.contains("is no HTTP/1.1 response"), "{detail}");
    assert!(detail.contains(r#""SSH-2.0-OpenSSH_9.6\r\n""#), "{detail}");
}

#[test]
fn what_a_peer_sends_is_escaped_and_cut() {
    let (report, _) = at_server(|mut peer| async move {
        let body = format!("\x1b[2J<script>\r\n\u{e9}{}", "x".repeat(500));
        let head = format!("{OK}Content-Length: {}\r\n\r\n", body.len());
        peer.write_all((head + &body).as_bytes()).await.unwrap();
    });
    let (_, detail) = detail(&report);
    assert!(detail.contains(r#"is not the key authorization but "\x1b[2J<script>\r\n\xc3\xa9xxx"#), "{detail}");
    assert!(detail.ends_with("x…\"") && detail.len() < 400, "{detail}");
}

#[test]
fn a_status_other_than_200_is_told_at_once_with_the_start_of_its_body() {
    let (report, took) = at_server(|mut peer| async move {
        peer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here!").await.unwrap();
        std::future::pending().await
    });
    assert_eq!(took, Duration::ZERO);
    assert!(detail(&report).1.ends_with("answers 404 instead of 200: \"not here!\""), "{report}");
}

#[test]
fn a_body_that_does_not_matter_is_not_waited_for_to_the_end() {
    let (report, took) = at_server(|mut peer| async move {
        peer.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 90\r\n\r\nwait").await.unwrap();
        std::future::pending().await
    });
    assert_eq!(took, Duration::from_millis(2_500));
    assert!(detail(&report).1.ends_with("answers 500 instead of 200: \"wait\""), "{report}");
}

#[test]
fn another_port_is_dialled_and_told_and_never_stands_in_the_host_field() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        let requests = Requests::default();
        let seen = Arc::clone(&requests);
        setting
            .network
            .serve("10.0.0.80:5002".parse().unwrap(), move |peer| serve(peer, vec![], After::Close, Arc::clone(&seen)));
        let request = ValidationRequest::with_key_authorization(
            Identifier::dns("example.com").unwrap(),
            KEY_AUTHORIZATION.parse().unwrap(),
        );
        let validator = Http01::new(setting.probe, 5002);
        let report = validator.validate(&request, Deadline::after(Duration::from_secs(10))).await;
        assert!(detail(&report).1.starts_with("http://example.com:5002/.well-known/"), "{report}");
        assert_eq!(parse_request(&requests.lock().unwrap()[0]).host, "example.com");
    });
}

#[test]
fn a_redirect_is_told_with_its_target() {
    let (report, _) = at_server(|mut peer| async move {
        let head = "HTTP/1.1 301 Moved\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n";
        peer.write_all(head.as_bytes()).await.unwrap();
    });
    assert!(
        detail(&report).1.ends_with("a redirect to \"https://example.com/\"; redirects are not followed"),
        "{report}"
    );
}

#[test]
fn a_wrong_body_is_told_with_its_likely_cause() {
    let told = |body: &'static str| {
        let (report, _) = at_server(move |mut peer| async move {
            peer.write_all(format!("{OK}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        });
        detail(&report).1.to_owned()
    };
    assert!(told("").ends_with("is empty"));
    assert!(told("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA").contains("is the token alone"));
    assert!(told("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.other").contains("another account's key"));
}

#[test]
fn the_request_asks_for_no_compression_and_closes() {
    let head = run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        let requests = Requests::default();
        let seen = Arc::clone(&requests);
        setting
            .network
            .serve("10.0.0.80:80".parse().unwrap(), move |peer| serve(peer, vec![], After::Close, Arc::clone(&seen)));
        validate(setting).await;
        requests.lock().unwrap().concat()
    });
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "GET /.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA HTTP/1.1\r\n\
         Host: example.com\r\nUser-Agent: akamu/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(head, expected);
}

#[test]
fn the_transcript_names_every_step() {
    let (report, _) = at_server(|mut peer| async move {
        let answer = format!("{OK}Server: test\r\nContent-Length: 88\r\n\r\n{KEY_AUTHORIZATION}\n");
        peer.write_all(answer.as_bytes()).await.unwrap();
    });
    assert!(report.is_valid(), "{report}");
    let events: Vec<_> = report.transcript.iter().map(|it| &it.event).collect();
    assert!(
        matches!(
            events.as_slice(),
            [Event::Dialled { .. }, Event::HttpRequest { .. }, Event::HttpResponse { status: 200, header_names, .. }, Event::HttpBody { octets: 88, complete: true, .. }]
                if header_names.iter().map(|it| it.as_str()).eq(["server", "content-length"])
        ),
        "{report}"
    );
}
