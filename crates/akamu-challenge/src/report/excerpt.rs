//! The one form in which a peer's octets are shown.

use std::fmt;

use serde::Serialize;

/// The first octets of something that a peer sent, as printable ASCII without line breaks.
///
/// At most [`Excerpt::MAX_OCTETS`] octets of the original are kept; each that is not printable ASCII stands as `\n`,
/// `\x1b` and the like, quotes and backslashes behind a backslash. An excerpt that left something out ends in `…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Excerpt(String);

impl Excerpt {
    /// How many octets of the original are kept.
    pub const MAX_OCTETS: usize = 100;

    /// The start of `octets`.
    pub fn new(octets: impl AsRef<[u8]>) -> Self {
        let octets = octets.as_ref();
        let kept = octets.get(..Self::MAX_OCTETS).unwrap_or(octets);
        let mut text = kept.escape_ascii().to_string();
        if kept.len() < octets.len() {
            text.push('…');
        }
        Self(text)
    }

    /// The escaped text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The escaped text, without quotes around it.
impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_printable_ascii_and_bounded() {
        assert_eq!(Excerpt::new("plain text").as_str(), "plain text");
        assert_eq!(Excerpt::new(b"a\r\n\x1b[31m\"\xff\\").as_str(), r#"a\r\n\x1b[31m\"\xff\\"#);
        let long = Excerpt::new([b'a'; 101]);
        assert_eq!(long.as_str().chars().count(), 101);
        assert!(long.as_str().ends_with("a…"));
        assert!(!Excerpt::new([b'a'; 100]).as_str().ends_with('…'));
    }
}
