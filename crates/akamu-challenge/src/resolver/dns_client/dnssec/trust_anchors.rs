//! The keys at which a chain of trust begins (RFC 4033 §2).

use std::str::FromStr;

use hickory_net::proto::dnssec::rdata::DNSKEY;
use hickory_net::proto::dnssec::{PublicKey as _, PublicKeyBuf, TrustAnchors as RootKeys, Verifier as _};
use hickory_net::proto::rr::{DNSClass, Name};
use hickory_net::proto::serialize::txt::trust_anchor::{Entry, Parser};

/// Keys that are trusted as they are. For each name the nearest zone with such a key is where its chain begins.
///
/// By default the keys of the root, 20326 and 38696. Read from text, keys of other zones come beside those of the root,
/// and keys of the root replace them.
#[derive(Clone, Debug)]
pub struct TrustAnchors(Vec<(Name, PublicKeyBuf)>);

/// That is no list of trust anchors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; DNSKEY records are expected, a line each: corp.example. IN DNSKEY 257 3 13 …")]
pub struct TrustAnchorError(String);

impl Default for TrustAnchors {
    fn default() -> Self {
        let root = RootKeys::default();
        Self((0..root.len()).filter_map(|index| Some((Name::root(), root.get(index)?.clone()))).collect())
    }
}

impl FromStr for TrustAnchors {
    type Err = TrustAnchorError;

    /// Reads DNSKEY records as a zone file has them.
    fn from_str(text: &str) -> Result<Self, TrustAnchorError> {
        let mut anchors = Vec::new();
        for entry in Parser::new(text).parse().map_err(|it| TrustAnchorError(it.to_string()))? {
            let Entry::DNSKEY(record) = entry else {
                return Err(TrustAnchorError("there is a record of another type".to_owned()));
            };
            let name = record.name().to_lowercase();
            let refuse = |why: &str| Err(TrustAnchorError(format!("the key of {name} {why}")));
            let key: &DNSKEY = record.data();
            if record.dns_class() != DNSClass::IN {
                return refuse("is not of class IN");
            }
            if !key.zone_key() || key.revoke() {
                return refuse("has no zone flag, or is revoked");
            }
            if !key.algorithm().is_supported() {
                return refuse("is of an algorithm that is not supported");
            }
            anchors.push((name, key.public_key().clone()));
        }
        if anchors.is_empty() {
            return Err(TrustAnchorError("there is no key".to_owned()));
        }
        if !anchors.iter().any(|(zone, _)| zone.is_root()) {
            anchors.extend(Self::default().0);
        }
        Ok(Self(anchors))
    }
}

impl TrustAnchors {
    /// The nearest zone at or above `name` that has trusted keys.
    pub(super) fn nearest(&self, name: &Name) -> &Name {
        let zones = self.0.iter().map(|(zone, _)| zone).filter(|zone| zone.zone_of(name));
        zones.max_by_key(|zone| zone.iter().len()).expect("there are always keys of the root")
    }

    /// Whether this key of `zone` is trusted.
    pub(super) fn hold(&self, zone: &Name, key: &DNSKEY) -> bool {
        let same = |it: &PublicKeyBuf| {
            it.algorithm() == key.algorithm() && it.public_bytes() == key.public_key().public_bytes()
        };
        self.0.iter().any(|(name, it)| name == zone && same(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";

    fn zones(anchors: &TrustAnchors) -> Vec<String> {
        anchors.0.iter().map(|(zone, _)| zone.to_string()).collect()
    }

    #[test]
    fn keys_of_other_zones_come_beside_the_roots_and_keys_of_the_root_replace_them() {
        assert_eq!(zones(&TrustAnchors::default()), [".", "."]);
        let anchors: TrustAnchors = format!("; ours\nCorp.Example. 3600 IN DNSKEY {KEY}\n").parse().unwrap();
        assert_eq!(zones(&anchors), ["corp.example.", ".", "."]);
        assert_eq!(zones(&format!(". IN DNSKEY {KEY}").parse().unwrap()), ["."]);
        let nearest = |name: &str| anchors.nearest(&Name::from_ascii(name).unwrap()).to_string();
        assert_eq!(nearest("a.b.CORP.example."), "corp.example.");
        assert_eq!(nearest("corp.example."), "corp.example.");
        assert_eq!(nearest("xcorp.example."), ".");
    }

    #[test]
    fn what_is_no_trust_anchor_is_told() {
        let why = |text: &str| text.parse::<TrustAnchors>().unwrap_err().0;
        assert_eq!(why(""), "there is no key");
        assert_eq!(
            why(&format!("a. IN DNSKEY {}", KEY.replacen("257", "1", 1))),
            "the key of a. has no zone flag, or is revoked"
        );
        assert_eq!(
            why(&format!("a. IN DNSKEY {}", KEY.replacen("257", "385", 1))),
            "the key of a. has no zone flag, or is revoked"
        );
        assert_eq!(
            why(&format!("a. IN DNSKEY {}", KEY.replacen("3 13", "3 99", 1))),
            "the key of a. is of an algorithm that is not supported"
        );
        assert_eq!(why(&format!("a. CH DNSKEY {KEY}")), "the key of a. is not of class IN");
        for text in [". IN DS 20326 8 2 e06d", "what?", "a. IN DNSKEY 257 3 13 !!", "a. IN DNSKEY"] {
            assert!(text.parse::<TrustAnchors>().is_err(), "{text}");
        }
    }
}
