//! A challenge type of an embedder's own, beside those of the RFCs: whoever may write into a directory that is named
//! after a machine controls that machine's name. No line of the crate changes for it.

#![expect(clippy::print_stdout, reason = "an example shows what came of it")]

use std::path::PathBuf;
use std::time::Duration;

use akamu_challenge::testing::TestClock;
use akamu_challenge::{
    ChallengeError, Clock, Deadline, Event, Transcript, Validated, ValidationReport, ValidationRequest, Validator,
    ValidatorSet,
};
use akamu_proto::{ChallengeType, ErrorType, Identifier, Timestamp};
use async_trait::async_trait;

/// `directory-01`: `<shared>/<name>/acme` holds the key authorization.
#[derive(Debug)]
struct Directory01 {
    shared: PathBuf,
    clock: TestClock,
}

impl Directory01 {
    const METHOD: &str = "directory-01";

    fn look(&self, request: &ValidationRequest, transcript: &mut Transcript) -> Result<Validated, ChallengeError> {
        let expected = request.key_authorization()?;
        let path = self.shared.join(request.identifier.value()).join("acme");
        let wrong = |detail: String| ChallengeError::new(ErrorType::IncorrectResponse, detail);
        let found = std::fs::read_to_string(&path);
        transcript.record(Event::Note { text: format!("read {}", path.display()) });
        let found = found.map_err(|error| wrong(format!("{} cannot be read: {}", path.display(), error.kind())))?;
        if found.trim_ascii() == expected.as_str() {
            Ok(Validated::unlimited())
        } else {
            Err(wrong(format!("{} does not hold the key authorization", path.display())))
        }
    }
}

#[async_trait]
impl Validator for Directory01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::new(Self::METHOD)
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        matches!(identifier, Identifier::Dns(_)) && !identifier.is_wildcard()
    }

    async fn validate(&self, request: &ValidationRequest, _: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &self.clock as &dyn Clock);
        let conclusion = self.look(request, &mut transcript);
        transcript.conclude(conclusion)
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shared = std::env::temp_dir().join(format!("akamu-directory-01-{}", std::process::id()));
    std::fs::create_dir_all(shared.join("lathe.corp.example"))?;
    std::fs::write(shared.join("lathe.corp.example/acme"), "evaGxf.9jg46WB3rR_AHD\n")?;

    let clock = TestClock::at(Timestamp::from_unix_secs(1_795_525_200));
    let validators = ValidatorSet::new().with(Directory01 { shared: shared.clone(), clock });
    for (name, is_valid) in [("lathe.corp.example", true), ("drill.corp.example", false)] {
        let identifier = Identifier::dns(name)?;
        let offered: Vec<_> = validators.offered_for(&identifier).collect();
        let validator = offered.first().and_then(|it| validators.get(it)).ok_or("nothing is offered")?;
        let request = ValidationRequest::with_key_authorization(identifier, "evaGxf.9jg46WB3rR_AHD".parse()?);
        let report = validator.validate(&request, Deadline::after(Duration::from_secs(10))).await;
        println!("{report}\n");
        assert_eq!(report.is_valid(), is_valid);
    }
    std::fs::remove_dir_all(shared)?;
    Ok(())
}
