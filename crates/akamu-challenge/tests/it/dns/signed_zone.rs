//! Zones that the tests sign themselves, and a small world of them: the root, example, signed.example (signed) and
//! unsigned.example (not).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use hickory_server::proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey, RsaSigningKey};
use hickory_server::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_server::proto::dnssec::{
    Algorithm, DigestType, DnssecSigner, Nsec3HashAlgorithm, SigningKey, Verifier as _,
};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::SOA;
use hickory_server::proto::rr::{DNSClass, RData, Record, RecordSet, RecordType};

use super::server::{Answer, TestServer, cname, name, record, txt};

/// What time it is in that world, in Unix seconds.
pub(super) const NOW: i64 = 1_800_000_000;

/// How long a signature was and will be valid.
const DAY: i64 = 86_400;

/// A zone with a key that signs its keys and one that signs the rest.
pub(super) struct SignedZone {
    pub(super) name: &'static str,
    ksk: DnssecSigner,
    zsk: DnssecSigner,
}

fn key(algorithm: Algorithm) -> Box<dyn SigningKey> {
    match algorithm {
        Algorithm::ED25519 => {
            let pkcs8 = Ed25519SigningKey::generate_pkcs8().unwrap();
            Box::new(Ed25519SigningKey::from_pkcs8(&pkcs8).unwrap())
        }
        Algorithm::ECDSAP256SHA256 | Algorithm::ECDSAP384SHA384 => {
            let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
            Box::new(EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap())
        }
        _ => {
            let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
            let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            Box::new(RsaSigningKey::from_pkcs8(&pkcs8.as_ref().into(), algorithm).unwrap())
        }
    }
}

fn signer(zone: &str, is_ksk: bool, algorithm: Algorithm) -> DnssecSigner {
    let key = key(algorithm);
    let dnskey = DNSKEY::new(true, is_ksk, false, key.to_public_key().unwrap());
    DnssecSigner::new(dnskey, key, name(zone), Duration::from_secs(2 * DAY.unsigned_abs()))
}

impl SignedZone {
    pub(super) fn new(name: &'static str) -> Self {
        Self::by(Algorithm::ED25519, name)
    }

    pub(super) fn by(algorithm: Algorithm, name: &'static str) -> Self {
        Self { name, ksk: signer(name, true, algorithm), zsk: signer(name, false, algorithm) }
    }

    /// The key that a trust anchor file or the parent names, as a line of such a file.
    pub(super) fn anchor(&self) -> String {
        format!("{}. IN DNSKEY {}\n", self.name, self.ksk.dnskey())
    }

    fn signed(&self, signer: &DnssecSigner, records: Vec<Record>, since: i64) -> Vec<Record> {
        let mut set = RecordSet::new(records[0].name.clone(), records[0].record_type(), 0);
        for it in &records {
            set.insert(it.clone(), 0);
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since.unsigned_abs());
        let signature = RRSIG::from_rrset(&set, DNSClass::IN, since.into(), signer).unwrap();
        let signature = Record::from_rdata(records[0].name.clone(), 60, RData::DNSSEC(DNSSECRData::RRSIG(signature)));
        records.into_iter().chain([signature]).collect()
    }

    /// One RRset and its signature, valid since yesterday, until tomorrow.
    pub(super) fn sign(&self, records: Vec<Record>) -> Vec<Record> {
        self.sign_since(NOW - DAY, records)
    }

    /// The same, valid for two days from then on.
    pub(super) fn sign_since(&self, since: i64, records: Vec<Record>) -> Vec<Record> {
        self.signed(&self.zsk, records, since)
    }

    pub(super) fn keys(&self) -> Answer {
        self.keys_beside(&[])
    }

    /// Its keys beside those that others say are theirs, signed by its own.
    pub(super) fn keys_beside(&self, others: &[Self]) -> Answer {
        let keys = others.iter().chain([self]).flat_map(|it| [&it.ksk, &it.zsk]);
        let keys = keys.map(|it| RData::DNSSEC(DNSSECRData::DNSKEY(it.dnskey().clone())));
        let keys = keys.map(|it| record(self.name, it)).collect();
        Answer::records(self.signed(&self.ksk, keys, NOW - DAY))
    }

    /// This zone's word for `child`'s key.
    pub(super) fn delegation(&self, child: &Self) -> Answer {
        self.delegations(&[(child, DigestType::SHA256)])
    }

    /// This zone's word for several keys, each by its digest.
    pub(super) fn delegations(&self, children: &[(&Self, DigestType)]) -> Answer {
        let ds = |&(child, digest_type): &(&Self, DigestType)| {
            let key = child.ksk.dnskey();
            let digest = key.to_digest(&name(child.name), digest_type).unwrap();
            let tag = key.calculate_key_tag().unwrap();
            let ds = DS::new(tag, key.algorithm(), digest_type, digest.as_ref().to_vec());
            record(child.name, RData::DNSSEC(DNSSECRData::DS(ds)))
        };
        Answer::records(self.sign(children.iter().map(ds).collect()))
    }

    /// A delegation by an algorithm that nobody knows.
    pub(super) fn strange_delegation(&self, child: &str) -> Answer {
        let ds = DS::new(1, Algorithm::Unknown(200), DigestType::SHA256, vec![0; 32]);
        Answer::records(self.sign(vec![record(child, RData::DNSSEC(DNSSECRData::DS(ds)))]))
    }

    pub(super) fn soa(&self) -> Vec<Record> {
        let soa = SOA::new(name(self.name), name(self.name), 1, 60, 60, 60, 60);
        self.sign(vec![record(self.name, RData::SOA(soa))])
    }

