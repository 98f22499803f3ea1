//! The text of a persistent TXT record: `<issuer domain>; accounturi=<uri>[; policy=wildcard][; persistUntil=<time>]`.
//!
//! Here the text is read and what is wrong with it in itself is found; whether it speaks for an account is decided in
//! `claim.rs`.

use std::collections::HashSet;
use std::fmt;

use akamu_proto::{DnsName, Timestamp};

use crate::Excerpt;

/// A record for one of our issuer domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersistRecord<'a> {
    pub(crate) account_uri: &'a str,
    pub(crate) policy: Option<&'a str>,
    pub(crate) persist_until: Option<PersistUntil>,
}

/// Until when a record holds, and in which of the two forms it says so. Its `Display` is that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistUntil {
    /// `YYYY-MM-DDTHH:MM:SSZ`.
    Rfc3339(Timestamp),
    /// Seconds since 1970.
    UnixSecs(Timestamp),
}

/// Why a record proves nothing. The text goes on a sentence that began with the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("is not UTF-8 text")]
    NotUtf8,
    #[error("does not begin with an issuer domain")]
    NoIssuer,
    #[error("is for another issuer, \"{issuer}\"")]
    AnotherIssuer { issuer: Excerpt },
    #[error("gives \"{tag}\" twice")]
    DuplicateTag { tag: Excerpt },
    #[error("names no account: accounturi is missing")]
    NoAccountUri,
    #[error("has a persistUntil of more than 12 digits: milliseconds? Seconds are expected")]
    PersistUntilTooLong,
    #[error("has a persistUntil that is neither YYYY-MM-DDTHH:MM:SSZ nor Unix seconds: \"{value}\"")]
    PersistUntilUnreadable { value: Excerpt },
    #[error("expired {at}")]
    Expired { at: Timestamp },
    #[error("does not allow wildcards: policy=wildcard is missing")]
    NoWildcardPolicy,
    #[error("does not allow wildcards: policy is \"{policy}\", not \"wildcard\"")]
    OtherPolicy { policy: Excerpt },
    #[error("names another account, \"{account_uri}\"; this one is {expected}")]
    AnotherAccount { account_uri: Excerpt, expected: String },
    #[error("names the account inexactly: {difference}; {expected} is expected, octet for octet")]
    InexactAccount { difference: UriDifference, expected: String },
    #[error("has a hash of another algorithm than sha-256 in its accounturi")]
    OtherHashAlgorithm,
    #[error("has a hash in its accounturi that {difference}")]
    InexactHash { difference: HashDifference },
    #[error("has a hash in its accounturi that is not this account's: made for another account, name or key")]
    AnotherHash,
}

/// In what an accounturi differs from the account's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UriDifference {
    #[error("the scheme differs (http instead of https?)")]
    Scheme,
    #[error("there is a slash too many at its end")]
    TrailingSlash,
    #[error("there are quotes or angle brackets around it")]
    Quotes,
    #[error("upper and lower case differ")]
    Case,
    #[error("it is the path alone")]
    PathOnly,
}

/// In what a hash differs from the account's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HashDifference {
    #[error("was made for \"{name}\"; the base domain or \"*\" is expected")]
    Name { name: String },
    #[error("was made from an account URL of another scheme (http instead of https?)")]
    Scheme,
    #[error("was made with a line break after the account URL (printf %s makes none)")]
    LineBreak,
    #[error("is right but for padding (=) at its end")]
    Padding,
    #[error("is right but for upper and lower case")]
    Case,
}

impl Rejection {
    /// Whether the record is not meant for us at all.
    pub(super) const fn is_about_others(&self) -> bool {
        matches!(self, Self::NotUtf8 | Self::NoIssuer | Self::AnotherIssuer { .. })
    }
}

