//! `cargo xtask docs`: writes the parts of the book that are generated from the code.

use crate::failure::Failure;
use crate::process;

/// Rewrites the generated parts. The tests that find them stale write them when they are told to: they know the code,
/// which this program does not.
pub(crate) fn run() -> Result<(), Failure> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--package", "xtask", "--test", "book", "configuration_page"]);
    process::run(command.env("AKAMU_WRITE_BOOK", "1"))
}
