//! Whether NSEC or NSEC3 records prove what an answer leaves out (RFC 4035 §5.4, RFC 5155 §8, RFC 6840 §4).
//!
//! Here are the rules that both kinds share; what one record says about a name is in `denial/nsec.rs` and
//! `denial/nsec3.rs`. The zone is known: it was found from above, so no SOA record is needed to tell it.

use akamu_proto::Timestamp;
use hickory_net::proto::dnssec::rdata::DNSSECRData;
use hickory_net::proto::op::{Message, ResponseCode};
use hickory_net::proto::rr::{Name, RData, RecordType};

use super::super::question::name_text;
use super::signature::{RrSet, SignedZone};

mod nsec;
mod nsec3;

use nsec::Nsecs;
use nsec3::{MAX_ITERATIONS, Nsec3s};

/// How many RRsets of an authority section are looked at. A proof takes three; those of an alias's target may come too.
const MAX_RRSETS: usize = 12;

/// What one kind of records says about names of the zone.
trait Denies {
    /// The types at `name`, if it is proved to be there.
    fn types_at(&self, name: &Name) -> Option<Vec<RecordType>>;

    /// Whether there is nothing at `name`, nor below it.
    fn covers(&self, name: &Name) -> bool;

    /// The nearest name above `name` that is there, if the one below that towards `name` is proved not to be.
    fn closest_encloser(&self, name: &Name) -> Option<Name>;

    /// Whether `name`, which is covered, may yet be an unsigned delegation (opt-out, RFC 5155 §6).
    fn opts_out(&self, name: &Name) -> bool;
}

/// The records by which a zone denies something in an answer: signed by the zone, and not made from a wildcard.
pub(super) struct Denial<'a> {
    nsecs: Nsecs<'a>,
    nsec3s: Nsec3s<'a>,
    /// Why they prove nothing, should that be so: for the report.
    flaw: String,
}

impl<'a> Denial<'a> {
    /// What is `zone`'s own in the authority section.
    pub(super) fn of(answer: &'a Message, zone: &'a SignedZone, now: Timestamp) -> Self {
        let mut seen: Vec<(&Name, RecordType)> = Vec::new();
        let (mut nsecs, mut nsec3s) = (Nsecs::default(), Nsec3s::new(&zone.name));
        let (mut unsigned, mut useless) = (None, None);
        for it in &answer.authorities {
            let (owner, record_type) = (&it.name, it.record_type());
            let is_denial = matches!(record_type, RecordType::NSEC | RecordType::NSEC3) && zone.name.zone_of(owner);
            if !is_denial || seen.contains(&(owner, record_type)) {
                continue;
            }
            if seen.len() == MAX_RRSETS {
                break;
            }
            seen.push((owner, record_type));
            let set = RrSet::of(&answer.authorities, owner, record_type);
            let signature = match set.verify(zone, now) {
                Ok(signature) => signature,
                Err(flaw) => {
                    let owner = name_text(owner);
                    unsigned
                        .get_or_insert_with(|| format!("the signature of the {record_type} record of {owner} {flaw}"));
                    continue;
                }
            };
            useless
                .get_or_insert_with(|| format!("the {record_type} records of {} do not say so", name_text(&zone.name)));
            if signature.input().num_labels != owner.num_labels() {
                continue;
            }
            for record in set.records {
                match &record.data {
                    RData::DNSSEC(DNSSECRData::NSEC(nsec)) => nsecs.push(owner, nsec),
                    RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if nsec3.iterations() > MAX_ITERATIONS => {
                        let zone = name_text(&zone.name);
                        useless =
                            Some(format!("the NSEC3 records of {zone} take more than {MAX_ITERATIONS} iterations"));
                    }
                    RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => nsec3s.push(owner, nsec3),
                    _ => {}
                }
            }
        }
        let none = || format!("no NSEC or NSEC3 record of {} came with the answer", name_text(&zone.name));
        Self { nsecs, nsec3s, flaw: unsigned.or(useless).unwrap_or_else(none) }
    }

    /// Whether there is nothing of this type at `name`, in the way that the response code says.
    pub(super) fn denies(&self, name: &Name, record_type: RecordType, code: ResponseCode) -> bool {
        denies(&self.nsecs, name, record_type, code) || denies(&self.nsec3s, name, record_type, code)
    }

    /// Whether there is nothing at `name`, nor below it, but for what a wildcard makes.
    pub(super) fn covers(&self, name: &Name) -> bool {
        self.nsecs.covers(name) || self.nsec3s.covers(name)
    }

    /// Whether the zone, which denies DS records for `name`, says that it delegates `name` to a zone without signatures, or
    /// leaves that open.
    pub(super) fn leaves_unsigned(&self, name: &Name) -> bool {
        leaves_unsigned(&self.nsecs, name) || leaves_unsigned(&self.nsec3s, name)
    }

    pub(super) fn flaw(&self) -> &str {
        &self.flaw
    }
}

