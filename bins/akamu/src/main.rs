//! The binary `akamu-server`: takes the command line, the environment and the directory, and hands them on.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("akamu-server: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A variable that is not UTF-8 is none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let working_directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
    let arguments = std::env::args_os().map(|it| it.to_string_lossy().into_owned());
    runtime.block_on(akamu_server::run(arguments, environment, working_directory))
}
