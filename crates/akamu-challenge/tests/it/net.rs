//! The real clock and real sockets, on this machine's loopback.

use std::time::Duration;

use akamu_challenge::testing::TestNames;
use akamu_challenge::{
    AddressPolicy, Clock as _, Deadline, Http01, Probe, SystemClock, TcpConnector, ValidationRequest, Validator as _,
};
use akamu_proto::{ErrorType, Identifier, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn http_01_works_over_tcp_and_tells_of_a_closed_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let loopback = AddressPolicy::default().allow(["127.0.0.1/32".parse().unwrap()]);
    let validator = Http01::new(Probe::new(TestNames::default(), TcpConnector, SystemClock, loopback), port);
    let request = ValidationRequest::with_key_authorization(
        Identifier::ip("127.0.0.1").unwrap(),
        "token.thumbprint".parse().unwrap(),
    );

    let server = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(peer.read_u8().await.unwrap());
        }
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\ntoken.thumbprint").await.unwrap();
    };
    let deadline = Deadline::after(Duration::from_secs(10));
    let (report, ()) = tokio::join!(validator.validate(&request, deadline), server);
    assert!(report.is_valid(), "{report}");

    drop(listener);
    let report = validator.validate(&request, deadline).await;
    let error = report.result().unwrap_err();
    assert_eq!(error.error_type, ErrorType::Connection);
    assert_eq!(error.detail, format!("TCP connect to 127.0.0.1:{port}: connection refused"));
}

#[test]
fn the_system_clock_shows_the_present() {
    let year = 365 * 86_400;
    assert!(SystemClock.now() > Timestamp::from_unix_secs(55 * year));
}
