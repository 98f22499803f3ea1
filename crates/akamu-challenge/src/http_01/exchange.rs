//! One HTTP/1.1 request and its answer, on a connection of our own, bounded in time and octets.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use akamu_proto::{ErrorType, Identifier};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::dial::{Dialled, authority};
use crate::metered::{Metered, describe};
use crate::report::millis;
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
    pub(super) path: String,
}

/// What came back.
pub(super) struct Answer {
    pub(super) peer: SocketAddr,
    pub(super) status: StatusCode,
    pub(super) location: Option<Excerpt>,
    pub(super) body: Body,
}

/// A body, as far as it came.
pub(super) enum Body {
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
        let (Self::Complete(octets) | Self::TooLong(octets) | Self::Broken { octets, .. }) = self;
        octets
    }
}

impl Target {
    /// The Host field: the identifier, an IPv6 address in brackets, never a port.
    fn host(&self) -> String {
        match &self.identifier {
            Identifier::Ip(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            other => other.without_wildcard().to_string(),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, http::Error> {
        Request::get(&self.path)
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
        let request = self.request().map_err(|error| {
            ChallengeError::new(ErrorType::ServerInternal, format!("the request to {self} cannot be written: {error}"))
        })?;
        let mut dialled = probe.dial(&self.identifier, self.port, deadline, transcript).await?;
        transcript.record(Event::HttpRequest { request: format!("GET {}", self.path), host: self.host() });
        let outcome = self.exchange(request, &mut dialled, deadline, transcript).await;
        if outcome.is_err() {
            transcript.record(dialled.stream.raw_octets());
        }
        outcome
    }

    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
        dialled: &mut Dialled,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Answer, ChallengeError> {
        let peer = dialled.peer;
        let outcome = {
            let (mut sender, connection) = http1::Builder::new()
                .title_case_headers(true)
                .max_header_size(HEAD_LIMIT)
                .max_buf_size(HEAD_LIMIT)
                .max_headers(MAX_HEADER_FIELDS)
                .handshake(TokioIo::new(&mut dialled.stream))
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
            Failure::NoAnswer => self.no_answer(peer, &dialled.stream),
            Failure::Hyper(error) if error.is_parse() => self.not_http(peer, &error, &dialled.stream),
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
        let location = head.headers.get(header::LOCATION).map(|it| Excerpt::new(it.as_bytes()));
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
                let detail = format!("{self} ({peer}): {} {when}", describe(error));
                return ChallengeError::new(ErrorType::Connection, detail);
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
        header_names: response.headers().keys().map(|it| Excerpt::new(it.as_str())).collect(),
        duration_ms: millis(start.elapsed()),
    }
}

/// As a URL, with the port where it is not 80.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, path, .. } = self;
        match port {
            80 => write!(f, "http://{}{path}", self.host()),
            _ => write!(f, "http://{}{path}", authority(&self.identifier, *port)),
        }
    }
}
