//! Which rows an operation takes before it decides. No-ops on SQLite, whose writer is alone.
//!
//! What decides and what it writes are one statement wherever they can be. Where a decision moves an authorization
//! together with a challenge, it takes the authorization first, so that two operations never wait for each other.

use akamu_proto::AuthorizationId;
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult};
use crate::schema::authorizations;

/// Takes an authorization.
pub(crate) fn authorization(connection: &mut AnyConnection, id: AuthorizationId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        let id = id.as_octets().as_slice();
        authorizations::table.find(id).select(authorizations::id).for_update().load::<Vec<u8>>(it)?;
    }
    Ok(())
}
