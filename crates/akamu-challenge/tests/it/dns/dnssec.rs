//! DNSSEC: what a lookup makes of zones that are signed, wrongly signed, or not signed.

use std::time::Duration;

use akamu_challenge::testing::TestClock;
use akamu_challenge::{DnsClient, Dnssec, Event, Forwarder, Lookup, LookupError, Resolver as _, TxtRecord};
use akamu_proto::{DnsName, Timestamp};
use hickory_server::proto::dnssec::{Algorithm, DigestType};
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::rdata::NULL;
use hickory_server::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::client::{deadline, receive, texts, with_frozen_clock};
use super::server::{Answer, TestServer, address, record, txt};
use super::signed_zone::{NOW, SignedZone, World};

mod denial;

const CHALLENGE: &str = "_acme-challenge.signed.example";

fn client(world: &World, server: &TestServer) -> DnsClient {
    DnsClient::new([server.address])
        .with_dnssec(Dnssec::RequireIfSigned)
        .with_trust_anchors(world.root.anchor().parse().unwrap())
        .with_clock(TestClock::at(Timestamp::from_unix_secs(NOW)))
}

fn look_up(world: &World, name: &str) -> Lookup<TxtRecord> {
    with_frozen_clock(async {
        let server = world.start().await;
        client(world, &server).txt(name, deadline()).await
    })
}

/// What DNSSEC said, in the report's words.
fn verdicts<T>(lookup: &Lookup<T>) -> Vec<String> {
    let is_verdict = |it: &&Event| matches!(it, Event::Dnssec { .. });
    lookup.steps.iter().filter(is_verdict).map(ToString::to_string).collect()
}

/// The lookup found these texts, and this is what the report says of DNSSEC.
fn check_found(world: &World, name: &str, found: &[&str], expected: &[&str]) {
    let lookup = look_up(world, name);
    assert_eq!(texts(&lookup), found);
    assert_eq!(verdicts(&lookup), expected);
}

/// The lookup failed: not for want of records, but for this reason.
fn check_bogus(world: &World, name: &str, about: &str, why: &str) {
    let lookup = look_up(world, name);
    let error = lookup.outcome.as_ref().unwrap_err();
    assert_eq!(*error, LookupError::Dnssec { name: about.to_owned(), reason: why.to_owned() });
    assert!(!error.is_absence());
    let verdicts = verdicts(&lookup);
    assert!(verdicts.last().unwrap().ends_with(&format!("DNSSEC bogus: {about}: {why}")), "{verdicts:?}");
}

#[test]
fn a_signed_answer_is_secure_and_each_question_is_told() {
    let lookup = look_up(&World::new(), CHALLENGE);
    assert_eq!(texts(&lookup), ["right"]);
    let steps = super::client::steps(&lookup);
    assert_eq!(
        steps,
        [
            "_acme-challenge.signed.example TXT UDP NOERROR",
            ". DNSKEY UDP NOERROR",
            "example DS UDP NOERROR",
            "example DNSKEY UDP NOERROR",
            "signed.example DS UDP NOERROR",
            "signed.example DNSKEY UDP NOERROR",
            "_acme-challenge.signed.example DS UDP NOERROR",
            "_acme-challenge.signed.example TXT: DNSSEC secure: signed by signed.example",
        ]
    );
}

#[test]
fn zones_may_sign_by_rsa_and_ecdsa_and_their_parents_otherwise() {
    use Algorithm::{ECDSAP256SHA256, ECDSAP384SHA384, RSASHA256, RSASHA512};
    for algorithms in [[RSASHA256, RSASHA256, ECDSAP256SHA256], [ECDSAP384SHA384, RSASHA512, RSASHA256]] {
        let mut world = World::of(algorithms);
        check_found(
            &world,
            CHALLENGE,
            &["right"],
            &[&format!("{CHALLENGE} TXT: DNSSEC secure: signed by signed.example")],
        );
        let impostor = World::of(algorithms).signed;
        world.say(
            CHALLENGE,
            RecordType::TXT,
            Answer::records(impostor.sign(vec![record(CHALLENGE, txt(&[b"forged"]))])),
        );
        let why = "the signature of its TXT records by signed.example was made by another key or over other records";
        check_bogus(&world, CHALLENGE, CHALLENGE, why);
    }
}

