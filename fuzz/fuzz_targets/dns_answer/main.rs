//! What name servers, and forgers, answer to the DNS client: one message after another, until the lookup ends.
//!
//! The first octet says what is looked up: whether answers are validated (1), addresses instead of TXT records (2), which
//! name (its next two bits), and whether the zones deny by NSEC3 (16). Then come answers, each to the next question: an
//! octet that says how (see [`How`]), and, unless the zones themselves are to answer, the header's flags (2 octets), the
//! counts of the last three sections (1 each), the sections' length (2) and the sections. So mutations need not guess the
//! id, the question or a signature. Where the answers end the zones answer.

#![no_main]

mod zones;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNameServer};
use akamu_challenge::{
    ChallengeError, Deadline, DnsClient, Dnssec, DnssecStatus, Event, Lookup, LookupError, MAX_REPORT_OCTETS,
    Resolver as _, Transcript, TrustAnchors, TxtRecord, ValidationRequest,
};
use akamu_proto::{ChallengeType, DnsName, ErrorType, Identifier, Timestamp};
use hickory_net::proto::rr::RData;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

use zones::{NOW, Signed, Zones};

const NAMES: [&str; 4] = ["name.signed", "name.unsigned", "name.plain", "a.b.signed"];

/// How many CNAME records are followed.
const MAX_CNAMES: usize = 10;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without I/O")
});

static ANCHORS: LazyLock<TrustAnchors> = LazyLock::new(|| zones::anchor().parse().expect("it is an anchor"));

fuzz_target!(|octets: &[u8]| {
    let Some((what, script)) = octets.split_first() else { return };
    let name = NAMES[usize::from(what >> 2 & 3)];
    let server = Arc::new(Mutex::new(Server::new(script, what & 16 != 0)));
    let answers = Arc::clone(&server);
    let mut client =
        TestNameServer::new(move |query| answers.lock().expect("it does not panic").answer(query)).client();
    if what & 1 != 0 {
        client = client
            .with_dnssec(Dnssec::RequireIfSigned)
            .with_trust_anchors(ANCHORS.clone())
            .with_clock(TestClock::at(Timestamp::from_unix_secs(NOW)));
    }
    if what & 2 == 0 {
        let lookup = look_up(client, |client, deadline| async move { client.txt(name, deadline).await });
        server.lock().expect("it does not panic").check(&lookup, what & 1 != 0, txt_in, txt_of);
    } else {
        let name = DnsName::parse(name).expect("it is a name");
        let lookup = look_up(client, |client, deadline| async move { client.addresses(&name, deadline).await });
        server.lock().expect("it does not panic").check(&lookup, what & 1 != 0, address_in, RData::ip_addr);
    }
});

fn look_up<T, F: Future<Output = Lookup<T>>>(
    client: DnsClient,
    ask: impl FnOnce(DnsClient, Deadline) -> F,
) -> Lookup<T> {
    RUNTIME.block_on(async {
        let lookup = ask(client, Deadline::after(Duration::from_secs(10))).await;
        check_report(&lookup);
        lookup
    })
}

/// What is told of it is printable and short.
fn check_report<T>(lookup: &Lookup<T>) {
    let identifier = Identifier::dns("example.com").expect("it is a name");
    let request = ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().expect("it is one"));
    let clock = TestClock::at(Timestamp::from_unix_secs(NOW));
    let mut transcript = Transcript::begin(ChallengeType::DNS_01, &request, &clock);
    lookup.steps.iter().for_each(|it| transcript.record(it.clone()));
    let told = lookup.outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(!told.chars().any(char::is_control) && told.len() <= 4_000, "{told:?}");
    let report = transcript.conclude(Err(ChallengeError::new(ErrorType::Dns, told)));
    assert!(report.to_octets().len() <= MAX_REPORT_OCTETS);
    assert!(!report.to_string().chars().any(|c| c.is_control() && c != '\n'), "{report}");
}

/// An answer's first octet.
#[derive(Clone, Copy)]
struct How(u8);

impl How {
    /// 0: as it stands; 1: signed by the zones' keys; 2: signed as if made from a wildcard; 3: the zones answer.
    fn is_by_zones(self) -> bool {
        self.0 & 3 == 3
    }

    fn signed(self) -> Option<Signed> {
        [None, Some(Signed::AsItIs), Some(Signed::FromWildcard), None][usize::from(self.0 & 3)]
    }

    fn has_other_id(self) -> bool {
        self.0 & 4 != 0
    }

    fn has_other_question(self) -> bool {
        self.0 & 8 != 0
    }

    fn has_no_question(self) -> bool {
        self.0 & 16 != 0
    }

    fn is_silence(self) -> bool {
        self.0 & 32 != 0
    }

    /// Another message comes for the same question.
    fn is_followed(self) -> bool {
        self.0 & 64 != 0
    }
}

/// The server's part, and what it said.
struct Server {
    script: Vec<u8>,
    zones: Zones,
    /// Name and type of each question.
    questions: BTreeSet<Vec<u8>>,
    /// Those messages that are answers to their questions, with the question.
    answers: Vec<Vec<u8>>,
}

impl Server {
    fn new(script: &[u8], with_nsec3: bool) -> Self {
        Self { script: script.to_vec(), zones: Zones::new(with_nsec3), questions: BTreeSet::new(), answers: Vec::new() }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.script.split_off(length.min(self.script.len()));
        std::mem::replace(&mut self.script, rest)
    }

