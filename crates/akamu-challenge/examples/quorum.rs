//! Validation from several places at once: the answer towards one of them is forged, and that is not enough.

#![expect(clippy::print_stdout, reason = "an example shows what came of it")]

use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames};
use akamu_challenge::{Deadline, Dns01, Perspective, Quorum, TxtRecord, ValidationRequest, Validator};
use akamu_proto::{Identifier, KeyAuthorization, Timestamp};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = TestClock::at(Timestamp::from_unix_secs(1_795_525_200));
    let key_authorization: KeyAuthorization = "evaGxf.9jg46WB3rR_AHD".parse()?;
    // A place is what its validator was given. Here each has another view of the DNS; in service each has a `DnsClient`
    // of other servers, a connector with another source address, or asks a machine elsewhere.
    let place = |name: &str, txt: &str| -> Result<Perspective, Box<dyn std::error::Error>> {
        let names = TestNames::default();
        names.set_txt("_acme-challenge.example.com", Ok(vec![TxtRecord::new([txt])]));
        Ok(Perspective::new(name.parse()?, Dns01::new(names, clock.clone())))
    };
    let forged = key_authorization.dns_value();
    let others = [place("frankfurt", "the owner's own")?, place("osaka", "the owner's own")?];
    let quorum = Quorum::new(place("here", &forged)?, others, clock.clone())?;

    let identifier = Identifier::dns("example.com")?;
    let request = ValidationRequest::with_key_authorization(identifier, key_authorization);
    let report = quorum.validate(&request, Deadline::after(Duration::from_secs(10))).await;
    println!("{report}");
    assert!(!report.is_valid());
    Ok(())
}