#[test]
fn signatures_are_asked_for_where_they_are_validated_and_the_server_is_told_to_leave_that_to_us() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        for (client, wanted) in [(client.clone(), false), (client.with_dnssec(Dnssec::RequireIfSigned), true)] {
            let (question, _) = tokio::select! {
                lookup = client.txt("a.example", deadline()) => panic!("{lookup:?}"),
                question = receive(&socket) => question,
            };
            let question = Message::from_vec(&question).unwrap();
            assert_eq!(question.edns.unwrap().flags().dnssec_ok, wanted);
            assert_eq!(question.metadata.checking_disabled, wanted);
        }
    });
}

#[test]
fn an_unsigned_delegation_is_insecure_and_accepted() {
    let insecure = "a.unsigned.example TXT: DNSSEC insecure: unsigned.example is delegated without signatures";
    check_found(&World::new(), "a.unsigned.example", &["plain"], &[insecure]);
    // There absence needs no proof.
    let lookup = look_up(&World::new(), "b.unsigned.example");
    assert_eq!(lookup.outcome, Err(LookupError::NxDomain));
    assert_eq!(verdicts(&lookup).len(), 1);
}

#[test]
fn a_signature_that_is_not_in_force_is_bogus() {
    let mut world = World::new();
    let records = || vec![record(CHALLENGE, txt(&[b"right"]))];
    world.say(CHALLENGE, RecordType::TXT, Answer::records(world.signed.sign_since(NOW - 3 * 86_400, records())));
    let why = "the signature of its TXT records by signed.example expired 2027-01-14T08:00:00Z";
    check_bogus(&world, CHALLENGE, CHALLENGE, why);
    world.say(CHALLENGE, RecordType::TXT, Answer::records(world.signed.sign_since(NOW + 1, records())));
    let why = "the signature of its TXT records by signed.example is not valid before 2027-01-15T08:00:01Z";
    check_bogus(&world, CHALLENGE, CHALLENGE, why);
    // The first and the last second count.
    for since in [NOW, NOW - 2 * 86_400] {
        world.say(CHALLENGE, RecordType::TXT, Answer::records(world.signed.sign_since(since, records())));
        assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
    }
}

#[test]
fn a_signature_by_another_key_or_over_other_records_is_bogus() {
    let mut world = World::new();
    let why = "the signature of its TXT records by signed.example was made by another key or over other records";
    let impostor = World::new().signed;
    let records = vec![record(CHALLENGE, txt(&[b"forged"]))];
    world.say(CHALLENGE, RecordType::TXT, Answer::records(impostor.sign(records)));
    check_bogus(&world, CHALLENGE, CHALLENGE, why);

    let mut records = world.signed.sign(vec![record(CHALLENGE, txt(&[b"right"]))]);
    records.insert(0, record(CHALLENGE, txt(&[b"added"])));
    world.say(CHALLENGE, RecordType::TXT, Answer::records(records));
    check_bogus(&world, CHALLENGE, CHALLENGE, why);

    // Another zone's signature is none, even one from the chain.
    let records = world.root.sign(vec![record(CHALLENGE, txt(&[b"forged"]))]);
    world.say(CHALLENGE, RecordType::TXT, Answer::records(records));
    check_bogus(&world, CHALLENGE, CHALLENGE, "the signature of its TXT records by signed.example is missing");
}

#[test]
fn a_stripped_signature_is_bogus_where_the_chain_says_signed() {
    let mut world = World::new();
    let why = "the signature of its TXT records by signed.example is missing";
    // The server says that it validated (AD): that is no reason.
    world.say(CHALLENGE, RecordType::TXT, Answer::records(vec![record(CHALLENGE, txt(&[b"forged"]))]));
    check_bogus(&world, CHALLENGE, CHALLENGE, why);
}

#[test]
fn one_good_signature_among_bad_ones_is_enough() {
    let mut world = World::new();
    let records = || vec![record(CHALLENGE, txt(&[b"right"]))];
    let signatures = [World::new().signed.sign(records()), world.signed.sign_since(NOW + 1, records())];
    let bad = signatures.into_iter().flatten().filter(|it| it.record_type() == RecordType::RRSIG);
    let good = world.signed.sign(records());
    world.say(CHALLENGE, RecordType::TXT, Answer::records(bad.chain(good).collect()));
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
}

