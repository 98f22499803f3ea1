//! The server as a client sees it: real sockets, real TLS, both databases.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod account;
mod bad_input;
mod book;
mod client;
mod instant;
mod issuance;
mod resources;
mod server;
mod start_up;
