//! Whether NSEC or NSEC3 records prove what an answer leaves out (RFC 4035 §5.4, RFC 5155 §8), by hickory's validator: it
//! is given the zone's keys and the message, and asks nobody.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::Timestamp;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{Ready, ready};
use futures_util::stream::{Once, once};
use hickory_net::NetError;
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_net::proto::dnssec::{Proof, TrustAnchors};
use hickory_net::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query, ResponseCode};
use hickory_net::proto::rr::rdata::{NS, TXT};
use hickory_net::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_net::runtime::{RuntimeProvider, Time, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_net::xfer::{DnsHandle, FirstAnswer as _};

use super::super::question::name_text;
use super::signature::{RrSet, SignedZone, signature};

/// How many records of an authority section are looked at. A proof takes four RRsets with a signature or two each.
const MAX_AUTHORITIES: usize = 40;

/// Whether `zone` proves that there is nothing of this type at `name`, as `answer` says.
pub(super) fn is_denied(
    answer: &Message,
    name: &Name,
    record_type: RecordType,
    zone: &SignedZone,
    now: Timestamp,
) -> bool {
    let message = message(name, record_type, answer.metadata.response_code, Vec::new(), denials(answer, zone));
    is_proved(message, zone, now)
}

/// Whether `zone` proves that no record stands nearer to the RRset's name than the wildcard from which it was made, as
/// this signature over it tells.
pub(super) fn is_nearest_wildcard(
    answer: &Message,
    set: &RrSet<'_>,
    signed: &RRSIG,
    zone: &SignedZone,
    now: Timestamp,
) -> bool {
    // One label more than the wildcard's parent: were there anything at or below it, the wildcard would not apply.
    let next_closer = set.name.trim_to(usize::from(signed.input().num_labels) + 1);
    if is_covered(&denials(answer, zone), &next_closer, zone, now) {
        return true;
    }
    // hickory believes the first signature about the wildcard: it sees no other than this one.
    let is_this = |it: &&Record| signature(it, set.record_type).is_some_and(|it| it == signed);
    let signature = answer.answers.iter().filter(|it| it.name == *set.name).filter(is_this).take(1);
    let answers = set.records.iter().copied().chain(signature).cloned().collect();
    let message = message(set.name, set.record_type, ResponseCode::NoError, answers, denials(answer, zone));
    is_proved(message, zone, now)
}

/// Whether an NSEC record says that there is nothing at `name` nor below. hickory asks more of an answer from a wildcard:
/// that the wildcard itself were not there.
fn is_covered(denials: &[Record], name: &Name, zone: &SignedZone, now: Timestamp) -> bool {
    let covers = |it: &Record| {
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &it.data else { return false };
        let (owner, next) = (&it.name, nsec.next_domain_name());
        let is_between = owner < name && (name < next || next <= owner) && !name.zone_of(next);
        let is_of_parent = nsec.is_ancestor_delegation() && owner.zone_of(name);
        is_between && !is_of_parent && is_own(&RrSet::of(denials, owner, RecordType::NSEC), zone, now)
    };
    denials.iter().any(covers)
}

/// Whether these are records of the zone itself, not made from a wildcard.
fn is_own(set: &RrSet<'_>, zone: &SignedZone, now: Timestamp) -> bool {
    set.verify(zone, now).is_ok_and(|it| it.input().num_labels == set.name.num_labels())
}

/// Whether `zone`, by its denial of DS records for `name`, says that it delegates `name` to a zone without signatures, or
/// leaves that open (opt-out, RFC 5155 §6).
pub(super) fn is_insecure_delegation(answer: &Message, name: &Name, zone: &SignedZone, now: Timestamp) -> bool {
    let unsigned = |record_type, data| {
        let record = Record::from_rdata(name.clone(), 0, data);
        message(name, record_type, ResponseCode::NoError, vec![record], Vec::new())
    };
    // hickory decides this where it judges an unsigned record.
    let question = unsigned(RecordType::TXT, RData::TXT(TXT::new(Vec::new())));
    let cut = unsigned(RecordType::NS, RData::NS(NS(name.clone())));
    let denial = message(name, RecordType::DS, answer.metadata.response_code, Vec::new(), denials(answer, zone));
    let judged = validated(question, vec![cut, denial], zone, now);
    judged.is_some_and(|it| !it.answers.is_empty() && it.answers.iter().all(|it| it.proof == Proof::Insecure))
}

/// Why a proof of `zone` is none, for the report.
pub(super) fn denial_flaw(answer: &Message, zone: &SignedZone, now: Timestamp) -> String {
    let denials = denials(answer, zone);
    let mut flaw = format!("no NSEC or NSEC3 record of {} came with the answer", name_text(&zone.name));
    for it in denials.iter().filter(|it| is_nsec(it)) {
        let record_type = it.record_type();
        match RrSet::of(&denials, &it.name, record_type).verify(zone, now) {
            Ok(_) => flaw = format!("the {record_type} records of {} do not say so", name_text(&zone.name)),
            Err(found) => {
                return format!("the signature of the {record_type} record of {} {found}", name_text(&it.name));
            }
        }
    }
    flaw
}

fn is_nsec(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)
}

