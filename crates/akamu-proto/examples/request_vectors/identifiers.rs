//! The format of vectors/identifiers.json: an identifier of a newOrder payload, and what becomes of it.

use akamu_proto::NewOrderRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case_file::{self, one_of};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    identifier: Value,
    requires: Option<Policy>,
    expect: Expect,
}

/// Something that a server may have and that we have not.
#[derive(Deserialize)]
enum Policy {
    #[serde(rename = "public-suffix-policy")]
    PublicSuffix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    accepted: Accepted,
    canonical: Option<Value>,
    wildcard: Option<bool>,
    #[serde(default)]
    error: Vec<String>,
}

#[derive(PartialEq, Deserialize)]
#[serde(untagged)]
enum Accepted {
    Certainly(bool),
    Perhaps(Optional),
}

#[derive(PartialEq, Deserialize)]
enum Optional {
    #[serde(rename = "optional")]
    Optional,
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let differences: Vec<String> = self.difference().into_iter().collect();
        match &self.requires {
            // Some of what such a policy asks for is our rule without one.
            Some(Policy::PublicSuffix) if !differences.is_empty() => None,
            _ => Some(differences),
        }
    }
}

impl Case {
    fn difference(&self) -> Option<String> {
        let Expect { accepted, canonical, wildcard, error } = &self.expect;
        let order = NewOrderRequest { identifiers: vec![self.identifier.clone()], not_before: None, not_after: None };
        match order.parse_identifiers() {
            Ok(identifiers) => {
                let shown = |canonical: &Value, wildcard| format!("accepted as {canonical}, wildcard {wildcard}");
                let got: Vec<_> = identifiers.iter().map(|it| shown(&json!(it), it.is_wildcard())).collect();
                let expected: Vec<_> = canonical.iter().zip(*wildcard).map(|(it, wild)| shown(it, wild)).collect();
                let may = *accepted != Accepted::Certainly(false);
                (!may || got != expected).then(|| {
                    let expected = if may { expected.join(", ") } else { format!("refused as {}", one_of(error)) };
                    format!("expected {expected}, got {}", got.join(", "))
                })
            }
            Err(problem) => {
                let named = error.iter().any(|it| it == problem.error_type.name());
                let told = matches!(problem.subproblems.as_slice(), [it] if it.error_type == problem.error_type);
                let may = *accepted != Accepted::Certainly(true);
                (!may || !named || !told).then(|| {
                    let expected = if may { format!("refused as {}", one_of(error)) } else { "accepted".to_owned() };
                    let problem = serde_json::to_string(&problem).unwrap_or_default();
                    format!("expected {expected}, got refused as {problem}")
                })
            }
        }
    }
}
