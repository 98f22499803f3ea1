//! Runs test vectors of jws.json's and identifiers.json's formats: `request_vectors FORMAT PATH [FORMAT PATH]…`. Exit status 1
//! where a case fails, 2 where a file cannot be read. `cargo xtask vectors` finds the format by itself.

#![expect(clippy::print_stdout, reason = "a command line tool: what it prints is what it is for")]

#[path = "../../../../vectors/case_file.rs"]
mod case_file;
mod identifiers;
mod jws;

use std::process::ExitCode;

fn main() -> ExitCode {
    case_file::main(|format, path| match format {
        "identifiers" => case_file::load::<identifiers::Case>(path),
        "jws" => case_file::load::<jws::Case>(path),
        _ => Err(format!("{}: {format} is not jws or identifiers", path.display())),
    })
}
