//! What the binary does: from the command line to an exit status.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use akamu_challenge::{Deadline, SystemClock, ValidationReport};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::{self, BackupError, Keys};
use crate::check::Question;
use crate::cli::{Arguments, Command, Options};
use crate::config::{self, Config, DnsServer, Loaded, Sources};
use crate::random::SystemRandom;
use crate::start::{self, Parts, Running, StartError};
use crate::{authority_files, descriptors, log, restore};

/// What was asked for was not done.
const EX_FAILURE: u8 = 1;
/// What was asked makes no sense: as clap ends then, too.
const EX_MISUSE: u8 = 2;
/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;
/// sysexits.h: the service cannot be had (a port, a file, the database).
const EX_UNAVAILABLE: u8 = 69;

/// Runs the command line. `environment` and `working_directory` are arguments, so that nothing else reads them.
pub async fn run(
    arguments: impl IntoIterator<Item = String>,
    environment: BTreeMap<String, String>,
    working_directory: PathBuf,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let command = arguments.command.unwrap_or(Command::Serve(arguments.options));
    let options = match &command {
        Command::Serve(options)
        | Command::Config(options)
        | Command::Migrate(options)
        | Command::Adopt { options, .. }
        | Command::Check { options, .. }
        | Command::Backup { options, .. }
        | Command::Restore { options, .. }
        | Command::PersistRecord { options, .. } => options.clone(),
    };
    if let Err(error) = log::start(options.log_format, environment.get("RUST_LOG").map(String::as_str)) {
        return fail(&error, EX_CONFIG);
    }
    let path = environment.get("PATH").cloned().unwrap_or_default();
    // https://no-color.org
    let environment_allows_colour = environment.get("NO_COLOR").is_none_or(String::is_empty);
    let loaded = match config::load(&sources(options, environment, working_directory)) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error, EX_CONFIG),
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let outcome = match command {
        Command::Serve(_) => serve(&loaded, &path).await,
        Command::Config(_) => print(&config::show(&loaded)),
        Command::Migrate(_) => match crate::migrate::migrate(&loaded.config).await {
            Ok(text) => print(&text),
            Err(error) => Err(error),
        },
        Command::Adopt { yes, .. } => match crate::adopt::adopt(&loaded.config, parts(), yes).await {
            Ok(text) => print(&text),
            Err(error) => Err(error),
        },
        Command::Check { question, resolver, json, .. } => {
            return check(loaded.config, &question, resolver, json, environment_allows_colour).await;
        }
        Command::PersistRecord { wish, .. } => match wish.zone_file(&loaded.config, parts().clock.now()) {
            Ok(text) => print(&text),
            Err(error) => return fail(&error, EX_MISUSE),
        },
        Command::Backup { directory, without_keys, passphrase_file, .. } => {
            let config = &loaded.config;
            let made = Keys::of(without_keys, passphrase_file.as_deref())
                .and_then(|keys| backup::back_up(config, &directory, &keys, parts().clock.now()));
            match made {
                Ok(manifest) => print(&backup::told(&manifest, config, &directory)),
                Err(error) => return fail_backup(&error),
            }
        }
        Command::Restore { directory, passphrase_file, .. } => {
            let config = &loaded.config;
            let restored = passphrase_file
                .map(|file| backup::passphrase(&file))
                .transpose()
                .and_then(|passphrase| restore::restore(config, &directory, passphrase.as_deref()));
            match restored {
                Ok(manifest) => print(&restore::told(&manifest, config)),
                Err(error) => return fail_backup(&error),
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, EX_UNAVAILABLE),
    }
}

fn sources(options: Options, environment: BTreeMap<String, String>, working_directory: PathBuf) -> Sources {
    Sources {
        config: options.config,
        data_dir: options.data_dir,
        listen: options.listen,
        base_url: options.base_url,
        environment,
        working_directory,
    }
}

fn parts() -> Parts {
    Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "akamu-server: {error}");
    ExitCode::from(status)
}

fn fail_backup(error: &BackupError) -> ExitCode {
    fail(error, if error.is_misuse() { EX_MISUSE } else { EX_FAILURE })
}

