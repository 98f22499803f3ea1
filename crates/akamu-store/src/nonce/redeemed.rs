//! Which of one node's nonces were redeemed: a bit each, in chunks that are made at their first redeemed nonce.

use std::collections::BTreeMap;

/// Nonces in a chunk: 8 KB of bits.
const CHUNK: u64 = 65_536;
/// A nonce more than this many issues old has expired too, so that a flood ends at 16 MB.
const WINDOW: u64 = 1 << 27;

/// Whether a nonce with this number is young enough, where `next` is the number of the next one.
pub(super) const fn is_in_window(number: u64, next: u64) -> bool {
    number < next && next - number <= WINDOW
}

#[derive(Debug, Default)]
pub(super) struct Redeemed {
    chunks: BTreeMap<u64, Chunk>,
    /// The second of issue of the oldest nonces that may still be redeemed. It never goes back, whatever the clock does:
    /// chunks before it are forgotten.
    oldest: u32,
    /// The number of the next nonce.
    next: u64,
}

#[derive(Debug)]
struct Chunk {
    /// The second of issue of the youngest nonce that was redeemed here.
    newest: u32,
    bits: Box<[u64]>,
}

impl Redeemed {
    /// Says how far time and numbers have come: nonces issued before second `oldest`, or too long before number `next`,
    /// are not redeemed any more.
    pub(super) fn advance(&mut self, oldest: u32, next: u64) {
        self.oldest = self.oldest.max(oldest);
        self.next = self.next.max(next);
    }

    /// Sets the bit of nonce `number`, issued in second `issued`; `false` where it was set, or is too old.
    pub(super) fn redeem(&mut self, number: u64, issued: u32) -> bool {
        if issued < self.oldest || !is_in_window(number, self.next) {
            return false;
        }
        let index = number / CHUNK;
        if !self.chunks.contains_key(&index) {
            let (oldest, next) = (self.oldest, self.next);
            self.chunks.retain(|index, chunk| chunk.newest >= oldest && (index + 1) * CHUNK + WINDOW > next);
        }
        let words = usize::try_from(CHUNK / 64).expect("1,024 fits");
        let chunk = self.chunks.entry(index).or_insert_with(|| Chunk { newest: issued, bits: vec![0; words].into() });
        chunk.newest = chunk.newest.max(issued);
        let within = number % CHUNK;
        let word = usize::try_from(within / 64).ok().and_then(|it| chunk.bits.get_mut(it));
        let word = word.expect("a chunk has a word for each 64 of its numbers");
        let bit = 1 << (within % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redeemed(oldest: u32, next: u64) -> Redeemed {
        Redeemed { oldest, next, ..Redeemed::default() }
    }

    #[test]
    fn each_number_is_redeemed_once() {
        let mut redeemed = redeemed(0, 6 * CHUNK);
        for number in [0, 1, 63, 64, CHUNK - 1, CHUNK, 5 * CHUNK + 17] {
            assert!(redeemed.redeem(number, 100), "{number}");
            assert!(!redeemed.redeem(number, 100), "{number}");
        }
        assert!(redeemed.redeem(2, 100));
        assert!(!redeemed.redeem(6 * CHUNK, 100), "not issued yet");
    }

    #[test]
    fn chunks_whose_nonces_have_expired_are_forgotten() {
        let mut redeemed = redeemed(0, 3 * CHUNK);
        assert!(redeemed.redeem(0, 100));
        redeemed.advance(100, 0);
        assert!(redeemed.redeem(CHUNK, 200));
        assert_eq!(redeemed.chunks.len(), 2);
        redeemed.advance(101, 0);
        assert!(redeemed.redeem(2 * CHUNK, 300));
        assert_eq!(redeemed.chunks.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_forgotten_chunk_lets_nothing_be_redeemed_twice() {
        let mut redeemed = redeemed(0, 2 * CHUNK);
        assert!(redeemed.redeem(0, 100));
        redeemed.advance(101, 0);
        assert!(redeemed.redeem(CHUNK, 200));
        assert!(!redeemed.redeem(0, 100), "it has expired meanwhile");
        redeemed.advance(50, 0);
        assert!(!redeemed.redeem(0, 100), "the clock went back");
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
            redeemed.advance(0, chunk * CHUNK + 1);
            assert!(redeemed.redeem(chunk * CHUNK, 100));
        }
        assert!(redeemed.chunks.len() as u64 <= chunks + 1, "{}", redeemed.chunks.len());
    }
}
