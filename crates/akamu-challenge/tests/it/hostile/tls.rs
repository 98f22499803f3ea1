//! TLS servers that hang, drip, flood, break off and show monstrous certificates.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Event;
use akamu_challenge::testing::TestPeer;
use akamu_proto::ErrorType;
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;

use super::{DEADLINE, MOST_READ, Seen, Then, World, run, serve};
use crate::tls_server::{self, chain_and_key};

/// What follows from a whole handshake: the certificates of the vectors are for another token.
const WHOLE: &str = "is not that of the key authorization";

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Reads a record of the client's.
async fn read_record(peer: &mut TestPeer) {
    let mut head = [0; 5];
    peer.read_exact(&mut head).await.unwrap();
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    peer.read_exact(&mut vec![0; length]).await.unwrap();
}

/// An attempt at a server that answers the ClientHello with `says`, and then does what it does.
fn at(says: impl Into<Vec<u8>>, then: Then) -> Seen {
    let says = says.into();
    run(async {
        let world = World::new();
        world.watched.network.serve("10.0.0.80:443".parse().unwrap(), move |mut peer| {
            let (says, then) = (says.clone(), then.clone());
            async move {
                read_record(&mut peer).await;
                if peer.write_all(&says).await.is_ok() {
                    then.act(peer).await;
                }
            }
        });
        world.validate(&world.tls_alpn_01()).await
    })
}

/// An attempt at a server of rustls.
fn at_server(config: Arc<ServerConfig>) -> Seen {
    run(async {
        let world = World::new();
        world.watched.network.serve("10.0.0.80:443".parse().unwrap(), move |peer| {
            let config = Arc::clone(&config);
            async move {
                if let Ok(mut tls) = tls_server::accept(&config, peer).await {
                    let _ = tls.read_to_end(&mut Vec::new()).await;
                }
            }
        });
        world.validate(&world.tls_alpn_01()).await
    })
}

fn record(content_type: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[content_type, 3, 3][..], &length, payload].concat()
}

/// A ServerHello of TLS 1.2 with the first cipher suite that we offer there.
fn server_hello() -> Vec<u8> {
    record(22, &[&[2, 0, 0, 38, 3, 3][..], &[7; 32], &[0, 0xc0, 0x2b, 0]].concat())
}

#[track_caller]
fn ends(says: impl Into<Vec<u8>>, then: Then, words: &str) -> Seen {
    let seen = at(says, then);
    assert_eq!(seen.error().0, ErrorType::Tls, "{}", seen.report);
    assert!(seen.error().1.contains(words), "{}", seen.report);
    assert!(seen.took <= Duration::from_millis(2) && seen.read <= MOST_READ, "{} {}", seen.read, seen.report);
    seen
}

#[test]
fn a_handshake_that_drips_or_stops_ends_at_the_deadline() {
    for (says, then, read) in [
        (vec![], Then::Hang, 0),
        (vec![22], Then::Hang, 1),
        (server_hello(), Then::Hang, 47),
        (vec![], Then::Drip(server_hello()), 9),
        (server_hello(), Then::Drip(vec![22, 3, 3, 0x40, 0]), 47 + 9),
    ] {
        let seen = at(says, then);
        assert_eq!((seen.took, seen.read), (DEADLINE, read), "{}", seen.report);
        assert!(seen.error().1.ends_with("the TLS handshake timed out"), "{}", seen.report);
        let last = &seen.report.transcript.last().unwrap().event;
        assert!(matches!(last, Event::RawOctets { octets, .. } if *octets == read), "{}", seen.report);
    }
}

#[test]
fn a_handshake_that_breaks_off_says_so_in_each_phase() {
    for (then, words) in [(Then::Close, "connection closed"), (Then::Reset, "connection reset")] {
        let hello = server_hello();
        for says in [&[][..], &hello[..1], &hello[..20], &hello] {
            ends(says, then.clone(), words);
        }
    }
}

