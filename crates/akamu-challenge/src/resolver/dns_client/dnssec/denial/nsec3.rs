//! What an NSEC3 record says: which types are at the name whose hash its owner is, and that no name's hash lies between
//! it and the next (RFC 5155).

use hickory_net::proto::dnssec::rdata::NSEC3;
use hickory_net::proto::rr::{Name, RecordType};

use super::{Denies, is_end, next_closer};

/// How often a hash may be hashed again: each name of a proof costs as much (RFC 9276 §3.2).
pub(super) const MAX_ITERATIONS: u16 = 100;

/// Verified NSEC3 records of one zone, with the hashes that are their owners.
pub(super) struct Nsec3s<'a> {
    zone: &'a Name,
    records: Vec<(Vec<u8>, &'a NSEC3)>,
}

impl<'a> Nsec3s<'a> {
    pub(super) fn new(zone: &'a Name) -> Self {
        Self { zone, records: Vec::new() }
    }

    /// Records that hash in another way than the first are passed over (RFC 5155 §8.2).
    pub(super) fn push(&mut self, owner: &Name, nsec3: &'a NSEC3) {
        let way = |it: &'a NSEC3| (it.hash_algorithm(), it.iterations(), it.salt());
        let is_alike = self.records.first().is_none_or(|(_, first)| way(first) == way(nsec3));
        let hash = owner.iter().next().and_then(from_base32hex).filter(|_| owner.base_name() == *self.zone);
        if let Some(hash) = hash.filter(|_| is_alike) {
            self.records.push((hash, nsec3));
        }
    }

    fn hash(&self, name: &Name) -> Option<Vec<u8>> {
        let (_, first) = self.records.first()?;
        let hash = first.hash_algorithm().hash(first.salt(), name, first.iterations()).ok()?;
        Some(hash.as_ref().to_vec())
    }

    /// The record that covers `name`. The zone's last one leads back to its first.
    fn around(&self, name: &Name) -> Option<&'a NSEC3> {
        let hash = self.hash(name)?;
        let is_around = |(owner, nsec3): &&(Vec<u8>, &NSEC3)| {
            let next = nsec3.next_hashed_owner_name();
            let (is_after, is_before) = (owner.as_slice() < hash.as_slice(), hash.as_slice() < next);
            if owner.as_slice() < next { is_after && is_before } else { is_after || is_before }
        };
        self.records.iter().find(is_around).map(|(_, nsec3)| *nsec3)
    }
}

impl Denies for Nsec3s<'_> {
    fn types_at(&self, name: &Name) -> Option<Vec<RecordType>> {
        let hash = self.hash(name)?;
        self.records.iter().find(|(owner, _)| *owner == hash).map(|(_, nsec3)| nsec3.type_bit_maps().collect())
    }

    fn covers(&self, name: &Name) -> bool {
        self.around(name).is_some()
    }

    fn closest_encloser(&self, name: &Name) -> Option<Name> {
        let mut above = (self.zone.iter().len()..name.iter().len()).rev().map(|labels| name.trim_to(labels));
        let (encloser, types) = above.find_map(|it| self.types_at(&it).map(|types| (it, types)))?;
        (!is_end(&types) && self.covers(&next_closer(name, &encloser))).then_some(encloser)
    }

    fn opts_out(&self, name: &Name) -> bool {
        self.around(name).is_some_and(NSEC3::opt_out)
    }
}

/// The 20 octets of a SHA-1 hash (RFC 4648 §7, without padding).
fn from_base32hex(label: &[u8]) -> Option<Vec<u8>> {
    if label.len() != 32 {
        return None;
    }
    let mut hash = Vec::with_capacity(20);
    for digits in label.chunks(8) {
        let value = digits.iter().try_fold(0, |sum, it| Some(sum << 5 | u64::from(char::from(*it).to_digit(32)?)))?;
        hash.extend(value.to_be_bytes().into_iter().skip(3));
    }
    Some(hash)
}
