//! The format of vectors/dns_01.json.

use akamu_challenge::testing::TestClock;
use akamu_challenge::{Dns01, ValidationRequest};
use akamu_proto::{KeyAuthorization, Thumbprint, Timestamp, Token};
use serde::Deserialize;

use super::dns::TxtCase;
use super::parsed::{self, NothingElse};
use crate::case_file;

#[derive(Deserialize)]
pub(crate) struct Case {
    #[serde(flatten)]
    case: TxtCase,
    #[serde(deserialize_with = "parsed::text")]
    token: Token,
    #[serde(deserialize_with = "parsed::text")]
    thumbprint: Thumbprint,
    #[serde(flatten)]
    _nothing_else: NothingElse,
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let names = self.case.names();
        let validator = Dns01::new(names.clone(), TestClock::at(Timestamp::from_unix_secs(1_772_366_400)));
        let key_authorization = KeyAuthorization::new(&self.token, &self.thumbprint);
        let request = ValidationRequest::with_key_authorization(self.case.identifier.clone(), key_authorization);
        self.case.run(&names, &validator, &request)
    }
}