#[test]
fn the_chain_of_trust_has_no_gap() {
    let mut world = World::new();
    // Keys that the parent does not name.
    let impostor = World::new().signed;
    world.say("signed.example", RecordType::DNSKEY, impostor.keys());
    world.say(CHALLENGE, RecordType::TXT, Answer::records(impostor.sign(vec![record(CHALLENGE, txt(&[b"forged"]))])));
    check_bogus(&world, CHALLENGE, "signed.example", "none of its keys is one that its parent names (DS)");
    // A delegation that the parent did not sign.
    world.say("signed.example", RecordType::DS, impostor.delegation(&impostor));
    check_bogus(&world, CHALLENGE, "signed.example", "the signature of its DS records by example is missing");
    // No delegation, and no proof of that.
    world.say("signed.example", RecordType::DS, Answer::code(ResponseCode::NoError));
    let why =
        "nothing proves whether a signed zone begins here: no NSEC or NSEC3 record of example came with the answer";
    check_bogus(&world, CHALLENGE, "signed.example", why);
    // No keys.
    let mut world = World::new();
    world.say("example", RecordType::DNSKEY, Answer::code(ResponseCode::NoError));
    check_bogus(&world, CHALLENGE, "example", "it has no DNSKEY record that can be used");
    // A digest by SHA-1 counts only where there is no better one.
    let mut world = World::new();
    let weak = |world: &World| world.example.delegations(&[(&world.signed, DigestType::SHA1)]);
    world.say("signed.example", RecordType::DS, weak(&world));
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
    let other = world.example.delegations(&[(&world.signed, DigestType::SHA1), (&impostor, DigestType::SHA256)]);
    world.say("signed.example", RecordType::DS, other);
    check_bogus(&world, CHALLENGE, "signed.example", "none of its keys is one that its parent names (DS)");
    // A key beside the zone's own, which does not vouch for it.
    let mut world = World::new();
    let Answer { records, .. } = world.signed.keys();
    let added = impostor.keys().records.into_iter().filter(|it| it.record_type() == RecordType::DNSKEY);
    world.say("signed.example", RecordType::DNSKEY, Answer::records(records.into_iter().chain(added).collect()));
    world.say(CHALLENGE, RecordType::TXT, Answer::records(impostor.sign(vec![record(CHALLENGE, txt(&[b"forged"]))])));
    let why = "the signature of its DNSKEY records by signed.example was made by another key or over other records";
    check_bogus(&world, CHALLENGE, "signed.example", why);
    // Another root.
    let mut world = World::new();
    world.say("", RecordType::DNSKEY, impostor.keys());
    check_bogus(&world, CHALLENGE, ".", "it has no DNSKEY record that can be used");
    world.say("", RecordType::DNSKEY, World::new().root.keys());
    check_bogus(&world, CHALLENGE, ".", "none of its keys is a trust anchor");
}

#[test]
fn absence_is_believed_when_it_is_proved() {
    let mut world = World::new();
    let nothing = "nothing.signed.example";
    world.say(nothing, RecordType::DS, world.signed.nxdomain());
    world.say(nothing, RecordType::TXT, world.signed.nxdomain());
    let lookup = look_up(&world, nothing);
    assert_eq!(lookup.outcome, Err(LookupError::NxDomain));
    assert_eq!(verdicts(&lookup), ["nothing.signed.example TXT: DNSSEC secure: signed by signed.example"]);

    world.say_signed("www.signed.example", RecordType::A, Answer::code(ResponseCode::NoError));
    world.say("www.signed.example", RecordType::TXT, world.signed.nodata("www.signed.example", &[RecordType::A]));
    let lookup = look_up(&world, "www.signed.example");
    assert_eq!(lookup.outcome, Err(LookupError::NoData));
    assert_eq!(verdicts(&lookup), ["www.signed.example TXT: DNSSEC secure: signed by signed.example"]);
}

