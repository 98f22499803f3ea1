//! The zones that the client trusts: the root; `signed`, signed too; `unsigned`, delegated without signatures.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::Ed25519KeyPair;
use hickory_net::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_net::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_net::proto::dnssec::{DigestType, DnssecSigner, Nsec3HashAlgorithm, SigningKey as _, Verifier as _};
use hickory_net::proto::op::Message;
use hickory_net::proto::rr::rdata::{SOA, TXT};
use hickory_net::proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};

/// What time it is, in Unix seconds.
pub(crate) const NOW: i64 = 1_800_000_000;

/// How long signatures were and will be valid.
const DAY: Duration = Duration::from_secs(86_400);

/// How many RRsets of a section are signed: it takes time.
const MAX_SIGNED: usize = 6;

static ROOT: LazyLock<DnssecSigner> = LazyLock::new(|| signer(Name::root(), 1));
static CHILD: LazyLock<DnssecSigner> = LazyLock::new(|| signer(name("signed."), 2));

fn signer(zone: Name, seed: u8) -> DnssecSigner {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any 32 octets are a seed");
    let key = Ed25519SigningKey::from_ed25519(pair);
    let dnskey = DNSKEY::new(true, true, false, key.to_public_key().expect("it has one"));
    DnssecSigner::new(dnskey, Box::new(key), zone, 2 * DAY)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("it is a name")
}

/// The root's key, as a trust anchor file has it.
pub(crate) fn anchor() -> String {
    format!(". IN DNSKEY {}", ROOT.dnskey())
}

/// How a message's records are signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    AsItIs,
    /// Answers as if made from the wildcard beside them.
    FromWildcard,
}

pub(crate) struct Zones {
    with_nsec3: bool,
    /// Everything that was signed.
    pub(crate) signed: Vec<RData>,
}

impl Zones {
    pub(crate) fn new(with_nsec3: bool) -> Self {
        Self { with_nsec3, signed: Vec::new() }
    }

    /// What the zones say of a query.
    pub(crate) fn answer(&mut self, query: &[u8]) -> Vec<u8> {
        let query = Message::from_vec(query).expect("it is the client's");
        let question = query.queries.first().expect("it asks").clone();
        let mut answer = query.into_response();
        answer.edns = None;
        let (owner, record_type) = (question.name(), question.query_type());
        let is_unsigned =
            name("unsigned.").zone_of(owner) && (*owner != name("unsigned.") || record_type != RecordType::DS);
        let zone = zone(owner, record_type);
        let is_child = *owner == *CHILD.signer_name();
        let data = match record_type {
            RecordType::DNSKEY if owner == zone.signer_name() => dnssec(DNSSECRData::DNSKEY(zone.dnskey().clone())),
            RecordType::DS if is_child => dnssec(DNSSECRData::DS(ds())),
            RecordType::TXT => Some(RData::TXT(TXT::new(vec!["theirs".to_owned()]))),
            _ => None,
        };
        if let Some(data) = data {
            answer.add_answer(Record::from_rdata(owner.clone(), 60, data));
        } else {
            let is_cut = *owner == name("unsigned.");
            let types = if is_cut { vec![RecordType::NS] } else { vec![RecordType::TXT] };
            let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 60);
            answer.add_authority(Record::from_rdata(zone.signer_name().clone(), 60, RData::SOA(soa)));
            answer.add_authorities(self.denial(owner, zone, types));
        }
        let octets = answer.to_vec().expect("it is a message");
        if is_unsigned { octets } else { self.sign(octets, Signed::AsItIs) }
    }

    /// The record that says which types `owner` has; none where the name has no room for another label.
    fn denial(&self, owner: &Name, zone: &DnssecSigner, types: Vec<RecordType>) -> Option<Record> {
        let types = types.into_iter().chain([RecordType::RRSIG]);
        if !self.with_nsec3 {
            let next = owner.prepend_label("a").ok()?;
            let nsec = NSEC::new(next, types.chain([RecordType::NSEC]));
            return Some(Record::from_rdata(owner.clone(), 60, dnssec(DNSSECRData::NSEC(nsec))?));
        }
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], owner, 0).ok()?.as_ref().to_vec();
        let mut next = hash.clone();
        *next.last_mut()? ^= 1;
        let label = zone.signer_name().prepend_label(base32hex(&hash)).ok()?;
        let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, Vec::new(), next, types);
        Some(Record::from_rdata(label, 60, dnssec(DNSSECRData::NSEC3(nsec3))?))
    }

    /// The message with signatures by the zones that its records are in; as it is, where it is no message.
    pub(crate) fn sign(&mut self, octets: Vec<u8>, how: Signed) -> Vec<u8> {
        let Ok(mut message) = Message::from_vec(&octets) else { return octets };
        let from_wildcard = how == Signed::FromWildcard;
        let answers = self.signatures(&message.answers, from_wildcard);
        let authorities = self.signatures(&message.authorities, false);
        message.add_answers(answers).add_authorities(authorities);
        message.to_vec().unwrap_or(octets)
    }

    fn signatures(&mut self, section: &[Record], from_wildcard: bool) -> Vec<Record> {
        let mut sets: Vec<(&Name, RecordType)> = Vec::new();
        for record in section.iter().filter(|it| it.record_type() != RecordType::RRSIG) {
            let set = (&record.name, record.record_type());
            if sets.len() < MAX_SIGNED && !sets.contains(&set) {
                sets.push(set);
            }
        }
        let mut signatures = Vec::new();
        for (owner, record_type) in sets {
            let wildcard = owner.base_name().prepend_label("*").ok().filter(|_| from_wildcard && !owner.is_root());
            let mut set = RecordSet::new(wildcard.unwrap_or_else(|| owner.clone()), record_type, 0);
            for record in section.iter().filter(|it| it.name == *owner && it.record_type() == record_type) {
                let mut record = record.clone();
                record.name = set.name().clone();
                set.insert(record, 0);
            }
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs()) - DAY;
            let signature = RRSIG::from_rrset(&set, DNSClass::IN, since.into(), zone(owner, record_type));
            if let Some(signature) = signature.ok().and_then(|it| dnssec(DNSSECRData::RRSIG(it))) {
                self.signed.extend(set.records_without_rrsigs().map(|it| it.data.clone()));
                signatures.push(Record::from_rdata(owner.clone(), 60, signature));
            }
        }
        signatures
    }
}

/// The signed zone that answers for `owner`: for DS records that is the parent.
fn zone(owner: &Name, record_type: RecordType) -> &'static DnssecSigner {
    let is_above = *owner == *CHILD.signer_name() && record_type == RecordType::DS;
    if CHILD.signer_name().zone_of(owner) && !is_above { &CHILD } else { &ROOT }
}

fn ds() -> DS {
    let key = CHILD.dnskey();
    let digest = key.to_digest(CHILD.signer_name(), DigestType::SHA256).expect("it is supported");
    let tag = key.calculate_key_tag().expect("a key has one");
    DS::new(tag, key.algorithm(), DigestType::SHA256, digest.as_ref().to_vec())
}

fn dnssec(data: DNSSECRData) -> Option<RData> {
    Some(RData::DNSSEC(data))
}

/// Lower case, without padding (RFC 4648 §7).
fn base32hex(octets: &[u8]) -> String {
    let bits: Vec<u8> = octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect();
    let digit = |bits: &[u8]| char::from_digit(bits.iter().fold(0, |sum, bit| sum * 2 + u32::from(*bit)), 32);
    bits.chunks(5).filter_map(digit).collect()
}
