//! Whether an RRset is signed by its zone (RFC 4035 §5.3).

use std::fmt;

use akamu_proto::Timestamp;
use hickory_net::proto::dnssec::Verifier as _;
use hickory_net::proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_net::proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// How many signatures of one RRset, and how many keys for one signature, are tried: checking costs time, and whoever
/// answers says how many there are.
const MAX_TRIED: usize = 8;
const MAX_KEYS: usize = 2;

/// A zone and those of its keys that are known to be its own: zone keys, not revoked, of algorithms that are supported.
#[derive(Debug)]
pub(super) struct SignedZone {
    pub(super) name: Name,
    pub(super) keys: Vec<DNSKEY>,
}

/// The records of one name and type, with the signatures over them.
pub(super) struct RrSet<'a> {
    pub(super) name: &'a Name,
    pub(super) record_type: RecordType,
    pub(super) records: Vec<&'a Record>,
    pub(super) signatures: Vec<&'a RRSIG>,
}

/// What is wrong with an RRset's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The zone did not sign it.
    Missing,
    NotYetValid(Timestamp),
    Expired(Timestamp),
    /// Signed by a key that is not the zone's, or not signed over these records.
    Wrong,
}

impl<'a> RrSet<'a> {
    /// What a section of a message has of `name` and `record_type`.
    pub(super) fn of(section: &'a [Record], name: &'a Name, record_type: RecordType) -> Self {
        let own = || section.iter().filter(|it| it.name == *name && it.dns_class == DNSClass::IN);
        Self {
            name,
            record_type,
            records: own().filter(|it| it.record_type() == record_type).collect(),
            signatures: own().filter_map(|it| signature(it, record_type)).collect(),
        }
    }

    /// A signature over all of it that `zone`'s keys made and that is in force.
    pub(super) fn verify(&self, zone: &SignedZone, now: Timestamp) -> Result<&'a RRSIG, Flaw> {
        let by_zone = self.signatures.iter().filter(|it| it.input().signer_name == zone.name);
        let mut flaw = Flaw::Missing;
        for signature in by_zone.take(MAX_TRIED) {
            match self.check(signature, zone, now) {
                Ok(()) => return Ok(signature),
                Err(found) => flaw = found,
            }
        }
        Err(flaw)
    }

    fn check(&self, signature: &RRSIG, zone: &SignedZone, now: Timestamp) -> Result<(), Flaw> {
        let input = signature.input();
        if !zone.name.zone_of(self.name) || input.num_labels > self.name.num_labels() {
            return Err(Flaw::Wrong);
        }
        let (inception, expiration) = (near(input.sig_inception.get(), now), near(input.sig_expiration.get(), now));
        if now < inception {
            return Err(Flaw::NotYetValid(inception));
        }
        if now.floor_secs() > expiration {
            return Err(Flaw::Expired(expiration));
        }
        let fits = |key: &&DNSKEY| {
            key.algorithm() == input.algorithm && key.calculate_key_tag().is_ok_and(|tag| tag == input.key_tag)
        };
        let is_over_records =
            |key: &DNSKEY| key.verify_rrsig(self.name, DNSClass::IN, signature, self.records.iter().copied()).is_ok();
        let signed = zone.keys.iter().filter(fits).take(MAX_KEYS).any(is_over_records);
        if signed { Ok(()) } else { Err(Flaw::Wrong) }
    }
}

/// The signature in this record, where there is one over `record_type`.
pub(super) fn signature(record: &Record, record_type: RecordType) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(it)) if it.input().type_covered == record_type => Some(it),
        _ => None,
    }
}

/// The time nearest to now whose seconds end in these 32 bits (RFC 4034 §3.1.5).
fn near(seconds: u32, now: Timestamp) -> Timestamp {
    const ROUND: i64 = 1 << 32;
    let now = now.unix_secs();
    let ahead = (i64::from(seconds) - now).rem_euclid(ROUND);
    let ahead = if ahead < ROUND / 2 { ahead } else { ahead - ROUND };
    Timestamp::from_unix_secs(now.saturating_add(ahead))
}

/// As the end of "the signature of …".
impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::NotYetValid(from) => write!(f, "is not valid before {from}"),
            Self::Expired(until) => write!(f, "expired {until}"),
            Self::Wrong => f.write_str("was made by another key or over other records"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_bits_of_seconds_mean_the_nearest_time() {
        let at = Timestamp::from_unix_secs;
        for (seconds, now, time) in [
            (1_000, 2_000, 1_000),
            (0, 4_294_967_295, 4_294_967_296),
            (4_294_967_295, 4_294_967_296, 4_294_967_295),
            (10, 8_589_934_592, 8_589_934_602),
        ] {
            assert_eq!(near(seconds, at(now)), at(time), "{seconds} at {now}");
        }
    }
}
