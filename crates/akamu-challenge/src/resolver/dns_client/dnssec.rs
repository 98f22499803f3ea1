//! Whether an answer is to be believed (RFC 4035 §5), by the signatures alone: the server's own opinion (AD) is not asked.
//!
//! For each answer a chain of trust is followed anew, from the nearest trust anchor down to the name: at every label the
//! zone so far says by DS records, or by the proof that there are none, whether a zone begins there and whether it is
//! signed. Signatures are in `dnssec/signature.rs`, proofs of absence in `dnssec/denial.rs`.

use akamu_proto::Timestamp;
use hickory_net::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_net::proto::dnssec::{DigestType, Verifier as _};
use hickory_net::proto::op::{Message, ResponseCode};
use hickory_net::proto::rr::{Name, RData, Record, RecordType};
use serde::Deserialize;

use super::question::name_text;
use super::steps::Steps;
use super::{DnsClient, LookupError};
use crate::{Deadline, DnssecStatus, Event};

mod denial;
mod dname;
mod signature;
mod trust_anchors;

pub use trust_anchors::{TrustAnchorError, TrustAnchors};

use denial::Denial;
use dname::dname_behind;
use signature::{RrSet, SignedZone};

/// How many questions one chain of trust may take: two for each zone, one for each other label.
const MAX_QUESTIONS: usize = 64;

/// How many DS records, and how many keys, one zone may have: each key is compared with each record, and whoever answers
/// says how many there are.
const MAX_KEY_RECORDS: usize = 32;

/// Whether answers are validated. Written `off` and `require-if-signed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dnssec {
    /// No: what the server says is believed.
    #[default]
    Off,
    /// Yes: an answer counts when it is signed, or when its zone is proved to have no signatures.
    RequireIfSigned,
}

/// Judges an answer to the question for `record_type` at `name`; `has` is the type of the records there, `None` where the
/// answer says that there are none. What came of it is recorded.
pub(super) async fn validate(
    client: &DnsClient,
    answer: &Message,
    name: &Name,
    record_type: RecordType,
    has: Option<RecordType>,
    deadline: Deadline,
    steps: &Steps,
) -> Result<(), LookupError> {
    let mut chain = Chain { client, now: client.clock.now(), deadline, steps, questions: 0 };
    let verdict = match chain.follow(name).await {
        Ok(Standing::Unsigned(zone)) => Ok(Standing::Unsigned(zone)),
        Ok(Standing::Signed(zone)) => {
            chain.judge(answer, name, record_type, has, &zone).map(|()| Standing::Signed(zone))
        }
        Err(failure) => Err(failure),
    };
    let (status, detail) = match &verdict {
        Ok(Standing::Signed(zone)) => (DnssecStatus::Secure, format!("signed by {}", name_text(&zone.name))),
        Ok(Standing::Unsigned(zone)) => {
            (DnssecStatus::Insecure, format!("{} is delegated without signatures", name_text(zone)))
        }
        Err(failure) => (failure.status, format!("{}: {}", name_text(&failure.name), failure.reason)),
    };
    steps.push(Event::Dnssec { name: name_text(name), record_type: record_type.into(), status, detail });
    verdict.map(|_| ()).map_err(|it| LookupError::Dnssec { name: name_text(&it.name), reason: it.reason })
}

/// What the chain of trust says of a name.
enum Standing {
    /// It is in this zone, which signs its records.
    Signed(SignedZone),
    /// It is at or below this name, which is delegated without signatures.
    Unsigned(Name),
}

/// Why an answer does not count.
struct Failure {
    status: DnssecStatus,
    /// Whose records are wrong or missing.
    name: Name,
    reason: String,
}

fn bogus(name: &Name, reason: String) -> Failure {
    Failure { status: DnssecStatus::Bogus, name: name.clone(), reason }
}

struct Chain<'a> {
    client: &'a DnsClient,
    now: Timestamp,
    deadline: Deadline,
    steps: &'a Steps,
    questions: usize,
}

