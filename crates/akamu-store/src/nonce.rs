//! Anti-replay nonces (RFC 8555 §6.5). Issuing one stores nothing; redeeming one must be new.
//!
//! A nonce is the second of its issue, an id and the number of its key, sealed with that key. One node counts its nonces
//! and keeps one bit for each that was redeemed ([`redeemed`]); several replicas share keys and a table of redeemed
//! nonces ([`shared`]).

mod redeemed;
mod redemption;
mod shared;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use akamu_proto::Timestamp;
use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding as _};

use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::store::Store;
use redeemed::{Redeemed, is_in_window};
pub use redemption::RedeemedNonce;
pub(crate) use redemption::{RedeemedRow, Redeeming, Redemption, insert, load_redeeming, load_with_account};

/// Octets of the second of issue, of the id, and of the key's number.
const ISSUED: usize = 4;
const ID: usize = 8;
const KEY: usize = 4;
const HEAD: usize = ISSUED + ID + KEY;
const TAG: usize = 16;
/// Octets of a nonce; 43 characters.
const LEN: usize = HEAD + TAG;

/// A nonce, as it stands in Replay-Nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// The 43 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A nonce that is young enough and ours (or sealed with a key that this replica has yet to read), but perhaps redeemed
/// already.
#[derive(Debug)]
pub struct CheckedNonce {
    fields: Fields,
    octets: [u8; LEN],
    is_verified: bool,
}

/// Why a nonce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceError {
    /// Not base64url (RFC 8555 §6.5.2).
    Malformed,
    /// Not ours, or too old.
    Bad,
}

#[derive(Clone, Copy, Debug)]
struct Fields {
    issued: u32,
    id: [u8; ID],
    key: u32,
}

impl Fields {
    fn head(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let octets = self.issued.to_be_bytes().into_iter().chain(self.id).chain(self.key.to_be_bytes());
        head.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
        head
    }

    fn parse(octets: &[u8; LEN]) -> Self {
        let mut next = octets.iter().copied();
        let mut word = || [next.next(), next.next(), next.next(), next.next()].map(Option::unwrap_or_default);
        let issued = u32::from_be_bytes(word());
        let [[a, b, c, d], [e, f, g, h]] = [word(), word()];
        Self { issued, id: [a, b, c, d, e, f, g, h], key: u32::from_be_bytes(word()) }
    }

    fn number(self) -> u64 {
        u64::from_be_bytes(self.id)
    }
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.unix_secs().max(0)).unwrap_or(u32::MAX)
}

/// Issues nonces and knows which were redeemed.
pub(crate) struct Nonces {
    lifetime: Duration,
    random: fn(&mut [u8]),
    /// By number, the newest last: it seals.
    keys: RwLock<BTreeMap<u32, hmac::Key>>,
    kind: Kind,
}

enum Kind {
    Memory { issued: AtomicU64, redeemed: Mutex<Redeemed> },
    Table,
}

impl Nonces {
    /// For one node: the key is made at start, so a restart costs each client one badNonce.
    pub(crate) fn in_memory(lifetime: Duration, random: fn(&mut [u8])) -> Self {
        let mut octets = [0; 32];
        random(&mut octets);
        let keys = BTreeMap::from([(1, hmac::Key::new(hmac::HMAC_SHA256, &octets))]);
        let kind = Kind::Memory { issued: AtomicU64::new(0), redeemed: Mutex::default() };
        Self { lifetime, random, keys: RwLock::new(keys), kind }
    }

    /// For several replicas: the keys lie in the database.
    pub(crate) fn shared(
        connection: &mut AnyConnection,
        lifetime: Duration,
        random: fn(&mut [u8]),
        now: Timestamp,
    ) -> DbResult<Self> {
        let this = Self { lifetime, random, keys: RwLock::default(), kind: Kind::Table };
        let keys = shared::renew_keys(connection, &this.new_key(), lifetime, now)?;
        this.set_keys(&keys);
        Ok(this)
    }

    fn new_key(&self) -> [u8; 32] {
        let mut octets = [0; 32];
        (self.random)(&mut octets);
        octets
    }

    fn set_keys(&self, rows: &[shared::KeyRow]) {
        let keys = rows
            .iter()
            .filter_map(|(id, octets)| Some((u32::try_from(*id).ok()?, hmac::Key::new(hmac::HMAC_SHA256, octets))));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
    }

