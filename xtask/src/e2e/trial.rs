//! The trial, as the README tells it: the server without any configuration, and the certbot command that it prints,
//! pasted as it stands.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::certbot;
use super::certificate;
use super::client::{Client, Scenario};
use super::database::Database;
use super::stage::Stage;
use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::process;

pub(super) const TRIAL: Client = Client {
    name: "trial",
    needed: certbot::CERTBOT.needed,
    prepare: |installing| Ok(format!("with certbot {}", (certbot::CERTBOT.prepare)(installing)?)),
    // It starts a server of its own, which has no other.
    databases: &[Database::Sqlite],
    scenarios: &[Scenario { challenge: "http-01", does: "the certbot line, pasted; found again", run: pasted }],
};

/// The one name that the printed command asks for.
const NAME: &str = "demo.localhost";
/// How the line with the root's fingerprint starts, and the one with the command.
const SHA256: &str = "SHA-256";
const COMMAND: &str = "REQUESTS_CA_BUNDLE=";
/// The root's path in the README.
const README_ROOT: &str = "/home/you/akamu/akamu-trial/root.pem";
const READY_WITHIN: Duration = Duration::from_secs(30);

fn pasted(stage: &Stage<'_>) -> Result<(), Failure> {
    let home = stage.path("home");
    fs::create_dir(&home).context(|| "cannot make a home directory".to_owned())?;
    let root = {
        let trial = Trial::start(stage)?;
        check_readme(trial.line(COMMAND)?, &stage.path("akamu-trial/root.pem"))?;
        let mut shell = Command::new("sh");
        stage.run(shell.args(["-c", trial.line(COMMAND)?]).env("HOME", &home).env("PATH", path()?))?;
        let chain = home.join("akamu-certbot/config/live").join(NAME).join("fullchain.pem");
        certificate::check(&chain, &stage.path("akamu-trial/root.pem"), &[NAME])?;
        trial.line(SHA256)?.to_owned()
    };
    let again = Trial::start(stage)?.line(SHA256)?.to_owned();
    if root != again {
        return Err(Failure::new(format!("a second start has another root: {again} instead of {root}")));
    }
    Ok(())
}

/// The README shows the command that is printed, but for the path of the clone.
fn check_readme(printed: &str, root: &Path) -> Result<(), Failure> {
    let readme = fs::read_to_string(process::project_root().join("README.md"));
    let readme = readme.context(|| "cannot read README.md".to_owned())?;
    let shown = readme.lines().find_map(|line| line.strip_prefix("$ ").filter(|line| line.starts_with(COMMAND)));
    let root = fs::canonicalize(root).context(|| format!("{} is not there", root.display()))?;
    let shown = shown.unwrap_or_default().replace(README_ROOT, &root.display().to_string());
    if shown == printed {
        return Ok(());
    }
    Err(Failure::new(format!("README.md shows another command than the trial prints:\n{shown}\n{printed}")))
}

/// A PATH in which a shell finds certbot.
fn path() -> Result<OsString, Failure> {
    let certbot = certbot::program();
    let directories = certbot.parent().map(Path::to_path_buf).into_iter();
    let inherited = env::var_os("PATH").unwrap_or_default();
    env::join_paths(directories.chain(env::split_paths(&inherited)))
        .context(|| "cannot put certbot into PATH".to_owned())
}

/// The server without configuration, in the client's directory, and what it printed.
#[derive(Debug)]
struct Trial {
    printed: Vec<String>,
    _running: Undone,
}

impl Trial {
    fn start(stage: &Stage<'_>) -> Result<Self, Failure> {
        let log = File::options().create(true).append(true).open(stage.path("client.log"));
        let log = log.context(|| "cannot open the client's log".to_owned())?;
        let mut command = Command::new(stage.server_program());
        // Nothing of the environment but where programs are: a variable of ours would end the trial.
        command.env_clear().env("PATH", path()?).current_dir(stage.path(""));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.context(|| "cannot run the trial".to_owned())?;
        let stdout = child.stdout.take().expect("standard output was asked for above");
        let running = Undone::at_the_end(move || {
            let _ = process::output(Command::new("kill").arg("-TERM").arg(child.id().to_string()));
            let _ = child.wait();
        });
        Ok(Self { printed: read_to_the_command(stdout)?, _running: running })
    }

    fn line(&self, start: &str) -> Result<&str, Failure> {
        let line = self.printed.iter().find(|line| line.starts_with(start));
        line.map(String::as_str).ok_or_else(|| Failure::new(format!("the trial prints no line that starts {start}")))
    }
}

/// What the trial prints up to the command, which comes last.
fn read_to_the_command(stdout: ChildStdout) -> Result<Vec<String>, Failure> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens once the time is over.
            let _ = sender.send(line);
        }
    });
    let mut printed: Vec<String> = Vec::new();
    while !printed.iter().any(|line| line.starts_with(COMMAND)) {
        let line = receiver.recv_timeout(READY_WITHIN);
        printed.push(line.context(|| format!("the trial prints no certbot command, only {printed:?}"))?);
    }
    Ok(printed)
}