    fn answer(&mut self, query: &[u8]) -> Vec<Vec<u8>> {
        let length = question_length(&query[12..]);
        let question = query[12..12 + length].to_ascii_lowercase();
        self.questions.insert(question.clone());
        let mut messages = Vec::new();
        loop {
            let how = How(self.take(1).first().copied().unwrap_or(3));
            if how.is_silence() {
                break;
            }
            messages.push(if how.is_by_zones() {
                self.zones.answer(query)
            } else {
                self.next(how, &query[..2], &question)
            });
            if !how.is_followed() || self.script.is_empty() {
                break;
            }
        }
        let fits = |it: &&Vec<u8>| {
            let id = it[..2] == query[..2] && it[2] & 0x80 != 0 && it[2] & 0x02 == 0;
            let repeats = match u16::from_be_bytes([it[4], it[5]]) {
                // An error without the question is one too.
                0 => true,
                1 => it[12..].get(..length).is_some_and(|it| it.eq_ignore_ascii_case(&question)),
                _ => false,
            };
            id && repeats
        };
        self.answers.extend(messages.iter().filter(fits).cloned());
        messages
    }

    /// The script's next message.
    fn next(&mut self, how: How, id: &[u8], question: &[u8]) -> Vec<u8> {
        let mut head = self.take(7);
        head.resize(7, 0);
        let sections = self.take(usize::from(u16::from_be_bytes([head[5], head[6]])));
        let mut message = id.to_vec();
        message[1] ^= u8::from(how.has_other_id());
        message.extend([head[0], head[1], 0, u8::from(!how.has_no_question()), 0, head[2], 0, head[3], 0, head[4]]);
        if !how.has_no_question() {
            message.extend(question);
            // The name's first letter.
            message[13] ^= u8::from(how.has_other_question());
        }
        message.extend(sections);
        match how.signed() {
            Some(signed) => self.zones.sign(message, signed),
            None => message,
        }
    }

    /// What was found was sent, in an answer to the question, and signed where it has to be.
    fn check<T: PartialEq + std::fmt::Debug>(
        &self,
        lookup: &Lookup<T>,
        is_validated: bool,
        is_in: impl Fn(&T, &[u8]) -> bool,
        read: impl Fn(&RData) -> Option<T>,
    ) {
        let some = |is: &dyn Fn(&[u8]) -> bool| self.answers.iter().any(|it| is(it));
        let says = |code: u8, it: &[u8]| it[3] & 15 == code && it[5] == 1;
        match &lookup.outcome {
            Ok(found) => {
                assert!(!found.is_empty(), "no record is found as if there were one");
                for record in found {
                    assert!(some(&|it| says(0, it) && is_in(record, it)), "{record:?} was not answered");
                }
            }
            Err(LookupError::NxDomain) => assert!(some(&|it| says(3, it)), "nobody said NXDOMAIN"),
            Err(LookupError::NoData | LookupError::Referral) => assert!(some(&|it| says(0, it)), "nobody said NOERROR"),
            Err(LookupError::ServFail) => assert!(some(&|it| it[3] & 15 == 2), "nobody said SERVFAIL"),
            Err(LookupError::Refused) => assert!(some(&|it| it[3] & 15 == 5), "nobody said REFUSED"),
            Err(LookupError::ResponseCode(code)) => {
                assert!(some(&|it| u16::from(it[3] & 15) == code & 15), "nobody said {code}");
            }
            Err(error) => assert!(*error != LookupError::BadName && *error != LookupError::NoServer, "{error}"),
        }
        for record_type in [16, 28, 1] {
            let asked = self.questions.iter().filter(|it| it.ends_with(&[0, record_type, 0, 1])).count();
            assert!(asked <= 1 + MAX_CNAMES, "{asked} questions of type {record_type}");
        }
        let status =
            |wanted| lookup.steps.iter().any(|it| matches!(it, Event::Dnssec { status, .. } if *status == wanted));
        if is_validated && !status(DnssecStatus::Insecure) {
            for record in lookup.outcome.iter().flatten() {
                assert!(
                    self.zones.signed.iter().any(|it| read(it).as_ref() == Some(record)),
                    "{record:?} is not signed"
                );
            }
            let is_denial = |it: &RData| matches!(u16::from(it.record_type()), 47 | 50);
            let is_absent = lookup.outcome.as_ref().is_err_and(LookupError::is_absence);
            assert!(!is_absent || self.zones.signed.iter().any(is_denial), "no denial is signed");
        }
        assert!(is_validated || !lookup.steps.iter().any(|it| matches!(it, Event::Dnssec { .. })));
    }
}

/// The octets of a question whose name is not compressed.
fn question_length(octets: &[u8]) -> usize {
    let mut length = 0;
    while octets[length] != 0 {
        length += 1 + usize::from(octets[length]);
    }
    length + 5
}

fn txt_of(data: &RData) -> Option<TxtRecord> {
    let RData::TXT(txt) = data else { return None };
    Some(TxtRecord::new(txt.txt_data.iter().map(|it| it.to_vec())))
}

fn txt_in(record: &TxtRecord, message: &[u8]) -> bool {
    let strings =
        record.strings().iter().flat_map(|it| [&[u8::try_from(it.len()).expect("one octet")], &**it].concat());
    contains(message, &strings.collect::<Vec<_>>())
}

fn address_in(address: &IpAddr, message: &[u8]) -> bool {
    match address {
        IpAddr::V4(it) => contains(message, &it.octets()),
        IpAddr::V6(it) => contains(message, &it.octets()),
    }
}

fn contains(message: &[u8], octets: &[u8]) -> bool {
    octets.is_empty() || message.windows(octets.len()).any(|it| it == octets)
}
