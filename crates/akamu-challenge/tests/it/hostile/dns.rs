//! TXT answers of monstrous size: 4,000 records, records of 65 KB, hundreds of strings, octets that are no text.

use akamu_challenge::testing::TestNames;
use akamu_challenge::{
    AccountHashPrefix, Deadline, Dns01, DnsPersist01, Event, TxtRecord, ValidationRequest, Validator as _,
};
use akamu_proto::{AccountUri, DnsName, ErrorType, Identifier, KeyAuthorization};

use super::{DEADLINE, KEY_AUTHORIZATION, Seen, World, clock, run};

fn at(records: Vec<TxtRecord>) -> Seen {
    run(async {
        let world = World::new();
        world.names.set_txt("_acme-challenge.example.com", Ok(records));
        world.validate(&Dns01::new(world.names.clone(), clock())).await
    })
}

fn good() -> String {
    KEY_AUTHORIZATION.parse::<KeyAuthorization>().unwrap().dns_value()
}

#[test]
fn of_four_thousand_records_the_good_one_is_found_wherever_it_stands() {
    for place in [0, 1_999, 3_999] {
        let mut records = vec![TxtRecord::new(["other"]); 4_000];
        records[place] = TxtRecord::new([good()]);
        let seen = at(records);
        assert!(seen.report.is_valid(), "{place}");
        let accepted = |it: &Event| matches!(it, Event::TxtRecord { accepted: true, .. });
        assert_eq!(seen.report.transcript.iter().filter(|it| accepted(&it.event)).count(), 1);
        assert!(seen.report.transcript.len() <= 65);
    }
    let seen = at(vec![TxtRecord::new(["other"]); 4_000]);
    assert!(seen.error().1.ends_with("; and 3997 more"), "{}", seen.report);
}

#[test]
fn four_thousand_good_records_do_not_fill_the_report() {
    let seen = at(vec![TxtRecord::new([good()]); 4_000]);
    assert!(seen.report.is_valid());
    assert_eq!(seen.report.transcript.len(), 64);

    // dns-persist-01 keeps as many of each kind.
    let uri = "https://ca.example/acme/account/7";
    let report = run(async {
        let names = TestNames::default();
        let records = [format!("ca.example; accounturi={uri}"), "other.example; accounturi=x".to_owned()];
        let records = records.into_iter().cycle().take(4_000).map(|it| TxtRecord::new([it]));
        names.set_txt("_validation-persist.example.com", Ok(records.collect()));
        let issuer = vec![DnsName::parse("ca.example").unwrap()];
        let validator = DnsPersist01::new(names, clock(), issuer, AccountHashPrefix::under("https://ca.example"));
        let request =
            ValidationRequest::with_account(Identifier::dns("example.com").unwrap(), AccountUri::new(uri), vec![]);
        validator.validate(&request, Deadline::after(DEADLINE)).await
    });
    assert!(report.is_valid(), "{report}");
    assert_eq!(report.transcript.len(), 128);
}

#[test]
fn a_record_of_sixty_five_kilobytes_is_compared_whole_and_told_in_part() {
    let long = TxtRecord::new(vec![vec![b'a'; 255]; 257]);
    let seen = at(vec![long.clone()]);
    assert_eq!(seen.error().0, ErrorType::IncorrectResponse);
    assert!(seen.error().1.len() < 400, "{}", seen.report);
    assert!(at(vec![long, TxtRecord::new([good()])]).report.is_valid());
    // The right value and then more is another value.
    assert!(!at(vec![TxtRecord::new([good(), "a".repeat(65_000)])]).report.is_valid());
}

#[test]
fn a_value_in_hundreds_of_strings_is_one_value() {
    let octets: Vec<Vec<u8>> =
        good().bytes().flat_map(|it| [vec![it], vec![], vec![], vec![], vec![], vec![]]).collect();
    assert!(octets.len() > 200);
    assert!(at(vec![TxtRecord::new(octets)]).report.is_valid());
    assert_eq!(at(vec![TxtRecord::new(Vec::<Vec<u8>>::new())]).error().0, ErrorType::IncorrectResponse);
    assert_eq!(at(vec![TxtRecord::new(vec![Vec::new(); 60_000])]).error().0, ErrorType::IncorrectResponse);
}

#[test]
fn octets_that_are_no_text_are_escaped() {
    let every: Vec<u8> = (0..=255).collect();
    let seen = at(vec![TxtRecord::new([every]), TxtRecord::new([b"\xff\xfe\x00\x1b[2J".to_vec()])]);
    assert!(seen.error().1.contains(r"\xff\xfe\x00\x1b[2J"), "{}", seen.report);
}
