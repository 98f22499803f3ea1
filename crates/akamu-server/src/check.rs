//! `akamu-server check`: what a validation would see from here, without any order.

use std::fmt::Write as _;

use akamu_challenge::{Deadline, Expected, ValidationReport, ValidationRequest, ValidatorSet};
use akamu_proto::{AccountUri, ChallengeType, Identifier, IdentifierError, KeyAuthorization, Thumbprint, Token};
use anstyle::AnsiColor;
use clap::Args;

/// What is to be checked.
#[derive(Clone, Debug, Args)]
pub struct Question {
    /// A name, a wildcard (*.example.com) or an address
    pub name: String,
    /// Ask this challenge type alone, like http-01
    #[arg(long = "type", value_name = "TYPE")]
    pub challenge_type: Option<String>,
    /// The account's URL: what a record of dns-persist-01 must name
    #[arg(long, value_name = "URI", conflicts_with = "token")]
    pub account: Option<String>,
    /// The challenge's token
    #[arg(long, value_name = "TOKEN", requires = "thumbprint", allow_hyphen_values = true)]
    pub token: Option<Token>,
    /// The thumbprint of the account's key; with --account any number of them, the current key's first
    #[arg(long, value_name = "THUMBPRINT", allow_hyphen_values = true)]
    pub thumbprint: Vec<Thumbprint>,
}

/// Why nothing can be checked.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The name is none.
    #[error("{name}: {error}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        error: IdentifierError,
    },
    /// No such type, or none for this name.
    #[error("{challenge_type} is not offered for {identifier} here; offered are: {offered}")]
    NotOffered {
        /// The type asked for.
        challenge_type: String,
        /// The name.
        identifier: Identifier,
        /// What there is.
        offered: String,
    },
    /// No type is left that could be asked.
    #[error("no challenge type that is configured here takes {proof} for {identifier}; offered are: {offered}")]
    NoneTakes {
        /// Which option was given.
        proof: &'static str,
        /// The name.
        identifier: Identifier,
        /// What there is.
        offered: String,
    },
}

impl Question {
    /// Asks each challenge type that takes the proof given, or each that is offered where none is given.
    ///
    /// # Errors
    /// Where there is nothing to ask.
    pub async fn ask(
        &self,
        validators: &ValidatorSet,
        deadline: impl Fn() -> Deadline,
    ) -> Result<Vec<ValidationReport>, QuestionError> {
        let identifier = self.identifier()?;
        let mut reports = Vec::new();
        for challenge_type in self.challenge_types(&identifier, validators)? {
            let Some(validator) = validators.get(&challenge_type) else { continue };
            let request = ValidationRequest::new(identifier.clone(), self.expected(&challenge_type));
            reports.push(validator.validate(&request, deadline()).await);
        }
        Ok(reports)
    }

    fn identifier(&self) -> Result<Identifier, QuestionError> {
        self.name.parse().map_err(|error| QuestionError::Name { name: self.name.clone(), error })
    }

    /// Whether something that could be found was given.
    const fn has_proof(&self) -> bool {
        self.account.is_some() || self.token.is_some()
    }

    fn challenge_types(
        &self,
        identifier: &Identifier,
        validators: &ValidatorSet,
    ) -> Result<Vec<ChallengeType>, QuestionError> {
        let offered: Vec<_> = validators.offered_for(identifier).collect();
        let names = || offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let asked: Vec<_> = match &self.challenge_type {
            Some(one) => offered.iter().filter(|it| it.as_str() == one).cloned().collect(),
            None => offered.iter().filter(|it| !self.has_proof() || self.takes(it)).cloned().collect(),
        };
        match (&self.challenge_type, asked.first()) {
            (Some(challenge_type), None) => Err(QuestionError::NotOffered {
                challenge_type: challenge_type.clone(),
                identifier: identifier.clone(),
                offered: names(),
            }),
            (_, Some(first)) if self.takes(first) || !self.has_proof() => Ok(asked),
            _ => Err(QuestionError::NoneTakes {
                proof: if self.account.is_some() { "--account" } else { "--token" },
                identifier: identifier.clone(),
                offered: names(),
            }),
        }
    }

    fn takes(&self, challenge_type: &ChallengeType) -> bool {
        if challenge_type.has_token() { self.token.is_some() } else { self.account.is_some() }
    }

    fn expected(&self, challenge_type: &ChallengeType) -> Expected {
        if challenge_type.has_token() {
            let token = self.token.clone().unwrap_or_else(|| Token::from_random([0; 32]));
            let nobody = || Thumbprint::of_canonical_jwk("");
            let thumbprint = self.thumbprint.first().cloned().unwrap_or_else(nobody);
            Expected::KeyAuthorization(KeyAuthorization::new(&token, &thumbprint))
        } else {
            let uri = self.account.as_deref().unwrap_or("(no --account was given)");
            Expected::Account { uri: AccountUri::new(uri), thumbprints: self.thumbprint.clone() }
        }
    }

    /// The reports as an operator reads them.
    pub fn tell(&self, reports: &[ValidationReport], in_colour: bool) -> String {
        let mut text = String::new();
        for report in reports {
            let story = report.to_string();
            let (seen, conclusion) = story.rsplit_once('\n').unwrap_or(("", &story));
            let colour = if report.is_valid() { AnsiColor::Green } else { AnsiColor::Red };
            let style = if in_colour { colour.on_default() } else { anstyle::Style::new() };
            let _ = writeln!(text, "{seen}\n{style}{conclusion}{style:#}\n");
        }
        if !self.has_proof() {
            text.push_str(
                "Nothing to look for was given (--token and --thumbprint, or --account), so control cannot be proved: this shows how far a validation gets.\n",
            );
        }
        text
    }
}
