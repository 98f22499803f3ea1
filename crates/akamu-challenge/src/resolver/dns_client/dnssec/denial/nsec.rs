//! What an NSEC record says: which types are at its owner, and that no name lies between it and the next (RFC 4034 §4).

use hickory_net::proto::dnssec::rdata::NSEC;
use hickory_net::proto::rr::{Name, RecordType};

use super::{Denies, is_end};

/// Verified NSEC records of one zone.
#[derive(Default)]
pub(super) struct Nsecs<'a>(Vec<(&'a Name, &'a NSEC)>);

impl<'a> Nsecs<'a> {
    pub(super) fn push(&mut self, owner: &'a Name, nsec: &'a NSEC) {
        self.0.push((owner, nsec));
    }

    /// The owner and the next name around `name`. The zone's last record leads back to its first.
    fn around(&self, name: &Name) -> Option<(&Name, &Name)> {
        let is_around = |&(owner, nsec): &(&'a Name, &'a NSEC)| {
            let next = nsec.next_domain_name();
            let is_between = owner < name && (name < next || next <= owner);
            is_between && !(owner.zone_of(name) && is_end(&nsec.type_bit_maps().collect::<Vec<_>>()))
        };
        self.0.iter().copied().find(is_around).map(|(owner, nsec)| (owner, nsec.next_domain_name()))
    }
}

impl Denies for Nsecs<'_> {
    fn types_at(&self, name: &Name) -> Option<Vec<RecordType>> {
        let own = self.0.iter().find(|(owner, _)| *owner == name).map(|(_, nsec)| nsec.type_bit_maps().collect());
        // A name that is there for the sake of those below it has no record of its own (RFC 4592 §2.2.2).
        let is_above_next = || self.around(name).is_some_and(|(_, next)| name.zone_of(next));
        own.or_else(|| is_above_next().then(Vec::new))
    }

    fn covers(&self, name: &Name) -> bool {
        self.around(name).is_some_and(|(_, next)| !name.zone_of(next))
    }

    fn closest_encloser(&self, name: &Name) -> Option<Name> {
        let (owner, next) = self.around(name)?;
        let mut above = (0..name.iter().len()).rev().map(|labels| name.trim_to(labels));
        above.find(|it| it.zone_of(owner) || it.zone_of(next))
    }

    fn opts_out(&self, _: &Name) -> bool {
        false
    }
}
