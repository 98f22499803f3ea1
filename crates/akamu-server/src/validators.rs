//! The challenge types that the configuration asks for, with the real network.

use std::net::SocketAddr;
use std::sync::Arc;

use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Clock, Dns01, DnsClient, DnsPersist01, Http01, LocalhostResolver, Probe,
    Resolver, TcpConnector, TlsAlpn01, ValidatorSet,
};

use crate::config::Config;
use crate::start::StartError;

fn resolver(address: Option<SocketAddr>) -> Result<Arc<dyn Resolver>, StartError> {
    Ok(match address {
        Some(address) => Arc::new(DnsClient::new([address])),
        None => Arc::new(DnsClient::system().map_err(|error| {
            StartError::new(format!("{error}; set server.dns_resolver_addr and server.address_resolver_addr"))
        })?),
    })
}

/// The validators of a configuration.
pub(crate) fn of(config: &Config, clock: Arc<dyn Clock>) -> Result<ValidatorSet, StartError> {
    let server = &config.server;
    let mut addresses = resolver(server.address_resolver_addr)?;
    if config.trial {
        addresses = Arc::new(LocalhostResolver(addresses));
    }
    let policy = AddressPolicy::default()
        .allow(server.validation_allow_networks.iter().copied())
        .deny(server.validation_deny_networks.iter().copied());
    let probe = Probe::new(addresses, TcpConnector, clock.clone(), policy);
    let texts = resolver(server.dns_resolver_addr)?;
    let http_01 = Http01::new(probe.clone(), server.http_validation_port)
        .with_redirects(server.http01_max_redirects, [server.tls_validation_port]);
    let mut validators = ValidatorSet::new()
        .with(http_01)
        .with(TlsAlpn01::new(probe, server.tls_validation_port))
        .with(Dns01::new(texts.clone(), clock.clone()));
    let issuer_domains = server.issuer_domains();
    if !issuer_domains.is_empty() {
        let texts = match server.dns_persist_resolver_addr {
            Some(address) => resolver(Some(address))?,
            None => texts,
        };
        let prefix = AccountHashPrefix::under(config.base_url.as_str());
        validators = validators.with(DnsPersist01::new(texts, clock, issuer_domains, prefix));
    }
    Ok(validators)
}
