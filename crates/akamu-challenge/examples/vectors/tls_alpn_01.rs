//! The format of vectors/tls_alpn_01.json: a TLS server as the case says, and what it is greeted with.

use std::io::{self, Cursor};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use akamu_challenge::testing::TestPeer;
use akamu_challenge::{AddressPolicy, Probe, TlsAlpn01, Validator as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::expected::difference;
use super::parsed::{NothingElse, Octets};
use super::setting::{Attempt, Place, Setting};
use crate::case_file;

#[derive(Clone, Deserialize)]
#[serde(try_from = "Members")]
pub(crate) struct Case {
    place: Place,
    pub(crate) server: Option<Plays>,
    certified_key: Option<Arc<CertifiedKey>>,
    expect: Expect,
}

/// A case as it is written.
#[derive(Deserialize)]
struct Members {
    #[serde(flatten)]
    place: Place,
    handshake: Option<Handshake>,
    #[serde(default)]
    chain: Vec<Octets>,
    key: Option<Octets>,
    expect: Expect,
    #[serde(flatten)]
    _nothing_else: NothingElse,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Handshake {
    Broken(Broken),
    Whole(Whole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Broken {
    behaviour: Behaviour,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    version: Version,
    alpn: Option<Alpn>,
    #[serde(default = "yes")]
    key_matches: bool,
}

/// What a server does in a handshake's place.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Behaviour {
    Plaintext,
    Close,
    Hang,
    Reset,
    Alert,
}

/// The only version that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) enum Version {
    #[serde(rename = "1.0")]
    Tls10,
    #[serde(rename = "1.1")]
    Tls11,
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// What a server says to the protocols that it is offered.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Alpn {
    Selects(String),
    Refuses(Refuses),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refuses {
    #[serde(rename = "alert")]
    _alert: RefusalAlert,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefusalAlert {
    NoApplicationProtocol,
}

/// What a server does with a connection once it has read the ClientHello.
#[derive(Clone, Debug)]
pub(crate) enum Plays {
    Breaks(Behaviour),
    ShakesHands { version: Version, alpn: Option<Alpn> },
}

const fn yes() -> bool {
    true
}

impl TryFrom<Members> for Case {
    type Error = String;

    fn try_from(members: Members) -> Result<Self, String> {
        let Members { place, handshake, chain, key, expect, .. } = members;
        let certified_key = key.map(|key| certified_key(&chain, key)).transpose()?;
        let server = match handshake {
            None => None,
            Some(Handshake::Broken(Broken { behaviour })) => Some(Plays::Breaks(behaviour)),
            Some(Handshake::Whole(Whole { version, alpn, key_matches })) => {
                let presented = certified_key.as_deref().ok_or("the handshake needs a key")?;
                let certificate = presented.cert.first().ok_or("the handshake needs a chain")?;
                let key = presented.key.public_key().ok_or("the key has no public key")?;
                if key_matches != certificate.windows(key.len()).any(|it| it == key.as_ref()) {
                    return Err(format!("key_matches is {key_matches}, and is not so"));
                }
                if let Some(Alpn::Selects(protocol)) = &alpn
                    && offer(protocol).is_none()
                {
                    return Err(format!("no server can be made to select {protocol:?}: it is too long"));
                }
                Some(Plays::ShakesHands { version, alpn })
            }
        };
        Ok(Self { place, server, certified_key, expect })
    }
}

fn certified_key(chain: &[Octets], key: Octets) -> Result<Arc<CertifiedKey>, String> {
    let key = PrivateKeyDer::try_from(key.0).map_err(|error| format!("the key: {error}"))?;
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| format!("the key: {error}"))?;
    let chain = chain.iter().map(|it| CertificateDer::from(it.0.clone())).collect();
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

#[derive(Clone, Deserialize)]
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
pub(crate) struct Hello {
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello, and returns its record as it came.
async fn read_hello(peer: &mut TestPeer, hellos: &Hellos) -> io::Result<Vec<u8>> {
    let mut header = [0; 5];
    peer.read_exact(&mut header).await?;
    let [_, _, _, high, low] = header;
    let mut rest = vec![0; u16::from_be_bytes([high, low]).into()];
    peer.read_exact(&mut rest).await?;
    let record = [&header[..], &rest].concat();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(&record))?;
    let accepted = acceptor.accept().map_err(|(error, _)| io::Error::other(error))?;
    let accepted = accepted.ok_or(io::ErrorKind::UnexpectedEof)?;
    let hello = accepted.client_hello();
    hellos.0.lock().unwrap_or_else(PoisonError::into_inner).push(Hello {
        server_name: hello.server_name().map(ToOwned::to_owned),
        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
    });
    Ok(record)
}

impl Case {
    async fn serve(self, mut peer: TestPeer, hellos: Hellos) -> io::Result<()> {
        let mut hello = read_hello(&mut peer, &hellos).await?;
        match self.server {
            None => Ok(()),
            Some(Plays::Breaks(behaviour)) => break_off(behaviour, peer).await,
            Some(Plays::ShakesHands { version, alpn }) => {
                let version = match version {
                    Version::Tls13 => &TLS13,
                    Version::Tls12 => &TLS12,
                    Version::Tls11 => return peer.write_all(&old_server_hello(2)).await,
                    Version::Tls10 => return peer.write_all(&old_server_hello(1)).await,
                };
                let protocols = match alpn {
                    None => vec![],
                    Some(Alpn::Selects(protocol)) => {
                        rewrite_alpn(&mut hello, &protocol);
                        vec![protocol.into_bytes()]
                    }
                    Some(Alpn::Refuses(_)) => vec![b"http/1.1".to_vec()],
                };
                let config = server_config(self.certified_key, version, protocols).map_err(io::Error::other)?;
                let (reader, writer) = tokio::io::split(peer);
                let stream = tokio::io::join(Cursor::new(hello).chain(reader), writer);
                let mut tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
                tls.read_to_end(&mut Vec::new()).await.map(drop)
            }
        }
    }
}

async fn break_off(behaviour: Behaviour, mut peer: TestPeer) -> io::Result<()> {
    match behaviour {
        Behaviour::Close => Ok(()),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => {
            peer.reset();
            Ok(())
        }
        Behaviour::Alert => peer.write_all(&[21, 3, 3, 0, 2, 2, 40]).await,
        Behaviour::Plaintext => peer.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await,
    }
}

/// A ServerHello of TLS 1.0 (3, 1) or 1.1 (3, 2), which rustls does not make.
fn old_server_hello(minor: u8) -> Vec<u8> {
    let hello = [&[2, 0, 0, 38, 3, minor][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    [&[22, 3, minor, 0, 42][..], &hello].concat()
}

const OFFERED: &[u8] = b"\x0aacme-tls/1";

/// An offer of `protocol`, as long as the one that is made. `None` where it does not fit.
fn offer(protocol: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(protocol.len()).ok()?;
    let mut offer = [&[length], protocol.as_bytes()].concat();
    match OFFERED.len().checked_sub(offer.len())? {
        0 => {}
        1 => return None,
        room => {
            offer.push(u8::try_from(room - 1).ok()?);
            offer.resize(OFFERED.len(), b'-');
        }
    }
    Some(offer)
}

/// Makes the server see an offer of `protocol`: no server of rustls selects what it was not offered.
fn rewrite_alpn(hello: &mut [u8], protocol: &str) {
    let at = hello.windows(OFFERED.len()).position(|it| it == OFFERED);
    let place = at.and_then(|at| hello.get_mut(at..at + OFFERED.len()));
    if let (Some(place), Some(offer)) = (place, offer(protocol)) {
        place.copy_from_slice(&offer);
    }
}

#[derive(Debug)]
struct Presents(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

fn server_config(
    presented: Option<Arc<CertifiedKey>>,
    version: &'static SupportedProtocolVersion,
    protocols: Vec<Vec<u8>>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Presents(presented)));
    config.alpn_protocols = protocols;
    Ok(config)
}

fn validator(probe: Probe) -> TlsAlpn01 {
    TlsAlpn01::new(probe, TlsAlpn01::PORT)
}

impl Case {
    /// Runs it: what came of that, and the ClientHellos that the server got.
    pub(crate) fn validate(&self) -> (Attempt, Vec<Hello>) {
        let hellos = Hellos::default();
        let default = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 43));
        let (case, seen) = (self.clone(), hellos.clone());
        let attempt = self.place.validate((default, TlsAlpn01::PORT), validator, move |peer| {
            let (case, seen) = (case.clone(), seen.clone());
            async move {
                // A handshake that fails is what most cases are about.
                let _ = case.serve(peer, seen).await;
            }
        });
        let hellos = hellos.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (attempt, hellos)
    }
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let Self { place, expect, .. } = self;
        let Setting { probe, .. } = Setting::with_policy(AddressPolicy::default());
        let supported = validator(probe).supports(&place.identifier);
        let mut differences = Vec::from_iter(difference("supported", &expect.supported, &supported));
        if !supported || !expect.supported {
            return Some(differences);
        }
        let (attempt, hellos) = self.validate();
        let hello = |server_name| Hello { server_name: Some(server_name), alpn: vec![b"acme-tls/1".to_vec()] };
        differences.extend(place.differences(&attempt, expect.dial, expect.valid, &expect.error));
        differences.extend(difference("hello", &Vec::from_iter(expect.sni.clone().map(hello)), &hellos));
        Some(differences)
    }
}
