//! A server for one test, with responders for its challenges.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use akamu_challenge::testing::{TestClock, TestNames};
use akamu_challenge::{
    AccountHashPrefix, AddressPolicy, Dns01, DnsPersist01, Http01, Probe, TcpConnector, TlsAlpn01, TxtRecord,
    ValidatorSet,
};
use akamu_proto::{DnsName, Timestamp};
use akamu_server::config::{Sources, load};
use akamu_server::{Parts, Running, SystemRandom, start};
use axum::extract::{Path as UrlPath, State};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::{Client, Key};

/// Where PostgreSQL is, for the tests; absent where `cargo xtask test --without postgres` leaves it out.
const POSTGRES_URL: &str = "AKAMU_TEST_POSTGRES_URL";

/// The issuer domain of dns-persist-01.
pub(crate) const ISSUER: &str = "ca.test";

type Tokens = watch::Sender<HashMap<String, String>>;

pub(crate) struct TestServer {
    pub(crate) running: Running,
    pub(crate) clock: TestClock,
    pub(crate) names: TestNames,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    tokens: Tokens,
}

/// What a test changes of the configuration.
#[derive(Default)]
pub(crate) struct Wish {
    pub(crate) settings: &'static str,
    pub(crate) database_url: Option<String>,
}

pub(crate) fn epoch() -> Timestamp {
    // Certificates of the test must be valid for reqwest, which asks the system.
    use akamu_challenge::Clock as _;
    akamu_challenge::SystemClock.now()
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(Wish::default()).await
    }

    pub(crate) async fn with(wish: Wish) -> Self {
        Self::at(tempfile::tempdir().unwrap(), wish).await
    }

    pub(crate) async fn at(directory: tempfile::TempDir, wish: Wish) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::on(directory, wish, listener, port).await
    }

    /// `port` is the one in base_url: a restarted server keeps its name.
    pub(crate) async fn on(directory: tempfile::TempDir, wish: Wish, listener: TcpListener, port: u16) -> Self {
        let base = format!("https://localhost:{port}");
        let database_url = wish.database_url.as_deref().unwrap_or("sqlite://akamu.db");
        let text = format!(
            "listen_addr = \"127.0.0.1:0\"\nbase_url = \"{base}\"\ndata_dir = \"data\"\n[database]\nurl = \"{database_url}\"\n{}",
            wish.settings
        );
        std::fs::write(directory.path().join("config.toml"), text).unwrap();
        let sources = sources(directory.path(), &[("AKAMU_SERVER__DNS_PERSIST_ISSUER_DOMAIN", ISSUER)]);
        let config = load(&sources).unwrap().config;
        let (clock, names) = (TestClock::at(epoch()), TestNames::default());
        let (responder, tokens) = responder().await;
        let validators = validators(&names, &clock, responder, &base);
        let parts = Parts {
            clock: Arc::new(clock.clone()),
            random: Arc::new(SystemRandom),
            validators: Some(validators),
            listener: Some(listener),
        };
        let running = start(&config, parts).await.unwrap();
        let http = http_client(&directory.path().join("data/root.pem"), running.listen_addr);
        Self { running, clock, names, directory, base, http, tokens }
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

    pub(crate) fn answer_http_01(&self, token: &str, body: &str) {
        self.tokens.send_modify(|tokens| drop(tokens.insert(token.to_owned(), body.to_owned())));
    }

    pub(crate) fn set_txt(&self, name: &str, value: &str) {
        self.names.set_txt(name, Ok(vec![TxtRecord::new([value])]));
    }
}

async fn responder() -> (SocketAddr, Tokens) {
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

fn validators(names: &TestNames, clock: &TestClock, responder: SocketAddr, base: &str) -> ValidatorSet {
    let policy = AddressPolicy::default().allow(["127.0.0.0/8".parse().unwrap()]);
    let probe = Probe::new(names.clone(), TcpConnector, clock.clone(), policy);
    let issuers = [DnsName::parse(ISSUER).unwrap()];
    ValidatorSet::new()
        .with(Http01::new(probe.clone(), responder.port()))
        .with(TlsAlpn01::new(probe, responder.port()))
        .with(Dns01::new(names.clone(), clock.clone()))
        .with(DnsPersist01::new(names.clone(), clock.clone(), issuers, AccountHashPrefix::under(base)))
}

/// A client that trusts the test's root alone.
pub(crate) fn http_client(root: &Path, address: SocketAddr) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(&std::fs::read(root).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).resolve("localhost", address).build().unwrap()
}

/// A database of its own on the test's PostgreSQL; `None` where that is left out.
pub(crate) async fn postgres_database(name: &str) -> Option<String> {
    let Ok(url) = std::env::var(POSTGRES_URL) else {
        eprintln!("{name}: {POSTGRES_URL} is not set; the part on PostgreSQL is left out");
        return None;
    };
    let database = format!("akamu_wire_{name}_{}", std::process::id());
    let statement = format!("CREATE DATABASE {database}");
    let admin = url.clone();
    tokio::task::spawn_blocking(move || {
        use diesel::connection::SimpleConnection as _;
        use diesel::{Connection as _, PgConnection};
        PgConnection::establish(&admin).unwrap().batch_execute(&statement).unwrap();
    })
    .await
    .unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{database}"))
}

/// The environment of a test of start-up: nothing.
pub(crate) fn sources(directory: &Path, variables: &[(&str, &str)]) -> Sources {
    let environment: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { working_directory: directory.to_owned(), environment, ..Sources::default() }
}
