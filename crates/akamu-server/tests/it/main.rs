//! The server as a client sees it: real sockets, real TLS, both databases.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod account;
mod admission;
mod backup;
mod bad_input;
mod book;
mod client;
mod constrained_issuer;
mod crash;
mod database;
mod fairness;
mod first_start;
mod housekeeping;
mod instant;
mod issuance;
mod metrics;
mod polls;
#[path = "../../../akamu-store/tests/it/postgres_database.rs"]
mod postgres_database;
mod postgres_role;
mod replicas;
mod resources;
mod restarts;
mod revocation_list;
mod server;
mod start_up;
mod transport;
mod validations;
