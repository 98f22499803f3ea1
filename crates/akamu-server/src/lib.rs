#![doc = include_str!("../README.md")]

mod admin;
mod adopt;
mod app;
mod authenticated;
mod authority_files;
mod background;
pub mod backup;
pub mod base_url;
pub mod check;
pub mod cli;
mod command;
pub mod config;
mod error;
mod foreign_results;
mod hold;
mod housekeeping;
mod issuance;
mod key_cache;
mod listener;
mod log;
mod metrics;
mod migrate;
mod own_certificate;
pub mod persist_record;
mod random;
mod resource;
pub mod restore;
mod revocation_list;
mod router;
mod shutdown;
mod start;
mod validation;
mod validators;

pub use command::run;
pub use random::{Random, SystemRandom};
pub use start::{Parts, Running, StartError, start};