#[test]
fn forged_absence_is_a_failure_and_not_absence() {
    let mut world = World::new();
    let unproved = "no NSEC or NSEC3 record of signed.example came with the answer";
    let no_such_name = "nothing proves that it does not exist: ";
    let no_such_type = "nothing proves that it has no TXT records: ";
    let unsigned = World::new().signed.nxdomain();
    let foreign = SignedZone::new("unsigned.example").soa().into_iter().take(1).collect();
    for (answer, why) in [
        (Answer::code(ResponseCode::NXDomain), format!("{no_such_name}{unproved}")),
        (Answer::code(ResponseCode::NoError), format!("{no_such_type}{unproved}")),
        // Of another zone of that name.
        (
            unsigned,
            format!(
                "{no_such_name}the signature of the NSEC record of signed.example was made by another key or over other records"
            ),
        ),
        // Of somebody else's zone, which has no signatures.
        (Answer::code(ResponseCode::NXDomain).with_authorities(foreign), format!("{no_such_name}{unproved}")),
        // Of the parent, which does not speak for its child.
        (world.example.nxdomain(), format!("{no_such_name}{unproved}")),
        // The record says the opposite.
        (
            world.signed.nodata(CHALLENGE, &[RecordType::TXT]),
            format!("{no_such_type}the NSEC records of signed.example do not say so"),
        ),
        // The name is there, the type is not.
        (
            world.signed.nodata(CHALLENGE, &[]).with_code(ResponseCode::NXDomain),
            format!("{no_such_name}the NSEC records of signed.example do not say so"),
        ),
    ] {
        world.say(CHALLENGE, RecordType::TXT, answer);
        check_bogus(&world, CHALLENGE, CHALLENGE, &why);
    }
}

#[test]
fn an_alias_is_judged_by_its_own_zone_and_its_target_by_the_targets() {
    let mut world = World::new();
    world.say_alias("alias.signed.example", "a.unsigned.example", true);
    let verdicts = [
        "alias.signed.example TXT: DNSSEC secure: signed by signed.example",
        "a.unsigned.example TXT: DNSSEC insecure: unsigned.example is delegated without signatures",
    ];
    check_found(&world, "alias.signed.example", &["plain"], &verdicts);
    world.say_alias("alias.signed.example", "a.unsigned.example", false);
    let why = "the signature of its CNAME records by signed.example is missing";
    check_bogus(&world, "alias.signed.example", "alias.signed.example", why);
    // Whether a zone begins at an alias is the zone's to say, too.
    world.say_alias("alias.signed.example", "a.unsigned.example", true);
    let unsigned = vec![record("alias.signed.example", super::server::cname("a.unsigned.example"))];
    world.say("alias.signed.example", RecordType::DS, Answer::records(unsigned));
    check_bogus(&world, "alias.signed.example", "alias.signed.example", why);
    // From an unsigned zone into a signed one: the target's signature is wanted all the same.
    let alias = vec![record("alias.unsigned.example", super::server::cname(CHALLENGE))];
    world.say("alias.unsigned.example", RecordType::TXT, Answer::records(alias));
    assert_eq!(texts(&look_up(&world, "alias.unsigned.example")), ["right"]);
    world.say(CHALLENGE, RecordType::TXT, Answer::records(vec![record(CHALLENGE, txt(&[b"forged"]))]));
    check_bogus(
        &world,
        "alias.unsigned.example",
        CHALLENGE,
        "the signature of its TXT records by signed.example is missing",
    );
}

#[test]
fn nsec3_proves_absence_too() {
    let mut world = World::new();
    let nothing = "nothing.signed.example";
    let proof = |world: &World| {
        [
            world.signed.soa(),
            world.signed.nsec3("signed.example", Some(&[RecordType::SOA, RecordType::NS]), false),
            world.signed.nsec3(nothing, None, false),
            world.signed.nsec3("*.signed.example", None, false),
        ]
    };
    let nxdomain = |proof: &[Vec<_>]| Answer::code(ResponseCode::NXDomain).with_authorities(proof.concat());
    let whole = proof(&world);
    world.say(nothing, RecordType::DS, nxdomain(&whole));
    world.say(nothing, RecordType::TXT, nxdomain(&whole));
    let lookup = look_up(&world, nothing);
    assert_eq!(lookup.outcome, Err(LookupError::NxDomain));
    assert_eq!(verdicts(&lookup), ["nothing.signed.example TXT: DNSSEC secure: signed by signed.example"]);
    // Without the proof that no wildcard would have answered.
    world.say(nothing, RecordType::TXT, nxdomain(&whole[..3]));
    let why = "nothing proves that it does not exist: the NSEC3 records of signed.example do not say so";
    check_bogus(&world, nothing, nothing, why);
}

