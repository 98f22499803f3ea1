//! vectors/tls_alpn_01.json against real handshakes, and servers that break them off.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akamu_challenge::testing::TestPeer;
use akamu_challenge::{Deadline, Event, TlsAlpn01, ValidationReport, Validator as _};
use akamu_proto::ErrorType;
use base64ct::{Base64, Encoding as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::setting::{Place, run};
use crate::vectors;

#[derive(Deserialize)]
struct Case {
    id: String,
    #[serde(flatten)]
    place: Place,
    handshake: Option<Handshake>,
    #[serde(default)]
    chain: Vec<String>,
    key: Option<String>,
    expect: Expect,
}

#[derive(Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Handshake {
    Scripted {
        behaviour: Behaviour,
    },
    Real {
        version: String,
        alpn: Option<Alpn>,
        #[serde(default = "yes")]
        key_matches: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Behaviour {
    Plaintext,
    Close,
    Hang,
    Reset,
    Alert,
    /// A ServerHello of TLS 1.1 or 1.0.
    OldVersion(u8),
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Alpn {
    Protocol(String),
    Alert { alert: String },
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    supported: bool,
    dial: Option<SocketAddr>,
    sni: Option<String>,
    valid: Option<bool>,
    #[serde(default)]
    error: Vec<String>,
}

/// What a server saw in each ClientHello.
#[derive(Clone, Default)]
struct Hellos(Arc<Mutex<Vec<Hello>>>);

#[derive(Clone, Debug, PartialEq)]
struct Hello {
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello, and returns its record as it came.
async fn read_hello(peer: &mut TestPeer, hellos: &Hellos) -> Vec<u8> {
    let mut record = vec![0; 5];
    peer.read_exact(&mut record).await.unwrap();
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    peer.read_exact(&mut record[5..]).await.unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(&record)).unwrap();
    let accepted = acceptor.accept().unwrap().expect("the hello fits one record");
    let hello = accepted.client_hello();
    hellos.0.lock().unwrap().push(Hello {
        server_name: hello.server_name().map(ToOwned::to_owned),
        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
    });
    record
}

/// What one server does with one connection.
#[derive(Clone)]
struct Server {
    hellos: Hellos,
    does: Does,
}

#[derive(Clone)]
enum Does {
    Script(Behaviour),
    ShakeHands { config: Arc<ServerConfig>, rewrites_alpn: bool },
}

impl Server {
    async fn serve(self, mut peer: TestPeer) {
        let mut hello = read_hello(&mut peer, &self.hellos).await;
        match self.does {
            Does::Script(behaviour) => play(behaviour, peer).await,
            Does::ShakeHands { config, rewrites_alpn } => {
                if rewrites_alpn {
                    rewrite_alpn(&mut hello);
                }
                let (reader, writer) = tokio::io::split(peer);
                let stream = tokio::io::join(Cursor::new(hello).chain(reader), writer);
                if let Ok(mut tls) = TlsAcceptor::from(config).accept(stream).await {
                    let _ = tls.read_to_end(&mut Vec::new()).await;
                }
            }
        }
    }
}

async fn play(behaviour: Behaviour, mut peer: TestPeer) {
    let answer: Vec<u8> = match behaviour {
        Behaviour::Close => vec![],
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => return peer.reset(),
        Behaviour::Alert => vec![21, 3, 3, 0, 2, 2, 40],
        Behaviour::Plaintext => b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
        Behaviour::OldVersion(minor) => {
            let hello = [&[2, 0, 0, 38, 3, minor][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
            [&[22, 3, minor, 0, 42][..], &hello].concat()
        }
    };
    peer.write_all(&answer).await.unwrap();
}

/// Makes the server see an offer of `h2`: no server of rustls selects what it was not offered.
fn rewrite_alpn(hello: &mut [u8]) {
    let offered = b"\x0aacme-tls/1";
    let at = hello.windows(offered.len()).position(|it| it == offered).unwrap();
    hello[at..at + offered.len()].copy_from_slice(b"\x02h2\x07filling");
}

#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server_config(case: &Case, version: &'static SupportedProtocolVersion, alpn: &[&str]) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(Base64::decode_vec(case.key.as_ref().unwrap()).unwrap()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = case.chain.iter().map(|it| CertificateDer::from(Base64::decode_vec(it).unwrap())).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Presents(Arc::new(CertifiedKey::new(chain, key)))));
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    Arc::new(config)
}

impl Case {
    /// Whether the key is that of the certificate.
    fn key_matches(&self) -> bool {
        let key = PrivateKeyDer::try_from(Base64::decode_vec(self.key.as_ref().unwrap()).unwrap()).unwrap();
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
        let key = key.public_key().unwrap();
        Base64::decode_vec(&self.chain[0]).unwrap().windows(key.len()).any(|it| it == key.as_ref())
    }

    /// The same case with another server.
    fn with(mut self, handshake: Handshake) -> Self {
        self.handshake = Some(handshake);
        self
    }

    fn server(&self, hellos: Hellos) -> Server {
        let does = match self.handshake.as_ref().unwrap() {
            Handshake::Scripted { behaviour } => Does::Script(*behaviour),
            Handshake::Real { version, alpn, key_matches } => {
                assert_eq!(*key_matches, self.key_matches(), "{}", self.id);
                let version = match version.as_str() {
                    "1.3" => &TLS13,
                    "1.2" => &TLS12,
                    "1.1" => return Server { hellos, does: Does::Script(Behaviour::OldVersion(2)) },
                    "1.0" => return Server { hellos, does: Does::Script(Behaviour::OldVersion(1)) },
                    other => panic!("version {other}"),
                };
                let config = match alpn {
                    None => server_config(self, version, &[]),
                    Some(Alpn::Protocol(protocol)) => server_config(self, version, &[protocol]),
                    Some(Alpn::Alert { alert }) => {
                        assert_eq!(alert, "no_application_protocol");
                        server_config(self, version, &["http/1.1"])
                    }
                };
                let rewrites_alpn = matches!(alpn, Some(Alpn::Protocol(it)) if it == "h2");
                Does::ShakeHands { config, rewrites_alpn }
            }
        };
        Server { hellos, does }
    }
}

/// Runs a case as it stands.
fn validate(case: &Case) -> (ValidationReport, Vec<Hello>, Vec<SocketAddr>, Duration) {
    run(async {
        let (setting, addresses) = case.place.set("10.0.0.43");
        let hellos = Hellos::default();
        for address in addresses {
            let address = SocketAddr::new(address, 443);
            if !case.place.fails(&setting.network, address) && case.handshake.is_some() {
                let server = case.server(hellos.clone());
                setting.network.serve(address, move |peer| server.clone().serve(peer));
            }
        }
        let start = Instant::now();
        let validator = TlsAlpn01::new(setting.probe, TlsAlpn01::PORT);
        let report = validator.validate(&case.place.request(), Deadline::after(case.place.duration())).await;
        let hellos = hellos.0.lock().unwrap().clone();
        (report, hellos, setting.network.dialled(), start.elapsed())
    })
}

/// What differs from what a case expects.
fn differences(case: &Case) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, got: String| differences.push(format!("{}: {what}: {got}", case.id));
    let (setting, _) = case.place.set("10.0.0.43");
    if TlsAlpn01::new(setting.probe, 443).supports(&case.place.identifier()) != case.expect.supported {
        differ("supported", (!case.expect.supported).to_string());
    }
    if !case.expect.supported {
        return differences;
    }
    let (report, hellos, dialled, took) = validate(case);
    let got = report.result().map_err(|it| it.error_type.name().to_owned());
    if Some(got.is_ok()) != case.expect.valid || got.is_err_and(|it| !case.expect.error.contains(&it)) {
        differ("conclusion", report.to_string());
    }
    if dialled != Vec::from_iter(case.expect.dial) {
        differ("dialled", format!("{dialled:?}"));
    }
    let hello = |server_name| Hello { server_name: Some(server_name), alpn: vec![b"acme-tls/1".to_vec()] };
    if hellos != Vec::from_iter(case.expect.sni.clone().map(hello)) {
        differ("hello", format!("{hellos:?}"));
    }
    if took > case.place.duration() + Duration::from_millis(1) {
        differ("took", format!("{took:?}"));
    }
    differences
}

fn cases() -> Vec<Case> {
    vectors::read("tls_alpn_01.json", 51)
}

fn case(id: &str) -> Case {
    cases().into_iter().find(|it| it.id == id).unwrap()
}

#[test]
fn every_vector_ends_as_it_says() {
    vectors::report(&cases().iter().flat_map(differences).collect::<Vec<_>>());
}

/// How a case ends whose server does something else.
fn ends(id: &str, handshake: Handshake) -> (ErrorType, String, ValidationReport, Duration) {
    let (report, _, _, took) = validate(&case(id).with(handshake));
    let error = report.result().unwrap_err().clone();
    let detail = error.detail.strip_prefix("example.com:443 (10.0.0.43:443): ").unwrap().to_owned();
    (error.error_type, detail, report, took)
}

#[test]
fn a_handshake_that_breaks_off_is_told_with_its_cause() {
    let failed = "the TLS handshake failed: ";
    for (behaviour, words) in [
        (Behaviour::Close, "connection closed"),
        (Behaviour::Reset, "connection reset"),
        (Behaviour::Alert, "received fatal alert: HandshakeFailure"),
        (Behaviour::Plaintext, r#"the answer is no TLS: "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n""#),
        (Behaviour::OldVersion(1), "the server speaks neither TLS 1.2 nor TLS 1.3"),
        (Behaviour::OldVersion(2), "the server speaks neither TLS 1.2 nor TLS 1.3"),
    ] {
        let (error_type, detail, report, took) = ends("good-p256", Handshake::Scripted { behaviour });
        assert_eq!(
            (error_type, detail, took),
            (ErrorType::Tls, format!("{failed}{words}"), Duration::ZERO),
            "{report}"
        );
    }
}

#[test]
fn a_handshake_that_hangs_ends_at_the_deadline() {
    let (error_type, detail, report, took) = ends("good-p256", Handshake::Scripted { behaviour: Behaviour::Hang });
    assert_eq!((error_type, detail.as_str(), took.as_secs()), (ErrorType::Tls, "the TLS handshake timed out", 10));
    assert!(matches!(report.transcript.last().unwrap().event, Event::RawOctets { octets: 0, .. }), "{report}");
}

fn real(version: &str, alpn: Option<&str>, key_matches: bool) -> Handshake {
    let alpn = alpn.map(|it| Alpn::Protocol(it.to_owned()));
    Handshake::Real { version: version.to_owned(), alpn, key_matches }
}

#[test]
fn a_server_without_the_certificates_key_fails_in_either_version() {
    for version in ["1.2", "1.3"] {
        let (error_type, detail, report, _) = ends("key-not-of-certificate", real(version, Some("acme-tls/1"), false));
        assert_eq!(error_type, ErrorType::Tls);
        assert_eq!(detail, "the TLS handshake failed: the server does not have the certificate's key", "{report}");
        assert!(report.transcript.iter().any(|it| matches!(it.event, Event::Certificate { .. })), "{report}");
    }
}

#[test]
fn every_kind_of_key_is_taken_in_either_version() {
    for id in ["good-p256", "good-rsa", "good-ed25519"] {
        for version in ["1.2", "1.3"] {
            let (report, ..) = validate(&case(id).with(real(version, Some("acme-tls/1"), true)));
            assert!(report.is_valid(), "{id} {version}: {report}");
        }
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_refused() {
    // In TLS 1.3 the forged offer already spoils the keys; in TLS 1.2 the selection itself is what is seen.
    let (_, detail, report, _) = ends("alpn-h2", real("1.2", Some("h2"), true));
    assert!(detail.contains("SelectedUnofferedApplicationProtocol"), "{report}");
}

#[test]
fn the_transcript_shows_the_handshake_and_the_certificate() {
    let (report, ..) = validate(&case("san-two-names"));
    let [.., Event::TlsHandshake { server_name, outcome, version, alpn, .. }, Event::Certificate { sha256, names }] =
        report.transcript.iter().map(|it| &it.event).collect::<Vec<_>>()[..]
    else {
        panic!("{report}")
    };
    assert_eq!(
        (server_name.as_str(), outcome.as_str(), version.as_deref()),
        ("example.com", "complete", Some("TLS 1.3"))
    );
    assert_eq!(alpn.as_ref().unwrap().as_str(), "acme-tls/1");
    assert_eq!(sha256.len(), 64);
    assert_eq!(names.len(), 2, "{report}");
}

#[test]
fn the_process_keeps_its_own_default_provider() {
    assert!(validate(&case("good-p256")).0.is_valid());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