#[test]
fn a_flood_in_the_handshake_ends_at_a_limit_whatever_floods() {
    let flood = |octets: Vec<u8>| Then::Flood(octets.repeat(100));
    let failed = "the TLS handshake failed: ";
    for octets in [
        // HelloRequest (TLS 1.2's renegotiation), change_cipher_spec, warnings, KeyUpdate, NewSessionTicket, nothing.
        record(22, &[0, 0, 0, 0]),
        record(20, &[1]),
        record(21, &[1, 90]),
        record(22, &[24, 0, 0, 1, 0]),
        record(22, &[4, 0, 0, 6, 0, 0, 0, 0, 0, 0]),
        record(22, &[]),
        record(23, &[]),
        // A message of 16 MiB in parts, and a record of more than there may be.
        record(22, &[2, 0xff, 0xff, 0xff]),
        vec![22, 3, 3, 0xff, 0xff],
        server_hello(),
        b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
    ] {
        ends(octets.clone(), flood(octets.clone()), failed);
        ends(server_hello(), flood(octets), failed);
    }
    // A certificate that never ends.
    let begun = [server_hello(), record(22, &[11, 0, 0xff, 0xff, 0, 0xff, 0xfc, 0, 0xff, 0xf9])].concat();
    ends(begun, flood(record(22, &[b'a'; 1_000])), failed);
}

/// An element of DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|it| *it == 0).collect();
    let head = if content.len() < 128 {
        vec![u8::try_from(content.len()).unwrap()]
    } else {
        [&[0x80 | u8::try_from(length.len()).unwrap()], &length[..]].concat()
    };
    [&[tag], &head[..], content].concat()
}

/// The content of the first element of DER, and what follows it.
fn open(octets: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match octets[1] {
        short if short < 128 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, octets[2..2 + count].iter().fold(0, |sum, it| sum << 8 | usize::from(*it)))
        }
    };
    (&octets[start..start + length], &octets[start + length..])
}

/// `certificate` with one more extension, whose value has `octets`. Nobody looks at its signature.
fn fattened(certificate: &[u8], octets: usize) -> CertificateDer<'static> {
    let (tbs, rest) = open(open(certificate).0);
    let mut fields = Vec::new();
    let mut left = tbs;
    while !left.is_empty() {
        let (content, after) = open(left);
        let field = &left[..left.len() - after.len()];
        if field[0] == 0xa3 {
            let extension = der(0x30, &[der(6, &[0x2a, 3, 4]), der(4, &vec![0xff; octets])].concat());
            fields.extend(der(0xa3, &der(0x30, &[open(content).0, &extension].concat())));
        } else {
            fields.extend(field);
        }
        left = after;
    }
    der(0x30, &[&der(0x30, &fields)[..], rest].concat()).into()
}

#[test]
fn certificates_of_sixty_kilobytes_are_read_and_of_more_are_not() {
    for version in VERSIONS {
        let of = |octets| {
            let (chain, key) = chain_and_key("good-p256");
            let seen = at_server(tls_server::config(vec![fattened(&chain[0], octets)], key, version, &["acme-tls/1"]));
            assert!(seen.read <= MOST_READ);
            seen.error().1.to_owned()
        };
        assert!(of(60_000).ends_with(WHOLE), "{}", of(60_000));
        assert!(
            of(65_536).contains("the TLS handshake failed: received corrupt message of type HandshakePayloadTooLarge"),
            "{}",
            of(65_536)
        );
        assert!(of(200_000).contains("the TLS handshake failed: "), "{}", of(200_000));
    }
}

#[test]
fn a_chain_of_a_hundred_certificates_is_read_and_of_a_thousand_is_not() {
    for version in VERSIONS {
        let of = |count: usize| {
            let (chain, key) = chain_and_key("good-p256");
            let chain = chain.into_iter().cycle().take(count).collect();
            at_server(tls_server::config(chain, key, version, &["acme-tls/1"])).error().1.to_owned()
        };
        assert!(of(100).ends_with(WHOLE), "{}", of(100));
        assert!(of(1_000).contains("HandshakePayloadTooLarge"), "{}", of(1_000));
    }
}

#[test]
fn what_is_no_certificate_is_a_tls_error() {
    let (chain, _) = chain_and_key("good-p256");
    for version in VERSIONS {
        for certificate in [&b""[..], b"\x30", b"not a certificate", &chain[0][..chain[0].len() - 1], &[0x30; 4_000]] {
            let (_, key) = chain_and_key("good-p256");
            let chain = vec![CertificateDer::from(certificate.to_vec())];
            let seen = at_server(tls_server::config(chain, key, version, &["acme-tls/1"]));
            assert_eq!(seen.error().0, ErrorType::Tls, "{}", seen.report);
            assert_eq!(seen.took, Duration::ZERO, "{}", seen.report);
        }
    }
}

