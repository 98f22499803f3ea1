//! What an account claims, and whether a record grants it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;

use akamu_proto::{AccountUri, DnsName, Thumbprint, Timestamp};

use super::PREFIX;
use super::account_hash::{AccountHashPrefix, BoundTo, HashedAccount, hash_for, hash_of};
use super::record::{Dialect, HashDifference, PersistRecord, Rejection, UriDifference};
use crate::Excerpt;

/// Who asks for what, at which time.
pub(super) struct Claim<'a> {
    domain: &'a DnsName,
    is_wildcard: bool,
    account_uri: &'a AccountUri,
    thumbprints: &'a [Thumbprint],
    hash_prefix: &'a AccountHashPrefix,
    now: Timestamp,
    hashes: HashMap<String, Basis>,
    wrong_hashes: OnceCell<HashMap<String, HashDifference>>,
}

/// What in an accounturi names the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    Url,
    Hash { is_bound: bool, is_current_key: bool },
}

/// A record that speaks for the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) basis: Basis,
    pub(super) dialect: Dialect,
    /// Until when it holds.
    pub(super) until: Option<Timestamp>,
}

impl<'a> Claim<'a> {
    /// `thumbprints` are those of all keys that the account ever had, the current one first.
    pub(super) fn new(
        domain: &'a DnsName,
        is_wildcard: bool,
        account_uri: &'a AccountUri,
        thumbprints: &'a [Thumbprint],
        hash_prefix: &'a AccountHashPrefix,
        now: Timestamp,
    ) -> Self {
        let mut hashes = HashMap::new();
        for (index, thumbprint) in thumbprints.iter().enumerate() {
            for (bound_to, is_bound) in [(BoundTo::Domain(domain), true), (BoundTo::AnyDomain, false)] {
                let basis = Basis::Hash { is_bound, is_current_key: index == 0 };
                hashes.entry(hash_for(bound_to, thumbprint, account_uri)).or_insert(basis);
            }
        }
        let wrong_hashes = OnceCell::new();
        Self { domain, is_wildcard, account_uri, thumbprints, hash_prefix, now, hashes, wrong_hashes }
    }

    /// Whether `record` grants this claim: it names the account, allows wildcards where one is asked for, and holds now.
    pub(super) fn judge(&self, record: &PersistRecord<'_>) -> Result<Grant, Rejection> {
        let basis = self.basis(record.account_uri)?;
        if self.is_wildcard {
            match record.policy {
                Some(policy) if policy.eq_ignore_ascii_case("wildcard") => {}
                Some(policy) => return Err(Rejection::OtherPolicy { policy: Excerpt::new(policy) }),
                None => return Err(Rejection::NoWildcardPolicy),
            }
        }
        let until = record.persist_until.map(|it| it.moment());
        if let Some(at) = until
            && at < self.now
        {
            return Err(Rejection::Expired { at });
        }
        Ok(Grant { basis, dialect: Dialect::of(record, basis != Basis::Url), until })
    }

    /// Whether `account_uri` is under the prefix of hashes.
    pub(super) fn is_hashed(&self, account_uri: &str) -> bool {
        self.hash_prefix.strip(account_uri).is_some()
    }

    fn basis(&self, account_uri: &str) -> Result<Basis, Rejection> {
        let expected = self.account_uri.as_str();
        if account_uri == expected {
            return Ok(Basis::Url);
        }
        match self.hash_prefix.strip(account_uri) {
            Some(HashedAccount::Hash(hash)) => self.hashes.get(hash).copied().ok_or_else(|| self.explain_hash(hash)),
            Some(HashedAccount::OtherAlgorithm) => Err(Rejection::OtherHashAlgorithm),
            None => {
                let expected = expected.to_owned();
                Err(match uri_difference(account_uri, &expected) {
                    Some(difference) => Rejection::InexactAccount { difference, expected },
                    None => Rejection::AnotherAccount { account_uri: Excerpt::new(account_uri), expected },
                })
            }
        }
    }

    /// Finds the mistake that makes `hash` out of the right inputs, if it is a common one.
    fn explain_hash(&self, hash: &str) -> Rejection {
        let bare = hash.trim_end_matches('=');
        let difference = if bare != hash && self.hashes.contains_key(bare) {
            Some(HashDifference::Padding)
        } else if self.hashes.keys().any(|it| it.eq_ignore_ascii_case(hash)) {
            Some(HashDifference::Case)
        } else {
            self.wrong_hashes.get_or_init(|| self.make_wrong_hashes()).get(hash).cloned()
        };
        difference.map_or(Rejection::AnotherHash, |difference| Rejection::InexactHash { difference })
    }

    fn make_wrong_hashes(&self) -> HashMap<String, HashDifference> {
        let domain = self.domain.as_str();
        let parents = domain.match_indices('.').filter_map(|(dot, _)| domain.get(dot + 1..)).map(str::to_owned);
        let prefixed = ["*", "www", PREFIX].map(|it| format!("{it}.{domain}"));
        let names: Vec<String> = prefixed.into_iter().chain(parents).collect();
        let uri = self.account_uri.as_str();

        let mut wrong = HashMap::new();
        for thumbprint in self.thumbprints {
            for name in &names {
                let difference = HashDifference::Name { name: name.clone() };
                wrong.insert(hash_of(name, thumbprint, uri), difference);
            }
            for right in [domain, "*"] {
                wrong.insert(hash_of(right, thumbprint, &format!("{uri}\n")), HashDifference::LineBreak);
                if let Some(other) = with_other_scheme(uri) {
                    wrong.insert(hash_of(right, thumbprint, &other), HashDifference::Scheme);
                }
            }
        }
        wrong
    }
}

fn uri_difference(found: &str, expected: &str) -> Option<UriDifference> {
    if with_other_scheme(found).as_deref() == Some(expected) {
        Some(UriDifference::Scheme)
    } else if found.trim_end_matches('/') == expected {
        Some(UriDifference::TrailingSlash)
    } else if found.trim_matches(['"', '\'', '<', '>']) == expected {
        Some(UriDifference::Quotes)
    } else if found.eq_ignore_ascii_case(expected) {
        Some(UriDifference::Case)
    } else if found.len() > 1 && found.starts_with('/') && expected.ends_with(found) {
        Some(UriDifference::PathOnly)
    } else {
        None
    }
}

fn with_other_scheme(uri: &str) -> Option<String> {
    if let Some(rest) = uri.strip_prefix("https://") {
        return Some(format!("http://{rest}"));
    }
    uri.strip_prefix("http://").map(|rest| format!("https://{rest}"))
}

/// The rule that decided, for the report.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.basis {
            Basis::Url => f.write_str("names the account by its URL")?,
            Basis::Hash { is_bound, is_current_key } => {
                f.write_str("names the account by a hash ")?;
                f.write_str(if is_bound { "for this domain" } else { "for any domain" })?;
                if !is_current_key {
                    f.write_str(" made with an earlier key of the account")?;
                }
            }
        }
        self.until.map_or(Ok(()), |until| write!(f, ", until {until}"))
    }
}