/// The records of the authority section by which `zone` may deny something; whether it signed them is yet to be seen.
fn denials(answer: &Message, zone: &SignedZone) -> Vec<Record> {
    let is_denial = |it: &&Record| {
        matches!(it.record_type(), RecordType::SOA | RecordType::NSEC | RecordType::NSEC3 | RecordType::RRSIG)
    };
    let own = answer.authorities.iter().filter(|it| it.dns_class == DNSClass::IN && zone.name.zone_of(&it.name));
    own.filter(is_denial).take(MAX_AUTHORITIES).cloned().collect()
}

fn message(
    name: &Name,
    record_type: RecordType,
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
) -> Message {
    let mut message = Message::query().into_response();
    message.metadata.response_code = code;
    message.add_query(Query::query(name.clone(), record_type));
    message.add_answers(answers).add_authorities(authorities);
    message
}

/// Whether the validator let the message pass, and by a signed denial: no other reason to let it pass counts here.
fn is_proved(message: Message, zone: &SignedZone, now: Timestamp) -> bool {
    validated(message, Vec::new(), zone, now)
        .is_some_and(|it| it.authorities.iter().any(|it| is_nsec(it) && it.proof == Proof::Secure))
}

/// The message with hickory's judgement of each record, where it does not refuse the whole. It knows `others` besides.
fn validated(message: Message, others: Vec<Message>, zone: &SignedZone, now: Timestamp) -> Option<DnsResponse> {
    let mut anchors = TrustAnchors::empty();
    for key in &zone.keys {
        anchors.insert_with_name(key.public_key(), (&zone.name).into());
    }
    let keys = zone
        .keys
        .iter()
        .map(|key| Record::from_rdata(zone.name.clone(), 0, RData::DNSSEC(DNSSECRData::DNSKEY(key.clone()))));
    let keys = self::message(&zone.name, RecordType::DNSKEY, ResponseCode::NoError, keys.collect(), Vec::new());
    let query = message.queries.first()?.clone();
    let known = Known(others.into_iter().chain([keys, message]).collect());
    let handle = DnssecDnsHandle::with_trust_anchor(known, Arc::new(anchors)).validation_cache_size(1);
    let answer = handle.lookup(query, DnsRequestOptions::default()).first_answer();
    NOW.sync_scope(now, || answer.now_or_never())?.ok()
}

/// Answers from these messages alone.
#[derive(Clone)]
struct Known(Arc<[Message]>);

impl DnsHandle for Known {
    type Response = Once<Ready<Result<DnsResponse, NetError>>>;
    type Runtime = Runtime;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let known = self.0.iter().find(|it| it.queries == request.queries);
        let answer =
            known.ok_or_else(|| NetError::from("not known")).and_then(|it| Ok(DnsResponse::from_message(it.clone())?));
        once(ready(answer))
    }
}

tokio::task_local! {
    /// The validator asks a type, not a value, for the time.
    static NOW: Timestamp;
}

struct Now;

#[async_trait]
impl Time for Now {
    async fn delay_for(duration: Duration) {
        TokioTime::delay_for(duration).await;
    }

    async fn timeout<F: 'static + Future + Send>(duration: Duration, future: F) -> Result<F::Output, io::Error> {
        TokioTime::timeout(duration, future).await
    }

    fn current_time() -> u64 {
        NOW.try_with(|now| now.unix_secs()).ok().and_then(|it| u64::try_from(it).ok()).unwrap_or(0)
    }
}

/// What the validator asks for beside the time is for handles that have sockets.
#[derive(Clone, Default)]
struct Runtime(TokioRuntimeProvider);

impl RuntimeProvider for Runtime {
    type Handle = TokioHandle;
    type Timer = Now;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        self.0.bind_udp(local, server)
    }
}
