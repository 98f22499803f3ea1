//! The servers of a history: on SQLite one; on PostgreSQL two replicas, whose database's clock a test can set.

use std::collections::BTreeMap;

use akamu_proto::AuthorizationId;
use akamu_store::{Chain, Store};

use super::operation::Replica;
use super::rules::HOUR;
use crate::database::{NOW, Place, Raw, hex};
use crate::scene::ISSUERS;

/// Every table of a history, what refers to another one first.
const TABLES: [&str; 7] = [
    "certificates",
    "challenges",
    "order_authorizations",
    "orders",
    "authorizations",
    "account_thumbprints",
    "accounts",
];

pub(super) struct Servers {
    raw: Raw,
    /// By replica and hours since the beginning: a store's clock is set when it is opened. On SQLite one.
    opened: BTreeMap<(bool, u32), Store>,
    /// What is sent after every certificate.
    pub(super) chain: Chain,
    /// Dropped last.
    place: Place,
}

impl Servers {
    pub(super) async fn new(place: Place) -> Self {
        let first = place.open().await.unwrap();
        let chain = first.chain_record(ISSUERS).await.unwrap();
        Self { raw: place.raw(), opened: [((false, 0), first)].into(), chain, place }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.place, Place::Sqlite(_))
    }

    /// Forgets the last history.
    pub(super) fn empty(&mut self) {
        let sql: String = TABLES.iter().map(|it| format!("DELETE FROM {it};")).collect();
        self.raw.execute(&format!("BEGIN; {sql} COMMIT")).unwrap();
    }

    pub(super) async fn store(&mut self, replica: Replica, hours: u32) -> Store {
        let key = if self.is_sqlite() { (false, 0) } else { (replica == Replica::B, hours) };
        if !self.opened.contains_key(&key) {
            let offset = HOUR * hours;
            let options = self.place.options().max_connections(1);
            let options = options.clock_offset_micros(i64::try_from(offset.as_micros()).unwrap());
            self.opened.insert(key, Store::open(options, NOW.plus(offset)).await.unwrap());
        }
        self.opened[&key].clone()
    }

    /// Starts the only server again. What it knew beside the database is gone.
    pub(super) async fn restart(&mut self) {
        self.reopen().await.leases_void().await.unwrap();
    }

    async fn reopen(&mut self) -> Store {
        for store in std::mem::take(&mut self.opened).into_values() {
            store.close().await;
        }
        let store = self.place.open().await.unwrap();
        self.opened.insert((false, 0), store.clone());
        store
    }

    /// Gives an order an authorization that was there before, in place of the one that was made for it.
    pub(super) async fn link(&mut self, made: AuthorizationId, earlier: AuthorizationId) {
        let quote = if self.is_sqlite() { "x'" } else { "'\\x" };
        let [made, earlier] = [made.as_octets(), earlier.as_octets()].map(|it| format!("{quote}{}'", hex(it)));
        self.raw
            .execute(&format!(
                "BEGIN;
                 UPDATE order_authorizations SET authorization_id = {earlier} WHERE authorization_id = {made};
                 DELETE FROM challenges WHERE authorization_id = {made};
                 DELETE FROM authorizations WHERE id = {made};
                 COMMIT"
            ))
            .unwrap();
        // The only server has not heard of it, and knows the order as it made it.
        if self.is_sqlite() {
            self.reopen().await;
        }
    }
}
