//! How many files and sockets the process may have open (RLIMIT_NOFILE), and how many of them connections may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::start::StartError;

/// The most connections where the configuration does not say.
const CONNECTIONS: u32 = 1_000;

/// Raises the soft limit to the hard one. For the program alone: it changes the whole process.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// The soft limit now.
pub(crate) fn allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections there may be where the process may have `allowed` descriptors: half are for the database, for
/// probes and for files.
///
/// # Errors
/// More are configured.
pub(crate) fn connections(configured: Option<u32>, allowed: u64) -> Result<usize, StartError> {
    let half = u32::try_from(allowed / 2).unwrap_or(u32::MAX).max(1);
    let most = match configured {
        Some(most) if most > half => {
            let wanted = u64::from(most) * 2;
            return Err(StartError::new(format!(
                "server.max_connections = {most}: this process may have {allowed} files open, half of them connections; write {half}, or raise the limit to {wanted} (systemd: LimitNOFILE={wanted})"
            )));
        }
        Some(most) => most,
        None if CONNECTIONS > half => {
            tracing::warn!(allowed, most = half, "few files may be open: half of them are for connections");
            half
        }
        None => CONNECTIONS,
    };
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_at_most_half_of_the_descriptors() {
        for (configured, allowed, expected) in [
            (None, 1_048_576, 1_000),
            (None, 2_000, 1_000),
            (None, 256, 128),
            (None, 1, 1),
            (Some(1), 1_024, 1),
            (Some(512), 1_024, 512),
            (Some(5_000), u64::MAX, 5_000),
        ] {
            assert_eq!(connections(configured, allowed).unwrap(), expected, "{configured:?} of {allowed}");
        }
        let line = "server.max_connections = 513: this process may have 1024 files open, half of them connections; \
                    write 512, or raise the limit to 1026 (systemd: LimitNOFILE=1026)";
        assert_eq!(connections(Some(513), 1_024).unwrap_err().to_string(), line);
    }
}