#[test]
fn a_parent_that_opts_out_says_nothing_about_names_below_its_children() {
    let mut world = World::new();
    // A zone that the parent may have delegated without signatures, as its opt-out leaves open.
    let optional = [
        world.example.soa(),
        world.example.nsec3("example", Some(&[RecordType::SOA, RecordType::NS]), true),
        world.example.nsec3("optional.example", None, true),
    ];
    let no_ds = Answer::code(ResponseCode::NoError).with_authorities(optional.concat());
    world.say("optional.example", RecordType::DS, no_ds);
    let plain = Answer::records(vec![record("a.optional.example", txt(&[b"plain"]))]);
    world.say("a.optional.example", RecordType::TXT, plain);
    let insecure = "a.optional.example TXT: DNSSEC insecure: optional.example is delegated without signatures";
    check_found(&world, "a.optional.example", &["plain"], &[insecure]);

    // The same kind of record, honestly signed by the grandparent, beside a forged answer in a signed zone.
    let downgrade = [world.example.soa(), world.example.nsec3(CHALLENGE, None, true)];
    world.say(CHALLENGE, RecordType::DS, Answer::code(ResponseCode::NoError).with_authorities(downgrade.concat()));
    let cut = record(CHALLENGE, super::server::name_server("ns.signed.example"));
    world.say(CHALLENGE, RecordType::NS, Answer::records(vec![cut]));
    world.say(CHALLENGE, RecordType::TXT, Answer::records(vec![record(CHALLENGE, txt(&[b"forged"]))]));
    let why = "nothing proves whether a signed zone begins here: no NSEC or NSEC3 record of signed.example came with the answer";
    check_bogus(&world, CHALLENGE, CHALLENGE, why);
}

#[test]
fn a_name_that_is_no_delegation_is_no_way_out_of_its_zone() {
    let mut world = World::new();
    // An unsigned delegation is told by its NS bit alone.
    world.say(CHALLENGE, RecordType::TXT, Answer::records(vec![record(CHALLENGE, txt(&[b"forged"]))]));
    let why = "the signature of its TXT records by signed.example is missing";
    for types in [&[RecordType::TXT][..], &[], &[RecordType::NS, RecordType::SOA]] {
        world.say(CHALLENGE, RecordType::DS, world.signed.nodata(CHALLENGE, types));
        let lookup = look_up(&world, CHALLENGE);
        assert!(matches!(lookup.outcome, Err(LookupError::Dnssec { .. })), "{types:?}");
    }
    world.say(CHALLENGE, RecordType::DS, world.signed.nodata(CHALLENGE, &[]));
    check_bogus(&world, CHALLENGE, CHALLENGE, why);
    world.say(CHALLENGE, RecordType::DS, world.signed.nodata(CHALLENGE, &[RecordType::NS]));
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["forged"]);
}

#[test]
fn records_from_a_wildcard_need_the_proof_that_the_name_has_none() {
    let mut world = World::new();
    let host = "host.signed.example";
    let expanded =
        |world: &World| renamed(world.signed.sign(vec![record("*.signed.example", txt(&[b"for all"]))]), host);
    let proof = world.signed.nsec("*.signed.example", "signed.example", &[RecordType::TXT]);
    let no_ds = [world.signed.soa(), proof.clone()].concat();
    world.say(host, RecordType::DS, Answer::code(ResponseCode::NoError).with_authorities(no_ds));
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(proof));
    check_found(&world, host, &["for all"], &["host.signed.example TXT: DNSSEC secure: signed by signed.example"]);
    let why = "its TXT records come from a wildcard, and nothing proves that it has none of its own: ";
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)));
    let unproved = format!("{why}no NSEC or NSEC3 record of signed.example came with the answer");
    check_bogus(&world, host, host, &unproved);
    let other = world.signed.nsec("*.signed.example", "a.signed.example", &[RecordType::TXT]);
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(other));
    check_bogus(&world, host, host, &format!("{why}the NSEC records of signed.example do not say so"));
    // Something below the name: it is there, if empty.
    let below = world.signed.nsec("*.signed.example", "a.host.signed.example", &[RecordType::TXT]);
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(below));
    check_bogus(&world, host, host, &format!("{why}the NSEC records of signed.example do not say so"));
    // Without a signature.
    let unsigned = world.signed.nsec("*.signed.example", "signed.example", &[RecordType::TXT]);
    let unsigned = unsigned.into_iter().filter(|it| it.record_type() == RecordType::NSEC).collect();
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(unsigned));
    let unsigned = format!("{why}the signature of the NSEC record of *.signed.example is missing");
    check_bogus(&world, host, host, &unsigned);
    // By NSEC3, of a name that is not there, and of one that is.
    let hashed = world.signed.nsec3(host, None, false);
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(hashed));
    assert_eq!(texts(&look_up(&world, host)), ["for all"]);
    let hashed = world.signed.nsec3(host, Some(&[RecordType::A]), false);
    world.say(host, RecordType::TXT, Answer::records(expanded(&world)).with_authorities(hashed));
    check_bogus(&world, host, host, &format!("{why}the NSEC3 records of signed.example do not say so"));
}

