//! Akamu
fn main() {}
