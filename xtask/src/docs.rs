//! `cargo xtask docs`: writes the parts of the book that are generated from the code.

use crate::failure::Failure;
use crate::process;

/// The tests of akamu-server that find them stale.
const TEST: &str = "book::";

/// Rewrites the generated parts. The tests write them when they are told to: they know the code, which this program does
/// not.
pub(crate) fn run() -> Result<(), Failure> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--package", "akamu-server"]).args(["--test", "it", TEST]);
    process::run(command.env("AKAMU_WRITE_BOOK", "1"))
}