/// These records under another name, as if made from a wildcard.
fn renamed(records: Vec<Record>, owner: &str) -> Vec<Record> {
    let mut records = records;
    records.iter_mut().for_each(|it| it.name = super::server::name(owner));
    records
}

#[test]
fn a_delegation_says_nothing_about_wildcards_below_it() {
    let mut world = World::new();
    let host = "a.sub.signed.example";
    world.say("sub.signed.example", RecordType::DS, world.signed.nodata("sub.signed.example", &[]));
    world.say(host, RecordType::DS, world.signed.nodata(host, &[]));
    let wildcard = world.signed.sign(vec![record("*.sub.signed.example", txt(&[b"for all"]))]);
    let proof = |types| world.signed.nsec("sub.signed.example", "z.signed.example", types);
    let answer = |types| Answer::records(renamed(wildcard.clone(), host)).with_authorities(proof(types));
    let (honest, parents) = (answer(&[]), answer(&[RecordType::NS]));
    world.say(host, RecordType::TXT, honest);
    assert_eq!(texts(&look_up(&world, host)), ["for all"]);
    world.say(host, RecordType::TXT, parents);
    assert!(matches!(look_up(&world, host).outcome, Err(LookupError::Dnssec { .. })));
}

#[test]
fn a_forged_signature_beside_the_true_one_does_not_move_the_wildcard() {
    let mut world = World::new();
    let host = "a.b.signed.example";
    world.say("b.signed.example", RecordType::DS, world.signed.nodata("b.signed.example", &[]));
    world.say(host, RecordType::DS, world.signed.nodata(host, &[]));
    let forged = World::new().signed.sign(vec![record("*.b.signed.example", txt(&[b"for all"]))]).pop().unwrap();
    let wildcard = world.signed.sign(vec![record("*.signed.example", txt(&[b"for all"]))]);
    let records = renamed([vec![forged], wildcard].concat(), host);
    // b.signed.example is there, so that no record of the wildcard above it is at a name below.
    let proof = world.signed.nsec3(host, None, false);
    world.say(host, RecordType::TXT, Answer::records(records).with_authorities(proof));
    assert!(matches!(look_up(&world, host).outcome, Err(LookupError::Dnssec { .. })));
}

#[test]
fn a_zone_signed_in_an_unknown_way_is_as_if_unsigned() {
    let mut world = World::new();
    world.say("signed.example", RecordType::DS, world.example.strange_delegation("signed.example"));
    let insecure = format!("{CHALLENGE} TXT: DNSSEC insecure: signed.example is delegated without signatures");
    check_found(&world, CHALLENGE, &["right"], &[&insecure]);
}

#[test]
fn a_chain_that_cannot_be_followed_is_a_failure_of_the_lookup() {
    let mut world = World::new();
    world.say("example", RecordType::DNSKEY, Answer::code(ResponseCode::ServFail));
    let lookup = look_up(&world, CHALLENGE);
    let error = lookup.outcome.as_ref().unwrap_err();
    let reason = "its DNSKEY records could not be looked up: SERVFAIL".to_owned();
    assert_eq!(*error, LookupError::Dnssec { name: "example".to_owned(), reason: reason.clone() });
    assert!(!error.is_absence());
    assert_eq!(verdicts(&lookup), [format!("{CHALLENGE} TXT: DNSSEC indeterminate: example: {reason}")]);
    assert_eq!(error.to_string(), format!("DNSSEC: example: {reason}"));
    // A failure to answer the question itself is told as ever.
    world.say(CHALLENGE, RecordType::TXT, Answer::code(ResponseCode::Refused));
    assert_eq!(look_up(&world, CHALLENGE).outcome, Err(LookupError::Refused));
}

