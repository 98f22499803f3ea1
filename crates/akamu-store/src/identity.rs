//! The database knows whose it is: base_url and the issuers' SHA-256 are rows.

use akamu_proto::Timestamp;
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, insert_if_new};
use crate::error::StoreError;
use crate::schema::facts;
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

/// Reads a fact.
pub(crate) fn fact(connection: &mut AnyConnection, name: &str) -> DbResult<Option<String>> {
    facts::table.find(name.to_owned()).select(facts::value).first(connection).optional()
}

/// Writes a fact, whatever it was.
pub(crate) fn set_fact(connection: &mut AnyConnection, name: &str, value: &str) -> DbResult<()> {
    let row = (facts::name.eq(name), facts::value.eq(value));
    if !insert_if_new!(connection, facts::table, row)? {
        diesel::update(facts::table.find(name.to_owned())).set(facts::value.eq(value)).execute(connection)?;
    }
    Ok(())
}

fn hex(octets: &[u8; 32]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    let digits = text.as_bytes().chunks_exact(2);
    if digits.len() != 32 || !digits.remainder().is_empty() {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(digits) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(octets)
}

fn read(connection: &mut AnyConnection) -> DbResult<Option<Identity>> {
    let Some(base_url) = fact(connection, "base_url")? else { return Ok(None) };
    let issuers = fact(connection, "issuers")?.unwrap_or_default();
    Ok(Some(Identity { base_url, issuers: issuers.split_whitespace().filter_map(from_hex).collect() }))
}

fn write(connection: &mut AnyConnection, identity: &Identity) -> DbResult<()> {
    let issuers: Vec<_> = identity.issuers.iter().map(hex).collect();
    set_fact(connection, "base_url", &identity.base_url)?;
    set_fact(connection, "issuers", &issuers.join(" "))
}

impl Store {
    /// Whose database it is; `None`: it is new.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.read("identity", read).await
    }

    /// Makes a new database ours, and tells whether an old one is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity_record(&self, ours: Identity, _: Timestamp) -> Result<IdentityOutcome, StoreError> {
        self.write("identity_record", move |connection| {
            // The row decides between two that start at once on a new database.
            let row = (facts::name.eq("base_url"), facts::value.eq(&ours.base_url));
            if insert_if_new!(connection, facts::table, row)? {
                write(connection, &ours)?;
                return Ok(IdentityOutcome::Recorded);
            }
            Ok(match read(connection)? {
                Some(known) if known != ours => IdentityOutcome::Differs(known),
                _ => IdentityOutcome::Same,
            })
        })
        .await
    }

    /// Makes the database ours, whoever's it was.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identity_adopt(&self, ours: Identity) -> Result<(), StoreError> {
        self.write("identity_adopt", move |connection| write(connection, &ours)).await
    }
}
