//! Each wire test runs on SQLite and on PostgreSQL.

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

/// Sees whether anybody has written into the database.
pub(crate) struct Watch {
    connection: Watched,
    state: String,
}

enum Watched {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct State {
    #[diesel(sql_type = Text)]
    state: String,
}

impl Watch {
    pub(crate) fn over(server: &TestServer) -> Self {
        let url = server.place.database_url();
        let mut connection = if url.starts_with("postgres") {
            Watched::Postgres(PgConnection::establish(url).unwrap())
        } else {
            let file = server.data_dir().join("akamu.db");
            Watched::Sqlite(SqliteConnection::establish(file.to_str().unwrap()).unwrap())
        };
        let state = connection.state();
        Self { connection, state }
    }

    #[track_caller]
    pub(crate) fn assert_unwritten(&mut self, what: &str) {
        assert_eq!(self.connection.state(), self.state, "{what}: the database was written");
    }
}

impl Watched {
    /// What is different once something has been written, a redeemed nonce apart.
    fn state(&mut self) -> String {
        const TABLES: &str = "SELECT md5(string_agg(query_to_xml(format('SELECT * FROM %I ORDER BY 1', table_name), \
            true, false, '')::text, '' ORDER BY table_name)) AS state FROM information_schema.tables \
            WHERE table_schema = 'public' AND table_name <> 'redeemed_nonces'";
        // Another for each commit of another connection.
        const VERSION: &str = "SELECT CAST(data_version AS TEXT) AS state FROM pragma_data_version";
        let state: State = match self {
            Self::Sqlite(connection) => diesel::sql_query(VERSION).get_result(connection).unwrap(),
            Self::Postgres(connection) => diesel::sql_query(TABLES).get_result(connection).unwrap(),
        };
        state.state
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