#[test]
fn a_chain_that_is_not_answered_ends_with_the_deadline() {
    with_frozen_clock(async {
        let mut world = World::new();
        world.say("signed.example", RecordType::DNSKEY, Answer::silence());
        let server = world.start().await;
        let client = client(&world, &server);
        let time = async {
            server.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(10)).await;
        };
        let (lookup, ()) = tokio::join!(client.txt(CHALLENGE, deadline()), time);
        let reason = "its DNSKEY records could not be looked up: timed out".to_owned();
        assert_eq!(lookup.outcome, Err(LookupError::Dnssec { name: "signed.example".to_owned(), reason }));
        // What was asked by then is told.
        assert_eq!(lookup.steps.len(), 7);
    });
}

#[test]
fn a_chain_of_trust_takes_no_more_than_64_questions() {
    let mut world = World::new();
    let mut name = "signed.example".to_owned();
    for _ in 0..70 {
        name = format!("a.{name}");
        world.say(&name, RecordType::DS, world.signed.nodata(&name, &[RecordType::TXT]));
    }
    world.say(&name, RecordType::TXT, Answer::records(world.signed.sign(vec![record(&name, txt(&[b"deep"]))])));
    let Err(LookupError::Dnssec { reason, .. }) = look_up(&world, &name).outcome else { panic!() };
    assert_eq!(reason, "its chain of trust takes more than 64 questions");
}

#[test]
fn addresses_are_validated_too() {
    with_frozen_clock(async {
        let mut world = World::new();
        let name = "www.signed.example";
        world.say_signed(
            name,
            RecordType::A,
            Answer::records(world.signed.sign(vec![record(name, address("10.0.0.1"))])),
        );
        world.say(name, RecordType::AAAA, Answer::records(vec![record(name, address("fd00::1"))]));
        let server = world.start().await;
        let lookup = client(&world, &server).addresses(&DnsName::parse(name).unwrap(), deadline()).await;
        // The forged family is left out, and told.
        assert_eq!(lookup.outcome, Ok(vec!["10.0.0.1".parse().unwrap()]));
        let verdicts = verdicts(&lookup);
        let why = "the signature of its AAAA records by signed.example is missing";
        assert_eq!(
            verdicts,
            [
                format!("{name} AAAA: DNSSEC bogus: {name}: {why}"),
                format!("{name} A: DNSSEC secure: signed by signed.example")
            ]
        );
    });
}

#[test]
fn each_forwarder_has_its_own_setting_and_its_own_trust_anchor() {
    with_frozen_clock(async {
        // A private zone that the public tree knows nothing about, and one without signatures below it.
        let private = SignedZone::new("corp.example");
        let challenge = "_acme-challenge.corp.example";
        let right = vec![record(challenge, txt(&[b"right"]))];
        let signed = Answer::records(private.sign(right.clone()));
        let plain = Answer::records(right);
        let inside = [
            ("corp.example", RecordType::DNSKEY, private.keys()),
            (challenge, RecordType::DS, private.nodata(challenge, &[RecordType::TXT])),
        ];
        let good = TestServer::start(inside.clone().into_iter().chain([(challenge, RecordType::TXT, signed)])).await;
        let forged = TestServer::start(inside.into_iter().chain([(challenge, RecordType::TXT, plain)])).await;
        let mut world = World::new();
        world.say(CHALLENGE, RecordType::TXT, Answer::records(vec![record(CHALLENGE, txt(&[b"unsigned"]))]));
        let outside = world.start().await;
        let zone = || "corp.example".parse().unwrap();
        let client = |server: &TestServer, dnssec| {
            let anchors = format!("{}{}", private.anchor(), world.root.anchor());
            DnsClient::new([outside.address])
                .with_forwarders([Forwarder::new(zone(), [server.address], dnssec)])
                .with_trust_anchors(anchors.parse().unwrap())
                .with_clock(TestClock::at(Timestamp::from_unix_secs(NOW)))
        };
        let required = client(&good, Dnssec::RequireIfSigned);
        let lookup = required.txt(challenge, deadline()).await;
        assert_eq!(texts(&lookup), ["right"]);
        assert_eq!(verdicts(&lookup), ["_acme-challenge.corp.example TXT: DNSSEC secure: signed by corp.example"]);
        let lookup = client(&forged, Dnssec::RequireIfSigned).txt(challenge, deadline()).await;
        assert!(matches!(lookup.outcome, Err(LookupError::Dnssec { .. })));
        // The public servers' answers are not validated, and theirs are not where that is off.
        assert_eq!(texts(&required.txt(CHALLENGE, deadline()).await), ["unsigned"]);
        let lookup = client(&forged, Dnssec::Off).txt(challenge, deadline()).await;
        assert_eq!((texts(&lookup), verdicts(&lookup)), (vec!["right".to_owned()], vec![]));
        assert_eq!(forged.asked().last().unwrap(), "_acme-challenge.corp.example TXT");
        // Without its own anchor the zone's chain begins at the root, which knows no such zone: whether it is signed is the
        // parent's to say, so the parent's servers are asked.
        let lookup = client(&good, Dnssec::RequireIfSigned)
            .with_trust_anchors(world.root.anchor().parse().unwrap())
            .txt(challenge, deadline())
            .await;
        let Err(LookupError::Dnssec { name, .. }) = lookup.outcome else { panic!("{:?}", lookup.outcome) };
        assert_eq!(name, "corp.example");
        assert_eq!(outside.asked().last().unwrap(), "corp.example DS");
    });
}