fn denies(records: &impl Denies, name: &Name, record_type: RecordType, code: ResponseCode) -> bool {
    if let Some(types) = records.types_at(name) {
        return code == ResponseCode::NoError && lack(&types, record_type);
    }
    let Some(encloser) = records.closest_encloser(name) else { return false };
    // Only a wildcard there could still answer.
    let Ok(wildcard) = encloser.prepend_label("*") else { return false };
    if code == ResponseCode::NXDomain {
        return records.covers(&wildcard);
    }
    let may_be_delegated = record_type == RecordType::DS && records.opts_out(&next_closer(name, &encloser));
    may_be_delegated || records.types_at(&wildcard).is_some_and(|types| lack(&types, record_type))
}

fn leaves_unsigned(records: &impl Denies, name: &Name) -> bool {
    match records.types_at(name) {
        Some(types) => is_cut(&types) && !types.contains(&RecordType::DS),
        None => records.closest_encloser(name).is_some_and(|it| records.opts_out(&next_closer(name, &it))),
    }
}

/// The name one label below `encloser`, towards `name` (RFC 5155 §1.3).
fn next_closer(name: &Name, encloser: &Name) -> Name {
    name.trim_to(encloser.iter().len() + 1)
}

/// Whether a name with these types has none of `record_type`. At a delegation the zone speaks for DS records alone, and
/// of those its child does not speak (RFC 6840 §4.1).
fn lack(types: &[RecordType], record_type: RecordType) -> bool {
    let is_for_other_zone =
        if record_type == RecordType::DS { types.contains(&RecordType::SOA) } else { is_cut(types) };
    !types.contains(&record_type) && !types.contains(&RecordType::CNAME) && !is_for_other_zone
}

/// Whether the zone delegates a name with these types.
fn is_cut(types: &[RecordType]) -> bool {
    types.contains(&RecordType::NS) && !types.contains(&RecordType::SOA)
}

/// Whether the zone has nothing to say about what is below a name with these types (RFC 6840 §4.1).
fn is_end(types: &[RecordType]) -> bool {
    is_cut(types) || types.contains(&RecordType::DNAME)
}

#[cfg(test)]
mod tests {
    use hickory_net::proto::dnssec::Nsec3HashAlgorithm;
    use hickory_net::proto::dnssec::rdata::{NSEC, NSEC3};

    use super::*;

    use RecordType::{A, CNAME, DNAME, DS, NS, SOA, TXT};

    /// The zone `z`: b and deep are there for the names below them only.
    const ZONE: [(&str, &[RecordType]); 9] = [
        ("z", &[SOA, NS, A]),
        ("*.z", &[TXT]),
        ("a.b.z", &[TXT]),
        ("alias.z", &[CNAME]),
        ("cut.z", &[NS]),
        ("*.deep.z", &[A]),
        ("x.deep.z", &[TXT]),
        ("moved.z", &[DNAME, A]),
        ("signed.z", &[NS, DS]),
    ];

    const ASKED: [&str; 22] = [
        "z",
        "a.z",
        "q.a.z",
        "b.z",
        "a.b.z",
        "q.b.z",
        "q.a.b.z",
        "alias.z",
        "q.alias.z",
        "cut.z",
        "q.cut.z",
        "deep.z",
        "x.deep.z",
        "y.deep.z",
        "q.y.deep.z",
        "q.x.deep.z",
        "moved.z",
        "q.moved.z",
        "signed.z",
        "q.signed.z",
        "zz.z",
        "0.b.z",
    ];

    fn name(text: &str) -> Name {
        Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
    }

