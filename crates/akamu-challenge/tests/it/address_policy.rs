//! vectors/address_policy.json, and the rules that it has no case for.

use akamu_challenge::{AddressPolicy, Refusal};
use ipnet::IpNet;

use crate::case_file;
use crate::formats::address_policy::Case;

#[test]
fn every_vector_is_judged_as_it_says() {
    case_file::assert_holds::<Case>("address_policy", 72);
}

fn networks(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|it| it.parse().unwrap()).collect()
}

/// Checks `address` under the default policy with these networks allowed and denied.
fn check(address: &str, allowed: &str, denied: &str) -> Result<(), String> {
    let policy = AddressPolicy::default().allow(networks(allowed)).deny(networks(denied));
    policy.check(address.parse().unwrap()).map_err(|refusal| refusal.to_string())
}

#[test]
fn metadata_services_are_named() {
    for address in [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:42::42",
    ] {
        assert!(check(address, "", "").unwrap_err().contains("metadata"), "{address}");
    }
    assert_eq!(check("fd00:ec2::255", "", ""), Ok(()));
}

#[test]
fn a_denied_network_beats_an_allowed_one() {
    assert_eq!(check("127.0.0.1", "127.0.0.0/8", ""), Ok(()));
    assert_eq!(check("127.0.0.1", "127.0.0.1/32", "127.0.0.0/8"), Err("in the denied network 127.0.0.0/8".to_owned()));
}

#[test]
fn a_mapped_address_is_refused_whatever_a_list_says() {
    let refusal = AddressPolicy::default().allow(networks("::/0 0.0.0.0/0")).check("::ffff:8.8.8.8".parse().unwrap());
    assert_eq!(refusal, Err(Refusal::V4Mapped));
}

#[test]
fn a_carried_address_is_judged_by_what_it_carries_and_by_lists_that_name_either() {
    assert_eq!(check("64:ff9b::10.0.0.1", "", ""), Ok(()));
    assert_eq!(check("64:ff9b::127.0.0.1", "", ""), Err("NAT64 address of 127.0.0.1: loopback".to_owned()));
    assert_eq!(check("64:ff9b::127.0.0.1", "127.0.0.1/32", ""), Ok(()));
    assert_eq!(check("64:ff9b::127.0.0.1", "64:ff9b::/96", ""), Ok(()));
    assert!(check("64:ff9b::127.0.0.1", "64:ff9b::/96", "127.0.0.0/8").is_err());
    assert!(check("64:ff9b::8.8.8.8", "", "8.8.8.0/24").is_err());
    assert!(check("64:ff9b::8.8.8.8", "", "64:ff9b::/96").is_err());
    assert_eq!(check("2002:808:808::1", "", ""), Ok(()));
    assert_eq!(check("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "", ""), Ok(()));
}

#[test]
fn public_only_takes_no_carrier_that_the_registry_leaves_open() {
    let check = |address: &str| AddressPolicy::public_only().check(address.parse().unwrap());
    assert_eq!(check("64:ff9b::8.8.8.8"), Ok(()));
    assert_eq!(check("2002:808:808::1"), Err(Refusal::NotPublic("6to4")));
    assert!(matches!(check("64:ff9b::10.0.0.1"), Err(Refusal::Carries { .. })));
}

#[test]
fn what_is_no_unicast_space_is_refused() {
    for address in ["::127.0.0.1", "4000::1", "fec0::1", "100:0:0:1::1", "5f00::1", "192.88.99.1", "2001:40::1"] {
        assert!(check(address, "", "").is_err(), "{address}");
    }
    for address in ["192.0.0.9", "192.31.196.1", "2001:3::1", "2001:4:112::1", "2001:20::1", "2620:4f:8000::1"] {
        assert_eq!(check(address, "", ""), Ok(()), "{address}");
    }
}
