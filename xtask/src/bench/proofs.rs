//! What proves a name to the server, by each type of challenge.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::acme::{Account, Challenge};
use crate::failure::Failure;
use crate::name_server::Records;
use crate::responder::Responder;
use crate::tls_alpn_responder::TlsAlpnResponder;

/// A type of challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum ChallengeType {
    #[value(name = "http-01")]
    #[serde(rename = "http-01")]
    Http01,
    #[value(name = "dns-01")]
    #[serde(rename = "dns-01")]
    Dns01,
    #[value(name = "tls-alpn-01")]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[value(name = "dns-persist-01")]
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
}

impl ChallengeType {
    pub(super) const ALL: [Self; 4] = [Self::Http01, Self::Dns01, Self::TlsAlpn01, Self::DnsPersist01];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsPersist01 => "dns-persist-01",
        }
    }
}

impl fmt::Display for ChallengeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who proves the names of a run.
#[derive(Debug, Clone)]
pub(super) enum Proofs {
    Http(Responder),
    TlsAlpn(TlsAlpnResponder),
    Dns(Arc<Records>),
    DnsPersist(Arc<Records>),
}

impl Proofs {
    /// Answers probes at these ports of loopback, where the type has them.
    pub(super) fn start(
        challenge: ChallengeType,
        http_port: u16,
        tls_port: u16,
        records: &Arc<Records>,
    ) -> Result<Self, Failure> {
        Ok(match challenge {
            ChallengeType::Http01 => Self::Http(Responder::start(http_port)?),
            ChallengeType::TlsAlpn01 => Self::TlsAlpn(TlsAlpnResponder::start(tls_port)?),
            ChallengeType::Dns01 => Self::Dns(Arc::clone(records)),
            ChallengeType::DnsPersist01 => Self::DnsPersist(Arc::clone(records)),
        })
    }

    /// Puts up what proves a name.
    pub(super) fn put(&self, name: &str, challenge: &Challenge, account: &Account) -> Result<(), Failure> {
        let key_authorization = || challenge.key_authorization(&account.thumbprint());
        match self {
            Self::Http(responder) => responder.put(key_authorization()),
            Self::TlsAlpn(responder) => responder.put(name, &key_authorization())?,
            Self::Dns(records) => {
                let digest = digest(&SHA256, key_authorization().as_bytes());
                let value = Base64UrlUnpadded::encode_string(digest.as_ref());
                records.set(&format!("_acme-challenge.{name}"), value);
            }
            Self::DnsPersist(records) => {
                let value = challenge.persist_record(account.url());
                records.set(&format!("_validation-persist.{name}"), value);
            }
        }
        Ok(())
    }
}
