//! How long something is kept after it expired: a number of days, or for ever.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// How long something is kept after it expired: `30` (days, at least 1) or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(Option<u32>);

impl Retention {
    /// How long; `None`: for ever.
    pub fn duration(self) -> Option<Duration> {
        self.0.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

struct Days;

impl Visitor<'_> for Days {
    type Value = Retention;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of days from 1, or \"forever\"")
    }

    fn visit_u64<E: Error>(self, days: u64) -> Result<Retention, E> {
        match u32::try_from(days) {
            // Nobody means to keep nothing, nor 0 to be everything.
            Ok(days) if days > 0 => Ok(Retention(Some(days))),
            _ => Err(E::invalid_value(Unexpected::Unsigned(days), &self)),
        }
    }

    fn visit_i64<E: Error>(self, days: i64) -> Result<Retention, E> {
        match u64::try_from(days) {
            Ok(days) => self.visit_u64(days),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(days), &self)),
        }
    }

    /// An environment variable's text, too.
    fn visit_str<E: Error>(self, text: &str) -> Result<Retention, E> {
        match text.trim() {
            "forever" => Ok(Retention(None)),
            days => match days.parse() {
                Ok(days) => self.visit_u64(days),
                Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn days_are_written_as_a_number_or_as_a_word() {
        for (text, days) in [("30", Some(30)), ("1", Some(1)), ("forever", None)] {
            let environment =
                [("AKAMU_BASE_URL", "https://a.test"), ("AKAMU_HOUSEKEEPING__ORDER_RETENTION_DAYS", text)];
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let loaded = load(&Sources { environment, ..Sources::default() }).unwrap();
            let retention = loaded.config.housekeeping.order_retention_days;
            assert_eq!(retention.duration(), days.map(|it| Duration::from_secs(it * 86_400)), "{text}");
        }
    }
}