/// What a server says of a name below a DNAME record: that record as its zone signed it, and the alias made from it.
fn moved(world: &World, name: &str, alias: &str) -> Vec<Record> {
    let dname = |octets: Vec<u8>| RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(octets) };
    let octets = b"\x08UNSIGNED\x07EXAMPLE\0".to_vec();
    // Signed in lower case, and sent as it was written (RFC 4034 §6.2).
    let mut records = world.signed.sign(vec![record("moved.signed.example", dname(octets.to_ascii_lowercase()))]);
    records[0].data = dname(octets);
    records.push(record(name, super::server::cname(alias)));
    records
}

#[test]
fn an_alias_made_from_a_dname_counts_as_that_record_does() {
    let mut world = World::new();
    let name = "a.moved.signed.example";
    world.say_signed("moved.signed.example", RecordType::DNAME, Answer::code(ResponseCode::NoError));
    let honest = moved(&world, name, "a.unsigned.example");
    world.say(name, RecordType::DS, Answer::records(honest.clone()));
    world.say(name, RecordType::TXT, Answer::records(honest.clone()));
    let verdicts = [
        format!("{name} TXT: DNSSEC secure: signed by signed.example"),
        "a.unsigned.example TXT: DNSSEC insecure: unsigned.example is delegated without signatures".to_owned(),
    ];
    check_found(&world, name, &["plain"], &verdicts.each_ref().map(String::as_str));
    let unsigned =
        |type_covered: &str| format!("the signature of its {type_covered} records by signed.example is missing");
    // To another name than the DNAME record makes it.
    let elsewhere = moved(&world, name, "b.unsigned.example");
    world.say(name, RecordType::TXT, Answer::records(elsewhere));
    check_bogus(&world, name, name, &unsigned("CNAME"));
    // From a DNAME record that nobody signed.
    let is_unsigned = |it: &Record| it.record_type() != RecordType::RRSIG;
    let forged = honest.into_iter().filter(is_unsigned).collect();
    world.say(name, RecordType::TXT, Answer::records(forged));
    check_bogus(&world, name, "moved.signed.example", &unsigned("DNAME"));
    // Its own name is not renamed (RFC 6672 §2.3).
    let own = moved(&world, "moved.signed.example", "unsigned.example");
    world.say("moved.signed.example", RecordType::TXT, Answer::records(own));
    check_bogus(&world, "moved.signed.example", "moved.signed.example", &unsigned("CNAME"));
}

#[test]
fn a_zone_has_no_more_than_32_keys_and_ds_records() {
    let others: Vec<_> = (0..32).map(|_| SignedZone::new("signed.example")).collect();
    let mut world = World::new();
    world.say("signed.example", RecordType::DNSKEY, world.signed.keys_beside(&others[..15]));
    let ds = |world: &World, others: &[SignedZone]| {
        let zones = others.iter().chain([&world.signed]).map(|it| (it, DigestType::SHA256));
        world.example.delegations(&zones.collect::<Vec<_>>())
    };
    world.say("signed.example", RecordType::DS, ds(&world, &others[..31]));
    assert_eq!(texts(&look_up(&world, CHALLENGE)), ["right"]);
    world.say("signed.example", RecordType::DNSKEY, world.signed.keys_beside(&others[..16]));
    check_bogus(&world, CHALLENGE, "signed.example", "it has more than 32 DNSKEY records");
    world.say("signed.example", RecordType::DNSKEY, world.signed.keys());
    world.say("signed.example", RecordType::DS, ds(&world, &others));
    check_bogus(&world, CHALLENGE, "signed.example", "it has more than 32 DS records");
}
