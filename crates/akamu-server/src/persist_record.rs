//! `akamu-server persist-record`: the TXT record of dns-persist-01 to create, as a zone file has it.

use std::fmt::Write as _;

use akamu_challenge::{AccountHashPrefix, BoundTo, PersistUntil, RecordToCreate};
use akamu_proto::{AccountUri, Identifier, IdentifierError, Thumbprint, Timestamp};
use clap::Args;

use crate::config::Config;

/// Whom the record is to trust with what.
#[derive(Clone, Debug, Args)]
pub struct Wish {
    /// The name; of a wildcard (*.example.com) the base domain, and --wildcard
    pub name: String,
    /// The account's URL
    #[arg(long, value_name = "URI")]
    pub account: String,
    /// The thumbprint of the account's key, for a record that hides the account's URL
    #[arg(long, value_name = "THUMBPRINT", allow_hyphen_values = true)]
    pub thumbprint: Option<Thumbprint>,
    /// Allow wildcards, too
    #[arg(long)]
    pub wildcard: bool,
    /// Until when it is good: 2027-01-31T00:00:00Z, or Unix seconds
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// Why there is no record to create.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// The name is none.
    #[error("{name}: {error}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        error: IdentifierError,
    },
    /// An address has no record.
    #[error("{0} is an address; dns-persist-01 is for names")]
    Address(Identifier),
    /// The account is another CA's, or the configuration is not the server's.
    #[error(
        "--account {account}: is no account of this server, whose accounts are {base_url}/acme/account/<number>; give the server's --config or --base-url"
    )]
    OtherAccount {
        /// What was given.
        account: String,
        /// Ours.
        base_url: String,
    },
    /// The server does not offer dns-persist-01.
    #[error("dns-persist-01 is not offered here: set server.dns_persist_issuer_domain")]
    NoIssuerDomain,
    /// The time cannot be read.
    #[error("--until {0}: is no time; write 2027-01-31T00:00:00Z, or Unix seconds")]
    Until(String),
    /// The time is over.
    #[error("--until {0}: that is over")]
    Over(Timestamp),
}

impl Wish {
    /// The record in each dialect, as lines of a zone file.
    ///
    /// # Errors
    /// Where what is wished makes no record that this server would accept.
    pub fn zone_file(&self, config: &Config, now: Timestamp) -> Result<String, WishError> {
        let identifier = self.identifier()?;
        let Some(domain) = identifier.base_domain() else { return Err(WishError::Address(identifier)) };
        if config.base_url.account_id(&self.account).is_none() {
            let base_url = config.base_url.as_str().to_owned();
            return Err(WishError::OtherAccount { account: self.account.clone(), base_url });
        }
        let issuer_domains = config.server.issuer_domains();
        let issuer_domain = issuer_domains.first().ok_or(WishError::NoIssuerDomain)?;
        let until = self.until(now)?;
        let allows_wildcards = self.wildcard || identifier.is_wildcard();
        let record = |account_uri, until| RecordToCreate { issuer_domain, account_uri, allows_wildcards, until };

        let mut text = String::from("; Any one of these records is enough.\n");
        let mut write = |comment: &str, record: &RecordToCreate<'_>| {
            let _ = writeln!(text, "\n; {comment}\n{}", record.zone_file_line(domain));
        };
        let dated = until.map(PersistUntil::Rfc3339);
        let counted = until.map(PersistUntil::UnixSecs);
        write("The account's URL, as lego and acme.sh write it:", &record(&self.account, counted));
        if until.is_some() {
            write("The same, with a date that people can read:", &record(&self.account, dated));
        }
        if let Some(thumbprint) = &self.thumbprint {
            let prefix = AccountHashPrefix::under(config.base_url.as_str());
            let account = AccountUri::new(self.account.clone());
            let hashed = |bound_to| prefix.uri_for(bound_to, thumbprint, &account);
            let bound = hashed(BoundTo::Domain(domain));
            write("A hash that hides the account's URL, for this name:", &record(&bound, counted));
            let unbound = hashed(BoundTo::AnyDomain);
            write("A hash that is good for every name of the account:", &record(&unbound, counted));
        }
        Ok(text)
    }

    fn identifier(&self) -> Result<Identifier, WishError> {
        self.name.parse().map_err(|error| WishError::Name { name: self.name.clone(), error })
    }

    fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, WishError> {
        let Some(text) = &self.until else { return Ok(None) };
        let is_number = text.bytes().all(|it| it.is_ascii_digit());
        let seconds = if is_number { text.parse().ok().map(Timestamp::from_unix_secs) } else { text.parse().ok() };
        let until = seconds.ok_or_else(|| WishError::Until(text.clone()))?.floor_secs();
        if until < now { Err(WishError::Over(until)) } else { Ok(Some(until)) }
    }
}
