//! The server's own HTTPS certificate: by our own CA, renewed by itself, or from files.
//!
//! The key lives in memory alone; each start makes a new one.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use akamu_ca::{Issuer, Serial};
use akamu_challenge::Clock;
use akamu_proto::{Identifier, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::app::App;
use crate::random::{Random, octets};
use crate::shutdown::stopped;
use crate::start::StartError;

/// How often it is checked whether the certificate must be renewed.
const CHECK: Duration = Duration::from_secs(600);

/// The certificate that new connections get; replaced while the server runs.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// When to make the next one; `None`: never, it comes from files.
    renew_at: Option<Timestamp>,
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

/// The names of our own certificate.
pub(crate) fn names(host: &str) -> Result<Vec<Identifier>, StartError> {
    if host == "localhost" {
        let loopback = ["127.0.0.1", "::1"].into_iter().filter_map(|it| it.parse::<IpAddr>().ok());
        let localhost = Identifier::dns(host).map_err(|error| StartError::new(format!("base_url: {error}")))?;
        return Ok([localhost].into_iter().chain(loopback.map(Identifier::Ip)).collect());
    }
    host.parse().map(|it| vec![it]).map_err(|error| StartError::new(format!("base_url: the host {host:?}: {error}")))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl OwnCertificate {
    /// Makes one by our own CA.
    pub(crate) fn issue(
        issuer: &Issuer,
        names: &[Identifier],
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        Ok(Self { current: RwLock::new(make(issuer, names, random, now)?) })
    }

    /// Reads one from files.
    pub(crate) fn from_files(cert_file: &Path, key_file: &Path) -> Result<Self, StartError> {
        let wrong = |path: &Path, what: &dyn std::fmt::Display| StartError::new(format!("{}: {what}", path.display()));
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert_file)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(cert_file, &format!("no certificate chain in PEM can be read here ({error})")))?;
        if chain.is_empty() {
            return Err(wrong(cert_file, &"has no certificate; a chain in PEM is expected"));
        }
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| wrong(key_file, &format!("no private key in PEM can be read here ({error})")))?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| wrong(key_file, &format!("the private key cannot be used ({error})")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| wrong(key_file, &format!("is not the key of {}", cert_file.display())))?;
        Ok(Self { current: RwLock::new(Current { key: Arc::new(key), renew_at: None }) })
    }

    /// What TLS connections are accepted with: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<Arc<rustls::ServerConfig>, StartError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::new(format!("TLS: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Makes a new certificate where the current one is ours and two thirds of its life are over.
    fn renew_if_due(
        &self,
        issuer: &Issuer,
        names: &[Identifier],
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<bool, StartError> {
        let renew_at = self.current.read().unwrap_or_else(PoisonError::into_inner).renew_at;
        if renew_at.is_none_or(|at| now < at) {
            return Ok(false);
        }
        let made = make(issuer, names, random, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(true)
    }

    /// Renews the certificate, where it is ours, until the server stops.
    pub(crate) async fn renew_forever(self: Arc<Self>, app: Arc<App>, mut stop: watch::Receiver<bool>) {
        let Ok(names) = names(app.base_url.host()) else { return };
        loop {
            tokio::select! {
                () = app.clock.sleep(CHECK) => {}
                () = stopped(&mut stop) => return,
            }
            match self.renew_if_due(&app.issuer, &names, &*app.random, app.clock.now()) {
                Ok(true) => tracing::info!("the server's own certificate is renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the server's own certificate could not be renewed"),
            }
        }
    }
}

fn make(issuer: &Issuer, names: &[Identifier], random: &dyn Random, now: Timestamp) -> Result<Current, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::new(format!("the server's own certificate: {error}"));
    let serial = Serial::new(now, octets(random));
    let (issued, key) = issuer.issue_server_certificate(names, serial, now).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::Pkcs8(key.into());
    let key = provider().key_provider.load_private_key(key).map_err(|error| failed(&error))?;
    let chain = issued.chain_der().iter().map(|der| CertificateDer::from(der.clone())).collect();
    // At two thirds of its life: as clients do.
    let life = issued.not_after().since(now);
    Ok(Current { key: Arc::new(CertifiedKey::new(chain, key)), renew_at: Some(now.plus(life * 2 / 3)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use akamu_ca::{Authority, FirstRun, HashAlg, KeyType, Profile};

    use crate::random::SystemRandom;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_names_are_those_by_which_the_host_is_reached() {
        for (host, expected) in [
            ("localhost", ["localhost", "127.0.0.1", "::1"].as_slice()),
            ("acme.example.com", &["acme.example.com"]),
            ("10.0.0.1", &["10.0.0.1"]),
        ] {
            let names = names(host).unwrap();
            assert_eq!(names.iter().map(Identifier::value).collect::<Vec<_>>(), expected, "{host}");
            let addresses = names.iter().filter(|it| matches!(it, Identifier::Ip(_))).count();
            assert_eq!(addresses, expected.iter().filter(|it| it.parse::<IpAddr>().is_ok()).count(), "{host}");
        }
        let error = names("bad_name").unwrap_err().to_string();
        assert!(error.starts_with("base_url: the host \"bad_name\": "), "{error}");
    }

    #[test]
    fn the_certificate_is_renewed_at_two_thirds_of_its_life() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix_secs(1_790_000_000);
        let first_run = FirstRun {
            key_type: KeyType::EcP256,
            hash: HashAlg::Sha256,
            common_name: "Test".to_owned(),
            organization: None,
            ca_validity_years: 1,
        };
        let profile = Profile { validity: DAY * 90, crl_url: None, issuer_url: None };
        let issuer = Authority::new(directory.path())
            .create(&first_run, profile, &mut |octets| SystemRandom.fill(octets), now)
            .unwrap();
        let names = names("localhost").unwrap();
        let own = OwnCertificate::issue(&issuer, &names, &SystemRandom, now).unwrap();
        let leaf = |own: &OwnCertificate| own.current.read().unwrap().key.cert[0].clone();
        let first = leaf(&own);
        for (days, renewed) in [(0, false), (59, false), (61, true), (61, false), (122, true)] {
            let at = now.plus(DAY * days);
            assert_eq!(own.renew_if_due(&issuer, &names, &SystemRandom, at).unwrap(), renewed, "day {days}");
        }
        assert_ne!(leaf(&own), first);
        let from_files =
            OwnCertificate { current: RwLock::new(Current { renew_at: None, ..own.current.read().unwrap().clone() }) };
        assert!(!from_files.renew_if_due(&issuer, &names, &SystemRandom, now.plus(DAY * 1000)).unwrap());
    }
}
