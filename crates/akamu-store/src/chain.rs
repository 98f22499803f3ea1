//! What is sent after a leaf: the same for all that one issuer signs, and kept once.

use std::sync::Arc;

use diesel::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::connection::{AnyConnection, insert_if_new};
use crate::error::StoreError;
use crate::known;
use crate::schema::chains;
use crate::store::Store;

/// The issuers' certificates after a leaf, which are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The SHA-256 of the PEM.
    pub(crate) id: [u8; 32],
    pub(crate) pem: Arc<str>,
}

impl Store {
    /// Stores what is sent after a leaf (PEM), where it is not there yet, for certificates to refer to.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn chain_record(&self, issuers_pem: &str) -> Result<Chain, StoreError> {
        let made = Chain { id: Sha256::digest(issuers_pem).into(), pem: issuers_pem.into() };
        let chain = made.clone();
        let record = move |connection: &mut AnyConnection| {
            let row = (chains::id.eq(chain.id.as_slice()), chains::pem.eq(&*chain.pem));
            insert_if_new!(connection, chains::table, row).map(drop)
        };
        self.change("chain_record", record, known::nothing).await.map(|()| made)
    }
}
