//! Serial numbers (RFC 5280 §4.1.2.2).

use std::fmt;

use akamu_proto::{Timestamp, time_ordered_octets};

/// A certificate's serial number: 16 octets, the first bit clear, not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// A serial number drawn at `now`: 48 bits of Unix milliseconds, so that new ones lie together in an index, then 80
    /// random bits, of which a CA must have 64 (CA/Browser Forum, TLS Baseline Requirements §7.1).
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let mut octets = time_ordered_octets(now, random);
        octets[0] &= 0x7f;
        if octets == [0; 16] {
            octets[15] = 1;
        }
        Self(octets)
    }

    /// The 16 octets, big-endian.
    pub const fn as_octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The number of a certificate: its INTEGER's content, padded to 16 octets. `None` where it is none of ours: empty,
    /// longer, negative or zero.
    pub fn from_der_content(content: &[u8]) -> Option<Self> {
        if content.first().is_none_or(|it| it & 0x80 != 0) || content.iter().all(|it| *it == 0) {
            return None;
        }
        let mut octets = [0; 16];
        let start = octets.len().checked_sub(content.len())?;
        octets.get_mut(start..)?.copy_from_slice(content);
        Some(Self(octets))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_positive() {
        let before_1970 = Timestamp::from_unix_micros(-1);
        assert_eq!(Serial::new(before_1970, [0xff; 10]).as_octets()[0], 0x7f);
        assert_ne!(Serial::new(Timestamp::from_unix_secs(0), [0; 10]).as_octets(), &[0; 16]);
        for foreign in [&[][..], &[0], &[0x80], &[0xff; 16], &[1; 17]] {
            assert_eq!(Serial::from_der_content(foreign), None, "{foreign:?}");
        }
        assert_eq!(Serial::from_der_content(&[1, 2]).unwrap().to_string(), "00000000000000000000000000000102");
    }

    #[test]
    fn a_serial_begins_with_the_time_and_keeps_all_that_is_random() {
        let serial = Serial::new(Timestamp::from_unix_secs(1_700_000_000), [0xab; 10]);
        assert_eq!(serial.to_string(), "018bcfe56800abababababababababab");
    }
}
