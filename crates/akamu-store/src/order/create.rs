//! Makes an order with its authorizations and their challenges: in one statement on PostgreSQL, in four on SQLite, where a
//! statement costs no round trip.

use akamu_proto::{AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus, Timestamp};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text};

use super::NewOrder;
use crate::authorization::stored;
use crate::connection::{AnyConnection, DbResult, insert_all, kept};
use crate::schema::{accounts, authorizations, challenges, order_authorizations, orders};

/// Its rows are lists, whose text is the same however long they are.
const CREATE: &str = "
    WITH made AS (
        INSERT INTO orders (id, account_id, status, expires_at, created_at)
        SELECT $1, id, $2, $3, $4 FROM accounts WHERE id = $5 AND status = $6
        ON CONFLICT DO NOTHING RETURNING id
    ), authorized AS (
        INSERT INTO authorizations (id, account_id, identifier_kind, identifier_value, status, expires_at, created_at)
        SELECT it.id, $5, it.kind, it.value, $7, it.expires_at, $4
        FROM unnest($8::bytea[], $9::text[], $10::text[], $11::bigint[]) AS it (id, kind, value, expires_at)
        WHERE EXISTS (SELECT FROM made)
    ), offered AS (
        INSERT INTO challenges (authorization_id, challenge_type, account_id, position, token, status, attempt)
        SELECT it.authorization_id, it.challenge_type, $5, it.position, it.token, $12, 0
        FROM unnest($13::bytea[], $14::text[], $15::smallint[], $16::text[]) AS it (authorization_id, challenge_type, position, token)
        WHERE EXISTS (SELECT FROM made)
    )
    INSERT INTO order_authorizations (order_id, position, authorization_id)
    SELECT made.id, it.position - 1, it.id FROM made, unnest($8) WITH ORDINALITY AS it (id, position)";

/// Inserts all rows of an order where its account is valid and no order has its id; tells whether it did.
pub(super) fn create(connection: &mut AnyConnection, new: &NewOrder, now: Timestamp) -> DbResult<bool> {
    match connection {
        AnyConnection::Postgres(it) => create_at_once(it, new, now),
        AnyConnection::Sqlite(it) => create_in_turn(it, new, now),
    }
}

fn create_at_once(connection: &mut PgConnection, new: &NewOrder, now: Timestamp) -> DbResult<bool> {
    let new_authorizations = || new.authorizations.iter();
    let challenges = || {
        new_authorizations()
            .flat_map(|it| (0_i16..).zip(&it.challenges).map(move |(position, challenge)| (it, position, challenge)))
    };
    let (kinds, values): (Vec<_>, Vec<_>) = new_authorizations().map(|it| stored(&it.identifier)).unzip();
    let ids: Vec<&[u8]> = new_authorizations().map(|it| it.id.as_octets().as_slice()).collect();
    let expiries: Vec<_> = new_authorizations().map(|it| it.expires_at.unix_micros()).collect();
    let statement = sql_query(CREATE)
        .bind::<Binary, _>(new.id.as_octets().as_slice())
        .bind::<Text, _>(OrderStatus::Pending.as_str())
        .bind::<BigInt, _>(new.expires_at.unix_micros())
        .bind::<BigInt, _>(now.unix_micros())
        .bind::<BigInt, _>(new.account.as_i64())
        .bind::<Text, _>(AccountStatus::Valid.as_str())
        .bind::<Text, _>(AuthorizationStatus::Pending.as_str())
        .bind::<Array<Binary>, _>(ids)
        .bind::<Array<Text>, _>(kinds)
        .bind::<Array<Text>, _>(values)
        .bind::<Array<BigInt>, _>(expiries)
        .bind::<Text, _>(ChallengeStatus::Pending.as_str())
        .bind::<Array<Binary>, _>(challenges().map(|(it, ..)| it.id.as_octets().as_slice()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(challenges().map(|(.., it)| it.challenge_type.as_str()).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(challenges().map(|(_, position, _)| position).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(
            challenges().map(|(.., it)| it.token.as_ref().map(|it| it.as_str())).collect::<Vec<_>>(),
        );
    kept!(statement).execute(connection).map(|rows| rows > 0)
}

fn create_in_turn(connection: &mut SqliteConnection, new: &NewOrder, now: Timestamp) -> DbResult<bool> {
    let (id, account) = (new.id.as_octets().as_slice(), new.account.as_i64());
    let owner = accounts::table
        .filter(accounts::id.eq(account))
        .filter(accounts::status.eq(AccountStatus::Valid.as_str()))
        .select(accounts::id);
    let order = (
        orders::id.eq(id),
        // NULL where there is none: then the row is left out, as one whose id is taken.
        orders::account_id.eq(owner.single_value().assume_not_null()),
        orders::status.eq(OrderStatus::Pending.as_str()),
        orders::expires_at.eq(new.expires_at.unix_micros()),
        orders::created_at.eq(now.unix_micros()),
    );
    let is_made = kept!(diesel::insert_or_ignore_into(orders::table).values(order)).execute(connection)?;
    if is_made == 0 {
        return Ok(false);
    }
    let rows: Vec<_> = new
        .authorizations
        .iter()
        .map(|it| {
            let (kind, value) = stored(&it.identifier);
            (
                authorizations::id.eq(it.id.as_octets().to_vec()),
                authorizations::account_id.eq(account),
                authorizations::identifier_kind.eq(kind),
                authorizations::identifier_value.eq(value),
                authorizations::status.eq(AuthorizationStatus::Pending.as_str()),
                authorizations::expires_at.eq(it.expires_at.unix_micros()),
                authorizations::created_at.eq(now.unix_micros()),
            )
        })
        .collect();
    insert_all!(connection, authorizations::table, rows)?;
    let rows: Vec<_> = new
        .authorizations
        .iter()
        .flat_map(|it| (0_i16..).zip(&it.challenges).map(move |(position, challenge)| (it, position, challenge)))
        .map(|(it, position, challenge)| {
            (
                challenges::authorization_id.eq(it.id.as_octets().to_vec()),
                challenges::challenge_type.eq(challenge.challenge_type.as_str().to_owned()),
                challenges::account_id.eq(account),
                challenges::position.eq(position),
                challenges::token.eq(challenge.token.as_ref().map(|it| it.as_str().to_owned())),
                challenges::status.eq(ChallengeStatus::Pending.as_str()),
                challenges::attempt.eq(0_i16),
            )
        })
        .collect();
    insert_all!(connection, challenges::table, rows)?;
    let rows: Vec<_> = (0_i16..)
        .zip(&new.authorizations)
        .map(|(position, it)| {
            (
                order_authorizations::order_id.eq(id.to_vec()),
                order_authorizations::position.eq(position),
                order_authorizations::authorization_id.eq(it.id.as_octets().to_vec()),
            )
        })
        .collect();
    insert_all!(connection, order_authorizations::table, rows)?;
    Ok(true)
}
