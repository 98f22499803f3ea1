//! Runs test vectors of the formats of http_01.json, dns_01.json, tls_alpn_01.json, dns_persist_01.json,
//! dns_persist_01_hashed.json and address_policy.json: `vectors FORMAT PATH [FORMAT PATH]…`. Exit status 1 where a case
//! fails, 2 where a file cannot be read. `cargo xtask vectors` finds the format by itself.

#![expect(clippy::print_stdout, reason = "a command line tool: what it prints is what it is for")]

#[path = "../../../../vectors/case_file.rs"]
mod case_file;
#[path = "formats.rs"]
mod formats;

use std::process::ExitCode;

use formats::{address_policy, dns_01, dns_persist_01, http_01, tls_alpn_01};

fn main() -> ExitCode {
    case_file::main(|format, path| match format {
        "address_policy" => case_file::load::<address_policy::Case>(path),
        "dns_01" => case_file::load::<dns_01::Case>(path),
        "dns_persist_01" => case_file::load::<dns_persist_01::Case>(path),
        "http_01" => case_file::load::<http_01::Case>(path),
        "tls_alpn_01" => case_file::load::<tls_alpn_01::Case>(path),
        _ => Err(format!("{}: {format} is no format of a challenge's vectors", path.display())),
    })
}
