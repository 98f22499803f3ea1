//! RSA moduli that can be factored without much work.

/// Why a modulus is weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// It is even, or has a factor below 752.
    SmallFactor,
    /// Its primes have the structure of CVE-2017-15361 (ROCA).
    Roca,
    /// Its primes are so close that Fermat's method finds them (CVE-2022-26320).
    ClosePrimes,
}

/// Primes whose residues tell a ROCA modulus: those below 168, as the authors of the fingerprint chose.
const ROCA_PRIMES: &[u32] = &[
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
/// Rounds of Fermat's method: keys from a sound generator need far more than can be counted.
const FERMAT_ROUNDS: u32 = 100;

/// Looks for a weakness of a big-endian modulus.
pub(crate) fn weakness(modulus: &[u8]) -> Option<Weakness> {
    let has_small_factor = (2..752_u32).filter(|it| is_prime(*it)).any(|prime| remainder(modulus, prime) == 0);
    if has_small_factor {
        return Some(Weakness::SmallFactor);
    }
    if ROCA_PRIMES.iter().all(|prime| is_power_of_65537(remainder(modulus, *prime), *prime)) {
        return Some(Weakness::Roca);
    }
    has_close_primes(modulus).then_some(Weakness::ClosePrimes)
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..).take_while(|it| it * it <= number).all(|it| !number.is_multiple_of(it))
}

fn remainder(modulus: &[u8], divisor: u32) -> u32 {
    let divisor = u64::from(divisor);
    let rest = modulus.rchunks(4).rev().fold(0, |rest, word| {
        let word = word.iter().fold(0, |word, octet| word << 8 | u64::from(*octet));
        (rest << 32 | word) % divisor
    });
    u32::try_from(rest).unwrap_or(u32::MAX)
}

/// A ROCA prime is k·M + 65537^a mod M, with M a product of small primes: so modulo each of them it is a power of 65537.
fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 0..prime {
        if power == residue {
            return true;
        }
        power = power * (65_537 % prime) % prime;
    }
    false
}

/// Fermat: n = a² − b² with a just above √n.
fn has_close_primes(modulus: &[u8]) -> bool {
    let n = num_bigint::BigUint::from_bytes_be(modulus);
    let mut a = n.sqrt() + 1_u32;
    (0..FERMAT_ROUNDS).any(|_| {
        let square = &a * &a - &n;
        a += 1_u32;
        // The root is dear; nearly all that are no squares show it modulo small numbers.
        [64_u32, 63, 65, 11].iter().all(|it| is_square_modulo(&square, *it)) && {
            let root = square.sqrt();
            &root * &root == square
        }
    })
}

fn is_square_modulo(number: &num_bigint::BigUint, modulus: u32) -> bool {
    let rest = number % modulus;
    (0..modulus).any(|it| rest == (it * it % modulus).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;

    #[test]
    fn small_factors_are_found() {
        assert_eq!(weakness(&BigUint::from(2_u32).pow(2047).to_bytes_be()), Some(Weakness::SmallFactor));
        assert_eq!(
            weakness(&(BigUint::from(751_u32) * (BigUint::from(2_u32).pow(2039) + 1_u32)).to_bytes_be()),
            Some(Weakness::SmallFactor)
        );
    }

    #[test]
    fn a_modulus_that_is_a_power_of_65537_modulo_every_small_prime_is_roca() {
        // 1 = 65537^0 modulo each: k·M + 1, with M the product of all primes below 752 so that no small factor shows.
        let product: BigUint = (2..752_u32).filter(|it| is_prime(*it)).map(BigUint::from).product();
        assert_eq!(weakness(&(product * 6_u32 + 1_u32).to_bytes_be()), Some(Weakness::Roca));
    }

    #[test]
    fn close_primes_are_found() {
        // 2^1023 + 1155 and 2^1023 + 1825 need not be prime: Fermat's method finds any two close factors.
        let base = BigUint::from(2_u32).pow(1023);
        for (p, q) in [(1155_u32, 1825_u32), (1157, 1163)] {
            let modulus = ((&base + p) * (&base + q)).to_bytes_be();
            assert!(has_close_primes(&modulus));
        }
        assert!(!has_close_primes(&((&base + 1_u32) * (BigUint::from(2_u32).pow(1022) + 3_u32)).to_bytes_be()));
    }
}
