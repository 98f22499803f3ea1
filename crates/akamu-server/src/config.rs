//! The configuration: defaults, then config.toml, then AKAMU_* variables, then flags (the later wins).
//!
//! Every key is declared once, in [`KEYS`]; [`load`] merges and judges, [`show`] prints what is in force.

mod dns;
mod keys;
mod load;
mod perspective;
mod retention;
mod show;
mod trial;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akamu_challenge::Dnssec;
use akamu_proto::DnsName;
use akamu_store::{OpenError, StoreOptions};
use ipnet::IpNet;
use serde::Deserialize;

pub use dns::{DnsForwarder, DnsServer};
pub use keys::{KEYS, Key, Kind};
pub use load::{ConfigError, Loaded, Sources, load};
pub(crate) use perspective::PRIMARY;
pub use perspective::PerspectiveConfig;
pub use retention::Retention;
pub use show::show;
pub use trial::TRIAL_DIR;

use crate::base_url::BaseUrl;

/// What the server runs with. The keys are explained in [`KEYS`].
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct Config {
    pub listen_addr: SocketAddr,
    pub base_url: BaseUrl,
    pub data_dir: PathBuf,
    pub database: DatabaseConfig,
    pub ca: CaConfig,
    pub tls: TlsConfig,
    #[serde(default)]
    pub admin: AdminConfig,
    pub server: ServerConfig,
    pub housekeeping: HousekeepingConfig,
    /// Whether this is the trial that runs without any configuration.
    #[serde(skip)]
    pub trial: bool,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct DatabaseConfig {
    pub url: String,
    pub max_connections: u32,
    pub min_idle_connections: u32,
    pub connection_lifetime_secs: u64,
    pub connection_wait_secs: u64,
    pub statement_timeout_secs: u64,
    pub lock_timeout_secs: u64,
}

impl DatabaseConfig {
    /// The database and how it is used.
    pub(crate) fn options(&self, data_dir: &Path, listen_addr: SocketAddr) -> Result<StoreOptions, OpenError> {
        let options = StoreOptions::parse(&self.url, data_dir)?
            .max_connections(self.max_connections)
            .min_idle_connections(self.min_idle_connections)
            .connection_lifetime(Duration::from_secs(self.connection_lifetime_secs))
            .connection_wait(Duration::from_secs(self.connection_wait_secs))
            .statement_timeout(Duration::from_secs(self.statement_timeout_secs))
            .lock_timeout(Duration::from_secs(self.lock_timeout_secs))
            .application_name(format!("akamu-server {listen_addr}"));
        Ok(options)
    }
}

/// `[ca]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct CaConfig {
    pub key_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_type: String,
    pub hash_alg: String,
    pub validity_days: u32,
    pub ca_validity_years: u32,
    pub common_name: String,
    pub organization: Option<String>,
    pub http_listen_addr: Option<SocketAddr>,
    pub crl_url: Option<String>,
    pub issuer_url: Option<String>,
    pub crl_next_update_secs: u64,
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct TlsConfig {
    pub enabled: bool,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// `[admin]`
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct AdminConfig {
    pub listen_addr: Option<SocketAddr>,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct ServerConfig {
    pub terms_of_service_url: Option<String>,
    pub website_url: Option<String>,
    pub order_expiry_secs: u64,
    pub authz_expiry_secs: u64,
    pub max_body_bytes: usize,
    pub max_connections: Option<u32>,
    pub max_requests: Option<u32>,
    pub nonce_lifetime_secs: u64,
    pub dns_persist_issuer_domain: Option<String>,
    #[serde(default)]
    pub dns_persist_issuer_domains: Vec<String>,
    pub dns_resolver_addr: Option<DnsServer>,
    pub dns_persist_resolver_addr: Option<DnsServer>,
    pub address_resolver_addr: Option<DnsServer>,
    pub dnssec: Dnssec,
    pub dnssec_trust_anchor_file: Option<PathBuf>,
    pub http_validation_port: u16,
    pub tls_validation_port: u16,
    pub http01_max_redirects: u8,
    pub validation_timeout_secs: u64,
    pub max_concurrent_validations: usize,
    #[serde(default)]
    pub validation_allow_networks: Vec<IpNet>,
    #[serde(default)]
    pub validation_deny_networks: Vec<IpNet>,
    pub poll_hold_ms: u64,
    #[serde(default)]
    pub dns_forwarders: Vec<DnsForwarder>,
    #[serde(default)]
    pub perspectives: Vec<PerspectiveConfig>,
    pub perspectives_may_fail: Option<usize>,
}

/// `[housekeeping]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct HousekeepingConfig {
    pub enabled: bool,
    pub interval_secs: u64,
    pub order_retention_days: Retention,
    pub authorization_retention_days: Retention,
    pub certificate_retention_days: Retention,
}

impl HousekeepingConfig {
    /// How often it is looked for what has expired.
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_secs)
    }
}

impl ServerConfig {
    /// The issuer domains of dns-persist-01; empty: the type is not offered.
    pub fn issuer_domains(&self) -> Vec<DnsName> {
        let texts = self.dns_persist_issuer_domain.iter().chain(&self.dns_persist_issuer_domains);
        texts.filter_map(|it| DnsName::parse(it.strip_suffix('.').unwrap_or(it)).ok()).collect()
    }

    /// How long one validation may take.
    pub const fn validation_timeout(&self) -> Duration {
        Duration::from_secs(self.validation_timeout_secs)
    }

    /// How long a poll is held; zero: not at all.
    pub const fn poll_hold(&self) -> Duration {
        Duration::from_millis(self.poll_hold_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_of_the_database_reaches_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let text = "base_url = \"https://a.test\"\nlisten_addr = \"[::1]:8443\"\n[database]\n\
                    url = \"postgres://a,b/akamu\"\nmax_connections = 7\nmin_idle_connections = 2\n\
                    connection_lifetime_secs = 3\nconnection_wait_secs = 4\nstatement_timeout_secs = 6\n\
                    lock_timeout_secs = 8\n";
        std::fs::write(directory.path().join("config.toml"), text).unwrap();
        let sources = Sources { working_directory: directory.path().to_owned(), ..Sources::default() };
        let config = load(&sources).unwrap().config;
        let options = config.database.options(&config.data_dir, config.listen_addr).unwrap();
        assert_eq!(
            format!("{options:?}"),
            "StoreOptions { place: \"postgres\", connections: Connections { max: 7, min_idle: 2, lifetime: 3s, \
             wait: 4s, statement_timeout: 6s, lock_timeout: 8s }, application_name: \"akamu-server [::1]:8443\", .. }"
        );
    }
}
