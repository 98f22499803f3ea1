//! The store on both databases: each test's one body runs on SQLite and on PostgreSQL.
//!
//! `AKAMU_TEST_POSTGRES_URL` names a superuser's database on a throwaway cluster. Without it the tests on PostgreSQL are
//! left out, and standard error says so.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that fails here says where"
)]

mod account;
mod authorization;
mod backup;
mod certificate;
mod database;
mod error_text;
mod housekeeping;
mod issuance;
mod limit;
mod migration;
mod model;
mod nonce;
mod open;
mod order;
mod ping;
mod plan;
mod postgres;
mod postgres_database;
mod postgres_groups;
mod postgres_limit;
mod scene;
mod validation;
