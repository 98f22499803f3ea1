//! Anti-replay nonces (RFC 8555 §6.5). Issuing one stores nothing; redeeming one must be new.
//!
//! A nonce is an id, the second of its issue and the number of its key, sealed with that key. One node counts its nonces
//! and keeps one bit for each that was redeemed; several replicas share keys and a table of redeemed nonces.

mod redeemed;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use akamu_proto::Timestamp;
use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, insert_if_new};
use crate::error::StoreError;
use crate::schema::{nonce_keys, redeemed_nonces};
use crate::store::Store;
use redeemed::Redeemed;

const ID: usize = 8;
const HEAD: usize = ID + 4 + 4;
const TAG: usize = 16;
/// Octets of a nonce; 43 characters.
const LEN: usize = HEAD + TAG;
/// How long a key seals new nonces.
const KEY_AGE: Duration = Duration::from_secs(86_400);
/// How long a redeemed nonce is remembered beyond its lifetime: replicas' clocks disagree.
const SLACK: Duration = Duration::from_secs(300);

/// A nonce, as it stands in Replay-Nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// The 43 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A nonce that is ours and young enough, but perhaps redeemed already.
#[derive(Debug)]
pub struct CheckedNonce {
    octets: [u8; LEN],
    /// Whose redemption it is: a try whose answer was lost recognises its own row.
    owner: [u8; 16],
}

/// Why a nonce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceError {
    /// Not base64url (RFC 8555 §6.5.2).
    Malformed,
    /// Not ours, too old, or used.
    Bad,
}

/// Issues nonces and knows which were redeemed.
pub(crate) struct Nonces {
    lifetime: Duration,
    random: fn(&mut [u8]),
    keys: RwLock<BTreeMap<u32, hmac::Key>>,
    kind: Kind,
}

enum Kind {
    Memory { counter: AtomicU64, redeemed: Mutex<Redeemed> },
    Table,
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.unix_secs().clamp(0, u32::MAX.into())).unwrap_or(u32::MAX)
}

fn split(octets: &[u8; LEN]) -> ([u8; ID], u32, u32, &[u8], &[u8]) {
    let (head, tag) = octets.split_at(HEAD);
    let mut id = [0; ID];
    let mut words = [[0; 4]; 2];
    let (id_part, rest) = head.split_at(ID);
    id.copy_from_slice(id_part);
    for (word, octets) in words.iter_mut().zip(rest.chunks_exact(4)) {
        word.copy_from_slice(octets);
    }
    let [issued, key] = words.map(u32::from_be_bytes);
    (id, issued, key, head, tag)
}

impl Nonces {
    /// For one node: the key is made at start, so a restart costs each client one badNonce.
    pub(crate) fn in_memory(lifetime: Duration, random: fn(&mut [u8]), _: Timestamp) -> Self {
        let mut octets = [0; 32];
        random(&mut octets);
        let keys = BTreeMap::from([(1, hmac::Key::new(hmac::HMAC_SHA256, &octets))]);
        let kind = Kind::Memory { counter: AtomicU64::new(0), redeemed: Mutex::default() };
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
        let keys = renew_keys(connection, random, now)?;
        this.set_keys(&keys);
        Ok(this)
    }

    fn set_keys(&self, rows: &[(i64, Vec<u8>)]) {
        let keys = rows
            .iter()
            .filter_map(|(id, octets)| Some((u32::try_from(*id).ok()?, hmac::Key::new(hmac::HMAC_SHA256, octets))));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
    }

