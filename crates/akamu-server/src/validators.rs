//! The challenge types that the configuration asks for, with the real network.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Clock, Connector, Dns01, DnsClient, DnsPersist01, Dnssec, Forwarder, Http01,
    LocalhostResolver, Perspective, PerspectiveName, Probe, Quorum, Resolver, SourceConnector, TcpConnector, TlsAlpn01,
    TrustAnchorError, TrustAnchors, Validator, ValidatorSet,
};

use crate::config::{Config, DnsForwarder, DnsServer, PRIMARY, PerspectiveConfig, ServerConfig};
use crate::start::StartError;

/// What the DNS clients have in common.
struct Dns {
    dnssec: Dnssec,
    forwarders: Vec<Forwarder>,
    forwarder_addrs: Vec<SocketAddr>,
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
            forwarder_addrs: server.dns_forwarders.iter().flat_map(|it| &it.addrs).map(|it| it.0).collect(),
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

    /// The client as this perspective has it.
    fn asked_from(&self, perspective: &PerspectiveConfig, client: DnsClient) -> Result<DnsClient, StartError> {
        let PerspectiveConfig { name, source_addrs, .. } = perspective;
        if source_addrs.is_empty() {
            return Ok(client);
        }
        let is_reached = |it: &SocketAddr| source_addrs.iter().any(|source| source.is_ipv4() == it.is_ipv4());
        if let Some(server) = client.servers().iter().chain(&self.forwarder_addrs).find(|it| !is_reached(it)) {
            let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(StartError::new(format!(
                "server.perspectives: {name} asks the DNS server {server}, and has no {family} address to ask from; \
                 add one to its source_addrs"
            )));
        }
        Ok(client.with_sources(source_addrs.iter().copied()))
    }
}

