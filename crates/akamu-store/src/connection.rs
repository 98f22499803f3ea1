//! One connection type over both databases, and the few statements that differ between them.

use std::marker::PhantomData;
use std::sync::OnceLock;

use diesel::backend::Backend;
use diesel::expression::{ValidGrouping, is_aggregate};
// What `MultiConnection` uses, of which a connection here is one.
use diesel::internal::derives::multiconnection::AstPassHelper as _;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryBuilder as _, QueryFragment, QueryId};
use diesel::result::Error as DieselError;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Text};

use akamu_proto::Timestamp;

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub(crate) enum AnyConnection {
    /// PostgreSQL, or an engine that speaks its protocol.
    Postgres(PgConnection),
    /// Embedded SQLite.
    Sqlite(SqliteConnection),
}

/// What an operation's closure returns: its outcome, or the database's error.
pub(crate) type DbResult<T> = Result<T, DieselError>;

impl AnyConnection {
    /// The time by which leases are measured: the database's on PostgreSQL, whose replicas' clocks disagree; `now` on
    /// SQLite, which has one owner.
    pub(crate) fn lease_clock(&self, now: Timestamp) -> LeaseClock {
        match self {
            Self::Postgres(_) => LeaseClock::Database { later: 0 },
            Self::Sqlite(_) => LeaseClock::Told(now.unix_micros()),
        }
    }
}

/// Runs a statement on the one database that there is. `AnyConnection` would run it too, but writes its text anew for each
/// run, some of them four times, and never finds it among the prepared ones by its type.
macro_rules! on {
    ($connection:expr, |$it:ident| $run:expr) => {
        match $connection {
            $crate::connection::AnyConnection::Postgres($it) => $run,
            $crate::connection::AnyConnection::Sqlite($it) => $run,
        }
    };
}
pub(crate) use on;

/// A statement of one place in this crate, whose text never changes: it is written once, and stays prepared. Diesel keeps
/// none prepared that could be another one with other values, as an UPDATE of columns that may be left out, and writes its
/// text for each run.
#[derive(Debug)]
pub(crate) struct Kept<Q, P> {
    statement: Q,
    text: &'static OnceLock<String>,
    place: PhantomData<P>,
}

impl<Q, P> Kept<Q, P> {
    /// `P` and `text` are this place's own, and one database's: [`kept`] makes them.
    pub(crate) const fn new(statement: Q, text: &'static OnceLock<String>) -> Self {
        Self { statement, text, place: PhantomData }
    }
}

/// A [`Kept`] statement of this place, for one database.
macro_rules! kept {
    ($statement:expr) => {{
        struct Place;
        static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        $crate::connection::Kept::<_, Place>::new($statement, &TEXT)
    }};
}
pub(crate) use kept;

impl<Q, P, DB> QueryFragment<DB> for Kept<Q, P>
where
    DB: Backend,
    DB::QueryBuilder: Default,
    Q: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if out.bind_collector().is_some() || out.debug_binds().is_some() {
            return self.statement.walk_ast(out);
        }
        // The others want the text, or whether it may change.
        let write = || {
            let mut builder = DB::QueryBuilder::default();
            self.statement.to_sql(&mut builder, out.backend()).map(|()| builder.finish())
        };
        let text = match self.text.get() {
            Some(text) => {
                debug_assert_eq!(*text, write()?, "the text of a kept statement never changes");
                text
            }
            None => {
                let text = write()?;
                self.text.get_or_init(|| text)
            }
        };
        out.push_sql(text);
        Ok(())
    }
}

impl<Q, P: 'static> QueryId for Kept<Q, P> {
    type QueryId = P;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Q: Query, P> Query for Kept<Q, P> {
    type SqlType = Q::SqlType;
}

impl<Q, P, C> RunQueryDsl<C> for Kept<Q, P> {}

/// A time by the clock of leases, in Unix microseconds.
///
/// `akamu.clock_offset` is a session setting that only tests set, so that a lease ends without waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeaseClock {
    Told(i64),
    Database { later: i64 },
}

impl LeaseClock {
    /// So many microseconds later.
    pub(crate) const fn plus(self, micros: i64) -> Self {
        match self {
            Self::Told(at) => Self::Told(at + micros),
            Self::Database { later } => Self::Database { later: later + micros },
        }
    }
}

impl Expression for LeaseClock {
    type SqlType = BigInt;
}

