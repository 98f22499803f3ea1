//! What the book and the README say is what the code does.

mod configuration_page;
mod documented_configurations;
pub(crate) mod pages;
mod troubleshooting_page;
