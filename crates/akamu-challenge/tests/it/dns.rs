//! dns-01 and dns-persist-01 on names in memory, and the DNS client on real sockets.

mod client;
mod dns_01;
mod dns_persist_01;
mod dnssec;
mod forwarders;
mod localhost;
mod server;
mod signed_zone;

use std::time::Duration;

use akamu_challenge::{Deadline, Event, TxtRecord, ValidationReport};

use crate::formats::dns::Names;

impl Names {
    /// Ones with these TXT records at `name`.
    fn with_txt(name: &str, records: &[&str]) -> Self {
        let it = Self::default();
        it.names.set_txt(name, Ok(records.iter().map(|it| TxtRecord::new([*it])).collect()));
        it
    }
}

fn ten_seconds() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// The detail that the client is told.
fn detail(report: &ValidationReport) -> &str {
    &report.result().unwrap_err().detail
}

/// The rules that decided about each record.
fn rules(report: &ValidationReport) -> Vec<(bool, &str)> {
    let rule = |event| match event {
        &Event::TxtRecord { accepted, ref rule, .. } => Some((accepted, rule.as_str())),
        _ => None,
    };
    report.transcript.iter().filter_map(|it| rule(&it.event)).collect()
}