    fn types(of: &str) -> Option<&'static [RecordType]> {
        let own = ZONE.iter().find(|(owner, _)| *owner == of).map(|(_, types)| *types);
        own.or_else(|| ZONE.iter().any(|(owner, _)| name(of).zone_of(&name(owner))).then_some(&[][..]))
    }

    /// What an answer about `asked` must say, by RFC 4592 and the list above; `None`: there is one, or it is another zone's.
    fn truth(asked: &str, record_type: RecordType) -> Option<ResponseCode> {
        let lacks = |types: &[RecordType]| !types.contains(&record_type) && !types.contains(&CNAME);
        let mut above = asked.split_once('.').map(|(_, above)| above);
        let mut encloser = None;
        while let Some(it) = above {
            if let Some(types) = types(it) {
                if types.contains(&DNAME) || types.contains(&NS) && !types.contains(&SOA) {
                    return None;
                }
                encloser = encloser.or(Some(it));
            }
            above = it.split_once('.').map(|(_, above)| above);
        }
        if let Some(types) = types(asked) {
            let is_cut = types.contains(&NS) && !types.contains(&SOA);
            let is_ours = if record_type == DS { asked != "z" } else { !is_cut };
            return (is_ours && lacks(types)).then_some(ResponseCode::NoError);
        }
        match types(&format!("*.{}", encloser.unwrap())) {
            Some(types) => lacks(types).then_some(ResponseCode::NoError),
            None => Some(ResponseCode::NXDomain),
        }
    }

    fn base32hex(hash: &[u8]) -> String {
        let bits: Vec<_> =
            hash.iter().flat_map(|octet| (0..8).rev().map(move |bit| u32::from(octet >> bit & 1))).collect();
        bits.chunks(5).map(|it| char::from_digit(it.iter().fold(0, |sum, bit| sum * 2 + bit), 32).unwrap()).collect()
    }

    /// All records prove all that is true; no three of them prove anything that is not.
    fn check<'a, D: Denies, R>(records: &'a [R], of: impl Fn(&[&'a R]) -> D) {
        let all = of(&records.iter().collect::<Vec<_>>());
        let mut some = Vec::new();
        for (i, first) in records.iter().enumerate() {
            for (j, second) in records.iter().enumerate().skip(i) {
                some.extend(records.iter().skip(j).map(|third| of(&[first, second, third])));
            }
        }
        for asked in ASKED {
            for record_type in [A, TXT, DS] {
                for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
                    let is_true = truth(asked, record_type) == Some(code);
                    let denies = |it: &D| denies(it, &name(asked), record_type, code);
                    assert_eq!(denies(&all), is_true, "{asked} {record_type} {code:?}");
                    assert!(is_true || !some.iter().any(denies), "{asked} {record_type} {code:?}");
                }
            }
            let is_unsigned = |it: &D| leaves_unsigned(it, &name(asked));
            assert_eq!(is_unsigned(&all), asked == "cut.z", "{asked}");
            assert!(asked == "cut.z" || !some.iter().any(is_unsigned), "{asked}");
        }
    }

    #[test]
    fn nsec_records_prove_what_is_true_and_nothing_else() {
        let mut zone = ZONE.map(|(owner, types)| (name(owner), types));
        zone.sort();
        let next = zone.iter().map(|(owner, _)| owner).cycle().skip(1);
        let record = |((owner, types), next): (&(Name, &[RecordType]), &Name)| {
            (owner.clone(), NSEC::new(next.clone(), types.iter().copied()))
        };
        let records: Vec<_> = zone.iter().zip(next).map(record).collect();
        check(&records, |some| {
            let mut nsecs = Nsecs::default();
            some.iter().for_each(|(owner, nsec)| nsecs.push(owner, nsec));
            nsecs
        });
    }

    #[test]
    fn nsec3_records_prove_what_is_true_and_nothing_else() {
        let zone = name("z");
        // Names between others have records here.
        let names = ZONE.iter().map(|(owner, _)| *owner).chain(["b.z", "deep.z"]);
        let hash = |it: &str| Nsec3HashAlgorithm::SHA1.hash(&[7], &name(it), 3).unwrap().as_ref().to_vec();
        let mut hashes: Vec<_> = names.map(|it| (hash(it), types(it).unwrap())).collect();
        hashes.sort();
        let next = hashes.iter().map(|(hash, _)| hash).cycle().skip(1);
        let record = |((hash, types), next): (&(Vec<u8>, &[RecordType]), &Vec<u8>)| {
            let types = types.iter().copied();
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 3, vec![7], next.clone(), types);
            // In either case.
            (name(&format!("{}.z", base32hex(hash).to_uppercase())), nsec3)
        };
        let records: Vec<_> = hashes.iter().zip(next).map(record).collect();
        check(&records, |some| {
            let mut nsec3s = Nsec3s::new(&zone);
            some.iter().for_each(|(owner, nsec3)| nsec3s.push(owner, nsec3));
            nsec3s
        });
    }

    #[test]
    fn an_nsec3_record_that_opts_out_leaves_delegations_open_and_nothing_else() {
        let zone = name("z");
        let hash = |it: &str| Nsec3HashAlgorithm::SHA1.hash(&[], &name(it), 0).unwrap().as_ref().to_vec();
        let nsec3 = |salt: &[u8], opt_out, types: &[RecordType]| {
            NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, 0, salt.to_vec(), hash("z"), types.iter().copied())
        };
        // The only one of its zone: it covers every other name.
        let [open, closed] = [true, false].map(|it| nsec3(&[], it, &[NS, SOA]));
        let owner = |of, zone: &str| name(&format!("{}.{zone}", base32hex(&hash(of))));
        for (owner, nsec3, is_open) in
            [(owner("z", "z"), &open, true), (owner("z", "z"), &closed, false), (owner("z", "y.z"), &open, false)]
        {
            let mut nsec3s = Nsec3s::new(&zone);
            nsec3s.push(&owner, nsec3);
            assert_eq!(denies(&nsec3s, &name("a.z"), DS, ResponseCode::NoError), is_open);
            assert_eq!(leaves_unsigned(&nsec3s, &name("a.z")), is_open);
            assert!(!denies(&nsec3s, &name("a.z"), TXT, ResponseCode::NoError));
        }
        // Hashed in another way than the first, it does not stand at that name.
        let cut = nsec3(&[7], false, &[NS]);
        let mut nsec3s = Nsec3s::new(&zone);
        nsec3s.push(&owner("z", "z"), &closed);
        nsec3s.push(&owner("a.z", "z"), &cut);
        assert!(!leaves_unsigned(&nsec3s, &name("a.z")));
    }
}