    fn issue(&self, now: Timestamp) -> Nonce {
        let id = match &self.kind {
            Kind::Memory { issued, .. } => issued.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
            Kind::Table => {
                let mut id = [0; ID];
                (self.random)(&mut id);
                id
            }
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (number, key) = keys.last_key_value().expect("keys are set when Nonces is made, and never emptied");
        let head = Fields { issued: seconds(now), id, key: *number }.head();
        let mut octets = head.to_vec();
        octets.extend(hmac::sign(key, &head).as_ref().iter().take(TAG));
        Nonce(Base64UrlUnpadded::encode_string(&octets))
    }

    /// Whether the nonce is ours; `None` where its key is not known here.
    fn verify(&self, octets: &[u8; LEN]) -> Option<bool> {
        let (head, tag) = octets.split_at(HEAD);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let expected = hmac::sign(keys.get(&Fields::parse(octets).key)?, head);
        let expected = expected.as_ref().get(..TAG)?;
        Some(aws_lc_rs::constant_time::verify_slices_are_equal(expected, tag).is_ok())
    }

    fn check(&self, octets: [u8; LEN], now: Timestamp) -> Result<CheckedNonce, NonceError> {
        let fields = Fields::parse(&octets);
        let is_verified = match (self.verify(&octets), &self.kind) {
            (Some(true), _) => true,
            // Another replica may have made a new key. It is read when the sender has proved who it is.
            (None, Kind::Table) => false,
            (Some(false), _) | (None, Kind::Memory { .. }) => return Err(NonceError::Bad),
        };
        let is_recent = match &self.kind {
            Kind::Memory { issued, .. } => is_in_window(fields.number(), issued.load(Ordering::Relaxed)),
            Kind::Table => true,
        };
        if fields.issued < self.oldest(now) || !is_recent {
            return Err(NonceError::Bad);
        }
        Ok(CheckedNonce { fields, octets, is_verified })
    }

    /// The second of issue of the oldest nonces that may still be used.
    fn oldest(&self, now: Timestamp) -> u32 {
        seconds(now.minus(self.lifetime))
    }
}

impl Store {
    /// A fresh nonce. Stores nothing: a flood of newNonce costs no memory and no row.
    pub fn nonce_issue(&self, now: Timestamp) -> Nonce {
        self.nonces().issue(now)
    }

    /// Checks a nonce's authenticity and age, without I/O.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn nonce_check(&self, text: &str, now: Timestamp) -> Result<CheckedNonce, NonceError> {
        let mut octets = [0; LEN];
        match Base64UrlUnpadded::decode(text, &mut octets) {
            Ok(decoded) if decoded.len() == LEN => self.nonces().check(octets, now),
            // Another text that is base64url is not ours.
            _ if text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) => Err(NonceError::Bad),
            _ => Err(NonceError::Malformed),
        }
    }

    /// Redeems a nonce; `None` where it was redeemed already, or is not ours after all.
    ///
    /// On PostgreSQL the row is committed without waiting for the disk: whatever its request changes
    /// [for it](Self::for_request) is committed later, and is never durable before it.
    ///
    /// # Errors
    /// Where the database fails; then it may or may not be redeemed.
    pub async fn nonce_redeem(&self, nonce: CheckedNonce, now: Timestamp) -> Result<Option<RedeemedNonce>, StoreError> {
        match self.redeeming(nonce, now).await? {
            Redeeming::Refused => Ok(None),
            Redeeming::Done => Ok(Some(RedeemedNonce::default())),
            Redeeming::InTable(row) => {
                let inserted = row.clone();
                let redeem = move |connection: &mut AnyConnection| Redemption::of(Some(&inserted)).finish(connection);
                Ok(self.select("nonce_redeem", redeem).await?.then(|| RedeemedNonce::of(Some(row))))
            }
        }
    }

    /// Redeems a nonce, but for its row in the database.
    pub(crate) async fn redeeming(&self, nonce: CheckedNonce, now: Timestamp) -> Result<Redeeming, StoreError> {
        let nonces = self.nonces();
        match &nonces.kind {
            Kind::Memory { issued, redeemed } => {
                let mut redeemed = redeemed.lock().unwrap_or_else(PoisonError::into_inner);
                redeemed.advance(nonces.oldest(now), issued.load(Ordering::Relaxed));
                let is_new = redeemed.redeem(nonce.fields.number(), nonce.fields.issued);
                Ok(if is_new { Redeeming::Done } else { Redeeming::Refused })
            }
            Kind::Table => self.redeeming_in_table(nonce).await,
        }
    }
}
