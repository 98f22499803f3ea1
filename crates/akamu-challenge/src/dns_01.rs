//! dns-01 (RFC 8555 §8.4): a TXT record at `_acme-challenge.<domain>` that is the digest of the key authorization.

use std::fmt::Write as _;
use std::sync::Arc;

use akamu_proto::{ChallengeType, ErrorType, Identifier, KeyAuthorization};
use async_trait::async_trait;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::txt_lookup::{MAX_VERDICTS, base_domain, fits, look_up_txt};
use crate::{
    ChallengeError, Clock, Deadline, Event, Excerpt, Resolver, Transcript, TxtRecord, Validated, ValidationReport,
    ValidationRequest, Validator,
};

/// The label under which the record stands.
const PREFIX: &str = "_acme-challenge";

/// How many wrong records the client is told of.
const MAX_TOLD: usize = 3;

/// The validator of dns-01.
#[derive(Clone, Debug)]
pub struct Dns01 {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
}

impl Dns01 {
    /// Asks `resolver`, and dates its reports by `clock`.
    pub fn new(resolver: impl Resolver + 'static, clock: impl Clock + 'static) -> Self {
        Self { resolver: Arc::new(resolver), clock: Arc::new(clock) }
    }

    async fn prove(
        &self,
        request: &ValidationRequest,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Validated, ChallengeError> {
        let key_authorization = request.key_authorization()?;
        let domain = base_domain(PREFIX, &request.identifier)?;
        let name = format!("{PREFIX}.{domain}");
        let records = look_up_txt(&*self.resolver, &name, &request.identifier, deadline, transcript).await?;
        judge(&name, &records, key_authorization, transcript)
    }
}

#[async_trait]
impl Validator for Dns01 {
    fn method(&self) -> ChallengeType {
        ChallengeType::DNS_01
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        fits(PREFIX, identifier)
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &*self.clock);
        let conclusion = self.prove(request, deadline, &mut transcript).await;
        transcript.conclude(conclusion)
    }
}

/// Control is proved by at least one record that equals the expected value, octet for octet.
fn judge(
    name: &str,
    records: &[TxtRecord],
    key_authorization: &KeyAuthorization,
    transcript: &mut Transcript,
) -> Result<Validated, ChallengeError> {
    let expected = key_authorization.dns_value();
    let mut is_proved = false;
    let mut detail = format!("no TXT record of {name} is \"{expected}\"; found");
    for (index, record) in records.iter().enumerate() {
        let value = record.joined();
        let accepted = value == expected.as_bytes();
        let rule = if accepted {
            "equals the digest of the key authorization"
        } else {
            difference(&value, &expected, key_authorization)
        };
        let value = Excerpt::new(&value);
        if index < MAX_TOLD {
            let separator = if index == 0 { "" } else { ";" };
            let _ = write!(detail, "{separator} \"{value}\", which {rule}");
        }
        if (accepted && !is_proved) || index < MAX_VERDICTS {
            transcript.record(Event::TxtRecord { value, dialect: None, accepted, rule: rule.to_owned() });
        }
        is_proved |= accepted;
    }
    if is_proved {
        return Ok(Validated::unlimited());
    }
    if records.len() > MAX_TOLD {
        let _ = write!(detail, "; and {} more", records.len() - MAX_TOLD);
    }
    Err(ChallengeError::new(ErrorType::IncorrectResponse, detail))
}

/// In what a wrong value differs, with a guess at the cause.
fn difference(value: &[u8], expected: &str, key_authorization: &KeyAuthorization) -> &'static str {
    let digest = key_authorization.digest();
    let bare: Vec<u8> = value.iter().copied().filter(|it| !b"\" \t\r\n=".contains(it)).collect();
    if value.is_empty() {
        "is empty"
    } else if value == key_authorization.as_str().as_bytes() {
        "is the key authorization itself, not the base64url of its SHA-256"
    } else if bare == expected.as_bytes() {
        "is right but for quotes, white space or padding in it"
    } else if value.eq_ignore_ascii_case(expected.as_bytes()) {
        "is right but for upper and lower case"
    } else if value.eq_ignore_ascii_case(hexadecimal(&digest).as_bytes()) {
        "is the digest in hexadecimal, not in base64url"
    } else if value == dns_value_with_newline(key_authorization).as_bytes() {
        "is the digest of the key authorization and a line break (hash it with printf %s, not with echo or <<<)"
    } else {
        "is something else"
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn dns_value_with_newline(key_authorization: &KeyAuthorization) -> String {
    Base64UrlUnpadded::encode_string(&Sha256::digest(format!("{}\n", key_authorization.as_str())))
}
