//! Who proves names by http-01: a web server that answers each token that it was told.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Duration, timeout};

use crate::failure::{Context, Failure};

/// Serves until the runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct Responder(Arc<Mutex<HashMap<String, String>>>);

impl Responder {
    /// On 127.0.0.1 alone: the port's other addresses of loopback may be another's.
    pub(crate) fn start(port: u16) -> Result<Self, Failure> {
        let listener = listen((Ipv4Addr::LOCALHOST, port).into(), 1_024)?;
        let responder = Self(Arc::default());
        let serving = responder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let responder = serving.clone();
                let service = service_fn(move |request| {
                    let answer = responder.answer(&request);
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(responder)
    }

    /// From now on the key authorization is there.
    pub(crate) fn put(&self, key_authorization: String) {
        let Some((token, _)) = key_authorization.split_once('.') else { return };
        let token = token.to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, key_authorization);
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/");
        let put = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = token.and_then(|token| put.get(token).cloned());
        drop(put);
        let mut answer = Response::new(Full::from(found.clone().unwrap_or_default()));
        if found.is_none() {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
        answer
    }
}

/// A port of loopback on which no connection ever comes about: its queue is full, and the kernel drops what comes then.
#[derive(Debug)]
pub(crate) struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// At every address of loopback that has no listener of its own at this port.
    pub(crate) async fn start(port: u16) -> Result<Self, Failure> {
        let listener = listen((Ipv4Addr::UNSPECIFIED, port).into(), 1)?;
        let mut queue = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(300), TcpStream::connect((Ipv4Addr::new(127, 9, 9, 9), port))).await
        {
            queue.push(stream.context(|| "cannot fill the black hole".to_owned())?);
        }
        Ok(Self { _listener: listener, _queue: queue })
    }
}

/// Shares the port with listeners at other addresses.
pub(crate) fn listen(address: SocketAddr, backlog: u32) -> Result<TcpListener, Failure> {
    let listening = || format!("cannot listen on {address}");
    let socket = TcpSocket::new_v4().context(listening)?;
    socket.set_reuseport(true).context(listening)?;
    socket.bind(address).context(listening)?;
    socket.listen(backlog).context(listening)
}
