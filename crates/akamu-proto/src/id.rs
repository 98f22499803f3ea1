//! Ids of accounts, orders, authorizations and certificates, as they stand in URLs and rows.
//!
//! An id is no secret: every answer checks the owner. Randomness comes in as an argument.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding as _};

use crate::Timestamp;

/// The text is no id of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct IdError;

/// An account's id: a positive 63-bit integer, drawn at random and never handed out twice.
///
/// A persistent TXT record trusts an account URL for years (dns-persist-01), so it is neither counted up nor re-used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(i64);

impl AccountId {
    /// An id from 8 random octets. `None` for the one value in 2⁶³ that is zero: draw again.
    pub fn from_random(octets: [u8; 8]) -> Option<Self> {
        Self::from_i64(i64::from_be_bytes(octets) & i64::MAX)
    }

    /// The id with this number, where it is positive.
    pub const fn from_i64(number: i64) -> Option<Self> {
        if number > 0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AccountId {
    type Err = IdError;

    /// Takes decimal digits without sign or leading zero, so that an account has one URL.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if !text.bytes().all(|c| c.is_ascii_digit()) || text.starts_with('0') {
            return Err(IdError);
        }
        text.parse().ok().and_then(Self::from_i64).ok_or(IdError)
    }
}

/// 48 bits of Unix milliseconds, then 80 random bits: what is made later sorts later.
pub fn time_ordered_octets(now: Timestamp, random: [u8; 10]) -> [u8; 16] {
    let [_, _, time @ ..] = now.unix_millis().to_be_bytes();
    let mut octets = [0; 16];
    octets.iter_mut().zip(time.into_iter().chain(random)).for_each(|(to, from)| *to = from);
    octets
}

macro_rules! time_ordered_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 16 octets: 48 bits of Unix milliseconds, then 80 random bits, so that new rows lie together in every index.
        /// In text it is 22 characters of base64url.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// An id made at `now`.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                Self(time_ordered_octets(now, random))
            }

            /// The id with these octets.
            pub const fn from_octets(octets: [u8; 16]) -> Self {
                Self(octets)
            }

            /// The id in a row; `None` where there are not 16 octets.
            pub fn from_slice(octets: &[u8]) -> Option<Self> {
                octets.try_into().ok().map(Self)
            }

            /// The octets.
            pub const fn as_octets(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 22];
                f.write_str(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut octets = [0; 16];
                match Base64UrlUnpadded::decode(text, &mut octets) {
                    Ok(decoded) if decoded.len() == 16 => Ok(Self(octets)),
                    _ => Err(IdError),
                }
            }
        }
    };
}

time_ordered_id! {
    /// An order's id (RFC 8555 §7.1.3).
    OrderId
}
time_ordered_id! {
    /// An authorization's id (RFC 8555 §7.1.4).
    AuthorizationId
}
time_ordered_id! {
    /// A certificate's id: its serial number (RFC 5280 §4.1.2.2), as a place in a URL.
    CertificateId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_have_one_text_each() {
        assert_eq!("42".parse(), Ok(AccountId(42)));
        assert_eq!(AccountId(42).to_string(), "42");
        for text in ["", "0", "042", "+42", "-42", "9223372036854775808", "4 2", "a"] {
            assert_eq!(text.parse::<AccountId>(), Err(IdError), "{text}");
        }
        assert_eq!(AccountId::from_random([0xff; 8]), Some(AccountId(i64::MAX)));
        assert_eq!(AccountId::from_random([0x80, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn other_ids_sort_by_time_and_survive_their_text() {
        let early = OrderId::new(Timestamp::from_unix_secs(1_700_000_000), [0xff; 10]);
        let late = OrderId::new(Timestamp::from_unix_secs(1_700_000_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().len(), 22);
        assert_eq!(early.to_string().parse(), Ok(early));
        for text in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAAAA", "é"]
        {
            assert_eq!(text.parse::<OrderId>(), Err(IdError), "{text}");
        }
    }
}
