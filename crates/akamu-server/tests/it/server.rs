//! A server for one test, with responders for its challenges.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use akamu_challenge::testing::{TestClock, TestNames};
use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Dns01, DnsPersist01, Http01, Probe, TcpConnector, TlsAlpn01, TxtRecord,
    Validator, ValidatorSet,
};
use akamu_proto::{DnsName, Timestamp};
use akamu_server::config::{Sources, load};
use akamu_server::{Parts, Running, StartError, SystemRandom, start};
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::{Client, Key};
use crate::database::Database;

/// The issuer domain of dns-persist-01.
pub(crate) const ISSUER: &str = "ca.test";

pub(crate) type Tokens = watch::Sender<HashMap<String, String>>;

/// Where a server of a test lives: its directory, its port and its database. It survives the server.
#[derive(Clone)]
pub(crate) struct Place {
    directory: Arc<tempfile::TempDir>,
    /// Kept, so that no other test gets the port while no server has it.
    socket: Arc<std::net::TcpListener>,
    database_url: String,
    settings: String,
    path: &'static str,
    /// base_url, where it is another server's.
    base: Option<String>,
    validator: Option<Arc<dyn Validator>>,
    /// How far its clock is from the right time, in seconds.
    clock_error: i64,
}

pub(crate) struct TestServer {
    pub(crate) running: Running,
    pub(crate) clock: TestClock,
    pub(crate) names: TestNames,
    pub(crate) place: Place,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    tokens: Tokens,
    certificates: Certificates,
}

pub(crate) fn epoch() -> Timestamp {
    // Certificates of the test must be valid for reqwest, which asks the system.
    use akamu_challenge::Clock as _;
    akamu_challenge::SystemClock.now()
}

impl Place {
    pub(crate) fn on(database: &Database) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            directory: Arc::new(tempfile::tempdir().unwrap()),
            socket: Arc::new(socket),
            database_url: database.url(),
            settings: String::new(),
            path: "",
            base: None,
            validator: None,
            clock_error: 0,
        }
    }

    /// With these lines of configuration.
    pub(crate) fn settings(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.settings);
        self
    }

    /// With this path in base_url.
    pub(crate) const fn path(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// With this validator in place of the one of its type.
    pub(crate) fn validator(mut self, validator: impl Validator + 'static) -> Self {
        self.validator = Some(Arc::new(validator));
        self
    }

    /// With a clock that is wrong by so many seconds: ahead, or behind where they are negative.
    pub(crate) const fn clock_error(mut self, seconds: i64) -> Self {
        self.clock_error = seconds;
        self
    }

    /// As one that connects to PostgreSQL at a time that is `seconds` later, for leases.
    pub(crate) fn later(mut self, seconds: u32) -> Self {
        if self.database_url.starts_with("postgres") {
            let offset = format!("options=-cakamu.clock_offset%3D{}", u64::from(seconds) * 1_000_000);
            let separator = if self.database_url.contains('?') { '&' } else { '?' };
            self.database_url = format!("{}{separator}{offset}", self.database_url);
        }
        self
    }

    /// One more replica of the server that lives here: its keys and its database, a directory and an address of its own.
    pub(crate) fn replica(&self) -> Self {
        let place = self.replica_without_keys();
        std::fs::create_dir_all(place.data_dir().join("keys")).unwrap();
        for file in std::fs::read_dir(self.data_dir().join("keys")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), place.data_dir().join("keys").join(file.file_name())).unwrap();
        }
        std::fs::copy(self.data_dir().join("root.pem"), place.data_dir().join("root.pem")).unwrap();
        place
    }

    /// One more replica that was not given the first one's keys.
    pub(crate) fn replica_without_keys(&self) -> Self {
        // The port of base_url at another address of loopback.
        let port = self.address().port();
        let mut addresses = (2..=254).map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        let socket = addresses.find_map(|it| std::net::TcpListener::bind(it).ok()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (directory, base) = (Arc::new(tempfile::tempdir().unwrap()), Some(self.base()));
        Self { directory, socket: Arc::new(socket), base, ..self.clone() }
    }

    /// The same server elsewhere: its configuration and its port, and nothing in its directory.
    pub(crate) fn moved(&self, database: &Database) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let place = Self { directory, database_url: database.url(), ..self.clone() };
        place.write_config();
        place
    }

    fn write_config(&self) {
        let text = format!(
            "listen_addr = \"127.0.0.1:0\"\nbase_url = \"{}\"\ndata_dir = \"data\"\n[database]\nurl = \"{}\"\n{}",
            self.base(),
            self.database_url,
            self.settings
        );
        std::fs::write(self.directory.path().join("config.toml"), text).unwrap();
    }

    fn base(&self) -> String {
        let own = || format!("https://localhost:{}{}", self.address().port(), self.path);
        self.base.clone().unwrap_or_else(own)
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) async fn start(self) -> TestServer {
        self.try_start().await.unwrap()
    }

    /// A server, or its one line of why there is none.
    pub(crate) async fn try_start(self) -> Result<TestServer, StartError> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let base = self.base();
        self.write_config();
        let sources = sources(self.directory.path(), &[("AKAMU_SERVER__DNS_PERSIST_ISSUER_DOMAIN", ISSUER)]);
        let config = load(&sources).unwrap().config;
        let now = Timestamp::from_unix_micros(epoch().unix_micros() + self.clock_error * 1_000_000);
        let (clock, names) = (TestClock::at(now), TestNames::default());
        let (http_01, tokens) = http_01_responder().await;
        let (tls_alpn_01, certificates) = tls_alpn_01_responder().await;
        let mut validators = validators(&names, &clock, http_01, tls_alpn_01, &base);
        if let Some(validator) = &self.validator {
            validators.insert(validator.clone());
        }
        let parts = Parts {
            clock: Arc::new(clock.clone()),
            random: Arc::new(SystemRandom),
            validators: Some(validators),
            listener: Some(TcpListener::from_std(self.socket.try_clone().unwrap()).unwrap()),
        };
        let running = start(&config, parts).await?;
        // Under base_url a client reaches this replica and no other.
        let http = http_client(&self.data_dir().join("root.pem")).resolve("localhost", self.address()).build().unwrap();
        Ok(TestServer { running, clock, names, place: self, base, http, tokens, certificates })
    }
}