    /// The signed NSEC record of `owner`.
    pub(super) fn nsec(&self, owner: &str, next: &str, types: &[RecordType]) -> Vec<Record> {
        let types = types.iter().copied().chain([RecordType::NSEC, RecordType::RRSIG]);
        self.sign(vec![record(owner, RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(name(next), types))))])
    }

    /// NODATA, proved by the NSEC record of the name itself.
    pub(super) fn nodata(&self, owner: &str, types: &[RecordType]) -> Answer {
        let next = format!("a.{owner}");
        let proof = [self.soa(), self.nsec(owner, &next, types)].concat();
        Answer::code(ResponseCode::NoError).with_authorities(proof)
    }

    /// NXDOMAIN for every name after the apex, proved by an NSEC record that covers the whole zone.
    pub(super) fn nxdomain(&self) -> Answer {
        let proof = [self.soa(), self.nsec(self.name, self.name, &[RecordType::SOA, RecordType::NS])].concat();
        Answer::code(ResponseCode::NXDomain).with_authorities(proof)
    }

    /// The signed NSEC3 record of `owner`; without types, one that covers it instead.
    pub(super) fn nsec3(&self, owner: &str, types: Option<&[RecordType]>, opt_out: bool) -> Vec<Record> {
        self.nsec3_after(0, owner, types, opt_out)
    }

    /// The same, of hashes that are hashed so many times more.
    pub(super) fn nsec3_after(
        &self,
        iterations: u16,
        owner: &str,
        types: Option<&[RecordType]>,
        opt_out: bool,
    ) -> Vec<Record> {
        let mut hash = Nsec3HashAlgorithm::SHA1.hash(&[], &name(owner), iterations).unwrap().as_ref().to_vec();
        let mut next = hash.clone();
        next[19] = next[19].wrapping_add(1);
        if types.is_none() {
            hash[19] = hash[19].wrapping_sub(1);
        }
        let label = base32hex(&hash);
        let types = types.unwrap_or_default().iter().copied().chain([RecordType::RRSIG]);
        let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, Vec::new(), next, types);
        let owner = if self.name.is_empty() { label } else { format!("{label}.{}", self.name) };
        self.sign(vec![record(&owner, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)))])
    }
}

/// Lower case, without padding (RFC 4648 §7).
fn base32hex(octets: &[u8]) -> String {
    let bits: Vec<u8> = octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect();
    let digit = |bits: &[u8]| char::from_digit(bits.iter().fold(0, |sum, bit| sum * 2 + u32::from(*bit)), 32).unwrap();
    bits.chunks(5).map(digit).collect()
}

/// Signed and unsigned zones, and what a server says about them.
pub(super) struct World {
    pub(super) root: SignedZone,
    pub(super) example: SignedZone,
    pub(super) signed: SignedZone,
    answers: HashMap<(String, RecordType), Answer>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of([Algorithm::ED25519; 3])
    }

    /// With the root, example and signed.example signed by these algorithms.
    pub(super) fn of([root, example, signed]: [Algorithm; 3]) -> Self {
        let root = SignedZone::by(root, "");
        let example = SignedZone::by(example, "example");
        let signed = SignedZone::by(signed, "signed.example");
        let mut world = Self { root, example, signed, answers: HashMap::new() };
        let Self { root, example, signed, .. } = &world;
        let challenge = "_acme-challenge.signed.example";
        let unsigned_ds = example.nodata("unsigned.example", &[RecordType::NS]);
        for (name, record_type, answer) in [
            ("", RecordType::DNSKEY, root.keys()),
            ("example", RecordType::DS, root.delegation(example)),
            ("example", RecordType::DNSKEY, example.keys()),
            ("signed.example", RecordType::DS, example.delegation(signed)),
            ("signed.example", RecordType::DNSKEY, signed.keys()),
            ("unsigned.example", RecordType::DS, unsigned_ds),
            (challenge, RecordType::DS, signed.nodata(challenge, &[RecordType::TXT])),
            (challenge, RecordType::TXT, Answer::records(signed.sign(vec![record(challenge, txt(&[b"right"]))]))),
            (
                "a.unsigned.example",
                RecordType::TXT,
                Answer::records(vec![record("a.unsigned.example", txt(&[b"plain"]))]),
            ),
        ]
        .map(|(name, record_type, answer)| (name.to_owned(), record_type, answer))
        {
            world.answers.insert((name, record_type), answer);
        }
        world
    }

    /// Another answer than before.
    pub(super) fn say(&mut self, name: &str, record_type: RecordType, answer: Answer) {
        self.answers.insert((name.to_owned(), record_type), answer);
    }

    /// A name of the signed zone with these records, and no zone of its own.
    pub(super) fn say_signed(&mut self, owner: &str, record_type: RecordType, answer: Answer) {
        let no_ds = self.signed.nodata(owner, &[record_type]);
        self.say(owner, RecordType::DS, no_ds);
        self.say(owner, record_type, answer);
    }

    /// An alias in the signed zone.
    pub(super) fn say_alias(&mut self, owner: &str, target: &str, is_signed: bool) {
        let alias = vec![record(owner, cname(target))];
        let alias = Answer::records(if is_signed { self.signed.sign(alias) } else { alias });
        self.say(owner, RecordType::DS, alias.clone());
        self.say(owner, RecordType::TXT, alias);
    }

    pub(super) async fn start(&self) -> TestServer {
        TestServer::start(self.answers.iter().map(|((name, kind), answer)| (name.as_str(), *kind, answer.clone())))
            .await
    }
}
