//! Which of one node's nonces were redeemed: a bit each, in chunks that are made at their first redeemed nonce.

use std::collections::BTreeMap;

/// Nonces in a chunk: 8 KB of bits.
const CHUNK: u64 = 65_536;
/// A nonce more than this many issues old has expired too, so that a flood ends at 16 MB.
const WINDOW: u64 = 1 << 27;

/// Whether a nonce with this number is young enough, counted in issues.
pub(super) const fn is_in_window(number: u64, next: u64) -> bool {
    number < next && next - number <= WINDOW
}

#[derive(Debug, Default)]
pub(super) struct Redeemed {
    chunks: BTreeMap<u64, Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// The second of issue of the youngest nonce that was redeemed here.
    newest: u32,
    bits: Box<[u64]>,
}

impl Redeemed {
    /// Sets the bit of nonce `number`, issued in second `issued`; `false` where it was set. Nonces issued before second
    /// `oldest`, or out of the window before `next`, are refused elsewhere, and forgotten here.
    pub(super) fn redeem(&mut self, number: u64, issued: u32, oldest: u32, next: u64) -> bool {
        let index = number / CHUNK;
        if !self.chunks.contains_key(&index) {
            self.chunks.retain(|index, chunk| {
                chunk.newest >= oldest && is_in_window((index + 1) * CHUNK - 1, next.max((index + 1) * CHUNK))
            });
        }
        let words = usize::try_from(CHUNK / 64).unwrap_or(1024);
        let chunk = self.chunks.entry(index).or_insert_with(|| Chunk { newest: issued, bits: vec![0; words].into() });
        chunk.newest = chunk.newest.max(issued);
        let within = number % CHUNK;
        let word = usize::try_from(within / 64).ok().and_then(|it| chunk.bits.get_mut(it));
        let Some(word) = word else { return false };
        let bit = 1 << (within % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_redeemed_once() {
        let mut redeemed = Redeemed::default();
        for number in [0, 1, 63, 64, CHUNK - 1, CHUNK, 5 * CHUNK + 17] {
            assert!(redeemed.redeem(number, 100, 0, 6 * CHUNK), "{number}");
            assert!(!redeemed.redeem(number, 100, 0, 6 * CHUNK), "{number}");
        }
        assert!(redeemed.redeem(2, 100, 0, 6 * CHUNK));
    }

    #[test]
    fn chunks_whose_nonces_have_expired_are_forgotten() {
        let mut redeemed = Redeemed::default();
        redeemed.redeem(0, 100, 0, 1);
        redeemed.redeem(CHUNK, 200, 100, CHUNK + 1);
        assert_eq!(redeemed.chunks.len(), 2);
        redeemed.redeem(2 * CHUNK, 300, 101, 2 * CHUNK + 1);
        assert_eq!(redeemed.chunks.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_window_bounds_the_memory() {
        assert!(is_in_window(0, 1));
        assert!(!is_in_window(1, 1), "not issued yet");
        assert!(is_in_window(0, WINDOW));
        assert!(!is_in_window(0, WINDOW + 1));
        let mut redeemed = Redeemed::default();
        let chunks = WINDOW / CHUNK;
        for chunk in 0..2 * chunks {
            redeemed.redeem(chunk * CHUNK, 100, 0, chunk * CHUNK + 1);
        }
        assert!(redeemed.chunks.len() as u64 <= chunks + 1, "{}", redeemed.chunks.len());
    }
}
