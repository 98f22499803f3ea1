//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::check::Question;
use crate::config::DnsServer;
use crate::persist_record::Wish;

/// The Akāmu ACME certificate authority.
///
/// Without a configuration file, --base-url and any AKAMU_* variable it runs a trial CA on https://localhost:14000.
#[derive(Debug, Parser)]
#[command(name = "akamu-server", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`.
    #[command(flatten)]
    pub options: Options,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve(Options),
    /// Print the configuration that is in force, each value with its origin, secrets hidden
    Config(Options),
    /// Validate a name from this host, as an order would, and tell what was seen: exit status 0 valid, 1 not, 2 misuse
    Check {
        /// The options of `serve`.
        #[command(flatten)]
        options: Options,
        /// What to validate.
        #[command(flatten)]
        question: Question,
        /// The DNS server to ask for everything, instead of the configured ones
        #[arg(long, value_name = "ADDR")]
        resolver: Option<DnsServer>,
        /// Print each report as one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the TXT record of dns-persist-01 to create, in each dialect, for a zone file
    PersistRecord {
        /// The options of `serve`.
        #[command(flatten)]
        options: Options,
        /// Whom it is to trust.
        #[command(flatten)]
        wish: Wish,
    },
    /// Show another issuer or base_url than the database knows, and with --yes record it
    Adopt {
        /// The options of `serve`.
        #[command(flatten)]
        options: Options,
        /// Record it.
        #[arg(long)]
        yes: bool,
    },
    /// Bring the database's schema up to date and end, for a role that may; the server itself then needs no such right
    Migrate(Options),
    /// Copy the database and the keys into a directory, while the server serves: exit status 0 done, 1 not, 2 misuse
    Backup {
        /// The options of `serve`.
        #[command(flatten)]
        options: Options,
        /// Where to: a directory that is not there, or an empty one
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Leave the private keys out
        #[arg(long)]
        without_keys: bool,
        /// Encrypt the private keys with the first line of this file, as `openssl pkey` can open them
        #[arg(long, value_name = "FILE", conflicts_with = "without_keys")]
        passphrase_file: Option<PathBuf>,
    },
    /// Put a backup into a data directory without database and keys: exit status 0 done, 1 not, 2 misuse
    Restore {
        /// The options of `serve`.
        #[command(flatten)]
        options: Options,
        /// The directory that `backup` made
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Open the private keys with the first line of this file
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Configuration file [default: ./config.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the database and the keys [default: ./akamu-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: 0.0.0.0:443]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The URL that clients use.
    #[arg(long, value_name = "URL", help = "The URL that clients use, like https://acme.example.com")]
    pub base_url: Option<String>,
    /// How log lines are written, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}
