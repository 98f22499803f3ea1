//! What a validation saw: the operator's transcript, and the conclusion that the client is told.
//!
//! Everything that a peer sent stands here as an [`Excerpt`]: bounded, and escaped to printable ASCII.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akamu_proto::{ChallengeType, ErrorType, Identifier, Problem, Timestamp};
use serde::Serialize;
use tokio::time::Instant;

mod excerpt;
mod octets;
mod story;

pub use excerpt::Excerpt;
pub use octets::MAX_REPORT_OCTETS;

use crate::{Clock, PerspectiveName, Refusal, ValidationRequest};

/// How many entries a transcript holds; what comes after is counted only.
const MAX_ENTRIES: usize = 256;

/// How many things of one kind an entry lists; of more, the number is told. So a peer's thousand names or fields do not
/// push the entry, or others, out of the 16 KiB that are kept.
const MAX_LISTED: usize = 16;

/// Everything that one attempt saw, and what follows from it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ValidationReport {
    /// The challenge type.
    pub method: ChallengeType,
    /// The identifier.
    pub identifier: Identifier,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What follows from it.
    #[serde(flatten)]
    pub conclusion: Conclusion,
    /// What was seen, in order.
    pub transcript: Vec<Entry>,
    /// How many entries were left out of the transcript's middle.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Control is proved.
    Valid(Validated),
    /// It is not.
    Invalid(ChallengeError),
}

/// Proof of control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Validated {
    /// The authorization won by this must not outlive this moment (persistUntil of dns-persist-01).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_no_later_than: Option<Timestamp>,
}

impl Validated {
    /// Proof that holds as long as the CA likes.
    pub const fn unlimited() -> Self {
        Self { expires_no_later_than: None }
    }

    /// Proof that holds until `moment` at most.
    pub const fn until(moment: Timestamp) -> Self {
        Self { expires_no_later_than: Some(moment) }
    }

    /// Proof that holds as long as both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let moments = [self.expires_no_later_than, other.expires_no_later_than];
        Self { expires_no_later_than: moments.into_iter().flatten().min() }
    }
}

/// Why an attempt failed, as the client is told (RFC 8555 §8.2, `error` of a challenge).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{error_type}: {detail}")]
#[non_exhaustive]
pub struct ChallengeError {
    /// For programs.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// For people. Printable, at most [`ChallengeError::MAX_DETAIL`] octets.
    pub detail: String,
}

impl ChallengeError {
    /// The longest detail, in octets.
    pub const MAX_DETAIL: usize = 1_000;

    /// An error. What a peer sent must stand in `detail` as an [`Excerpt`]; control characters are replaced anyway.
    pub fn new(error_type: ErrorType, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.chars().any(char::is_control) {
            detail = detail.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        }
        if detail.len() > Self::MAX_DETAIL {
            let mut end = Self::MAX_DETAIL - '…'.len_utf8();
            while !detail.is_char_boundary(end) {
                end -= 1;
            }
            detail.truncate(end);
            detail.push('…');
        }
        Self { error_type, detail }
    }

    /// The problem document of the challenge.
    pub fn to_problem(&self) -> Problem {
        Problem::new(self.error_type, self.detail.clone())
    }
}

/// One line of a transcript.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// When it was noted, in milliseconds since the start.
    pub at_ms: u64,
    /// The perspective from which it was seen, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perspective: Option<PerspectiveName>,
    /// What was seen.
    #[serde(flatten)]
    pub event: Event,
}

/// Something seen during a validation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A DNS question and what came back.
    Lookup {
        /// Who was asked.
        server: String,
        /// The name asked for.
        name: String,
        /// The record type, as `TXT`.
        record_type: &'static str,
        /// The response code, or why there is none.
        outcome: String,
        /// The answers.
        answers: Vec<Excerpt>,
        /// How long it took.
        duration_ms: u64,
    },
    /// What DNSSEC says about an answer; where answers are not validated there is no such entry.
    Dnssec {
        /// The name asked for.
        name: String,
        /// The record type, as `TXT`.
        record_type: &'static str,
        /// The verdict.
        status: DnssecStatus,
        /// What it rests on.
        detail: String,
    },
    /// A TXT record and what was made of it.
    TxtRecord {
        /// The record's text.
        value: Excerpt,
        /// The dialect it was read in, for dns-persist-01.
        #[serde(skip_serializing_if = "Option::is_none")]
        dialect: Option<&'static str>,
        /// Whether it proves control.
        accepted: bool,
        /// The rule that decided.
        rule: String,
    },
    /// An address that may not be dialled.
    AddressRefused {
        /// The address.
        address: IpAddr,
        /// The rule of the address policy.
        rule: Refusal,
    },
    /// A TCP connection, made or not.
    Dialled {
        /// The address and port.
        address: SocketAddr,
        /// `connected`, or why not.
        outcome: Excerpt,
        /// How long it took.
        duration_ms: u64,
    },
    /// An HTTP request that was sent.
    HttpRequest {
        /// The method and target.
        request: String,
        /// The Host field.
        host: String,
    },
    /// The head of an HTTP response.
    HttpResponse {
        /// The protocol version.
        version: String,
        /// The status code.
        status: u16,
        /// The Location field.
        #[serde(skip_serializing_if = "Option::is_none")]
        location: Option<Excerpt>,
        /// The header fields' names, in order.
        header_names: Vec<Excerpt>,
        /// How long the peer took to answer.
        duration_ms: u64,
    },
    /// The body of an HTTP response, as far as it came.
    HttpBody {
        /// Octets seen.
        octets: usize,
        /// The first of them.
        start: Excerpt,
        /// Whether it came to its end.
        complete: bool,
    },
    /// The first octets of a connection that did not speak the protocol.
    RawOctets {
        /// Octets seen.
        octets: u64,
        /// The first of them.
        start: Excerpt,
    },
    /// A TLS handshake, complete or not.
    TlsHandshake {
        /// The server name in our ClientHello.
        server_name: String,
        /// `complete`, or why not.
        outcome: String,
        /// The version, as `TLSv1_3`.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// The protocol that the peer selected.
        #[serde(skip_serializing_if = "Option::is_none")]
        alpn: Option<Excerpt>,
        /// How long it took.
        duration_ms: u64,
    },
    /// The certificate that the peer presented.
    Certificate {
        /// Its SHA-256, in hexadecimal.
        sha256: String,
        /// Its subject alternative names.
        names: Vec<Excerpt>,
    },
    /// What one of several perspectives came to.
    Perspective {
        /// Its name.
        name: PerspectiveName,
        /// Its conclusion, or why there is none.
        outcome: String,
    },
    /// Anything else, in words.
    Note {
        /// The words.
        text: String,
    },
}

