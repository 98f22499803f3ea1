//! Who proves names by tls-alpn-01 (RFC 8737): a TLS server that has one certificate for each name it was told.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use tokio_rustls::TlsAcceptor;

use crate::failure::{Context, Failure};
use crate::responder::listen;

/// RFC 8737 §6.2.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Serves until the runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct TlsAlpnResponder(Arc<Certificates>);

/// One key, and a certificate for each name.
#[derive(Debug)]
struct Certificates {
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    of_names: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl TlsAlpnResponder {
    /// On 127.0.0.1.
    pub(crate) fn start(port: u16) -> Result<Self, Failure> {
        let responder = Self(Arc::new(Certificates::new()?));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .context(|| "cannot configure TLS".to_owned())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Certificates>::clone(&responder.0));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = listen((Ipv4Addr::LOCALHOST, port).into(), 1_024)?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                // The handshake is the whole proof; how it ends, the other side says.
                tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
            }
        });
        Ok(responder)
    }

    /// From now on the name has the certificate that proves this key authorization.
    pub(crate) fn put(&self, name: &str, key_authorization: &str) -> Result<(), Failure> {
        self.0.put(name, key_authorization).context(|| format!("cannot make a certificate for {name}"))
    }
}

impl Certificates {
    fn new() -> Result<Self, Failure> {
        let making = || "cannot make a key".to_owned();
        let key = KeyPair::generate().context(making)?;
        let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(Failure::new)?;
        let signing = sign::any_supported_type(&der).context(making)?;
        Ok(Self { key, signing, of_names: Mutex::default() })
    }

    fn put(&self, name: &str, key_authorization: &str) -> Result<(), rcgen::Error> {
        let digest = digest(&SHA256, key_authorization.as_bytes());
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let certificate = params.self_signed(&self.key)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.signing));
        let mut of_names = self.of_names.lock().unwrap_or_else(PoisonError::into_inner);
        of_names.insert(name.to_owned(), Arc::new(certified));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.of_names.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// id-pe-acmeIdentifier, DER, and the octets that follow: critical, an OCTET STRING in an OCTET STRING of 32.
    const EXTENSION: [u8; 17] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];

    #[test]
    fn a_name_has_the_certificate_of_the_newest_key_authorization() {
        let certificates = Certificates::new().unwrap();
        assert!(certificates.find("a.test").is_none());
        certificates.put("a.test", "token.old").unwrap();
        certificates.put("a.test", "token.thumbprint").unwrap();
        let found = certificates.find("a.test").unwrap();
        let expected = [&EXTENSION, digest(&SHA256, b"token.thumbprint").as_ref()].concat();
        assert!(found.end_entity_cert().unwrap().windows(expected.len()).any(|it| it == expected));
    }
}