impl<'a> PersistRecord<'a> {
    /// Reads a record for one of `issuer_domains`.
    ///
    /// Tags compare case-insensitively, and so does the issuer domain, whose trailing dot is stripped. ASCII white space
    /// around everything is trimmed. An empty token, one without `=` and an unknown tag are ignored.
    pub(crate) fn read(octets: &'a [u8], issuer_domains: &[DnsName]) -> Result<Self, Rejection> {
        let text = std::str::from_utf8(octets).map_err(|_| Rejection::NotUtf8)?;
        let (issuer, rest) = text.split_once(';').unwrap_or((text, ""));
        check_issuer(issuer.trim_ascii(), issuer_domains)?;

        let mut seen = HashSet::new();
        let (mut account_uri, mut policy, mut persist_until) = (None, None, None);
        for token in rest.split(';') {
            let Some((tag, value)) = token.split_once('=') else { continue };
            let (tag, value) = (tag.trim_ascii().to_ascii_lowercase(), value.trim_ascii());
            match tag.as_str() {
                "accounturi" => account_uri = Some(value),
                "policy" => policy = Some(value),
                "persistuntil" => persist_until = Some(value),
                _ => {}
            }
            if let Some(tag) = seen.replace(tag) {
                return Err(Rejection::DuplicateTag { tag: Excerpt::new(tag) });
            }
        }
        Ok(Self {
            account_uri: account_uri.ok_or(Rejection::NoAccountUri)?,
            policy,
            persist_until: persist_until.map(PersistUntil::read).transpose()?,
        })
    }
}

fn check_issuer(issuer: &str, issuer_domains: &[DnsName]) -> Result<(), Rejection> {
    let name = issuer.strip_suffix('.').unwrap_or(issuer);
    if issuer_domains.iter().any(|it| it.as_str().eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    if name.is_empty() || name.contains('=') {
        return Err(Rejection::NoIssuer);
    }
    Err(Rejection::AnotherIssuer { issuer: Excerpt::new(issuer) })
}

impl fmt::Display for PersistUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rfc3339(moment) => write!(f, "{moment}"),
            Self::UnixSecs(moment) => write!(f, "{}", moment.unix_secs()),
        }
    }
}

impl PersistUntil {
    fn read(value: &str) -> Result<Self, Rejection> {
        /// Until the year 33658; milliseconds have had 13 since 2001.
        const MAX_DIGITS: usize = 12;
        let unreadable = || Rejection::PersistUntilUnreadable { value: Excerpt::new(value) };
        if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
            if value.len() > MAX_DIGITS {
                return Err(Rejection::PersistUntilTooLong);
            }
            let secs = value.parse().map_err(|_| unreadable())?;
            return Ok(Self::UnixSecs(Timestamp::from_unix_secs(secs)));
        }
        if value.len() != "YYYY-MM-DDTHH:MM:SSZ".len() {
            return Err(unreadable());
        }
        value.parse().map(Self::Rfc3339).map_err(|_| unreadable())
    }

    /// The moment.
    pub const fn moment(self) -> Timestamp {
        match self {
            Self::Rfc3339(moment) | Self::UnixSecs(moment) => moment,
        }
    }
}

/// Which of the dialects in use a record speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The account's URL, without an end: all but the latest draft say it so.
    AccountUrl,
    /// The account's URL, until an RFC 3339 time.
    AccountUrlAndDate,
    /// draft-ietf-acme-dns-persist-00 and -01: the account's URL, until a number of Unix seconds.
    Draft00,
    /// draft-ietf-acme-dns-persist-02: a hash.
    Draft02,
}