fn trust_anchors(file: Option<&Path>) -> Result<TrustAnchors, StartError> {
    let Some(file) = file else { return Ok(TrustAnchors::default()) };
    let refuse = |what: String| StartError::new(format!("server.dnssec_trust_anchor_file: {}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error: TrustAnchorError| refuse(error.to_string()))
}

/// A place to look from.
struct Place {
    /// For http-01 and tls-alpn-01.
    probe: Probe,
    /// For dns-01.
    texts: DnsClient,
    /// For dns-persist-01.
    persistent_texts: DnsClient,
}

/// The validators of a configuration.
pub(crate) fn of(config: &Config, clock: &Arc<dyn Clock>) -> Result<ValidatorSet, StartError> {
    let server = &config.server;
    let dns = Dns::of(server, clock.clone())?;
    let named = |client: &DnsClient| -> Arc<dyn Resolver> {
        if config.trial { Arc::new(LocalhostResolver(client.clone())) } else { Arc::new(client.clone()) }
    };
    let addresses = dns.client(server.address_resolver_addr)?;
    let texts = dns.client(server.dns_resolver_addr)?;
    let policy = AddressPolicy::default()
        .allow(server.validation_allow_networks.iter().copied())
        .deny(server.validation_deny_networks.iter().copied());
    let own = Place {
        probe: Probe::new(named(&addresses), TcpConnector, clock.clone(), policy),
        // Clones know together which servers do not answer.
        persistent_texts: match server.dns_persist_resolver_addr {
            Some(_) => dns.client(server.dns_persist_resolver_addr)?,
            None => texts.clone(),
        },
        texts,
    };
    let primary = looking_from(&own, config, clock);
    let mut others = Vec::new();
    for perspective in &server.perspectives {
        let PerspectiveConfig { name, source_addrs, dns_resolver_addr, address_resolver_addr } = perspective;
        let client = |address: Option<DnsServer>, servers: &DnsClient| {
            let client = if address.is_some() { dns.client(address)? } else { servers.clone() };
            dns.asked_from(perspective, client)
        };
        let connector: Arc<dyn Connector> = if source_addrs.is_empty() {
            Arc::new(TcpConnector)
        } else {
            Arc::new(SourceConnector::new(source_addrs.iter().copied()))
        };
        let texts = client(*dns_resolver_addr, &own.texts)?;
        let place = Place {
            probe: own.probe.elsewhere(named(&client(*address_resolver_addr, &addresses)?), connector),
            persistent_texts: match dns_resolver_addr {
                Some(_) => texts.clone(),
                None => client(None, &own.persistent_texts)?,
            },
            texts,
        };
        others.push((name, looking_from(&place, config, clock)));
    }
    if others.is_empty() {
        return Ok(primary);
    }
    let mut together = ValidatorSet::new();
    for validator in primary.iter() {
        let perspective = |name: &PerspectiveName, it: &Arc<dyn Validator>| Perspective::new(name.clone(), it.clone());
        let name = PRIMARY.parse().map_err(|error| StartError::new(format!("{PRIMARY}: {error}")))?;
        let same = others.iter().filter_map(|(name, set)| Some(perspective(name, set.get(&validator.method())?)));
        let quorum = Quorum::new(perspective(&name, validator), same, clock.clone())
            .map_err(|error| StartError::new(format!("server.perspectives: {error}")))?;
        together = together.with(match server.perspectives_may_fail {
            Some(count) => quorum.may_fail(count),
            None => quorum,
        });
    }
    Ok(together)
}

/// The validators of one place.
fn looking_from(place: &Place, config: &Config, clock: &Arc<dyn Clock>) -> ValidatorSet {
    let server = &config.server;
    let http_01 = Http01::new(place.probe.clone(), server.http_validation_port)
        .with_redirects(server.http01_max_redirects, [server.tls_validation_port]);
    let validators = ValidatorSet::new()
        .with(http_01)
        .with(TlsAlpn01::new(place.probe.clone(), server.tls_validation_port))
        .with(Dns01::new(place.texts.clone(), clock.clone()));
    let issuer_domains = server.issuer_domains();
    if issuer_domains.is_empty() {
        return validators;
    }
    let prefix = AccountHashPrefix::under(config.base_url.as_str());
    validators.with(DnsPersist01::new(place.persistent_texts.clone(), clock.clone(), issuer_domains, prefix))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use akamu_challenge::{Deadline, SystemClock, ValidationRequest};
    use akamu_proto::{AccountUri, ChallengeType, Identifier};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::config::{Sources, load};

    fn system_clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// The web server at 127.0.0.1 answers those rightly who come from there.
    #[tokio::test]
    async fn perspectives_probe_from_their_own_addresses() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = web.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, peer)) = web.accept().await {
                let body = if peer.ip().to_string() == "127.0.0.1" { "token.thumbprint" } else { "something else" };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "base_url = \"https://a.test\"\n[server]\nhttp_validation_port = {port}\n\
             validation_allow_networks = [\"127.0.0.0/8\"]\ndns_resolver_addr = \"127.0.0.1:1\"\n\
             address_resolver_addr = \"127.0.0.1:1\"\n[[server.perspectives]]\nname = \"elsewhere\"\n\
             source_addrs = [\"127.0.0.2\"]\n",
        );
        let validate = async |text: &str| {
            std::fs::write(directory.path().join("config.toml"), text).unwrap();
            let sources = Sources { working_directory: directory.path().to_path_buf(), ..Sources::default() };
            let validators = of(&load(&sources).unwrap().config, &system_clock()).unwrap();
            let address = Identifier::ip("127.0.0.1").unwrap();
            let request = ValidationRequest::with_key_authorization(address, "token.thumbprint".parse().unwrap());
            let validator = validators.get(&ChallengeType::HTTP_01).unwrap();
            validator.validate(&request, Deadline::after(Duration::from_secs(60))).await
        };
        let report = validate(&text).await;
        assert!(!report.is_valid());
        let story = report.to_string();
        assert!(story.contains("from primary: valid\n") && story.contains("from elsewhere: invalid: "), "{story}");
        let report = validate(&text.replace("127.0.0.2", "127.0.0.1")).await;
        assert!(report.is_valid(), "{report}");
        // Of two others one may fail.
        let third = "[[server.perspectives]]\nname = \"third\"\nsource_addrs = [\"127.0.0.1\"]\n";
        assert!(validate(&format!("{text}{third}")).await.is_valid());
        let none = text.replace("[server]\n", "[server]\nperspectives_may_fail = 0\n");
        assert!(!validate(&format!("{none}{third}")).await.is_valid());
    }

    #[test]
    fn a_perspective_needs_a_source_address_of_its_dns_servers_family() {
        let directory = tempfile::tempdir().unwrap();
        let start = |forwarder: &str, sources: &str| {
            let text = format!(
                "base_url = \"https://a.test\"\n[server]\ndns_resolver_addr = \"127.0.0.1:1\"\n\
                 address_resolver_addr = \"127.0.0.1:1\"\n[[server.dns_forwarders]]\nzone = \"corp.example\"\n\
                 addrs = [\"{forwarder}\"]\n[[server.perspectives]]\nname = \"elsewhere\"\nsource_addrs = [{sources}]\n"
            );
            std::fs::write(directory.path().join("config.toml"), text).unwrap();
            let sources = Sources { working_directory: directory.path().to_path_buf(), ..Sources::default() };
            of(&load(&sources).unwrap().config, &system_clock()).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(start("10.0.0.53", "\"10.0.0.7\""), Ok(()));
        assert_eq!(start("fd00::53", "\"10.0.0.7\", \"fd00::7\""), Ok(()));
        assert_eq!(
            start("10.0.0.53", "\"fd00::7\""),
            Err(
                "server.perspectives: elsewhere asks the DNS server 127.0.0.1:1, and has no IPv4 address to ask from; \
                 add one to its source_addrs"
                    .to_owned()
            )
        );
        assert!(start("fd00::53", "\"10.0.0.7\"").unwrap_err().contains("the DNS server [fd00::53]:53"));
    }

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
        let validators = of(&load(&sources).unwrap().config, &system_clock()).unwrap();
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
