//! The crate as an embedder sees it: every vector, and peers that misbehave, on a network in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails here says where")]

mod address_policy;
#[path = "../../../../vectors/case_file.rs"]
mod case_file;
mod dial;
mod dns;
mod examples;
#[path = "../../examples/vectors/formats.rs"]
mod formats;
mod hostile;
mod http_01;
mod net;
mod perspective;
mod report;
mod setting;
mod tls_alpn_01;
mod tls_server;
mod validators;