impl Dialect {
    pub(super) fn of(record: &PersistRecord<'_>, is_hashed: bool) -> Self {
        match record.persist_until {
            _ if is_hashed => Self::Draft02,
            None => Self::AccountUrl,
            Some(PersistUntil::Rfc3339(_)) => Self::AccountUrlAndDate,
            Some(PersistUntil::UnixSecs(_)) => Self::Draft00,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AccountUrl => "account URL",
            Self::AccountUrlAndDate => "account URL, RFC 3339 persistUntil",
            Self::Draft00 => "draft-ietf-acme-dns-persist-00",
            Self::Draft02 => "draft-ietf-acme-dns-persist-02",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PersistRecord<'_>, Rejection> {
        PersistRecord::read(text.as_bytes(), &[DnsName::parse("ca.example").unwrap()])
    }

    #[test]
    fn tokens_are_trimmed_and_unknown_ones_ignored() {
        let expected = PersistRecord {
            account_uri: "https://ca.example/1?a=b",
            policy: Some("wildcard"),
            persist_until: Some(PersistUntil::UnixSecs(Timestamp::from_unix_secs(1))),
        };
        for text in [
            "ca.example;accounturi=https://ca.example/1?a=b;policy=wildcard;persistUntil=1",
            "\t CA.example. ; ;; word ; AccountURI =\thttps://ca.example/1?a=b ; x=1; POLICY= wildcard;persistuntil = 1 ;",
        ] {
            assert_eq!(read(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn only_ascii_white_space_is_trimmed() {
        for space in ["\u{a0}", "\u{2003}", "\u{b}"] {
            let value = format!("a{space}");
            let text = format!("ca.example; accounturi={value}; {space}policy{space}=wildcard");
            let expected = PersistRecord { account_uri: &value, policy: None, persist_until: None };
            assert_eq!(read(&text), Ok(expected), "{text:?}");
            let issuer = format!("ca.example{space}");
            let rejection = Rejection::AnotherIssuer { issuer: Excerpt::new(&issuer) };
            assert_eq!(read(&format!("{issuer}; accounturi=a")), Err(rejection), "{issuer:?}");
        }
    }

    #[test]
    fn a_tag_given_twice_rejects_the_record_known_or_not() {
        for (text, tag) in [
            ("ca.example; accounturi=a; accounturi=a", "accounturi"),
            ("ca.example; accounturi=a; note=1; Note=2", "note"),
            ("ca.example; =1; =2", ""),
        ] {
            assert_eq!(read(text), Err(Rejection::DuplicateTag { tag: Excerpt::new(tag) }), "{text}");
        }
    }

    #[test]
    fn the_issuer_comes_before_all_else() {
        assert_eq!(read("v=spf1 -all; a=1; a=2"), Err(Rejection::NoIssuer));
        assert_eq!(read(""), Err(Rejection::NoIssuer));
        assert_eq!(read("."), Err(Rejection::NoIssuer));
        let other = Rejection::AnotherIssuer { issuer: Excerpt::new("ca.example..") };
        assert_eq!(read("ca.example..; accounturi=a; accounturi=a"), Err(other));
    }

    #[test]
    fn persist_until_has_two_forms_and_no_third() {
        let until = |value: &str| {
            read(&format!("ca.example; accounturi=a; persistUntil={value}")).map(|it| it.persist_until.unwrap())
        };
        let at = Timestamp::from_unix_secs;
        assert_eq!(until("2027-01-01T00:00:00z"), Ok(PersistUntil::Rfc3339(at(1_798_761_600))));
        assert_eq!(until("000000000000"), Ok(PersistUntil::UnixSecs(at(0))));
        assert_eq!(until("999999999999"), Ok(PersistUntil::UnixSecs(at(999_999_999_999))));
        assert_eq!(until("1893456000000"), Err(Rejection::PersistUntilTooLong));
        for value in ["", "2027-01-01T00:00:00.5Z", "2027-01-01T00:00:00+0", "1e9", "+1", "-1", "١"] {
            let unreadable = Rejection::PersistUntilUnreadable { value: Excerpt::new(value) };
            assert_eq!(until(value), Err(unreadable), "{value}");
        }
    }

    #[test]
    fn no_octets_make_it_panic() {
        assert_eq!(PersistRecord::read(b"\xff\xfe", &[]), Err(Rejection::NotUtf8));
        for length in 0..40 {
            let _ = read("ca.example; accounturi=é; persistUntil=1".get(..length).unwrap_or_default());
        }
    }
}
