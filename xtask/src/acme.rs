//! An ACME client that measures: one account, one kept-alive connection, each step timed. It follows the protocol as real
//! clients do and nothing beyond it.

mod account;
mod connection;
mod order;
mod patience;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

pub(crate) use self::account::Account;
use self::connection::Connection;
pub(crate) use self::connection::{Answer, is_problem};
pub(crate) use self::order::{Challenge, Order, csr};
pub(crate) use self::patience::Patience;
use crate::failure::{Context, Failure};

/// A POST that was answered.
#[derive(Debug, Clone)]
struct Sent {
    url: String,
    body: String,
    answered_at: Instant,
}

/// What became of a request that was sent once more, octet for octet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed {
    /// Whether its nonce was refused.
    pub(crate) is_refused: bool,
    /// When it was answered at first.
    pub(crate) answered_at: Instant,
}

/// Where the server has what (RFC 8555 §7.1.1).
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    tls: Arc<ClientConfig>,
}

/// A client with an account.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    directory: Directory,
    account: Account,
    nonce: Option<String>,
    /// Whether and how a request that fails is tried again.
    patience: Option<Arc<Patience>>,
    last: Option<Sent>,
    /// The last one that changed something: no POST-as-GET, nor what an earlier try may have done already.
    last_change: Option<Sent>,
}

impl Directory {
    pub(crate) fn new_nonce(&self) -> &str {
        &self.new_nonce
    }

    pub(crate) fn new_account(&self) -> &str {
        &self.new_account
    }

    pub(crate) fn new_order(&self) -> &str {
        &self.new_order
    }

    /// How to connect to the server by TLS, and be sure that it is the server.
    pub(crate) const fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    /// Asks the server, whose certificate leads to the one at `root`.
    pub(crate) async fn fetch(url: &str, root: &Path) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(root).context(|| format!("cannot read {}", root.display()))?;
        roots.add(root).context(|| "cannot trust the server's root".to_owned())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context(|| "cannot configure TLS".to_owned())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = Arc::new(tls);
        let answer = Connection::to(url, &tls)?.get(url).await?.expect(200, "the directory")?;
        let directory = answer.json()?;
        let member = |name: &str| {
            let url = directory.get(name).and_then(Value::as_str).map(str::to_owned);
            url.ok_or_else(|| Failure::new(format!("the directory has no {name}")))
        };
        Ok(Self {
            new_nonce: member("newNonce")?,
            new_account: member("newAccount")?,
            new_order: member("newOrder")?,
            tls,
        })
    }
}

impl Client {
    /// A client with a new account, which gives up at the first failure.
    pub(crate) async fn register(directory: &Directory) -> Result<Self, Failure> {
        Self::registering(directory, None).await
    }

    /// A client with a new account, which tries again what fails.
    pub(crate) async fn register_patiently(directory: &Directory, patience: &Arc<Patience>) -> Result<Self, Failure> {
        Self::registering(directory, Some(Arc::clone(patience))).await
    }

    async fn registering(directory: &Directory, patience: Option<Arc<Patience>>) -> Result<Self, Failure> {
        let connection = Connection::to(&directory.new_account, &directory.tls)?;
        let account = Account::generate()?;
        let mut client = Self {
            connection,
            directory: directory.clone(),
            account,
            nonce: None,
            patience,
            last: None,
            last_change: None,
        };
        let url = directory.new_account.clone();
        let answer = client.post(&url, Some(&json!({ "termsOfServiceAgreed": true }))).await?;
        // 200 where an earlier try made the account, and its answer was lost.
        let answer = if answer.status.as_u16() == 200 { answer } else { answer.expect(201, "newAccount")? };
        client.account.url = Some(answer.location()?);
        Ok(client)
    }

    /// The same account over a connection of its own.
    pub(crate) fn beside(&self) -> Result<Self, Failure> {
        Ok(Self {
            connection: Connection::to(&self.directory.new_account, &self.directory.tls)?,
            directory: self.directory.clone(),
            account: self.account.clone(),
            nonce: None,
            patience: self.patience.clone(),
            last: None,
            last_change: None,
        })
    }

    /// The account as the server has it.
    pub(crate) async fn show_account(&mut self) -> Result<Value, Failure> {
        let url = self.account.url().to_owned();
        self.post(&url, None).await?.expect(200, "the account")?.json()
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// How many requests it has sent, those for nonces included.
    pub(crate) fn requests(&self) -> u64 {
        self.connection.sent
    }

    /// Asks for a nonce where no earlier answer left one (RFC 8555 §7.2): whether it had to.
    pub(crate) async fn ensure_nonce(&mut self) -> Result<bool, Failure> {
        let is_missing = self.nonce.is_none();
        self.nonce = Some(self.nonce().await?);
        Ok(is_missing)
    }

    /// One request, signed; with patience, until it is answered by something else than a server's error. No payload is
    /// POST-as-GET.
    pub(crate) async fn post(&mut self, url: &str, payload: Option<&Value>) -> Result<Answer, Failure> {
        let Some(patience) = self.patience.clone() else { return self.try_post(url, payload).await };
        let mut trying = patience.begin();
        let mut is_first = true;
        loop {
            if patience.connects_anew {
                self.connection.close();
            }
            let answer = self.try_post(url, payload).await;
            self.last_change = self.last_change.take().filter(|_| is_first || payload.is_none());
            if let Some(answer) = trying.judge(url, answer).await? {
                return Ok(answer);
            }
            is_first = false;
        }
    }

    /// One request, sent once more where the nonce was not taken (RFC 8555 §6.5).
    async fn try_post(&mut self, url: &str, payload: Option<&Value>) -> Result<Answer, Failure> {
        let payload = payload.map(Value::to_string).unwrap_or_default();
        for is_last in [false, true] {
            let nonce = self.nonce().await?;
            let body = self.account.jws(url, &nonce, &payload)?;
            let answer = self.connection.post(url, body.clone()).await?;
            self.nonce = answer.nonce();
            if is_last || !is_problem(&answer, "badNonce") {
                let sent = Sent { url: url.to_owned(), body, answered_at: Instant::now() };
                if !payload.is_empty() {
                    self.last_change = Some(sent.clone());
                }
                self.last = Some(sent);
                return Ok(answer);
            }
        }
        unreachable!("the last try returns")
    }

    /// Sends the last answered request once more. `None`: nobody says.
    pub(crate) async fn replay(&mut self) -> Option<Replayed> {
        let last = self.last.clone()?;
        self.send_again(last).await
    }

    /// The same of the last one that changed something.
    pub(crate) async fn replay_change(&mut self) -> Option<Replayed> {
        let last = self.last_change.clone()?;
        self.send_again(last).await
    }

    async fn send_again(&mut self, Sent { url, body, answered_at }: Sent) -> Option<Replayed> {
        self.connection.close();
        let answer = self.connection.post(&url, body).await.ok()?;
        (!answer.status.is_server_error())
            .then(|| Replayed { is_refused: is_problem(&answer, "badNonce"), answered_at })
    }

    async fn nonce(&mut self) -> Result<String, Failure> {
        if let Some(nonce) = self.nonce.take() {
            return Ok(nonce);
        }
        let answer = self.connection.head(&self.directory.new_nonce).await?;
        answer.nonce().ok_or_else(|| Failure::new("newNonce gives no nonce"))
    }
}

fn base64url(octets: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(octets.as_ref())
}
