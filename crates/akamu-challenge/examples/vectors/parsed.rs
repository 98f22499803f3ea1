//! Parts of a case that are parsed while it is read, so that a wrong one is named with its case.

use std::fmt::Display;
use std::str::FromStr;

use akamu_proto::Identifier;
use base64ct::{Base64, Encoding as _};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Map;

/// Octets, in base64.
#[derive(Clone)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text).map(Self).map_err(|error| D::Error::custom(format!("{text:?} is no base64: {error}")))
    }
}

/// Reads an object with `type` and `value`.
pub(crate) fn identifier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identifier, D::Error> {
    #[derive(serde::Deserialize)]
    struct Object {
        #[serde(rename = "type")]
        kind: String,
        value: String,
        #[serde(flatten)]
        _nothing_else: NothingElse,
    }
    let Object { kind, value, .. } = Object::deserialize(deserializer)?;
    Identifier::parse(&kind, &value).map_err(|error| D::Error::custom(format!("identifier {value:?}: {error}")))
}

/// Reads what has a form as text.
pub(crate) fn text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

/// Refuses every member that is left. It stands flattened and last in a case that has flattened parts, where serde's
/// own `deny_unknown_fields` does not work.
pub(crate) struct NothingElse;

impl<'de> Deserialize<'de> for NothingElse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Map::<String, serde_json::Value>::deserialize(deserializer)?.keys().next() {
            None => Ok(Self),
            Some(member) => Err(D::Error::custom(format!("unknown field `{member}`"))),
        }
    }
}
