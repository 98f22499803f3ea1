//! A point in time, as the wire (RFC 3339, UTC) and the database (Unix microseconds) carry it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time with microsecond resolution, in UTC.
///
/// Shown, and serialised, as RFC 3339 in whole seconds with a literal `Z` (RFC 8555 §7.1.2), rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is no RFC 3339 time in UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time in the form YYYY-MM-DDTHH:MM:SSZ")]
pub struct TimestampError;

impl Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Seconds since 1970-01-01T00:00:00Z; saturates at the ends of the range.
    pub const fn from_unix_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The same time, without its fraction of a second.
    #[must_use]
    pub const fn floor_secs(self) -> Self {
        Self::from_unix_secs(self.unix_secs())
    }

    /// This time plus `duration`; saturates at the end of the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time less `duration`; saturates at the end of the range.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.unix_secs()) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "@{}", self.unix_secs()),
        }
    }
}

/// Takes `YYYY-MM-DDTHH:MM:SS`, an optional fraction, and `Z` (or `z`): no offset, no leap second, no other form.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = text.as_bytes();
        let shape = |i: usize, c: u8| match c {
            b'0' => octets.get(i).is_some_and(u8::is_ascii_digit),
            _ => octets.get(i) == Some(&c),
        };
        let head = b"0000-00-00T00:00:00";
        let fraction_and_zone = octets.get(head.len()..).ok_or(TimestampError)?;
        let (zone, fraction) = fraction_and_zone.split_last().ok_or(TimestampError)?;
        let fraction_is_well_formed = match fraction.split_first() {
            None => true,
            Some((dot, digits)) => {
                *dot == b'.' && (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
            }
        };
        if !head.iter().enumerate().all(|(i, &c)| shape(i, c))
            || !matches!(zone, b'Z' | b'z')
            || !fraction_is_well_formed
            // jiff reads :60 as :59; a leap second is nothing that a record should name.
            || octets.get(17) == Some(&b'6')
        {
            return Err(TimestampError);
        }
        let time: jiff::Timestamp = text.to_ascii_uppercase().parse().map_err(|_| TimestampError)?;
        Ok(Self(time.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_whole_seconds_in_utc() {
        assert_eq!(Timestamp::from_unix_micros(1_772_366_400_999_999).to_string(), "2026-03-01T12:00:00Z");
        assert_eq!(Timestamp::from_unix_micros(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn reads_only_rfc_3339_in_utc() {
        let read = |text: &str| text.parse::<Timestamp>().map(Timestamp::unix_micros).ok();
        assert_eq!(read("2026-03-01T12:00:00Z"), Some(1_772_366_400_000_000));
        assert_eq!(read("2026-03-01T12:00:00z"), Some(1_772_366_400_000_000));
        assert_eq!(read("2026-03-01T12:00:00.25Z"), Some(1_772_366_400_250_000));
        for text in [
            "",
            "Z",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-03-01 12:00:00Z",
            "2026-03-01T12:00:00+00:00",
            "2026-13-01T12:00:00Z",
            "2026-02-30T12:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:00:60Z",
            "+2026-03-01T12:00:00Z",
            "2026-03-01T12:00Z",
            "2026-03-01T12:00:00.Z",
            "2026-03-01T12:00:00ZZ",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_unix_micros(i64::MAX);
        assert_eq!(end.plus(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_unix_secs(1).since(Timestamp::from_unix_secs(2)), Duration::ZERO);
    }
}
