//! The format of vectors/dns_persist_01.json and, with the hashed accounturi, of vectors/dns_persist_01_hashed.json.

use akamu_challenge::testing::TestClock;
use akamu_challenge::{AccountHashPrefix, DnsPersist01, ValidationRequest};
use akamu_proto::{AccountUri, DnsName, Thumbprint, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::dns::TxtCase;
use super::parsed::NothingElse;
use crate::case_file;

#[derive(Deserialize)]
pub(crate) struct Case {
    #[serde(flatten)]
    case: TxtCase,
    #[serde(deserialize_with = "names")]
    issuer_domains: Vec<DnsName>,
    account_uri: String,
    now: Timestamp,
    #[serde(default, deserialize_with = "thumbprints")]
    thumbprints: Vec<Thumbprint>,
    account_hash_prefix: Option<String>,
    #[serde(flatten)]
    _nothing_else: NothingElse,
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DnsName>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let name = |it: &String| DnsName::parse(it).map_err(|error| D::Error::custom(format!("{it:?}: {error}")));
    names.iter().map(name).collect()
}

fn thumbprints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Thumbprint>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|it| it.parse().map_err(|error| D::Error::custom(format!("{it:?}: {error}")))).collect()
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let names = self.case.names();
        let prefix = self.account_hash_prefix.as_ref();
        let validator = DnsPersist01::new(
            names.clone(),
            TestClock::at(self.now),
            self.issuer_domains.iter().cloned(),
            prefix.map_or_else(|| AccountHashPrefix::under("https://ca.example"), AccountHashPrefix::new),
        );
        let identifier = self.case.identifier.clone();
        let account = AccountUri::new(&self.account_uri);
        let request = ValidationRequest::with_account(identifier, account, self.thumbprints.clone());
        self.case.run(&names, &validator, &request)
    }
}
