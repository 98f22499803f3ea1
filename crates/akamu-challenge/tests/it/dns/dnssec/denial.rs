//! Proofs of absence: what a forger makes of the honest records of a zone, and what honest zones leave out.

use akamu_challenge::LookupError;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Record, RecordType};

use super::super::server::{Answer, record, txt};
use super::super::signed_zone::World;
use super::{CHALLENGE, check_bogus, check_found, look_up, renamed, texts, verdicts};

fn nodata(proof: &[Vec<Record>]) -> Answer {
    Answer::code(ResponseCode::NoError).with_authorities(proof.concat())
}

fn nxdomain(proof: &[Vec<Record>]) -> Answer {
    nodata(proof).with_code(ResponseCode::NXDomain)
}

fn check_refused(world: &World, name: &str) {
    let lookup = look_up(world, name);
    assert!(matches!(lookup.outcome, Err(LookupError::Dnssec { .. })), "{:?}", lookup.outcome);
}

#[test]
fn a_wildcard_does_not_reach_below_a_name_that_is_there() {
    let mut world = World::new();
    let host = "a.b.signed.example";
    let below_b = world.signed.nsec("b.signed.example", "c.signed.example", &[RecordType::TXT]);
    world.say("b.signed.example", RecordType::DS, nodata(&[world.signed.soa(), below_b.clone()]));
    world.say(host, RecordType::DS, nxdomain(&[world.signed.soa(), below_b.clone()]));
    let wildcard = world.signed.sign(vec![record("*.signed.example", txt(&[b"for all"]))]);
    // Nothing is at the name, nor is there *.b.signed.example: yet *.signed.example stands for no name below b.
    world.say(host, RecordType::TXT, Answer::records(renamed(wildcard, host)).with_authorities(below_b));
    check_refused(&world, host);
}

#[test]
fn a_denial_without_its_soa_record_is_not_weighed_more_lightly() {
    let mut world = World::new();
    let host = "a.b.signed.example";
    let wildcard = world.signed.nsec("*.signed.example", "z.signed.example", &[RecordType::TXT]);
    for name in ["b.signed.example", host] {
        world.say(name, RecordType::DS, nodata(&[world.signed.soa(), wildcard.clone()]));
    }
    // It covers the name and *.b.signed.example, but the wildcard that answers is its own owner.
    world.say(host, RecordType::TXT, nxdomain(&[wildcard]));
    check_refused(&world, host);
}

#[test]
fn unsigned_records_beside_a_proof_are_passed_over() {
    let mut world = World::new();
    let mut proof = vec![world.signed.soa(), world.signed.nsec3(CHALLENGE, Some(&[RecordType::TXT]), false)];
    let stray = world.signed.nsec3("stray.signed.example", Some(&[]), true).swap_remove(0);
    for label in ["a", "b", "c", "d", "e", "f"] {
        proof.push(renamed(vec![stray.clone()], &format!("{label}.{CHALLENGE}")));
    }
    world.say(CHALLENGE, RecordType::DS, nodata(&proof));
    check_found(&world, CHALLENGE, &["right"], &[&format!("{CHALLENGE} TXT: DNSSEC secure: signed by signed.example")]);
}

#[test]
fn a_dname_denies_other_types_at_its_own_name_but_nothing_below() {
    let mut world = World::new();
    let moved = "moved.signed.example";
    world.say_signed(moved, RecordType::DNAME, Answer::code(ResponseCode::NoError));
    let at_moved = world.signed.nsec(moved, "signed.example", &[RecordType::DNAME]);
    world.say(moved, RecordType::TXT, nodata(&[world.signed.soa(), at_moved.clone()]));
    let lookup = look_up(&world, moved);
    assert_eq!(lookup.outcome, Err(LookupError::NoData));
    assert_eq!(verdicts(&lookup), [format!("{moved} TXT: DNSSEC secure: signed by signed.example")]);
    let below = "a.moved.signed.example";
    let proof = [world.signed.soa(), at_moved, world.signed.nsec("signed.example", moved, &[RecordType::SOA])];
    world.say(below, RecordType::DS, nxdomain(&proof));
    world.say(below, RecordType::TXT, nxdomain(&proof));
    check_refused(&world, below);
}

#[test]
fn names_below_an_alias_may_be_delegated() {
    let mut world = World::new();
    world.say_alias("www.signed.example", "a.unsigned.example", true);
    let host = "_acme-challenge.www.signed.example";
    world.say(host, RecordType::DS, world.signed.nodata(host, &[RecordType::NS]));
    world.say(host, RecordType::TXT, Answer::records(vec![record(host, txt(&[b"plain"]))]));
    check_found(
        &world,
        host,
        &["plain"],
        &[&format!("{host} TXT: DNSSEC insecure: {host} is delegated without signatures")],
    );
    // And a name that is there is signed.
    let right = world.signed.sign(vec![record(host, txt(&[b"right"]))]);
    world.say_signed(host, RecordType::TXT, Answer::records(right));
    assert_eq!(texts(&look_up(&world, host)), ["right"]);
}

#[test]
fn a_denial_made_from_a_wildcard_is_none() {
    let mut world = World::new();
    let nothing = "nothing.signed.example";
    let proof = world.signed.nsec("signed.example", "signed.example", &[RecordType::SOA]);
    world.say(nothing, RecordType::DS, nxdomain(&[world.signed.soa(), proof]));
    let wildcard = world.signed.nsec("*.signed.example", "signed.example", &[RecordType::A]);
    world.say(nothing, RecordType::TXT, nodata(&[renamed(wildcard, nothing)]));
    check_refused(&world, nothing);
}

#[test]
fn hashes_of_more_than_100_iterations_and_more_than_12_rrsets_are_not_looked_at() {
    let mut world = World::new();
    let why = "nothing proves whether a signed zone begins here: ";
    let iterated = |world: &World, n| world.signed.nsec3_after(n, CHALLENGE, Some(&[RecordType::TXT]), false);
    world.say(CHALLENGE, RecordType::DS, nodata(&[iterated(&world, 100)]));
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
    world.say(CHALLENGE, RecordType::DS, nodata(&[iterated(&world, 101)]));
    let flaw = "the NSEC3 records of signed.example take more than 100 iterations";
    check_bogus(&world, CHALLENGE, CHALLENGE, &format!("{why}{flaw}"));
    let others = |n| (0..n).map(|it| world.signed.nsec(&format!("{it}.signed.example"), "signed.example", &[]));
    let last = || world.signed.nsec(CHALLENGE, "signed.example", &[RecordType::TXT]);
    let [some, many] = [11, 12].map(|n| nodata(&others(n).chain([last()]).collect::<Vec<_>>()));
    world.say(CHALLENGE, RecordType::DS, some);
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
    world.say(CHALLENGE, RecordType::DS, many);
    check_bogus(&world, CHALLENGE, CHALLENGE, &format!("{why}the NSEC records of signed.example do not say so"));
}
