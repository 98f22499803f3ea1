//! The format of vectors/http_01.json: a web server that writes what the case says, and what is asked of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akamu_challenge::testing::TestPeer;
use akamu_challenge::{Http01, Probe, Validator as _};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::expected::difference;
use super::parsed::{NothingElse, Octets};
use super::setting::{Place, Setting};
use crate::case_file;

#[derive(Deserialize)]
pub(crate) struct Case {
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    response: Vec<Part>,
    #[serde(default)]
    after: After,
    expect: Expect,
    #[serde(flatten)]
    _nothing_else: NothingElse,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    base64: Octets,
    #[serde(default)]
    repeat: Repeat,
    #[serde(default)]
    interval_ms: u64,
    byte_interval_ms: Option<u64>,
    #[serde(default)]
    pause_ms: u64,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Repeat {
    Times(usize),
    Endless(Endless),
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Endless {
    Forever,
}

impl Default for Repeat {
    fn default() -> Self {
        Self::Times(1)
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum After {
    #[default]
    Close,
    Hang,
    Reset,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    supported: bool,
    dial: Option<SocketAddr>,
    request: Option<Request>,
    requests: Option<usize>,
    valid: Option<bool>,
    #[serde(default)]
    error: Vec<String>,
}

/// The request line and the Host field that a server got.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    method: String,
    target: String,
    pub(crate) host: String,
}

/// The heads of the requests that a server got.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// Reads until the empty line, or the end.
pub(crate) async fn read_head(peer: &mut TestPeer) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match peer.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

impl Part {
    async fn write(&self, peer: &mut TestPeer) -> io::Result<()> {
        sleep(Duration::from_millis(self.pause_ms)).await;
        let times = match self.repeat {
            Repeat::Times(times) => times,
            Repeat::Endless(Endless::Forever) => usize::MAX,
        };
        for _ in 0..times {
            match self.byte_interval_ms {
                None => peer.write_all(&self.base64.0).await?,
                Some(interval) => {
                    for octet in &self.base64.0 {
                        peer.write_all(&[*octet]).await?;
                        sleep(Duration::from_millis(interval)).await;
                    }
                }
            }
            if self.interval_ms > 0 {
                sleep(Duration::from_millis(self.interval_ms)).await;
            }
        }
        Ok(())
    }
}

pub(crate) async fn serve(mut peer: TestPeer, parts: Vec<Part>, after: After, requests: Requests) {
    let head = read_head(&mut peer).await;
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    for part in parts {
        if part.write(&mut peer).await.is_err() {
            return;
        }
    }
    match after {
        After::Close => {}
        After::Reset => peer.reset(),
        After::Hang => std::future::pending().await,
    }
}

/// What does not stand in the head is empty here.
pub(crate) fn parse_request(head: &str) -> Request {
    let mut words = head.split(' ').map(str::to_owned);
    let host = head.lines().find_map(|it| it.strip_prefix("Host: ")).unwrap_or_default();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Request { method, target, host: host.to_owned() }
}

fn validator(probe: Probe) -> Http01 {
    Http01::new(probe, Http01::PORT)
}

impl case_file::Case for Case {
    fn run(&self) -> Option<Vec<String>> {
        let Self { place, response, after, expect, .. } = self;
        let Setting { probe, .. } = Setting::with_policy(akamu_challenge::AddressPolicy::default());
        let supported = validator(probe).supports(&place.identifier);
        let mut differences = Vec::from_iter(difference("supported", &expect.supported, &supported));
        if !supported || !expect.supported {
            return Some(differences);
        }
        let requests = Requests::default();
        let default = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 80));
        let (parts, after, seen) = (response.clone(), *after, Arc::clone(&requests));
        let attempt = place.validate((default, Http01::PORT), validator, move |peer| {
            serve(peer, parts.clone(), after, Arc::clone(&seen))
        });
        let heads = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        differences.extend(place.differences(&attempt, expect.dial, expect.valid, &expect.error));
        differences.extend(difference("requests", &expect.requests.unwrap_or(0), &heads.len()));
        differences.extend(difference("request", &expect.request, &heads.first().map(|it| parse_request(it))));
        Some(differences)
    }
}
