//! One HTTP/1.1 request and its answer, on a connection of our own, bounded in time and octets.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use akamu_proto::{ErrorType, Identifier};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::time::Instant;

use super::redirect::{self, is_redirect};
use crate::dial::authority;
use crate::metered::{Metered, describe};
use crate::report::millis;
use crate::tls_handshake::{Handshake, shake_hands};
use crate::{ChallengeError, Deadline, Event, Excerpt, Probe, Transcript};

/// A body must be shorter than this, in octets.
pub(super) const BODY_LIMIT: usize = 8 * 1024;

/// The longest head of a response, in octets.
const HEAD_LIMIT: usize = 16 * 1024;

/// The most header fields of a response.
const MAX_HEADER_FIELDS: usize = 100;

const USER_AGENT: &str = concat!("akamu/", env!("CARGO_PKG_VERSION"));

/// What is asked for.
pub(super) struct Target {
    pub(super) identifier: Identifier,
    pub(super) port: u16,
    pub(super) path: PathAndQuery,
    /// For https; absent for http.
    pub(super) tls: Option<Arc<CryptoProvider>>,
    /// Whether the Host field names a port that is not the scheme's own: a redirect's does, the first one never.
    pub(super) names_port: bool,
}

/// What came back.
pub(super) struct Answer {
    pub(super) peer: SocketAddr,
    pub(super) status: StatusCode,
    pub(super) location: Option<HeaderValue>,
    pub(super) body: Body,
}

impl Answer {
    /// The Location of a redirect.
    pub(super) fn redirect(&self) -> Option<&HeaderValue> {
        self.location.as_ref().filter(|_| is_redirect(self.status))
    }

    /// Whence it came, in words.
    pub(super) fn place(&self, target: &Target) -> String {
        format!("{target} ({})", self.peer)
    }
}

/// A body, as far as it came.
pub(super) enum Body {
    /// A redirect's, which nobody needs.
    Unread,
    Complete(Vec<u8>),
    /// Of [`BODY_LIMIT`] octets or more; the first of them.
    TooLong(Vec<u8>),
    Broken {
        octets: Vec<u8>,
        error: ChallengeError,
    },
}

impl Body {
    pub(super) fn octets(&self) -> &[u8] {
        match self {
            Self::Unread => &[],
            Self::Complete(octets) | Self::TooLong(octets) | Self::Broken { octets, .. } => octets,
        }
    }
}

impl Target {
    /// The Host field: the identifier, an IPv6 address in brackets.
    fn host(&self) -> String {
        match &self.identifier {
            _ if self.names_port && self.port != self.default_port() => self.authority(),
            Identifier::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.without_wildcard().to_string(),
        }
    }

    fn authority(&self) -> String {
        authority(&self.identifier, self.port)
    }

    const fn default_port(&self) -> u16 {
        if self.tls.is_some() { 443 } else { 80 }
    }

    fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match &self.identifier {
            Identifier::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
            Identifier::Dns(name) | Identifier::Wildcard(name) => ServerName::try_from(name.to_string()),
        }
    }

    /// The URL, whole.
    pub(super) fn url(&self) -> String {
        self.url_with(self.path.as_str())
    }

    fn url_with(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.port == self.default_port() {
            format!("{scheme}://{}{path}", self.host())
        } else {
            format!("{scheme}://{}{path}", self.authority())
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, http::Error> {
        Request::get(self.path.as_str())
            .header(header::HOST, self.host())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::new())
    }

    /// Connects, asks and reads.
    pub(super) async fn fetch(
        &self,
        probe: &Probe,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Answer, ChallengeError> {
        let internal = |what: String| ChallengeError::new(ErrorType::ServerInternal, format!("{self}: {what}"));
        let request = self.request().map_err(|it| internal(format!("the request cannot be written: {it}")))?;
        let mut dialled = probe.dial(&self.identifier, self.port, deadline, transcript).await?;
        let peer = dialled.peer;
        let Some(provider) = &self.tls else {
            return self.exchange(request, peer, &mut dialled.stream, deadline, transcript).await;
        };
        let server_name = self.server_name().map_err(|it| internal(it.to_string()))?;
        match shake_hands(provider, server_name, &[], &mut dialled.stream, deadline, transcript).await {
            Ok(Handshake { stream, .. }) => {
                self.exchange(request, peer, &mut Metered::new(Box::new(stream)), deadline, transcript).await
            }
            Err(failure) => {
                let words = failure.tell(&dialled.stream, transcript);
                Err(ChallengeError::new(ErrorType::Tls, format!("{self} ({peer}): {words}")))
            }
        }
    }

    /// Asks and reads on an open connection.
    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
        peer: SocketAddr,
        stream: &mut Metered<'_>,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Answer, ChallengeError> {
        transcript.record(Event::HttpRequest {
            request: format!("GET {}", Excerpt::new(self.path.as_str())),
            host: self.host(),
        });
        let outcome = self.converse(request, peer, stream, deadline, transcript).await;
        if outcome.is_err() {
            transcript.record(stream.raw_octets());
        }
        outcome
    }

    async fn converse(
        &self,
        request: Request<Empty<Bytes>>,
        peer: SocketAddr,
        stream: &mut Metered<'_>,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Answer, ChallengeError> {
        let outcome = {
            let (mut sender, connection) = http1::Builder::new()
                .title_case_headers(true)
                .max_header_size(HEAD_LIMIT)
                .max_buf_size(HEAD_LIMIT)
                .max_headers(MAX_HEADER_FIELDS)
                .handshake(TokioIo::new(&mut *stream))
                .await
                .map_err(|error| self.failure(peer, &error, "before its answer"))?;
            let answer = pin!(async {
                let start = Instant::now();
                let response = match deadline.bound(sender.send_request(request)).await {
                    Ok(outcome) => outcome.map_err(Failure::Hyper)?,
                    Err(_) => return Err(Failure::NoAnswer),
                };
                transcript.record(head_event(&response, start));
                Ok(self.read(response, peer, deadline, transcript).await)
            });
            // The connection is driven here, by nobody's task: when this future ends or is dropped, so is the connection.
            match select(answer, pin!(connection)).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right((ended, answer)) => match (answer.await, ended) {
                    // hyper tells whoever waits that its request was cancelled, and why only here.
                    (Err(Failure::Hyper(error)), Err(cause)) if error.is_canceled() => Err(Failure::Hyper(cause)),
                    (outcome, _) => outcome,
                },
            }
        };
        outcome.map_err(|failure| match failure {
            Failure::NoAnswer => self.no_answer(peer, stream),
            Failure::Hyper(error) if error.is_parse() => self.not_http(peer, &error, stream),
            Failure::Hyper(error) => self.failure(peer, &error, "before its answer"),
        })
    }

    /// Reads the body: up to the limit where it matters, and where it does not, what comes at once.
    async fn read(
        &self,
        response: Response<Incoming>,
        peer: SocketAddr,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Answer {
        let (head, mut incoming) = response.into_parts();
        let location = head.headers.get(header::LOCATION).cloned();
        if location.is_some() && is_redirect(head.status) {
            return Answer { peer, status: head.status, location, body: Body::Unread };
        }
        let deadline = if head.status == StatusCode::OK { deadline } else { deadline.share(4) };
        let mut octets = Vec::new();
        let body = loop {
            let frame = match deadline.bound(incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break Body::Complete(octets),
                Ok(Some(Err(error))) => {
                    let error = self.failure(peer, &error, &format!("after {} octets of its body", octets.len()));
                    break Body::Broken { octets, error };
                }
                Err(_) => {
                    let detail = format!("{self} ({peer}): timed out after {} octets of the body", octets.len());
                    break Body::Broken { octets, error: ChallengeError::new(ErrorType::Connection, detail) };
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            octets.extend(data.iter().take(BODY_LIMIT - octets.len()));
            if octets.len() == BODY_LIMIT || incoming.size_hint().lower() >= BODY_LIMIT as u64 {
                break Body::TooLong(octets);
            }
        };
        transcript.record(Event::HttpBody {
            octets: body.octets().len(),
            start: Excerpt::new(body.octets()),
            complete: matches!(body, Body::Complete(_)),
        });
        Answer { peer, status: head.status, location, body }
    }

    fn no_answer(&self, peer: SocketAddr, stream: &Metered<'_>) -> ChallengeError {
        let seen = match stream.octets() {
            0 => "timed out waiting for an answer".to_owned(),
            octets => format!("timed out after {octets} octets of the answer's head: \"{}\"", stream.start()),
        };
        ChallengeError::new(ErrorType::Connection, format!("{self} ({peer}): {seen}"))
    }

    fn not_http(&self, peer: SocketAddr, error: &hyper::Error, stream: &Metered<'_>) -> ChallengeError {
        let start = stream.start();
        let detail =
            format!("the answer at {self} ({peer}) is no HTTP/1.1 response that we take ({error}): \"{start}\"");
        ChallengeError::new(ErrorType::IncorrectResponse, detail)
    }

    /// A connection that broke, or a message that contradicts itself.
    fn failure(&self, peer: SocketAddr, error: &hyper::Error, when: &str) -> ChallengeError {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(error) = inner.downcast_ref::<io::Error>() {
                // What arrived and is wrong is an answer: hyper's word for bad chunks, ours for too many octets.
                let error_type = match error.kind() {
                    io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ErrorType::IncorrectResponse,
                    _ => ErrorType::Connection,
                };
                return ChallengeError::new(error_type, format!("{self} ({peer}): {} {when}", describe(error)));
            }
            cause = inner.source();
        }
        let (error_type, what) = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            (ErrorType::Connection, "connection closed".to_owned())
        } else {
            (ErrorType::IncorrectResponse, Excerpt::new(error.to_string()).to_string())
        };
        ChallengeError::new(error_type, format!("{self} ({peer}): {what} {when}"))
    }
}

/// Why no response came.
enum Failure {
    NoAnswer,
    Hyper(hyper::Error),
}

fn head_event(response: &Response<Incoming>, start: Instant) -> Event {
    Event::HttpResponse {
        version: format!("{:?}", response.version()),
        status: response.status().as_u16(),
        location: response.headers().get(header::LOCATION).map(redirect::show),
        header_names: response.headers().keys().map(|it| Excerpt::new(it.as_str())).collect(),
        duration_ms: millis(start.elapsed()),
    }
}

/// The URL, or the start of it where a redirect led to a long one.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url_with(Excerpt::new(self.path.as_str()).as_str()))
    }
}
