//! What is sent after a leaf: the same for all that one issuer signs, and kept once.

use diesel::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::connection::insert_if_new;
use crate::error::StoreError;
use crate::schema::chains;
use crate::store::Store;

/// The issuers' certificates after a leaf, by the SHA-256 of their PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainId([u8; 32]);

impl ChainId {
    pub(crate) const fn as_octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Store {
    /// Stores what is sent after a leaf (PEM), where it is not there yet, for certificates to refer to.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn chain_record(&self, issuers_pem: &str) -> Result<ChainId, StoreError> {
        let (id, pem) = (ChainId(Sha256::digest(issuers_pem).into()), issuers_pem.to_owned());
        self.change("chain_record", move |connection| {
            let row = (chains::id.eq(id.as_octets().as_slice()), chains::pem.eq(&pem));
            insert_if_new!(connection, chains::table, row)?;
            Ok(id)
        })
        .await
    }
}
