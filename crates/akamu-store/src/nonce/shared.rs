//! Nonces of several replicas: keys and redeemed nonces lie in the database.

use std::sync::Arc;
use std::time::Duration;

use akamu_proto::Timestamp;
use diesel::prelude::*;

use super::redemption::{RedeemedRow, Redeeming};
use super::{CheckedNonce, ISSUED, Kind, seconds};
use crate::connection::{AnyConnection, DbResult, insert_if_new, on};
use crate::error::StoreError;
use crate::known;
use crate::schema::{nonce_keys, redeemed_nonces};
use crate::store::Store;

/// How long a key seals new nonces, at least.
const KEY_AGE: Duration = Duration::from_secs(86_400);
/// Keys that are accepted.
const KEYS: i64 = 2;
/// How long a redeemed nonce is remembered beyond its lifetime: replicas' clocks disagree.
const SLACK: Duration = Duration::from_secs(300);
/// Rows forgotten in one transaction.
const BATCH: usize = 1_000;

/// A key's number and octets.
pub(super) type KeyRow = (i64, Vec<u8>);

impl Store {
    pub(super) async fn redeeming_in_table(&self, nonce: CheckedNonce) -> Result<Redeeming, StoreError> {
        if !nonce.is_verified {
            let keys = self.select("nonce_keys", read_keys).await?;
            self.nonces().set_keys(&keys);
            if self.nonces().verify(&nonce.octets) != Some(true) {
                return Ok(Redeeming::Refused);
            }
        }
        let mut owner = [0; 16];
        (self.nonces().random)(&mut owner);
        // The second of issue comes first, so that new rows lie together and old ones are found without another index.
        let key = nonce.fields.issued.to_be_bytes().into_iter().chain(nonce.fields.id).collect();
        Ok(Redeeming::InTable(Arc::new(RedeemedRow { nonce: key, owner, since: self.newest_session() })))
    }

    /// Makes a new key where the newest is a day old, and forgets redeemed nonces that have expired; tells how many. To be
    /// called once a minute. Does nothing on SQLite.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn nonces_tidy(&self, now: Timestamp) -> Result<usize, StoreError> {
        let nonces = self.nonces();
        if matches!(nonces.kind, Kind::Memory { .. }) {
            return Ok(0);
        }
        let (lifetime, key) = (nonces.lifetime, nonces.new_key());
        let keys = self
            .write("nonce_keys_renew", move |connection| renew_keys(connection, &key, lifetime, now), known::nothing)
            .await?;
        nonces.set_keys(&keys);
        let before = seconds(now.minus(lifetime.saturating_add(SLACK))).to_be_bytes();
        let mut total = 0;
        loop {
            let forgotten =
                self.write("nonces_forget", move |connection| forget(connection, before), known::nothing).await?;
            total += forgotten;
            if forgotten < BATCH {
                return Ok(total);
            }
        }
    }
}

/// Forgets nonces issued before this second, at most [`BATCH`]; tells how many.
fn forget(connection: &mut AnyConnection, before: [u8; ISSUED]) -> DbResult<usize> {
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let query = redeemed_nonces::table
        .filter(redeemed_nonces::nonce.lt(before.as_slice()))
        .order(redeemed_nonces::nonce)
        .limit(limit)
        .select(redeemed_nonces::nonce);
    let old: Vec<Vec<u8>> = on!(connection, |it| query.load(it))?;
    on!(connection, |it| diesel::delete(redeemed_nonces::table.filter(redeemed_nonces::nonce.eq_any(&old))).execute(it))
}

fn read_keys(connection: &mut AnyConnection) -> DbResult<Vec<KeyRow>> {
    let query = nonce_keys::table.select((nonce_keys::id, nonce_keys::octets)).order(nonce_keys::id.desc()).limit(KEYS);
    on!(connection, |it| query.load(it))
}

/// The keys that are accepted, after adding `key` where a new one is due. Two replicas that add one at once agree on the
/// number, and the loser reads the winner's.
pub(super) fn renew_keys(
    connection: &mut AnyConnection,
    key: &[u8; 32],
    lifetime: Duration,
    now: Timestamp,
) -> DbResult<Vec<KeyRow>> {
    let query = nonce_keys::table.select((nonce_keys::id, nonce_keys::created_at)).order(nonce_keys::id.desc());
    let newest: Option<(i64, i64)> = on!(connection, |it| query.first(it)).optional()?;
    // A key is dropped when the second one after it is made: by then its nonces have expired.
    let age = KEY_AGE.max(lifetime);
    if newest.is_none_or(|(_, created_at)| now.since(Timestamp::from_unix_micros(created_at)) >= age) {
        let row = (
            nonce_keys::id.eq(newest.map_or(1, |(id, _)| id + 1)),
            nonce_keys::octets.eq(key.as_slice()),
            nonce_keys::created_at.eq(now.unix_micros()),
        );
        insert_if_new!(connection, nonce_keys::table, row)?;
    }
    let keys = read_keys(connection)?;
    if let Some((oldest, _)) = keys.last() {
        on!(connection, |it| diesel::delete(nonce_keys::table.filter(nonce_keys::id.lt(*oldest))).execute(it))?;
    }
    Ok(keys)
}
