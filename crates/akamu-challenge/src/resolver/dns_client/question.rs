//! One question to one server, and its entry in the report.

use std::future::Future;
use std::net::SocketAddr;

use hickory_net::proto::dnssec::rdata::DNSSECRData;
use hickory_net::proto::op::{Message, ResponseCode};
use hickory_net::proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

use super::LookupError;
use super::exchange::{Network, Query, Reply};
use super::steps::Steps;
use crate::report::millis;
use crate::{Deadline, Event, Excerpt};

/// How many records of one answer stand in the report.
const MAX_SHOWN: usize = 16;

/// Who is asked for what.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) network: &'a Network,
    pub(super) server: SocketAddr,
    pub(super) name: &'a Name,
    pub(super) record_type: RecordType,
    /// Whether signatures are wanted too (DO, RFC 4035 §3.2.1).
    pub(super) signatures: bool,
}

impl Question<'_> {
    /// The answer: there is one, even if it is that nothing is there. Asked once more without EDNS where the server does
    /// not know that (RFC 6891 §6.2.2).
    pub(super) async fn ask(self, deadline: Deadline, steps: &Steps) -> Result<Message, LookupError> {
        let mut answer = self.exchange(true, deadline, steps).await?;
        if matches!(answer.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp) {
            answer = self.exchange(false, deadline, steps).await?;
        }
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
            ResponseCode::ServFail => Err(LookupError::ServFail),
            ResponseCode::Refused => Err(LookupError::Refused),
            code => Err(LookupError::ResponseCode(code.into())),
        }
    }

    /// Over UDP and, where the answer was truncated, over TCP.
    async fn exchange(self, with_edns: bool, deadline: Deadline, steps: &Steps) -> Result<Message, LookupError> {
        let query = Query::new(self.name, self.record_type, with_edns, self.signatures)?;
        let mut reply = self.recorded("UDP", query.over_udp(self.server, self.network), deadline, steps).await?;
        if let Reply::Truncated = reply {
            reply = self.recorded("TCP", query.over_tcp(self.server, self.network), deadline, steps).await?;
        }
        match reply {
            Reply::Whole(message) => Ok(message),
            Reply::Truncated => Err(LookupError::Malformed),
        }
    }

    /// Waits for `reply` and records what came of it.
    async fn recorded(
        self,
        transport: &'static str,
        reply: impl Future<Output = Result<Reply, LookupError>>,
        deadline: Deadline,
        steps: &Steps,
    ) -> Result<Reply, LookupError> {
        let mut unanswered = Unanswered { question: self, transport, start: Instant::now(), steps: Some(steps) };
        let reply = deadline.bound(reply).await.unwrap_or(Err(LookupError::Timeout));
        unanswered.end(&reply);
        reply
    }

    fn step(self, transport: &str, reply: &Result<Reply, LookupError>, start: Instant) -> Event {
        let (outcome, answers) = match reply {
            Ok(Reply::Whole(message)) => (code_name(message.metadata.response_code), shown(message, self.name)),
            Ok(Reply::Truncated) => ("truncated".to_owned(), Vec::new()),
            Err(error) => (error.to_string(), Vec::new()),
        };
        Event::Lookup {
            server: format!("{} ({transport})", self.server),
            name: name_text(self.name),
            record_type: self.record_type.into(),
            outcome,
            answers,
            duration_ms: millis(start.elapsed()),
        }
    }
}

/// A question that is waited for. Where the waiting is given up from outside, dropping this records a timeout.
struct Unanswered<'a> {
    question: Question<'a>,
    transport: &'static str,
    start: Instant,
    steps: Option<&'a Steps>,
}

impl Unanswered<'_> {
    fn end(&mut self, reply: &Result<Reply, LookupError>) {
        if let Some(steps) = self.steps.take() {
            steps.push(self.question.step(self.transport, reply, self.start));
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.end(&Err(LookupError::Timeout));
    }
}

/// The records of the answer that are `name`'s own.
fn shown(answer: &Message, name: &Name) -> Vec<Excerpt> {
    let own = || answer.answers.iter().filter(|it| it.name == *name).map(|it| &it.data);
    let text = |data: &RData| match data {
        RData::TXT(txt) => Excerpt::new(txt.txt_data.concat()),
        RData::CNAME(target) => Excerpt::new(format!("CNAME {}", name_text(&target.0))),
        // By their tags: keys and signatures are long.
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => {
            Excerpt::new(format!("DNSKEY {}", key.calculate_key_tag().unwrap_or_default()))
        }
        RData::DNSSEC(DNSSECRData::DS(ds)) => Excerpt::new(format!("DS {}", ds.key_tag())),
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => {
            Excerpt::new(format!("RRSIG {} {}", signature.input().type_covered, signature.input().key_tag))
        }
        other => Excerpt::new(other.to_string()),
    };
    let mut shown: Vec<_> = own().take(MAX_SHOWN).map(text).collect();
    let left_out = own().count().saturating_sub(MAX_SHOWN);
    if left_out > 0 {
        shown.push(Excerpt::new(format!("and {left_out} more")));
    }
    shown
}

/// A name in printable ASCII, without the dot at its end; the root is that dot.
pub(super) fn name_text(name: &Name) -> String {
    let ascii = name.to_ascii();
    let text = ascii.strip_suffix('.').filter(|it| !it.is_empty()).unwrap_or(&ascii);
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("response code {}", u16::from(other)),
    }
}