#[test]
fn tickets_after_the_handshake_are_not_read() {
    let (chain, key) = chain_and_key("good-p256");
    let mut config = Arc::unwrap_or_clone(tls_server::config(chain, key, &TLS13, &["acme-tls/1"]));
    config.send_tls13_tickets = 1_000;
    let seen = at_server(Arc::new(config));
    assert!(seen.error().1.ends_with(WHOLE), "{}", seen.report);
    assert!(seen.read <= 20_000, "{}", seen.read);
}

/// An attempt that an https server answers, after the handshake, as `does` says.
fn over_https<F, T>(config: Arc<ServerConfig>, does: F) -> Seen
where
    F: Fn(TlsStream<TestPeer>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    run(async {
        let world = World::new();
        serve(
            &world.watched.network,
            "10.0.0.80:80",
            "HTTP/1.1 302 x\r\nLocation: https://10.0.0.80/\r\n\r\n",
            Then::Hang,
        );
        world.watched.network.serve("10.0.0.80:443".parse().unwrap(), move |peer| {
            let (config, does) = (Arc::clone(&config), does.clone());
            async move {
                if let Ok(tls) = tls_server::accept(&config, peer).await {
                    does(tls).await;
                }
            }
        });
        world.validate(&world.http_01().with_redirects(1, [])).await
    })
}

fn https_config(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let (chain, key) = chain_and_key("good-p256");
    Arc::unwrap_or_clone(tls_server::config(chain, key, version, &[]))
}

#[test]
fn messages_after_the_handshake_flood_no_further_than_the_limit() {
    let mut tickets = https_config(&TLS13);
    tickets.send_tls13_tickets = 2_000;
    let hang = |mut tls: TlsStream<TestPeer>| async move {
        let _ = tls.read_to_end(&mut Vec::new()).await;
        Then::Hang.act(tls.into_inner().0).await;
    };
    let seen = over_https(Arc::new(tickets), hang);
    assert!(seen.read <= MOST_READ + 100, "{}", seen.read);
    assert_eq!(seen.took, Duration::ZERO, "{}", seen.report);
    assert_eq!(seen.error().0, ErrorType::IncorrectResponse, "{}", seen.report);

    let seen = over_https(Arc::new(https_config(&TLS13)), |mut tls| async move {
        while tls.get_mut().1.refresh_traffic_keys().is_ok() && tls.flush().await.is_ok() {}
    });
    assert!(seen.read <= MOST_READ + 100, "{}", seen.read);
    assert_eq!(seen.took, Duration::ZERO, "{}", seen.report);
    assert!(!seen.report.is_valid());
}

#[test]
fn renegotiation_is_refused() {
    let mut config = https_config(&TLS12);
    config.enable_secret_extraction = true;
    let seen = over_https(Arc::new(config), |tls| async move {
        let (mut peer, session) = tls.into_inner();
        let suite = session.negotiated_cipher_suite().unwrap();
        let SupportedCipherSuite::Tls12(suite) = suite else { panic!("{suite:?}") };
        let (mut sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("a cipher suite of TLS 1.2")
        };
        let (salt, explicit) = iv.as_ref().split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
        let key: [u8; 32] = key.as_ref().try_into().unwrap();
        loop {
            // A new one each time: it refuses a nonce lower than the last, which those of a random start may be.
            let mut encrypter = suite.aead_alg.encrypter(key.into(), salt, explicit);
            let payload = (&[0, 0, 0, 0][..]).into();
            let (typ, version) = (ContentType::Handshake, ProtocolVersion::TLSv1_2);
            let hello_request = OutboundPlainMessage { typ, version, payload };
            let octets = encrypter.encrypt(hello_request, sequence).unwrap().encode();
            sequence += 1;
            if peer.write_all(&octets).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(seen.took, Duration::ZERO, "{}", seen.report);
    assert!(seen.read <= MOST_READ + 100, "{}", seen.read);
    let words = "the TLS handshake failed: peer misbehaved: TooManyRenegotiationRequests";
    assert!(seen.error().1.ends_with(words), "{}", seen.report);
}
