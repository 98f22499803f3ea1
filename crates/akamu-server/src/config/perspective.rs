//! How perspectives stand in the configuration.

use std::net::IpAddr;

use akamu_challenge::PerspectiveName;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::DnsServer;

/// The name of the server's own perspective, where there are others.
pub(crate) const PRIMARY: &str = "primary";

/// `[[server.perspectives]]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct PerspectiveConfig {
    #[serde(deserialize_with = "name")]
    pub name: PerspectiveName,
    #[serde(default)]
    pub source_addrs: Vec<IpAddr>,
    pub dns_resolver_addr: Option<DnsServer>,
    pub address_resolver_addr: Option<DnsServer>,
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PerspectiveName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}
