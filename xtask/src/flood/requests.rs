//! Requests that prove nothing: garbage of every kind, and newNonce.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Interval;
use tokio_rustls::TlsConnector;

use crate::acme::{Account, Directory};
use crate::failure::{Context, Failure};

/// What was sent and answered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) sent: u64,
    by_status: BTreeMap<u16, u64>,
    /// The connection was closed instead, as for a body of 1 MB that nobody reads.
    unanswered: u64,
}

impl Requests {
    pub(super) fn server_errors(&self) -> u64 {
        self.by_status.iter().filter(|(status, _)| **status >= 500).map(|(_, count)| count).sum()
    }

    fn saw(&mut self, status: Option<u16>) {
        self.sent += 1;
        match status {
            Some(status) => *self.by_status.entry(status).or_default() += 1,
            None => self.unanswered += 1,
        }
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent", self.sent)?;
        for (status, count) in &self.by_status {
            write!(f, ", {count} answered {status}")?;
        }
        if self.unanswered > 0 { write!(f, ", {} by closing", self.unanswered) } else { Ok(()) }
    }
}

/// Asks for nonces.
pub(super) async fn nonces(
    directory: &Directory,
    count: u32,
    mut pace: Option<Interval>,
    is_over: &AtomicBool,
) -> Result<Requests, Failure> {
    let mut sender = Sender::of(directory);
    let mut seen = Requests::default();
    for _ in 0..count {
        wait(&mut pace).await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let request = Request::head(directory.new_nonce()).body(Full::default());
        seen.saw(sender.send(request.context(sending)?).await.status);
    }
    Ok(seen)
}

/// Sends garbage, each kind in turn.
pub(super) async fn garbage(
    directory: &Directory,
    count: u32,
    mut pace: Option<Interval>,
    is_over: &AtomicBool,
) -> Result<Requests, Failure> {
    let account = Account::generate()?;
    let mut sender = Sender::of(directory);
    let mut nonce = None;
    let mut seen = Requests::default();
    for number in 0..count {
        wait(&mut pace).await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let answer = sender.send(of_kind(number, directory, &account, nonce.take())?).await;
        nonce = answer.nonce;
        seen.saw(answer.status);
    }
    Ok(seen)
}

async fn wait(pace: &mut Option<Interval>) {
    if let Some(pace) = pace {
        pace.tick().await;
    }
}

fn sending() -> String {
    "garbage that is no request".to_owned()
}

fn of_kind(
    number: u32,
    directory: &Directory,
    account: &Account,
    nonce: Option<String>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let (new_account, new_order) = (directory.new_account(), directory.new_order());
    let unknown = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX".to_owned();
    let nonce = nonce.unwrap_or_else(|| unknown.clone());
    let jose = |url: &str| Request::post(url).header(CONTENT_TYPE, "application/jose+json");
    let (request, body) = match number % 9 {
        0 => (jose(new_order), "{\"protected\":".to_owned()),
        1 => (jose(new_order), "[".repeat(10_000)),
        2 => (jose(new_account), account.jws(new_account, &unknown, "{}")?),
        3 => (jose(new_account), forged(&account.jws(new_account, &nonce, "{}")?)?),
        4 => {
            let url = format!("{}/1", new_account.replace("new-account", "account"));
            (jose(new_order), account.claiming(&url).jws(new_order, &nonce, "{}")?)
        }
        5 => (Request::post(new_order).header(CONTENT_TYPE, "text/plain"), "x".to_owned()),
        6 => (Request::get(new_order).header("x", "x".repeat(20_000)), String::new()),
        7 => (Request::get(format!("{new_order}/{number}")), String::new()),
        _ => (jose(new_order), " ".repeat(1_000_000)),
    };
    request.body(Full::from(body)).context(sending)
}

/// The same JWS with another signature.
fn forged(jws: &str) -> Result<String, Failure> {
    let mut jws: Value = serde_json::from_str(jws).context(sending)?;
    if let Some(signature) = jws.get_mut("signature") {
        *signature = json!("A".repeat(86));
    }
    Ok(jws.to_string())
}

/// One connection, opened anew where the server has closed it.
struct Sender {
    authority: String,
    tls: TlsConnector,
    open: Option<SendRequest<Full<Bytes>>>,
}

#[derive(Default)]
struct Answer {
    status: Option<u16>,
    nonce: Option<String>,
}

impl Sender {
    fn of(directory: &Directory) -> Self {
        let authority = directory.new_nonce().split('/').nth(2).unwrap_or_default().to_owned();
        Self { authority, tls: Arc::clone(directory.tls()).into(), open: None }
    }

    /// Nothing in it where the connection was closed.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.unwrap_or_default()
    }

    async fn try_send(&mut self, mut request: Request<Full<Bytes>>) -> Option<Answer> {
        let path = request.uri().path().parse().ok()?;
        *request.uri_mut() = path;
        request.headers_mut().insert(HOST, self.authority.parse().ok()?);
        let mut open = match self.open.take() {
            Some(open) if !open.is_closed() => open,
            _ => self.connect().await?,
        };
        open.ready().await.ok()?;
        let (head, body) = open.send_request(request).await.ok()?.into_parts();
        body.collect().await.ok()?;
        self.open = Some(open);
        let nonce = head.headers.get("replay-nonce").and_then(|it| it.to_str().ok()).map(str::to_owned);
        Some(Answer { status: Some(head.status.as_u16()), nonce })
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = self.tls.connect(ServerName::try_from("localhost").ok()?, stream).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        // How it ends, the next request sees.
        tokio::spawn(connection);
        Some(sender)
    }
}
