//! `xtask dns-hook`: what the clients' hooks call to set and remove TXT records of the test's name server.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;

use clap::{Args, ValueEnum};

use crate::failure::{Context, Failure};

/// Tells the hook where the name server takes orders.
pub(super) const CONTROL: &str = "XTASK_DNS_CONTROL";

#[derive(Debug, Args)]
pub(crate) struct DnsHookArgs {
    verb: Verb,
    /// The record's name
    name: String,
    /// One of its values; a digest in base64url may begin with a hyphen
    #[arg(allow_hyphen_values = true)]
    value: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verb {
    Add,
    Remove,
}

/// Returns once the record is there, or gone.
pub(crate) fn run(args: &DnsHookArgs) -> Result<(), Failure> {
    let address = env::var(CONTROL).context(|| format!("{CONTROL} says where the test's name server is"))?;
    let verb = match args.verb {
        Verb::Add => "add",
        Verb::Remove => "remove",
    };
    let answer = send(&address, &format!("{verb} {} {}\n", args.name, args.value))
        .context(|| format!("cannot reach the test's name server at {address}"))?;
    if answer == "ok\n" { Ok(()) } else { Err(Failure::new(format!("the name server says: {answer}"))) }
}

fn send(address: &str, order: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(order.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::DnsHookArgs;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        hook: DnsHookArgs,
    }

    #[test]
    fn a_value_may_begin_with_a_hyphen() {
        let Cli { hook } = Cli::try_parse_from(["dns-hook", "add", "_acme-challenge.a.test", "-pQ_"]).unwrap();
        assert_eq!(hook.value, "-pQ_");
    }
}