impl<S> AppearsOnTable<S> for LeaseClock {}
impl<S> SelectableExpression<S> for LeaseClock {}

impl<G> ValidGrouping<G> for LeaseClock {
    type IsAggregate = is_aggregate::Never;
}

impl QueryId for LeaseClock {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB> QueryFragment<DB> for LeaseClock
where
    DB: Backend + HasSqlType<BigInt>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let (clock, value) = match self {
            Self::Told(at) => ("", at),
            Self::Database { later } => (
                "((extract(epoch from clock_timestamp()) * 1000000)::bigint \
                 + coalesce(nullif(current_setting('akamu.clock_offset', true), ''), '0')::bigint) + ",
                later,
            ),
        };
        out.push_sql("(");
        out.push_sql(clock);
        out.push_bind_param::<BigInt, _>(value)?;
        out.push_sql(")");
        Ok(())
    }
}

/// States as they stand in partial indexes: neither database uses such an index for a value that it is told only when the
/// statement runs.
macro_rules! indexed_states {
    ($($name:ident = $sql:literal)*) => {$(
        #[doc = concat!("The state ", $sql, ", which is that of an index.")]
        #[derive(Clone, Copy, Debug, QueryId)]
        pub(crate) struct $name;

        impl Expression for $name {
            type SqlType = Text;
        }

        impl<S> AppearsOnTable<S> for $name {}
        impl<S> SelectableExpression<S> for $name {}

        impl<G> ValidGrouping<G> for $name {
            type IsAggregate = is_aggregate::Never;
        }

        impl<DB: Backend> QueryFragment<DB> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }
    )*};
}
indexed_states! {
    Processing = "'processing'"
    Valid = "'valid'"
}

/// Inserts rows into SQLite in one statement, which stays prepared where it is one of a few: what diesel makes of rows
/// cannot be [`Kept`], and of an array it knows how long it is.
macro_rules! insert_all {
    ($connection:expr, $table:expr, $rows:expr) => {
        $crate::connection::insert_arrays!($connection, $table, $rows, 1, 2, 3, 4, 6, 8)
    };
}
pub(crate) use insert_all;

macro_rules! insert_arrays {
    ($connection:expr, $table:expr, $rows:expr $(, $count:literal)+) => {
        $(if let Ok(rows) = <&[_; $count]>::try_from($rows.as_slice()) {
            diesel::insert_into($table).values(rows).execute($connection)
        } else)+ {
            diesel::insert_into($table).values($rows).execute($connection)
        }
    };
}
pub(crate) use insert_arrays;

/// A statement on PostgreSQL with another one beside it, of which it may ask whether it [`DidBeside`].
pub(crate) struct With<B, S> {
    pub(crate) beside: B,
    pub(crate) statement: S,
}

impl<B: QueryFragment<Pg>, S: QueryFragment<Pg>> QueryFragment<Pg> for With<B, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH beside AS (");
        self.beside.walk_ast(out.reborrow())?;
        out.push_sql(") ");
        self.statement.walk_ast(out)
    }
}

impl<B, S: Query> Query for With<B, S> {
    type SqlType = S::SqlType;
}

/// Whether the statement beside, which returns the rows that it touched, touched one.
#[derive(Clone, Copy, Debug, QueryId)]
pub(crate) struct DidBeside;

impl Expression for DidBeside {
    type SqlType = Bool;
}

impl<S> AppearsOnTable<S> for DidBeside {}
impl<S> SelectableExpression<S> for DidBeside {}

impl<G> ValidGrouping<G> for DidBeside {
    type IsAggregate = is_aggregate::Never;
}

impl QueryFragment<Pg> for DidBeside {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("EXISTS (SELECT FROM beside)");
        Ok(())
    }
}

/// Inserts a row where none has its key; tells whether it did.
macro_rules! insert_if_new {
    ($connection:expr, $table:expr, $row:expr) => {
        $crate::connection::on!($connection, |it| {
            let insert = diesel::insert_into($table).values($row).on_conflict_do_nothing();
            $crate::connection::kept!(insert).execute(it).map(|rows| rows == 1)
        })
    };
}
pub(crate) use insert_if_new;

/// A text or number in a row that its type does not know: somebody else wrote it.
pub(crate) fn corrupt(what: &'static str) -> DieselError {
    DieselError::DeserializationError(what.into())
}