    fn tag(&self, key: u32, head: &[u8]) -> Option<hmac::Tag> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&key).map(|key| hmac::sign(key, head))
    }

    fn issue(&self, now: Timestamp) -> Nonce {
        let id = match &self.kind {
            Kind::Memory { counter, .. } => counter.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
            Kind::Table => {
                let mut id = [0; ID];
                (self.random)(&mut id);
                id
            }
        };
        let newest = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.last_key_value().map_or(0, |(id, _)| *id)
        };
        let mut octets = Vec::with_capacity(LEN);
        octets.extend(id);
        octets.extend(seconds(now).to_be_bytes());
        octets.extend(newest.to_be_bytes());
        if let Some(tag) = self.tag(newest, &octets) {
            octets.extend(tag.as_ref().iter().take(TAG));
        }
        Nonce(Base64UrlUnpadded::encode_string(&octets))
    }

    fn check(&self, octets: [u8; LEN], now: Timestamp) -> Result<CheckedNonce, NonceError> {
        let (id, issued, key, head, tag) = split(&octets);
        let expected = self.tag(key, head).ok_or(NonceError::Bad)?;
        let expected = expected.as_ref().get(..TAG).ok_or(NonceError::Bad)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(expected, tag).map_err(|_| NonceError::Bad)?;
        let age = now.since(Timestamp::from_unix_secs(issued.into()));
        let is_recent = match &self.kind {
            Kind::Memory { counter, .. } => {
                redeemed::is_in_window(u64::from_be_bytes(id), counter.load(Ordering::Relaxed))
            }
            Kind::Table => true,
        };
        if age > self.lifetime || !is_recent {
            return Err(NonceError::Bad);
        }
        let mut owner = [0; 16];
        if matches!(self.kind, Kind::Table) {
            (self.random)(&mut owner);
        }
        Ok(CheckedNonce { octets, owner })
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

    /// Redeems a nonce; `false` where it was redeemed already.
    ///
    /// # Errors
    /// Where the database fails; then it is not redeemed.
    pub async fn nonce_redeem(&self, nonce: CheckedNonce, now: Timestamp) -> Result<bool, StoreError> {
        let nonces = self.nonces();
        if let Kind::Memory { counter, redeemed } = &nonces.kind {
            let (id, issued, ..) = split(&nonce.octets);
            let oldest = seconds(now.minus(nonces.lifetime));
            let mut redeemed = redeemed.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = counter.load(Ordering::Relaxed);
            return Ok(redeemed.redeem(u64::from_be_bytes(id), issued, oldest, newest));
        }
        self.write("nonce_redeem", move |connection| {
            let row = (
                redeemed_nonces::nonce.eq(nonce.octets.as_slice()),
                redeemed_nonces::owner.eq(nonce.owner.as_slice()),
                redeemed_nonces::redeemed_at.eq(now.unix_micros()),
            );
            if insert_if_new!(connection, redeemed_nonces::table, row)? {
                return Ok(true);
            }
            let owner: Option<Vec<u8>> = redeemed_nonces::table
                .find(nonce.octets.as_slice())
                .select(redeemed_nonces::owner)
                .first(connection)
                .optional()?;
            Ok(owner.as_deref() == Some(nonce.owner.as_slice()))
        })
        .await
    }

    /// Reads the shared keys, and makes a new one where the newest is a day old. Does nothing on one node.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn nonce_keys_renew(&self, now: Timestamp) -> Result<(), StoreError> {
        let nonces = self.nonces();
        if matches!(nonces.kind, Kind::Memory { .. }) {
            return Ok(());
        }
        let random = nonces.random;
        let keys = self.write("nonce_keys_renew", move |connection| renew_keys(connection, random, now)).await?;
        nonces.set_keys(&keys);
        Ok(())
    }

    /// Forgets redeemed nonces whose lifetime is over, at most `limit`; tells how many. Does nothing on one node.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn nonces_forget(&self, limit: i64, now: Timestamp) -> Result<usize, StoreError> {
        if matches!(self.nonces().kind, Kind::Memory { .. }) {
            return Ok(0);
        }
        let before = now.minus(self.nonces().lifetime + SLACK).unix_micros();
        self.write("nonces_forget", move |connection| {
            let old: Vec<Vec<u8>> = redeemed_nonces::table
                .filter(redeemed_nonces::redeemed_at.lt(before))
                .order(redeemed_nonces::redeemed_at)
                .limit(limit)
                .select(redeemed_nonces::nonce)
                .load(connection)?;
            diesel::delete(redeemed_nonces::table.filter(redeemed_nonces::nonce.eq_any(old))).execute(connection)
        })
        .await
    }
}

/// The two newest keys, after making one where that is due. Two replicas that make one at once agree on the number, and
/// the loser reads the winner's.
fn renew_keys(connection: &mut AnyConnection, random: fn(&mut [u8]), now: Timestamp) -> DbResult<Vec<(i64, Vec<u8>)>> {
    let newest: Option<(i64, i64)> = nonce_keys::table
        .select((nonce_keys::id, nonce_keys::created_at))
        .order(nonce_keys::id.desc())
        .first(connection)
        .optional()?;
    let due = newest.is_none_or(|(_, created_at)| now.since(Timestamp::from_unix_micros(created_at)) >= KEY_AGE);
    if due {
        let mut octets = vec![0; 32];
        random(&mut octets);
        let row = (
            nonce_keys::id.eq(newest.map_or(1, |(id, _)| id + 1)),
            nonce_keys::octets.eq(octets),
            nonce_keys::created_at.eq(now.unix_micros()),
        );
        insert_if_new!(connection, nonce_keys::table, row)?;
    }
    let keys: Vec<(i64, Vec<u8>)> = nonce_keys::table
        .select((nonce_keys::id, nonce_keys::octets))
        .order(nonce_keys::id.desc())
        .limit(2)
        .load(connection)?;
    if let Some((oldest, _)) = keys.last() {
        diesel::delete(nonce_keys::table.filter(nonce_keys::id.lt(*oldest))).execute(connection)?;
    }
    Ok(keys)
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(…)")
    }
}