/// How an answer stands up to DNSSEC (RFC 4035 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DnssecStatus {
    /// Signed, with a chain of trust from a trust anchor.
    Secure,
    /// Not signed, and the chain of trust proves that its zone is not.
    Insecure,
    /// It should be signed, and is not, or not rightly.
    Bogus,
    /// What is needed to tell cannot be had.
    Indeterminate,
}

impl fmt::Display for DnssecStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
            Self::Indeterminate => "indeterminate",
        })
    }
}

/// A report in the making. A validator records what it sees as it sees it, so that nothing is lost at the deadline.
#[derive(Debug)]
pub struct Transcript {
    method: ChallengeType,
    identifier: Identifier,
    started_at: Timestamp,
    start: Instant,
    entries: Vec<Entry>,
    omitted: usize,
}

impl Transcript {
    /// Begins the report of one attempt.
    pub fn begin(method: ChallengeType, request: &ValidationRequest, clock: &dyn Clock) -> Self {
        Self {
            method,
            identifier: request.identifier.clone(),
            started_at: clock.now(),
            start: Instant::now(),
            entries: Vec::new(),
            omitted: 0,
        }
    }

    /// Notes something. After 256 entries nothing more is kept, only counted; so is what an entry lists after 16.
    pub fn record(&mut self, mut event: Event) {
        if let Event::Lookup { answers: list, .. }
        | Event::HttpResponse { header_names: list, .. }
        | Event::Certificate { names: list, .. } = &mut event
            && list.len() > MAX_LISTED
        {
            let more = list.len() - MAX_LISTED;
            list.truncate(MAX_LISTED);
            list.push(Excerpt::new(format!("({more} more)")));
        }
        if self.entries.len() < MAX_ENTRIES {
            self.push(event);
        } else {
            self.omitted += 1;
        }
    }

    /// Notes something of which there is little for certain.
    pub(crate) fn push(&mut self, event: Event) {
        self.entries.push(Entry { at_ms: millis(self.start.elapsed()), perspective: None, event });
    }

    /// Takes over what was seen from a perspective, whose attempt began with this one.
    pub(crate) fn include(&mut self, perspective: &PerspectiveName, report: ValidationReport) {
        let seen = report.transcript.into_iter();
        self.entries.extend(seen.map(|it| Entry { perspective: Some(perspective.clone()), ..it }));
        self.omitted += report.omitted;
    }

    /// Ends the report.
    pub fn conclude(self, conclusion: Result<Validated, ChallengeError>) -> ValidationReport {
        ValidationReport {
            method: self.method,
            identifier: self.identifier,
            started_at: self.started_at,
            duration_ms: millis(self.start.elapsed()),
            conclusion: match conclusion {
                Ok(validated) => Conclusion::Valid(validated),
                Err(error) => Conclusion::Invalid(error),
            },
            transcript: self.entries,
            omitted: self.omitted,
        }
    }
}

impl ValidationReport {
    /// The conclusion as a result.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub const fn result(&self) -> Result<&Validated, &ChallengeError> {
        match &self.conclusion {
            Conclusion::Valid(validated) => Ok(validated),
            Conclusion::Invalid(error) => Err(error),
        }
    }

    /// Whether control is proved.
    pub const fn is_valid(&self) -> bool {
        matches!(self.conclusion, Conclusion::Valid(_))
    }
}

/// A duration in whole milliseconds, as reports carry it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(Validated { expires_no_later_than: None }) => f.write_str("valid"),
            Self::Valid(Validated { expires_no_later_than: Some(until) }) => write!(f, "valid until {until}"),
            Self::Invalid(error) => write!(f, "invalid: {error}"),
        }
    }
}
