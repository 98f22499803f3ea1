//! The log: tracing's, on standard error, for people or as JSON. RUST_LOG sets the level.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::cli::LogFormat;

/// Starts logging. `level` is the value of RUST_LOG; without one it is `info`.
///
/// # Errors
/// What is wrong with `level`.
pub(crate) fn start(format: LogFormat, level: Option<&str>) -> Result<(), String> {
    let filter = match level.filter(|it| !it.is_empty()) {
        Some(level) => EnvFilter::try_new(level).map_err(|error| {
            format!("RUST_LOG: {level:?} is no filter ({error}); write info, debug or akamu_server=debug")
        })?,
        // What a stranger's DNSSEC records have wrong is in the validation's report, in full.
        None => EnvFilter::new("info,hickory_net=off"),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let started = match format {
        LogFormat::Text => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
