//! A record as its owner creates it: the counterpart of `record.rs`.

use std::fmt;

use akamu_proto::DnsName;

use super::{DnsPersist01, PersistUntil};

/// The octets of one character-string of a TXT record (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// A TXT record that trusts an account with a name. Its `Display` is the record's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordToCreate<'a> {
    /// The CA that is allowed, by one of its issuer domains.
    pub issuer_domain: &'a DnsName,
    /// The account's URL, or its hash ([`AccountHashPrefix::uri_for`](crate::AccountHashPrefix::uri_for)).
    pub account_uri: &'a str,
    /// Whether it is good for the names directly under its own, too.
    pub allows_wildcards: bool,
    /// Until when it is good; `None`: until it is removed.
    pub until: Option<PersistUntil>,
}

impl fmt::Display for RecordToCreate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; accounturi={}", self.issuer_domain, self.account_uri)?;
        if self.allows_wildcards {
            f.write_str("; policy=wildcard")?;
        }
        self.until.map_or(Ok(()), |until| write!(f, "; persistUntil={until}"))
    }
}

impl RecordToCreate<'_> {
    /// The record for `domain` as a line of a zone file (RFC 1035 §5.1), quoted, and split into strings of 255 octets.
    pub fn zone_file_line(&self, domain: &DnsName) -> String {
        let text = self.to_string();
        let strings: Vec<String> = text.as_bytes().chunks(MAX_STRING).map(quoted).collect();
        format!("{}. IN TXT {}", DnsPersist01::record_name(domain), strings.join(" "))
    }
}

/// A character-string in quotes; what is not printable as `\DDD`.
fn quoted(octets: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for octet in octets {
        match octet {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => quoted.push(char::from(*octet)),
            other => quoted.push_str(&format!("\\{other:03}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::PersistRecord;
    use super::*;
    use akamu_proto::Timestamp;

    const URL: &str = "https://ca.example/acme/account/1907";

    fn ca() -> DnsName {
        DnsName::parse("ca.example").unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let moment = Timestamp::from_unix_secs(1_893_456_000);
        for until in [None, Some(PersistUntil::Rfc3339(moment)), Some(PersistUntil::UnixSecs(moment))] {
            for allows_wildcards in [false, true] {
                let ca = ca();
                let record = RecordToCreate { issuer_domain: &ca, account_uri: URL, allows_wildcards, until };
                let text = record.to_string();
                let read = PersistRecord::read(text.as_bytes(), std::slice::from_ref(&ca)).unwrap();
                let policy = allows_wildcards.then_some("wildcard");
                assert_eq!(read, PersistRecord { account_uri: URL, policy, persist_until: until }, "{text}");
            }
        }
    }

    #[test]
    fn a_line_of_a_zone_file_is_quoted_and_split() {
        let ca = ca();
        let name = DnsName::parse("example.com").unwrap();
        let record =
            |account_uri| RecordToCreate { issuer_domain: &ca, account_uri, allows_wildcards: true, until: None };
        assert_eq!(
            record(URL).zone_file_line(&name),
            format!(r#"_validation-persist.example.com. IN TXT "ca.example; accounturi={URL}; policy=wildcard""#)
        );
        let long = format!("{URL}/{}", "x".repeat(300));
        let line = record(&long).zone_file_line(&name);
        let (_, strings) = line.split_once(" TXT ").unwrap();
        let strings: Vec<_> = strings.trim_matches('"').split("\" \"").collect();
        assert_eq!(strings.iter().map(|it| it.len()).collect::<Vec<_>>()[0], 255);
        assert_eq!(strings.concat(), record(&long).to_string());
        let odd = record("https://ca.example/\"\\é");
        assert!(odd.zone_file_line(&name).contains(r#"/\"\\\195\169;"#), "{}", odd.zone_file_line(&name));
    }
}
