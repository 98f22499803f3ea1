//! Each wire test runs on SQLite and on PostgreSQL.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, TestServer};

/// The database of one test.
pub(crate) enum Database {
    Sqlite,
    Postgres(PostgresDatabase),
}

impl Database {
    /// `database.url`; that of SQLite is relative to the data directory.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite => "sqlite://akamu.db".to_owned(),
            Self::Postgres(database) => database.url(),
        }
    }

    /// A server on this database.
    pub(crate) async fn server(&self) -> TestServer {
        Place::on(self).start().await
    }

    /// A server on this database, with these lines of configuration.
    pub(crate) async fn server_with(&self, settings: &str) -> TestServer {
        Place::on(self).settings(settings).start().await
    }
}

/// A connection to a server's database beside its own.
pub(crate) enum Beside {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

impl Beside {
    pub(crate) fn of(place: &Place) -> Self {
        let url = place.database_url();
        if url.starts_with("postgres") {
            return Self::Postgres(PgConnection::establish(url).unwrap());
        }
        let file = place.data_dir().join("akamu.db");
        let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        Self::Sqlite(connection)
    }

    pub(crate) fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    /// The column `text` of the only row.
    pub(crate) fn text(&mut self, sql: &str) -> String {
        let row: Row = match self {
            Self::Sqlite(connection) => diesel::sql_query(sql).get_result(connection).unwrap(),
            Self::Postgres(connection) => diesel::sql_query(sql).get_result(connection).unwrap(),
        };
        row.text
    }

    /// What is different once something has been written, a redeemed nonce apart.
    fn state(&mut self) -> String {
        const TABLES: &str = "SELECT md5(string_agg(query_to_xml(format('SELECT * FROM %I ORDER BY 1', table_name), \
            true, false, '')::text, '' ORDER BY table_name)) AS text FROM information_schema.tables \
            WHERE table_schema = 'public' AND table_name <> 'redeemed_nonces'";
        // Another for each commit of another connection.
        const VERSION: &str = "SELECT CAST(data_version AS TEXT) AS text FROM pragma_data_version";
        self.text(if matches!(self, Self::Sqlite(_)) { VERSION } else { TABLES })
    }
}

/// Sees whether anybody has written into the database.
pub(crate) struct Watch {
    beside: Beside,
    state: String,
}

impl Watch {
    pub(crate) fn over(server: &TestServer) -> Self {
        let mut beside = Beside::of(&server.place);
        let state = beside.state();
        Self { beside, state }
    }

    #[track_caller]
    pub(crate) fn assert_unwritten(&mut self, what: &str) {
        assert_eq!(self.beside.state(), self.state, "{what}: the database was written");
    }
}

/// Runs each of these functions on both databases, as a test.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::database::Database::Sqlite).await;
                }
            )+
        }

        mod postgresql {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(database) = $crate::postgres_database::PostgresDatabase::new() {
                        super::$name($crate::database::Database::Postgres(database)).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on_both_databases;