impl TestServer {
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.place.data_dir()
    }

    pub(crate) fn root_pem(&self) -> std::path::PathBuf {
        self.data_dir().join("root.pem")
    }

    pub(crate) async fn shut_down(self) -> Place {
        self.running.shut_down().await;
        self.place
    }

    /// A client without an account.
    pub(crate) fn client(&self, key: Key) -> Client {
        Client { http: self.http.clone(), base: self.base.clone(), key, kid: String::new() }
    }

    /// A client with an account.
    pub(crate) async fn registered(&self) -> Client {
        let mut client = self.client(Key::p256());
        client.register().await;
        client
    }

    /// Lets `name` resolve to this machine.
    pub(crate) fn name_here(&self, name: &str) {
        self.names.set_addresses(name, Ok(vec!["127.0.0.1".parse().unwrap()]));
    }

    /// What http-01 is answered with: outlives the server.
    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    pub(crate) fn answer_http_01(&self, token: &str, body: &str) {
        self.tokens.send_modify(|tokens| drop(tokens.insert(token.to_owned(), body.to_owned())));
    }

    /// Answers tls-alpn-01 for `identifier` with a certificate that holds the key authorization's digest.
    pub(crate) fn answer_tls_alpn_01(&self, identifier: &str, key_authorization: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([identifier.to_owned()]).unwrap();
        let digest = Sha256::digest(key_authorization);
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&digest)];
        let certificate = params.self_signed(&key).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(PrivateKeyDer::try_from(key.serialize_der()).unwrap());
        // `from_der` would refuse the critical extension.
        let key = CertifiedKey::new(vec![certificate.der().clone()], key.unwrap());
        // RFC 8738 §6: an address goes as its reverse name.
        let name = match identifier.parse::<Ipv4Addr>() {
            Ok(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Err(_) => identifier.to_owned(),
        };
        self.certificates.0.lock().unwrap().insert(name, Arc::new(key));
    }

    pub(crate) fn set_txt(&self, name: &str, value: &str) {
        self.names.set_txt(name, Ok(vec![TxtRecord::new([value])]));
    }
}

/// Answers http-01 with what the test has said.
async fn http_01_responder() -> (SocketAddr, Tokens) {
    let tokens = Tokens::default();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let answer = async |State(tokens): State<Tokens>, UrlPath(token): UrlPath<String>| {
        // A probe that comes before the test has said what to answer waits for that.
        let mut tokens = tokens.subscribe();
        tokens.wait_for(|tokens| tokens.contains_key(&token)).await.unwrap()[&token].clone()
    };
    let router =
        axum::Router::new().route("/.well-known/acme-challenge/{token}", get(answer)).with_state(tokens.clone());
    tokio::spawn(async move { axum::serve(socket, router).await });
    (address, tokens)
}

/// The certificate of each server name (RFC 8737 §3).
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates(Arc<Mutex<HashMap<String, Arc<CertifiedKey>>>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

/// Answers tls-alpn-01 with the certificates that the test has made.
async fn tls_alpn_01_responder() -> (SocketAddr, Certificates) {
    let certificates = Certificates::default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates.clone()));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    (address, certificates)
}

fn validators(
    names: &TestNames,
    clock: &TestClock,
    http_01: SocketAddr,
    tls_alpn_01: SocketAddr,
    base: &str,
) -> ValidatorSet {
    let policy = AddressPolicy::default().allow(["127.0.0.0/8".parse().unwrap()]);
    let probe = Probe::new(names.clone(), TcpConnector, clock.clone(), policy);
    let issuers = [DnsName::parse(ISSUER).unwrap()];
    ValidatorSet::new()
        .with(Http01::new(probe.clone(), http_01.port()))
        .with(TlsAlpn01::new(probe, tls_alpn_01.port()))
        .with(Dns01::new(names.clone(), clock.clone()))
        .with(DnsPersist01::new(names.clone(), clock.clone(), issuers, AccountHashPrefix::under(base)))
}

/// A client that trusts the test's root alone. Names other than `localhost` lead nowhere.
pub(crate) fn http_client(root: &Path) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(&std::fs::read(root).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).resolve("localhost", SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// The environment of a test of start-up: nothing.
pub(crate) fn sources(directory: &Path, variables: &[(&str, &str)]) -> Sources {
    let environment: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { working_directory: directory.to_owned(), environment, ..Sources::default() }
}
