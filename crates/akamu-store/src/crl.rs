//! CRLs: their numbers grow strictly, whoever makes them.

use akamu_proto::Timestamp;
use diesel::prelude::*;

use crate::connection::insert_if_new;
use crate::error::StoreError;
use crate::identity::{fact, set_fact};
use crate::schema::crls;
use crate::store::Store;

const NUMBER: &str = "crl_number";
/// CRLs kept.
const KEPT: i64 = 3;

/// A CRL as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCrl {
    /// Its number.
    pub number: i64,
    /// Its octets.
    pub der: Vec<u8>,
    /// When the next one is due.
    pub next_update: Timestamp,
}

impl Store {
    /// The number for the next CRL: one more than any before.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_number_next(&self, _: Timestamp) -> Result<i64, StoreError> {
        self.write("crl_number_next", |connection| {
            // The update takes the row's lock, so that two replicas cannot draw one number.
            set_if_absent(connection)?;
            diesel::update(crate::schema::facts::table.find(NUMBER.to_owned()))
                .set(crate::schema::facts::name.eq(NUMBER))
                .execute(connection)?;
            let number = fact(connection, NUMBER)?.and_then(|it| it.parse::<i64>().ok()).unwrap_or(0) + 1;
            set_fact(connection, NUMBER, &number.to_string())?;
            Ok(number)
        })
        .await
    }

    /// Keeps a CRL for every replica to serve.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_record(
        &self,
        number: i64,
        der: &[u8],
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<(), StoreError> {
        let der = der.to_vec();
        self.write("crl_record", move |connection| {
            let row = (
                crls::number.eq(number),
                crls::der.eq(&der),
                crls::this_update.eq(this_update.unix_micros()),
                crls::next_update.eq(next_update.unix_micros()),
            );
            insert_if_new!(connection, crls::table, row)?;
            diesel::delete(crls::table.filter(crls::number.le(number - KEPT))).execute(connection)?;
            Ok(())
        })
        .await
    }

    /// The newest CRL.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_latest(&self) -> Result<Option<StoredCrl>, StoreError> {
        self.read("crl_latest", |connection| {
            let row: Option<(i64, Vec<u8>, i64)> = crls::table
                .order(crls::number.desc())
                .select((crls::number, crls::der, crls::next_update))
                .first(connection)
                .optional()?;
            Ok(row.map(|(number, der, next_update)| StoredCrl {
                number,
                der,
                next_update: Timestamp::from_unix_micros(next_update),
            }))
        })
        .await
    }
}

fn set_if_absent(connection: &mut crate::connection::AnyConnection) -> crate::connection::DbResult<()> {
    let row = (crate::schema::facts::name.eq(NUMBER), crate::schema::facts::value.eq("0"));
    insert_if_new!(connection, crate::schema::facts::table, row).map(drop)
}
