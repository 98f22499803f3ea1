//! dns-persist-01 (draft-ietf-acme-dns-persist): a TXT record at `_validation-persist.<domain>` that stays, and trusts an
//! account with the domain.
//!
//! Three dialects are in use, and each is read: the account's URL with an RFC 3339 persistUntil, the same with Unix
//! seconds (draft -00 and -01), and a hash in the URL's place (draft -02, `account_hash.rs`). How a record's text is read
//! is in `record.rs`, whether it speaks for an account in `claim.rs`.

use std::fmt::Write as _;
use std::sync::Arc;

use akamu_proto::{ChallengeType, DnsName, ErrorType, Identifier, Timestamp};
use async_trait::async_trait;

use crate::txt_lookup::{MAX_VERDICTS, base_domain, fits, look_up_txt};
use crate::{
    ChallengeError, Clock, Deadline, Event, Excerpt, Resolver, Transcript, TxtRecord, Validated, ValidationReport,
    ValidationRequest, Validator,
};

mod account_hash;
mod claim;
pub(crate) mod record;
mod to_create;

pub use account_hash::{AccountHashPrefix, BoundTo, hash_for};
use claim::{Claim, Grant};
pub use record::PersistUntil;
use record::{Dialect, PersistRecord, Rejection};
pub use to_create::RecordToCreate;

/// The label under which the record stands.
const PREFIX: &str = "_validation-persist";

/// How many rejected records the client is told of.
const MAX_TOLD: usize = 3;

/// The validator of dns-persist-01.
///
/// It needs the account's URL and the thumbprints of every key that the account ever had
/// ([`ValidationRequest::with_account`]): a record that was hashed with an earlier key stays good.
#[derive(Clone, Debug)]
pub struct DnsPersist01 {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    issuer_domains: Vec<DnsName>,
    hash_prefix: AccountHashPrefix,
}

impl DnsPersist01 {
    /// Takes records for any of `issuer_domains` (without one this type supports nothing), whose accounturi is the
    /// account's URL or lies under `hash_prefix`.
    pub fn new(
        resolver: impl Resolver + 'static,
        clock: impl Clock + 'static,
        issuer_domains: impl IntoIterator<Item = DnsName>,
        hash_prefix: AccountHashPrefix,
    ) -> Self {
        Self {
            resolver: Arc::new(resolver),
            clock: Arc::new(clock),
            issuer_domains: issuer_domains.into_iter().collect(),
            hash_prefix,
        }
    }

    /// Where the record for `domain` stands; a wildcard's stands at its base domain.
    pub fn record_name(domain: &DnsName) -> String {
        format!("{PREFIX}.{domain}")
    }

    async fn prove(
        &self,
        request: &ValidationRequest,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Validated, ChallengeError> {
        let (account_uri, thumbprints) = request.account()?;
        let domain = base_domain(PREFIX, &request.identifier)?;
        let name = Self::record_name(domain);
        let records = look_up_txt(&*self.resolver, &name, &request.identifier, deadline, transcript).await?;
        let is_wildcard = request.identifier.is_wildcard();
        let claim = Claim::new(domain, is_wildcard, account_uri, thumbprints, &self.hash_prefix, self.clock.now());

        let (mut granted, mut rejected) = (Vec::new(), Vec::new());
        for record in &records {
            let (verdict, event) = self.judge(record, &claim);
            let recorded = if verdict.is_ok() { granted.len() } else { rejected.len() };
            if recorded < MAX_VERDICTS {
                transcript.record(event);
            }
            match verdict {
                Ok(grant) => granted.push(grant),
                Err(rejection) => rejected.push(rejection),
            }
        }
        longest(&granted).ok_or_else(|| ChallengeError::new(ErrorType::IncorrectResponse, tell(&name, rejected)))
    }

    /// One record's verdict, and its entry in the report.
    fn judge(&self, record: &TxtRecord, claim: &Claim<'_>) -> (Result<Grant, (Excerpt, Rejection)>, Event) {
        let octets = record.joined();
        let (dialect, verdict) = match PersistRecord::read(&octets, &self.issuer_domains) {
            Ok(record) => (Some(Dialect::of(&record, claim.is_hashed(record.account_uri))), claim.judge(&record)),
            Err(rejection) => (None, Err(rejection)),
        };
        let value = Excerpt::new(&octets);
        let event = Event::TxtRecord {
            value: value.clone(),
            dialect: dialect.map(Dialect::as_str),
            accepted: verdict.is_ok(),
            rule: verdict.as_ref().map_or_else(ToString::to_string, ToString::to_string),
        };
        (verdict.map_err(|rejection| (value, rejection)), event)
    }
}

#[async_trait]
impl Validator for DnsPersist01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::DNS_PERSIST_01
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        !self.issuer_domains.is_empty() && fits(PREFIX, identifier)
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &*self.clock);
        let conclusion = self.prove(request, deadline, &mut transcript).await;
        transcript.conclude(conclusion)
    }
}

/// The grant that lasts longest decides how long the authorization may; `None` where there is no grant.
fn longest(granted: &[Grant]) -> Option<Validated> {
    let latest = granted.iter().max_by_key(|it| it.until.unwrap_or(Timestamp::from_unix_micros(i64::MAX)))?;
    Some(latest.until.map_or(Validated::unlimited(), Validated::until))
}

/// Why none of the records was accepted, those for us first.
fn tell(name: &str, mut rejected: Vec<(Excerpt, Rejection)>) -> String {
    rejected.sort_by_key(|(_, rejection)| rejection.is_about_others());
    let mut detail = format!("no TXT record of {name} speaks for this account:");
    for (index, (value, rejection)) in rejected.iter().take(MAX_TOLD).enumerate() {
        let separator = if index == 0 { "" } else { ";" };
        let _ = write!(detail, "{separator} \"{value}\" {rejection}");
    }
    if rejected.len() > MAX_TOLD {
        let _ = write!(detail, "; and {} more", rejected.len() - MAX_TOLD);
    }
    detail
}