fn print(text: &str) -> Result<(), StartError> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| StartError::new(format!("standard output: {error}")))
}

/// Validates from here: 0 where control is proved by any type, else 1.
async fn check(
    mut config: Config,
    question: &Question,
    resolver: Option<DnsServer>,
    json: bool,
    colour: bool,
) -> ExitCode {
    if config.trial {
        tracing::warn!(
            "no configuration was found: this checks as the trial does, which probes the ports 5002 and 5001"
        );
    }
    let server = &mut config.server;
    if resolver.is_some() {
        server.dns_resolver_addr = resolver;
        server.dns_persist_resolver_addr = None;
        server.address_resolver_addr = resolver;
        server.dns_forwarders.clear();
    }
    let timeout = server.validation_timeout();
    let validators = match crate::validators::of(&config, &parts().clock) {
        Ok(validators) => validators,
        Err(error) => return fail(&error, EX_UNAVAILABLE),
    };
    let reports = match question.ask(&validators, || Deadline::after(timeout)).await {
        Ok(reports) => reports,
        Err(error) => return fail(&error, EX_MISUSE),
    };
    let text = if json {
        reports.iter().map(|it| String::from_utf8_lossy(&it.to_octets()).into_owned() + "\n").collect()
    } else {
        question.tell(&reports, colour && std::io::stdout().is_terminal())
    };
    match print(&text) {
        Ok(()) if reports.iter().any(ValidationReport::is_valid) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => fail(&error, EX_UNAVAILABLE),
    }
}

async fn serve(loaded: &Loaded, path: &str) -> Result<(), StartError> {
    let config = &loaded.config;
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    if config.trial {
        tracing::warn!(
            "this is a trial: no configuration was found. Loopback only, loopback targets allowed, http-01 probes port {} and tls-alpn-01 port {}, names under .localhost are loopback, dns-persist-01 is not offered, everything lies in {}",
            config.server.http_validation_port,
            config.server.tls_validation_port,
            config.data_dir.display()
        );
    }
    descriptors::raise();
    let running = start::start(config, parts()).await?;
    print(&ready_text(loaded, &running, path))?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.shut_down().await;
    Ok(())
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, StartError> {
    signal(kind).map_err(|error| StartError::new(format!("signals cannot be received: {error}")))
}

/// What is printed once requests are answered: the directory, what to trust, and for a trial a command that works.
fn ready_text(loaded: &Loaded, running: &Running, path: &str) -> String {
    let config = &loaded.config;
    let directory = running.directory_url();
    let mut text = format!("directory  {directory}\n");
    let root = authority_files::root_pem(&config.data_dir);
    let root = std::fs::canonicalize(&root).unwrap_or(root);
    let sha256: String = running.root_sha256.iter().map(|octet| format!("{octet:02x}")).collect();
    text.push_str(&format!("root       {}\nSHA-256    {sha256}\n", root.display()));
    if config.trial {
        let has_certbot = path.split(':').any(|directory| Path::new(directory).join("certbot").is_file());
        let get_certbot = if has_certbot {
            String::new()
        } else {
            "There is no certbot in PATH. To get one: python3 -m venv ~/certbot && ~/certbot/bin/pip install certbot && PATH=~/certbot/bin:$PATH\n\n".to_owned()
        };
        text.push_str(&format!(
            "\nIn another terminal, in any directory, a first certificate:\n\n{get_certbot}{}\n",
            certbot_line(&root, config.server.http_validation_port, &directory)
        ));
    }
    text
}

fn certbot_line(root: &Path, port: u16, directory: &str) -> String {
    let root = root.to_string_lossy();
    let plain = root.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-+".contains(&c));
    let root = if plain { root.into_owned() } else { format!("'{}'", root.replace('\'', r"'\''")) };
    format!(
        "REQUESTS_CA_BUNDLE={root} certbot certonly --standalone --http-01-port {port} -d demo.localhost --server {directory} --config-dir ~/akamu-certbot/config --work-dir ~/akamu-certbot/work --logs-dir ~/akamu-certbot/logs -n --agree-tos --register-unsafely-without-email"
    )
}
