//! HTTP/1.1 over one connection that is kept, and made anew where the server has closed it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::{Context, Failure};

#[derive(Debug)]
pub(super) struct Connection {
    /// `host:port`.
    authority: String,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    open: Option<SendRequest<Full<Bytes>>>,
    /// Requests that were sent.
    pub(super) sent: u64,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Connection {
    /// A connection to the server of `url`, made when it is needed.
    pub(super) fn to(url: &str, tls: &Arc<ClientConfig>) -> Result<Self, Failure> {
        let authority = parts(url)?.0.to_owned();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host).to_owned();
        let name = ServerName::try_from(host).context(|| format!("{url}: no host"))?;
        Ok(Self { authority, tls: Arc::clone(tls), name, open: None, sent: 0 })
    }

    /// The next request opens another one.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) async fn get(&mut self, url: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, url, None).await
    }

    pub(super) async fn head(&mut self, url: &str) -> Result<Answer, Failure> {
        self.send(Method::HEAD, url, None).await
    }

    pub(super) async fn post(&mut self, url: &str, jws: String) -> Result<Answer, Failure> {
        self.send(Method::POST, url, Some(jws)).await
    }

    async fn send(&mut self, method: Method, url: &str, jws: Option<String>) -> Result<Answer, Failure> {
        let sending = || format!("{method} {url}");
        let mut request = Request::builder().method(&method).uri(parts(url)?.1).header(HOST, &self.authority);
        if jws.is_some() {
            request = request.header(CONTENT_TYPE, "application/jose+json");
        }
        let request = request.body(Full::from(jws.unwrap_or_default())).context(sending)?;
        let mut open = match self.open.take() {
            Some(open) if !open.is_closed() => open,
            _ => self.connect().await?,
        };
        open.ready().await.context(sending)?;
        self.sent += 1;
        let (head, body) = open.send_request(request).await.context(sending)?.into_parts();
        let body = body.collect().await.context(sending)?.to_bytes();
        self.open = Some(open);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let connecting = || format!("cannot connect to {}", self.authority);
        let stream = TcpStream::connect(&self.authority).await.context(connecting)?;
        stream.set_nodelay(true).context(connecting)?;
        let stream =
            TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await.context(connecting)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context(connecting)?;
        // How it ends, the next request sees.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Authority and path of a URL of ours.
fn parts(url: &str) -> Result<(&str, &str), Failure> {
    let rest = url.strip_prefix("https://").ok_or_else(|| Failure::new(format!("{url}: https is expected")))?;
    Ok(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

impl Answer {
    /// The answer, where it has this status.
    pub(crate) fn expect(self, status: u16, to: &str) -> Result<Self, Failure> {
        if self.status.as_u16() == status {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(&self.body);
        Err(Failure::new(format!("{to} is answered {} {body}", self.status.as_u16())))
    }

    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).context(|| "the answer is no JSON".to_owned())
    }

    pub(crate) fn location(&self) -> Result<String, Failure> {
        self.header(LOCATION.as_str()).ok_or_else(|| Failure::new("the answer has no Location"))
    }

    pub(super) fn nonce(&self) -> Option<String> {
        self.header("replay-nonce")
    }

    /// Whether this is what a client is told whose server cannot answer now (RFC 8555 §6.7, RFC 9110 §15.6.4).
    pub(crate) fn is_unavailable(&self) -> bool {
        let is_problem = self.header(CONTENT_TYPE.as_str()).as_deref() == Some("application/problem+json");
        self.status == StatusCode::SERVICE_UNAVAILABLE && is_problem && self.retry_after().is_some()
    }

    /// Seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header(RETRY_AFTER.as_str())?.parse().ok()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

/// Whether this is a problem document of the type `urn:ietf:params:acme:error:<name>`.
pub(crate) fn is_problem(answer: &Answer, name: &str) -> bool {
    let is_it = |problem: Value| problem.get("type")?.as_str()?.strip_suffix(name).map(|it| it.ends_with(':'));
    answer.status.is_client_error() && answer.json().ok().and_then(is_it).unwrap_or(false)
}
