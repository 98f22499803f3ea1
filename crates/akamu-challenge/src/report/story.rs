//! A report told in lines of text, for an operator's terminal or log.

use std::fmt;

use super::{Event, Excerpt, ValidationReport};

impl fmt::Display for ValidationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, identifier, started_at, .. } = self;
        writeln!(f, "{method} of {identifier}, begun {started_at}:")?;
        for entry in &self.transcript {
            write!(f, "  {:>6} ms  ", entry.at_ms)?;
            if let Some(perspective) = &entry.perspective {
                write!(f, "[{perspective}] ")?;
            }
            writeln!(f, "{}", entry.event)?;
        }
        if self.omitted > 0 {
            writeln!(f, "  ({} entries left out)", self.omitted)?;
        }
        write!(f, "  {:>6} ms  {}", self.duration_ms, self.conclusion)
    }
}

struct Listed<'a>(&'a [Excerpt]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, excerpt) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "\"{excerpt}\"")?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { server, name, record_type, outcome, answers, duration_ms } => {
                write!(f, "{name} {record_type} from {server}: {outcome}")?;
                if !answers.is_empty() {
                    write!(f, " {}", Listed(answers))?;
                }
                write!(f, " ({duration_ms} ms)")
            }
            Self::Dnssec { name, record_type, status, detail } => {
                write!(f, "{name} {record_type}: DNSSEC {status}: {detail}")
            }
            Self::TxtRecord { value, dialect, accepted, rule } => {
                let verdict = if *accepted { "accepted" } else { "rejected" };
                write!(f, "TXT \"{value}\" {verdict}: {rule}")?;
                dialect.map_or(Ok(()), |dialect| write!(f, " ({dialect})"))
            }
            Self::AddressRefused { address, rule } => write!(f, "{address} may not be dialled: {rule}"),
            Self::Dialled { address, outcome, duration_ms } => write!(f, "TCP {address}: {outcome} ({duration_ms} ms)"),
            Self::HttpRequest { request, host } => write!(f, "sent {request} (Host: {host})"),
            Self::HttpResponse { version, status, location, header_names, duration_ms } => {
                write!(f, "answer {version} {status}")?;
                if let Some(location) = location {
                    write!(f, ", Location \"{location}\"")?;
                }
                write!(f, " ({duration_ms} ms), header {}", Listed(header_names))
            }
            Self::HttpBody { octets, start, complete } => {
                let end = if *complete { "" } else { ", incomplete" };
                write!(f, "body of {octets} octets{end}: \"{start}\"")
            }
            Self::RawOctets { octets, start } => write!(f, "received {octets} octets: \"{start}\""),
            Self::TlsHandshake { server_name, outcome, version, alpn, duration_ms } => {
                write!(f, "TLS handshake for {server_name}: {outcome}")?;
                if let Some(version) = version {
                    write!(f, ", {version}")?;
                }
                if let Some(alpn) = alpn {
                    write!(f, ", ALPN \"{alpn}\"")?;
                }
                write!(f, " ({duration_ms} ms)")
            }
            Self::Certificate { sha256, names } => write!(f, "certificate {sha256}, names {}", Listed(names)),
            Self::Perspective { name, outcome } => write!(f, "from {name}: {outcome}"),
            Self::Note { text } => f.write_str(text),
        }
    }
}
