//! TLS servers of rustls on a peer in memory, with any certificate and key.

use std::path::Path;
use std::sync::Arc;

use akamu_challenge::testing::TestPeer;
use base64ct::{Base64, Encoding as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Presents what it has, whoever asks.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server that shows `chain` and signs with `key` (PKCS #8), whether they belong together or not.
pub(crate) fn config(
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(PrivateKeyDer::try_from(key).unwrap()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Presents(Arc::new(CertifiedKey::new(chain, key)))));
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The chain and the key of a case of vectors/tls_alpn_01.json, in DER.
pub(crate) fn chain_and_key(id: &str) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tls_alpn_01.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let case = file["cases"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap();
    let octets = |it: &Value| Base64::decode_vec(it.as_str().unwrap()).unwrap();
    (case["chain"].as_array().unwrap().iter().map(|it| octets(it).into()).collect(), octets(&case["key"]))
}

/// Shakes hands.
pub(crate) async fn accept(config: &Arc<ServerConfig>, peer: TestPeer) -> std::io::Result<TlsStream<TestPeer>> {
    TlsAcceptor::from(Arc::clone(config)).accept(peer).await
}
