//! Order objects and requests (RFC 8555 §7.1.3, §7.4).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorType, Identifier, OrderStatus, Problem, Subproblem, Timestamp};

/// The most identifiers in one order.
pub const MAX_IDENTIFIERS: usize = 100;

/// The payload of newOrder (§7.4). Unknown members are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOrderRequest {
    /// The identifiers as sent: they are read one by one, so that each bad one gets its own subproblem.
    pub identifiers: Vec<Value>,
    /// Wished start of validity.
    pub not_before: Option<Value>,
    /// Wished end of validity.
    pub not_after: Option<Value>,
}

impl NewOrderRequest {
    /// The identifiers in the order in which they were asked for, in canonical form, duplicates merged.
    ///
    /// # Errors
    /// One problem: about the list, or with one subproblem for each bad identifier (§6.7.1).
    pub fn parse_identifiers(&self) -> Result<Vec<Identifier>, Problem> {
        if self.identifiers.is_empty() {
            return Err(Problem::new(ErrorType::Malformed, "the order has no identifiers"));
        }
        if self.identifiers.len() > MAX_IDENTIFIERS {
            return Err(Problem::new(
                ErrorType::Malformed,
                format!("the order has {} identifiers; {MAX_IDENTIFIERS} are allowed", self.identifiers.len()),
            ));
        }
        let mut identifiers = Vec::with_capacity(self.identifiers.len());
        let mut subproblems = Vec::new();
        for value in &self.identifiers {
            match parse_identifier(value) {
                Ok(identifier) if identifiers.contains(&identifier) => {}
                Ok(identifier) => identifiers.push(identifier),
                Err((error_type, detail)) => {
                    subproblems.push(Subproblem { error_type, detail, identifier: as_sent(value) });
                }
            }
        }
        match subproblems.as_slice() {
            [] => Ok(identifiers),
            [only] => {
                let shown = only.identifier.as_ref().and_then(|it| it.get("value")).and_then(Value::as_str);
                let detail = shown.map_or_else(|| only.detail.clone(), |it| format!("{it:?}: {}", only.detail));
                Err(Problem::new(only.error_type, detail).with_subproblems(subproblems))
            }
            [first, rest @ ..] => {
                let same = rest.iter().all(|it| it.error_type == first.error_type);
                let error_type = if same { first.error_type } else { ErrorType::Malformed };
                let detail = format!("{} identifiers are refused; see the subproblems", subproblems.len());
                Err(Problem::new(error_type, detail).with_subproblems(subproblems))
            }
        }
    }
}

/// What a client sent comes back only where it is the two short texts that it should be.
fn as_sent(value: &Value) -> Option<Value> {
    let kind = value.get("type")?.as_str().filter(|it| it.len() <= 32)?;
    let name = value.get("value")?.as_str().filter(|it| it.len() <= 300)?;
    Some(serde_json::json!({ "type": kind, "value": name }))
}

/// Reads one identifier object (§7.1.3).
fn parse_identifier(value: &Value) -> Result<Identifier, (ErrorType, String)> {
    let member = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err((ErrorType::Malformed, format!("the identifier's {name:?} is not a string"))),
        None => Err((ErrorType::Malformed, format!("the identifier has no {name:?}"))),
    };
    Identifier::parse(member("type")?, member("value")?).map_err(|error| (error.error_type(), error.to_string()))
}

/// An order object (§7.1.3). Every answer has the first five members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderObject {
    /// Its state.
    pub status: OrderStatus,
    /// When it ends.
    pub expires: Timestamp,
    /// What the certificate is for, in the order asked for.
    pub identifiers: Vec<Identifier>,
    /// URLs of the authorizations.
    pub authorizations: Vec<String>,
    /// Where the CSR goes.
    pub finalize: String,
    /// Where the certificate is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Why it is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The payload of finalize (§7.4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FinalizeRequest {
    /// The CSR: DER in base64url.
    pub csr: String,
}

/// The payload of revokeCert (§7.6).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RevokeRequest {
    /// The certificate: DER in base64url.
    pub certificate: String,
    /// CRLReason; absent means 0.
    pub reason: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(identifiers: impl Serialize) -> Result<Vec<Identifier>, Problem> {
        serde_json::from_value::<NewOrderRequest>(json!({ "identifiers": identifiers })).unwrap().parse_identifiers()
    }

    #[test]
    fn duplicates_are_merged_and_the_order_is_kept() {
        let names = parse(json!([
            {"type": "dns", "value": "b.example"}, {"type": "dns", "value": "A.example"},
            {"type": "dns", "value": "B.EXAMPLE"}, {"type": "ip", "value": "10.0.0.1"},
        ]));
        let names: Vec<_> = names.unwrap().iter().map(Identifier::value).collect();
        assert_eq!(names, ["b.example", "a.example", "10.0.0.1"]);
    }

    #[test]
    fn each_bad_identifier_has_its_subproblem() {
        let problem = parse(json!([
            {"type": "dns", "value": "a.example."}, {"type": "dns", "value": "ok.example"},
            {"type": "email", "value": "x@example"}, {"type": "dns"}, 7,
        ]));
        let problem = problem.unwrap_err();
        assert_eq!(problem.error_type, ErrorType::Malformed);
        let types: Vec<_> = problem.subproblems.iter().map(|it| it.error_type.name()).collect();
        assert_eq!(types, ["malformed", "unsupportedIdentifier", "malformed", "malformed"]);
        assert_eq!(problem.subproblems[0].identifier, Some(json!({"type": "dns", "value": "a.example."})));
        assert_eq!(problem.subproblems[3].identifier, None);
    }

    #[test]
    fn a_list_has_one_to_a_hundred_identifiers() {
        let names =
            |n: usize| Value::from_iter((0..n).map(|i| json!({"type": "dns", "value": format!("n{i}.example")})));
        assert_eq!(parse(names(0)).unwrap_err().error_type, ErrorType::Malformed);
        assert_eq!(parse(names(100)).unwrap().len(), 100);
        assert_eq!(parse(names(101)).unwrap_err().error_type, ErrorType::Malformed);
    }
}
