//! The database knows whose it is: base_url and the issuers' SHA-256 are a row.

use akamu_proto::Timestamp;
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, corrupt, insert_if_new, kept, on};
use crate::error::StoreError;
use crate::known;
use crate::schema::identity;
use crate::store::Store;

/// Whose database it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The URL under which every account is named.
    pub base_url: String,
    /// SHA-256 of each issuing certificate's DER.
    pub issuers: Vec<[u8; 32]>,
}

/// What came of recording an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityOutcome {
    /// The database was new, and is ours now.
    Recorded,
    /// It was ours already.
    Same,
    /// It is somebody else's.
    Differs(Identity),
}

const ROW: i16 = 1;

pub(crate) fn read(connection: &mut AnyConnection) -> DbResult<Option<Identity>> {
    let row: Option<(String, Vec<u8>)> =
        on!(connection, |it| identity::table.find(ROW).select((identity::base_url, identity::issuers)).first(it))
            .optional()?;
    let Some((base_url, issuers)) = row else { return Ok(None) };
    let (digests, rest) = issuers.as_chunks();
    if rest.is_empty() {
        Ok(Some(Identity { base_url, issuers: digests.to_vec() }))
    } else {
        Err(corrupt("identity.issuers"))
    }
}

impl Store {
    /// Whose database it is; `None`: it is new.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.select("identity", read).await
    }

    /// Makes a new database ours, and tells whether an old one is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity_record(&self, ours: Identity, _: Timestamp) -> Result<IdentityOutcome, StoreError> {
        let record = move |connection: &mut AnyConnection| {
            let row = (
                identity::id.eq(ROW),
                identity::base_url.eq(&ours.base_url),
                identity::issuers.eq(ours.issuers.concat()),
            );
            // The row decides between two that start at once on a new database.
            if insert_if_new!(connection, identity::table, row)? {
                return Ok(IdentityOutcome::Recorded);
            }
            Ok(match read(connection)? {
                Some(known) if known != ours => IdentityOutcome::Differs(known),
                _ => IdentityOutcome::Same,
            })
        };
        self.write("identity_record", record, known::nothing).await
    }

    /// Makes the database ours, whoever's it was.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity_adopt(&self, ours: Identity) -> Result<(), StoreError> {
        let adopt = move |connection: &mut AnyConnection| {
            let row = (
                identity::id.eq(ROW),
                identity::base_url.eq(&ours.base_url),
                identity::issuers.eq(ours.issuers.concat()),
            );
            if !insert_if_new!(connection, identity::table, row)? {
                let update = diesel::update(identity::table.find(ROW))
                    .set((identity::base_url.eq(&ours.base_url), identity::issuers.eq(ours.issuers.concat())));
                on!(connection, |it| kept!(update).execute(it))?;
            }
            Ok(())
        };
        self.write("identity_adopt", adopt, known::nothing).await
    }
}
