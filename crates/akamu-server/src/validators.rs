//! The challenge types that the configuration asks for, with the real network.

use std::path::Path;
use std::sync::Arc;

use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Clock, Dns01, DnsClient, DnsPersist01, Dnssec, Forwarder, Http01,
    LocalhostResolver, Probe, Resolver, TcpConnector, TlsAlpn01, TrustAnchorError, TrustAnchors, ValidatorSet,
};

use crate::config::{Config, DnsForwarder, DnsServer, ServerConfig};
use crate::start::StartError;

/// What the DNS clients have in common.
struct Dns {
    dnssec: Dnssec,
    forwarders: Vec<Forwarder>,
    /// Whether the forwarders answer for every name.
    forwards_all: bool,
    trust_anchors: TrustAnchors,
    clock: Arc<dyn Clock>,
}

impl Dns {
    fn of(server: &ServerConfig, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let forwarder = |it: &DnsForwarder| Forwarder::new(it.zone.clone(), it.addrs.iter().map(|it| it.0), it.dnssec);
        Ok(Self {
            dnssec: server.dnssec,
            forwarders: server.dns_forwarders.iter().map(forwarder).collect(),
            forwards_all: server.dns_forwarders.iter().any(|it| it.zone.is_root()),
            trust_anchors: trust_anchors(server.dnssec_trust_anchor_file.as_deref())?,
            clock,
        })
    }

    /// A client of this server, or of the system's, for the names that no forwarder has.
    fn client(&self, server: Option<DnsServer>) -> Result<DnsClient, StartError> {
        let client = match server {
            Some(server) => DnsClient::new([server.0]),
            None if self.forwards_all => DnsClient::new([]),
            None => DnsClient::system().map_err(|error| {
                StartError::new(format!("{error}; set server.dns_resolver_addr and server.address_resolver_addr"))
            })?,
        };
        Ok(client
            .with_dnssec(self.dnssec)
            .with_forwarders(self.forwarders.iter().cloned())
            .with_trust_anchors(self.trust_anchors.clone())
            .with_clock(self.clock.clone()))
    }
}

fn trust_anchors(file: Option<&Path>) -> Result<TrustAnchors, StartError> {
    let Some(file) = file else { return Ok(TrustAnchors::default()) };
    let refuse = |what: String| StartError::new(format!("server.dnssec_trust_anchor_file: {}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error: TrustAnchorError| refuse(error.to_string()))
}

/// The validators of a configuration.
pub(crate) fn of(config: &Config, clock: Arc<dyn Clock>) -> Result<ValidatorSet, StartError> {
    let server = &config.server;
    let dns = Dns::of(server, clock.clone())?;
    let mut addresses: Arc<dyn Resolver> = Arc::new(dns.client(server.address_resolver_addr)?);
    if config.trial {
        addresses = Arc::new(LocalhostResolver(addresses));
    }
    let policy = AddressPolicy::default()
        .allow(server.validation_allow_networks.iter().copied())
        .deny(server.validation_deny_networks.iter().copied());
    let probe = Probe::new(addresses, TcpConnector, clock.clone(), policy);
    let texts = dns.client(server.dns_resolver_addr)?;
    let http_01 = Http01::new(probe.clone(), server.http_validation_port)
        .with_redirects(server.http01_max_redirects, [server.tls_validation_port]);
    let mut validators = ValidatorSet::new()
        .with(http_01)
        .with(TlsAlpn01::new(probe, server.tls_validation_port))
        .with(Dns01::new(texts.clone(), clock.clone()));
    let issuer_domains = server.issuer_domains();
    if !issuer_domains.is_empty() {
        let texts = match server.dns_persist_resolver_addr {
            Some(address) => dns.client(Some(address))?,
            None => texts,
        };
        let prefix = AccountHashPrefix::under(config.base_url.as_str());
        validators = validators.with(DnsPersist01::new(texts, clock, issuer_domains, prefix));
    }
    Ok(validators)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use akamu_challenge::{Deadline, SystemClock, ValidationRequest};
    use akamu_proto::{AccountUri, ChallengeType, Identifier};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::config::{Sources, load};

    #[tokio::test]
    async fn every_validator_asks_the_forwarder() {
        let forwarder = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let unused = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "base_url = \"https://a.test\"\n[server]\ndns_persist_issuer_domain = \"a.test\"\n\
             dns_resolver_addr = \"{0}\"\ndns_persist_resolver_addr = \"{0}\"\naddress_resolver_addr = \"{0}\"\n\
             [[server.dns_forwarders]]\nzone = \"corp.example\"\naddrs = [\"{1}\"]\n",
            unused.local_addr().unwrap(),
            forwarder.local_addr().unwrap(),
        );
        std::fs::write(directory.path().join("config.toml"), text).unwrap();
        let sources = Sources { working_directory: directory.path().to_path_buf(), ..Sources::default() };
        let validators = of(&load(&sources).unwrap().config, Arc::new(SystemClock)).unwrap();
        let mut asked = 0;
        for validator in validators.iter() {
            let identifier = Identifier::dns("www.corp.example").unwrap();
            let request = if validator.method() == ChallengeType::DNS_PERSIST_01 {
                ValidationRequest::with_account(
                    identifier,
                    AccountUri::new("https://a.test/acme/account/1"),
                    Vec::new(),
                )
            } else {
                ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().unwrap())
            };
            let mut question = [0; 512];
            let deadline = Deadline::after(Duration::from_secs(60));
            tokio::select! {
                report = validator.validate(&request, deadline) => panic!("{report}"),
                length = forwarder.recv(&mut question) => assert!(length.unwrap() > 12),
            }
            asked += 1;
        }
        assert_eq!(asked, 4);
        assert!(unused.try_recv(&mut [0; 512]).is_err());
    }
}
