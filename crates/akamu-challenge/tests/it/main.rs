//! The crate as an embedder sees it: every vector, and peers that misbehave, on a network in memory.

mod address_policy;
mod http_01;
mod setting;
mod vectors;
