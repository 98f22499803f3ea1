//! What the book and the README say is what the code does.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod configuration_page;
mod documented_configurations;
mod pages;