impl Chain<'_> {
    async fn follow(&mut self, name: &Name) -> Result<Standing, Failure> {
        let mut zone = self.anchored(self.client.trust_anchors.nearest(name)).await?;
        for labels in zone.name.iter().len() + 1..=name.iter().len() {
            let child = name.trim_to(labels);
            let answer = self.ask(&child, RecordType::DS).await?;
            let set = RrSet::of(&answer.answers, &child, RecordType::DS);
            if !set.records.is_empty() {
                limited(&set)?;
                self.verify(&answer, &set, &zone)?;
                let signers = usable(&set);
                if signers.is_empty() {
                    // Signed in a way that is unknown here is as if not signed (RFC 4035 §5.2).
                    return Ok(Standing::Unsigned(child));
                }
                zone = self.delegated(&child, &signers).await?;
                continue;
            }
            let alias = RrSet::of(&answer.answers, &child, RecordType::CNAME);
            if !alias.records.is_empty() {
                // No zone begins at an alias; below it one may.
                self.verify(&answer, &alias, &zone)?;
                continue;
            }
            let denial = Denial::of(&answer, &zone, self.now);
            let code = answer.metadata.response_code;
            if !denial.denies(&child, RecordType::DS, code) {
                let flaw = denial.flaw();
                return Err(bogus(&child, format!("nothing proves whether a signed zone begins here: {flaw}")));
            }
            if denial.leaves_unsigned(&child) {
                return Ok(Standing::Unsigned(child));
            }
            if code == ResponseCode::NXDomain {
                break;
            }
        }
        Ok(Standing::Signed(zone))
    }

    /// The zone of a trust anchor. Its keys are those that a trusted key signs.
    async fn anchored(&mut self, name: &Name) -> Result<SignedZone, Failure> {
        let anchors = &self.client.trust_anchors;
        self.with_keys(name, |name, key| anchors.hold(name, key), "none of its keys is a trust anchor").await
    }

    /// A zone below another one. Its keys are those that a key signs which the parent names.
    async fn delegated(&mut self, name: &Name, signers: &[&DS]) -> Result<SignedZone, Failure> {
        let is_named = |name: &Name, key: &DNSKEY| {
            let names = |ds: &&DS| {
                ds.algorithm() == key.algorithm()
                    && key.calculate_key_tag().is_ok_and(|tag| tag == ds.key_tag())
                    && ds.covers(name, key).unwrap_or(false)
            };
            signers.iter().any(names)
        };
        self.with_keys(name, is_named, "none of its keys is one that its parent names (DS)").await
    }

    async fn with_keys(
        &mut self,
        name: &Name,
        is_trusted: impl Fn(&Name, &DNSKEY) -> bool,
        otherwise: &str,
    ) -> Result<SignedZone, Failure> {
        let answer = self.ask(name, RecordType::DNSKEY).await?;
        let set = RrSet::of(&answer.answers, name, RecordType::DNSKEY);
        limited(&set)?;
        let is_usable = |key: &&DNSKEY| key.zone_key() && !key.revoke() && key.algorithm().is_supported();
        let keys: Vec<_> = set.records.iter().filter_map(|it| dnskey(it)).filter(is_usable).cloned().collect();
        if keys.is_empty() {
            return Err(bogus(name, "it has no DNSKEY record that can be used".to_owned()));
        }
        let trusted: Vec<_> = keys.iter().filter(|key| is_trusted(name, key)).cloned().collect();
        if trusted.is_empty() {
            return Err(bogus(name, otherwise.to_owned()));
        }
        let by_trusted = SignedZone { name: name.clone(), keys: trusted };
        self.verify(&answer, &set, &by_trusted)?;
        Ok(SignedZone { keys, ..by_trusted })
    }

    /// A question of the chain, put to the servers of the zone that answers it: for DS records that is the parent.
    async fn ask(&mut self, name: &Name, record_type: RecordType) -> Result<Message, Failure> {
        let failure = |reason| Failure { status: DnssecStatus::Indeterminate, name: name.clone(), reason };
        self.questions += 1;
        if self.questions > MAX_QUESTIONS {
            return Err(failure(format!("its chain of trust takes more than {MAX_QUESTIONS} questions")));
        }
        let servers = match record_type {
            RecordType::DS => self.client.servers_for(&name.base_name()),
            _ => self.client.servers_for(name),
        };
        let answer = servers.ask(name, record_type, true, self.deadline, self.steps).await;
        answer.map_err(|error| failure(format!("its {record_type} records could not be looked up: {error}")))
    }

    /// Whether the zone that the name is in vouches for the answer.
    fn judge(
        &self,
        answer: &Message,
        name: &Name,
        record_type: RecordType,
        has: Option<RecordType>,
        zone: &SignedZone,
    ) -> Result<(), Failure> {
        if let Some(has) = has {
            return self.verify(answer, &RrSet::of(&answer.answers, name, has), zone);
        }
        let (denial, code) = (Denial::of(answer, zone, self.now), answer.metadata.response_code);
        if denial.denies(name, record_type, code) {
            return Ok(());
        }
        let claim = match code {
            ResponseCode::NXDomain => "it does not exist".to_owned(),
            _ => format!("it has no {record_type} records"),
        };
        Err(bogus(name, format!("nothing proves that {claim}: {}", denial.flaw())))
    }

    fn verify(&self, answer: &Message, set: &RrSet<'_>, zone: &SignedZone) -> Result<(), Failure> {
        if let Some((owner, records)) = dname_behind(answer, set) {
            return self.verify(answer, &RrSet::of(&records, &owner, RecordType::DNAME), zone);
        }
        let RrSet { name, record_type, .. } = *set;
        let signature = set.verify(zone, self.now).map_err(|flaw| {
            bogus(name, format!("the signature of its {record_type} records by {} {flaw}", name_text(&zone.name)))
        })?;
        let labels = signature.input().num_labels;
        if labels < name.num_labels() {
            // One label more than the wildcard's parent: were anything at or below it, the wildcard would not apply.
            let next_closer = name.trim_to(usize::from(labels) + 1);
            let denial = Denial::of(answer, zone, self.now);
            if !denial.covers(&next_closer) {
                let flaw = denial.flaw();
                return Err(bogus(
                    name,
                    format!(
                        "its {record_type} records come from a wildcard, and nothing proves that it has none of its own: {flaw}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn limited(set: &RrSet<'_>) -> Result<(), Failure> {
    if set.records.len() > MAX_KEY_RECORDS {
        return Err(bogus(set.name, format!("it has more than {MAX_KEY_RECORDS} {} records", set.record_type)));
    }
    Ok(())
}

fn dnskey(record: &Record) -> Option<&DNSKEY> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::DNSKEY(it)) => Some(it),
        _ => None,
    }
}

/// The DS records that can be checked; those with a SHA-1 digest only where there are no others (RFC 4509 §3).
fn usable<'a>(set: &RrSet<'a>) -> Vec<&'a DS> {
    let known = |it: &'a Record| match &it.data {
        RData::DNSSEC(DNSSECRData::DS(it)) if it.algorithm().is_supported() && it.digest_type().is_supported() => {
            Some(it)
        }
        _ => None,
    };
    let mut usable: Vec<_> = set.records.iter().filter_map(|it| known(it)).collect();
    if usable.iter().any(|it| it.digest_type() != DigestType::SHA1) {
        usable.retain(|it| it.digest_type() != DigestType::SHA1);
    }
    usable
}
