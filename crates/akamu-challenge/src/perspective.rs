//! Several places to validate from, and the rule by which they decide together: who can fake an answer towards one place
//! on the network cannot towards all (CA/Browser Forum Baseline Requirements §3.2.2.9).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use akamu_proto::{ChallengeType, ErrorType, Identifier};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;

use crate::{
    ChallengeError, Clock, Deadline, Event, Transcript, Validated, ValidationReport, ValidationRequest, Validator,
};

/// What a perspective is called in reports and towards clients: 1 to 63 letters, digits, `-`, `.` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PerspectiveName(String);

/// The text is no name of a perspective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a perspective's name is 1 to 63 letters, digits, '-', '.' and '_'")]
pub struct PerspectiveNameError;

impl FromStr for PerspectiveName {
    type Err = PerspectiveNameError;

    fn from_str(text: &str) -> Result<Self, PerspectiveNameError> {
        let is_plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
        if is_plain && (1..=63).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(PerspectiveNameError) }
    }
}

impl fmt::Display for PerspectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place to validate from: a validator that looks from there, and a name for it in reports.
///
/// What makes it another place is what the validator was given: a resolver that asks other servers, a connector with
/// another source address, or one that asks a machine elsewhere.
#[derive(Clone, Debug)]
pub struct Perspective {
    name: PerspectiveName,
    validator: Arc<dyn Validator>,
}

impl Perspective {
    /// A place, and what looks from there.
    pub fn new(name: PerspectiveName, validator: impl Validator + 'static) -> Self {
        Self { name, validator: Arc::new(validator) }
    }
}

/// One validator made of several perspectives.
///
/// All look at once, within the one deadline. Control is proved where the primary perspective finds it proved, and all
/// others do but for as many as may fail. The attempt ends as soon as that is decided. The proof holds until the earliest
/// moment that any of those who found it names.
#[derive(Debug)]
pub struct Quorum {
    primary: Perspective,
    others: Vec<Perspective>,
    may_fail: usize,
    clock: Arc<dyn Clock>,
}

/// Why perspectives cannot decide together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// They validate different challenge types.
    #[error("the perspective {name} validates {method}, and the primary one {primary}")]
    OtherMethod {
        /// The perspective.
        name: PerspectiveName,
        /// Its type.
        method: ChallengeType,
        /// The primary perspective's.
        primary: ChallengeType,
    },
    /// Two have one name.
    #[error("two perspectives are called {0}")]
    SameName(PerspectiveName),
}

impl Quorum {
    /// How many of `others` may fail (CA/Browser Forum Baseline Requirements §3.2.2.9): none of one, one of two to five,
    /// two of six and more.
    pub const fn may_fail_of(others: usize) -> usize {
        match others {
            0 | 1 => 0,
            2..=5 => 1,
            _ => 2,
        }
    }

    /// Perspectives of one challenge type; of the others as many may fail as [`Quorum::may_fail_of`] says.
    ///
    /// # Errors
    /// Where their types differ, or two have the same name.
    pub fn new(
        primary: Perspective,
        others: impl IntoIterator<Item = Perspective>,
        clock: impl Clock + 'static,
    ) -> Result<Self, QuorumError> {
        let others: Vec<_> = others.into_iter().collect();
        let method = primary.validator.method();
        let mut names = vec![&primary.name];
        for other in &others {
            if other.validator.method() != method {
                let (name, primary) = (other.name.clone(), method);
                return Err(QuorumError::OtherMethod { name, method: other.validator.method(), primary });
            }
            if names.contains(&&other.name) {
                return Err(QuorumError::SameName(other.name.clone()));
            }
            names.push(&other.name);
        }
        let may_fail = Self::may_fail_of(others.len());
        Ok(Self { primary, others, may_fail, clock: Arc::new(clock) })
    }

    /// This quorum, with another number of perspectives that may fail, the primary one never among them.
    #[must_use]
    pub const fn may_fail(mut self, count: usize) -> Self {
        self.may_fail = count;
        self
    }

    fn perspectives(&self) -> impl Iterator<Item = &Perspective> {
        std::iter::once(&self.primary).chain(&self.others)
    }

    /// What follows from what was found so far, the primary perspective's first; `None`: that is not decided yet.
    fn decide(&self, found: &[Option<ValidationReport>]) -> Option<Result<Validated, ChallengeError>> {
        let (primary, others) = found.split_first()?;
        let mut proof = match primary.as_ref()?.result() {
            Ok(validated) => *validated,
            Err(error) => return Some(Err(error.clone())),
        };
        let mut proved = 0;
        let mut failures = Vec::new();
        for (perspective, report) in self.others.iter().zip(others) {
            match report.as_ref().map(ValidationReport::result) {
                Some(Ok(validated)) => {
                    proved += 1;
                    proof = proof.and(*validated);
                }
                Some(Err(error)) => failures.push((perspective, error)),
                None => {}
            }
        }
        match failures.first() {
            Some((perspective, error)) if failures.len() > self.may_fail => {
                let detail = format!(
                    "proved from {}, but not from {} of {} other perspectives, of which {} may fail; from {}: {}",
                    self.primary.name,
                    failures.len(),
                    others.len(),
                    self.may_fail,
                    perspective.name,
                    error.detail,
                );
                Some(Err(ChallengeError::new(error.error_type, detail)))
            }
            _ if proved + self.may_fail >= others.len() => Some(Ok(proof)),
            _ => None,
        }
    }
}

#[async_trait]
impl Validator for Quorum {
    fn method(&self) -> ChallengeType {
        self.primary.validator.method()
    }

    fn supports(&self, identifier: &Identifier) -> bool {
        self.perspectives().all(|it| it.validator.supports(identifier))
    }

    async fn validate(&self, request: &ValidationRequest, deadline: Deadline) -> ValidationReport {
        let mut transcript = Transcript::begin(self.method(), request, &*self.clock);
        let mut found = vec![None; 1 + self.others.len()];
        let mut looking: FuturesUnordered<_> = (self.perspectives().enumerate())
            .map(|(place, it)| async move { (place, it.validator.validate(request, deadline).await) })
            .collect();
        let conclusion = loop {
            if let Some(decided) = self.decide(&found) {
                break decided;
            }
            match looking.next().await {
                Some((place, report)) => {
                    if let Some(it) = found.get_mut(place) {
                        *it = Some(report);
                    }
                }
                // Once all have looked it is decided.
                None => {
                    break Err(ChallengeError::new(ErrorType::ServerInternal, "the perspectives came to no decision"));
                }
            }
        };
        drop(looking);
        let outcomes: Vec<_> = self
            .perspectives()
            .zip(&found)
            .map(|(it, report)| Event::Perspective {
                name: it.name.clone(),
                outcome: report.as_ref().map_or_else(|| "not waited for".to_owned(), |it| it.conclusion.to_string()),
            })
            .collect();
        for (perspective, report) in self.perspectives().zip(found) {
            if let Some(report) = report {
                transcript.include(&perspective.name, report);
            }
        }
        outcomes.into_iter().for_each(|it| transcript.push(it));
        transcript.conclude(conclusion)
    }
}
