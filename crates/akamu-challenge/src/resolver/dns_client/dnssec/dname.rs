//! The alias that a server makes from a DNAME record: only the DNAME record is signed (RFC 6672 §5.3.1).

use hickory_net::proto::op::Message;
use hickory_net::proto::rr::rdata::NULL;
use hickory_net::proto::rr::{Name, RData, Record, RecordType};
use hickory_net::proto::serialize::binary::BinDecodable as _;

use super::signature::RrSet;

/// The owner of the DNAME record from which this CNAME record would be made as it is, and the records there; `None` where
/// the alias is signed, or no DNAME record in the answer makes it.
pub(super) fn dname_behind(answer: &Message, alias: &RrSet<'_>) -> Option<(Name, Vec<Record>)> {
    let [Record { data: RData::CNAME(target), .. }] = *alias.records.as_slice() else { return None };
    if !alias.signatures.is_empty() {
        return None;
    }
    let makes_alias = |record: &&Record| {
        let owner = &record.name;
        let is_above = owner.zone_of(alias.name) && owner != alias.name;
        is_above && dname(record).is_some_and(|it| substituted(alias.name, owner, &it).as_ref() == Some(&target.0))
    };
    let owner = answer.answers.iter().find(makes_alias)?.name.clone();
    let records = answer.answers.iter().filter(|it| it.name == owner).cloned().map(canonical).collect();
    Some((owner, records))
}

/// `name` with `target` in the place of `owner` (RFC 6672 §2.2).
fn substituted(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let kept = name.iter().take(name.iter().len().checked_sub(owner.iter().len())?);
    Name::from_labels(kept.chain(target.iter())).ok()
}

fn dname(record: &Record) -> Option<Name> {
    octets(record).and_then(|it| Name::from_bytes(it).ok())
}

/// To hickory the type is an unknown one.
fn octets(record: &Record) -> Option<&[u8]> {
    match &record.data {
        RData::Unknown { code: RecordType::DNAME, rdata } => Some(&rdata.anything),
        _ => None,
    }
}

/// A DNAME record as it is signed (RFC 4034 §6.2): lower case, of which the lengths of labels have none.
fn canonical(mut record: Record) -> Record {
    if let Some(octets) = octets(&record) {
        let rdata = NULL::with(octets.to_ascii_lowercase());
        record.data = RData::Unknown { code: RecordType::DNAME, rdata };
    }
    record
}
