//! From a configuration to a running server, and to a stopped one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use akamu_ca::{Issuer, Profile};
use akamu_challenge::{AccountHashPrefix, Clock, ValidatorSet};
use akamu_proto::{ChallengeType, DirectoryMeta, Timestamp};
use akamu_store::{ClockCheck, DataDirLock, Identity, IdentityOutcome, ReplicaId, Store};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::app::{App, Settings};
use crate::authority_files;
use crate::config::Config;
use crate::hold::Holds;
use crate::key_cache::KeyCache;
use crate::listener::{self, Connections, Listener};
use crate::metrics::{Metrics, Removed};
use crate::own_certificate::{self, OwnCertificate};
use crate::random::{self, Random};
use crate::resource::directory;
use crate::revocation_list::{self, RevocationList};
use crate::shutdown::stopped;
use crate::validation::Validations;
use crate::{admin, background, descriptors, housekeeping, restore, router};

/// How long requests and validations in hand may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// A clock this far behind the newest time that was ever written is warned about.
const CLOCK_WARN: Duration = Duration::from_secs(60);
/// And this far behind it is refused.
const CLOCK_REFUSE: Duration = Duration::from_secs(86_400);
/// The most connections at the admin listener.
const ADMIN_CONNECTIONS: usize = 64;
/// How often the newest time is written, and nonces are looked after.
const MINUTE: Duration = Duration::from_secs(60);

/// Why the server does not start, in one line: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    message: String,
}

impl StartError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// The parts that come from outside, so that a test can bring its own.
#[derive(Debug)]
pub struct Parts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Ids, tokens and serial numbers.
    pub random: Arc<dyn Random>,
    /// The challenge types; `None`: those of the configuration.
    pub validators: Option<ValidatorSet>,
    /// The socket of the ACME server; `None`: one is bound to `listen_addr`.
    pub listener: Option<TcpListener>,
}

/// A server that answers requests.
#[derive(Debug)]
pub struct Running {
    app: Arc<App>,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
    /// Held until the server has stopped: no second one on the same directory.
    _lock: Option<DataDirLock>,
    /// Where it listens.
    pub listen_addr: SocketAddr,
    /// Where /ca/ is served by plain HTTP.
    pub authority_addr: Option<SocketAddr>,
    /// Where /healthz, /readyz and /metrics are.
    pub admin_addr: Option<SocketAddr>,
    /// SHA-256 of the root certificate, where it is known.
    pub root_sha256: [u8; 32],
}

impl Running {
    /// The directory's URL.
    pub fn directory_url(&self) -> String {
        self.app.base_url.directory()
    }
}

/// Starts everything; returns when requests are answered.
///
/// # Errors
/// One line for the operator.
pub async fn start(config: &Config, parts: Parts) -> Result<Running, StartError> {
    random::begin_to_gather();
    let mut opened = None;
    let started = open_and_serve(config, parts, &mut opened).await;
    if let (Err(_), Some(store)) = (&started, opened) {
        // Who is told why must not find its files still in use.
        store.close().await;
    }
    started
}

/// `opened` is the store, as soon as it is open.
async fn open_and_serve(config: &Config, parts: Parts, opened: &mut Option<Store>) -> Result<Running, StartError> {
    let now = parts.clock.now();
    let most_connections = descriptors::connections(config.server.max_connections, descriptors::allowed())?;
    // Sockets first: a second start on a taken port must not get as far as making keys.
    let socket = match parts.listener {
        Some(socket) => socket,
        None => bind(config.listen_addr, "listen_addr", "--listen").await?,
    };
    let authority_socket = bind_optional(config.ca.http_listen_addr, "ca.http_listen_addr").await?;
    let admin_socket = bind_optional(config.admin.listen_addr, "admin.listen_addr").await?;

    authority_files::create_data_dir(&config.data_dir)?;
    let metrics = Arc::new(Metrics::default());
    let operations = metrics.clone();
    let options = (config.database.options(&config.data_dir, config.listen_addr))
        .map_err(|error| StartError::new(format!("database.url: {error}")))?
        .nonce_lifetime(Duration::from_secs(config.server.nonce_lifetime_secs))
        .observe(move |run| operations.operation_run(run));
    let lock = if let Some(file) = options.sqlite_file() {
        let lock = DataDirLock::acquire(&config.data_dir).map_err(|error| StartError::new(error.to_string()))?;
        restore::assert_none_was_cut_off(config, file).map_err(|error| StartError::new(error.to_string()))?;
        authority_files::assert_database_is_not_lost(config, file)?;
        Some(lock)
    } else {
        None
    };
    let store = Store::open(options, now).await.map_err(|error| StartError::new(format!("the database: {error}")))?;
    *opened = Some(store.clone());
    let issuer = Arc::new(issuer(config, &store, &*parts.random, now).await?);
    let chain = store.chain_record(issuer.issuers_pem()).await.map_err(|error| database(&error))?;
    metrics.issuer_valid_until(issuer.not_after());
    check_clock(&store, now).await?;
    if lock.is_some() {
        store.leases_void().await.map_err(|error| database(&error))?;
    }

    let validators = match parts.validators {
        Some(validators) => validators,
        None => crate::validators::of(config, &parts.clock)?,
    };
    let offers_persist = validators.get(&ChallengeType::DNS_PERSIST_01).is_some();
    let replica = ReplicaId::from_octets(random::octets(&*parts.random));
    let validations = Arc::new(Validations::new(
        replica,
        config.server.validation_timeout(),
        config.server.max_concurrent_validations,
    ));
    let settings = settings(config, offers_persist);
    let app = Arc::new(App {
        directory: directory::render(&config.base_url, &settings.meta),
        base_url: config.base_url.clone(),
        settings,
        store,
        issuer,
        chain,
        validators,
        clock: parts.clock,
        random: parts.random,
        keys: KeyCache::default(),
        holds: Arc::new(Holds::default()),
        validations: validations.clone(),
        revocation_list: RevocationList::default(),
        metrics,
        body_memory: Arc::default(),
        admission: Arc::new(Admission::new(config.server.max_requests)),
    });
    validations.attach(&app);
    let for_next_crl = revocation_list::begin(&app)
        .await
        .map_err(|error| StartError::new(format!("the first CRL: {}", with_causes(&*error))))?;

    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let tls = if config.tls.enabled {
        let own = match (&config.tls.cert_file, &config.tls.key_file) {
            (Some(cert_file), Some(key_file)) => OwnCertificate::from_files(cert_file, key_file)?,
            _ => {
                let names = own_certificate::names(app.base_url.host())?;
                OwnCertificate::issue(&app.issuer, &names, &*app.random, now)?
            }
        };
        let own = Arc::new(own);
        tasks.spawn(own.clone().renew_forever(app.clone(), stopped.clone()));
        Some(own.server_config()?)
    } else {
        None
    };
    tasks.spawn(revocation_list::renew_forever(app.clone(), for_next_crl, stopped.clone()));
    tasks.spawn(look_after_time(app.clone(), stopped.clone()));
    tasks.spawn(validations.claim_forever(app.clone()));
    if !app.store.is_sqlite() {
        tasks.spawn(crate::foreign_results::watch_forever(app.clone(), stopped.clone()));
    }
    tasks.spawn(crate::issuance::claim_forever(app.clone(), stopped.clone()));
    if config.housekeeping.enabled {
        tasks.spawn(housekeeping::run_forever(app.clone(), config.housekeeping.clone(), stopped.clone()));
    }

    let local = |socket: &TcpListener| socket.local_addr().map_err(|error| StartError::new(error.to_string()));
    let listen_addr = local(&socket)?;
    let authority_addr = authority_socket.as_ref().map(local).transpose()?;
    let admin_addr = admin_socket.as_ref().map(local).transpose()?;
    let public = Connections::new(most_connections, app.metrics.clone());
    let listener = |socket, tls, router, connections: &Arc<Connections>| {
        let (connections, clock, metrics) = (connections.clone(), app.clock.clone(), app.metrics.clone());
        Listener { socket, tls, router, connections, clock, metrics }
    };
    let mut listeners = vec![listener(socket, tls, router::acme(&app), &public)];
    if let Some(socket) = authority_socket {
        listeners.push(listener(socket, None, router::authority(&app), &public));
    }
    if let Some(socket) = admin_socket {
        // Apart: it must answer when the others are flooded.
        let of_admin = Connections::new(ADMIN_CONNECTIONS, app.metrics.clone());
        listeners.push(listener(socket, None, admin::router(&app), &of_admin));
    }
    for listener in listeners {
        tasks.spawn(listener.serve(stopped.clone()));
    }
    let root_sha256 = Sha256::digest(app.issuer.root_der()).into();
    Ok(Running { app, stop, tasks, _lock: lock, listen_addr, authority_addr, admin_addr, root_sha256 })
}

impl Running {
    /// Accepts nothing more, lets the requests and validations in hand end, and gives the rest's leases back.
    pub async fn shut_down(mut self) {
        tracing::info!("stopping");
        self.app.holds.close();
        self.stop.send_replace(true);
        let clock = self.app.clock.clone();
        self.app.validations.shut_down(&*clock, DRAIN).await;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = clock.sleep(DRAIN) => tracing::warn!("some connections did not end in time"),
        }
        self.app.store.close().await;
        tracing::info!("stopped");
    }
}

async fn bind(address: SocketAddr, key: &str, flag: &str) -> Result<TcpListener, StartError> {
    match listener::bind(address) {
        Ok(socket) => Ok(socket),
        Err(error) => {
            let cause = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    let free = free_port_near(address).await;
                    let free = free.map_or_else(String::new, |it| format!(", for example {flag} {it}"));
                    format!("the port is taken by another program; stop that, or choose another port{free}")
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need root or CAP_NET_BIND_SERVICE; give it, or choose a higher port".to_owned()
                }
                io::ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
                _ => error.to_string(),
            };
            Err(StartError::new(format!("{key} {address}: {cause}")))
        }
    }
}

/// An address with a port that is free now, for the message.
async fn free_port_near(address: SocketAddr) -> Option<SocketAddr> {
    for offset in 1..50 {
        let mut candidate = address;
        candidate.set_port(address.port().checked_add(offset)?);
        if TcpListener::bind(candidate).await.is_ok() {
            return Some(candidate);
        }
    }
    None
}

async fn bind_optional(address: Option<SocketAddr>, key: &str) -> Result<Option<TcpListener>, StartError> {
    match address {
        Some(address) => bind(address, key, key).await.map(Some),
        None => Ok(None),
    }
}

fn database(error: &akamu_store::StoreError) -> StartError {
    StartError::new(with_causes(error))
}

/// The error and what lies behind it, in one line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let texts: Vec<_> = std::iter::successors(Some(error), |it| it.source()).map(ToString::to_string).collect();
    texts.join(": ")
}

/// The issuer, made at the first start only: together with a new database.
async fn issuer(config: &Config, store: &Store, random: &dyn Random, now: Timestamp) -> Result<Issuer, StartError> {
    let known = store.identity().await.map_err(|error| database(&error))?;
    if known.is_none() {
        authority_files::assert_first_start(config, "the database is new")?;
    }
    let issuer = authority_files::open_or_make(config, profile(config), known.is_none(), random, now)?;
    let identity = Identity {
        base_url: config.base_url.as_str().to_owned(),
        issuers: vec![Sha256::digest(issuer.certificate_der()).into()],
    };
    match store.identity_record(identity.clone(), now).await.map_err(|error| database(&error))? {
        IdentityOutcome::Recorded | IdentityOutcome::Same => {}
        // A trial moves to another port and stays the same trial.
        IdentityOutcome::Differs(known) if config.trial && known.issuers == identity.issuers => {
            tracing::warn!(before = known.base_url, now = identity.base_url, "the trial's URL has changed");
            store.identity_adopt(identity).await.map_err(|error| database(&error))?;
        }
        IdentityOutcome::Differs(known) => return Err(StartError::new(difference(&known, &identity))),
    }
    // Cut off before this, the next start finds the same issuer in keys/ and in the database.
    authority_files::write_root(config, &issuer)?;
    Ok(issuer)
}

fn difference(known: &Identity, ours: &Identity) -> String {
    if known.base_url != ours.base_url {
        return format!(
            "base_url is {}, and the database belongs to {}; set base_url to that, or run `akamu-server adopt`",
            ours.base_url, known.base_url
        );
    }
    let hex = |sha256: &[[u8; 32]]| {
        sha256
            .iter()
            .map(|it| it.iter().map(|octet| format!("{octet:02x}")).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "the issuing certificate has SHA-256 {}, and the database expects {}; give this server the same ca.key_file and ca.cert_file (or the keys of the first one's data directory), or run `akamu-server adopt`",
        hex(&ours.issuers),
        hex(&known.issuers)
    )
}

pub(crate) fn profile(config: &Config) -> Profile {
    let host = config.base_url.host();
    let at_host = |path: &str| {
        let port = config.ca.http_listen_addr?.port();
        let port = if port == 80 { String::new() } else { format!(":{port}") };
        Some(format!("http://{host}{port}/ca/{path}"))
    };
    Profile {
        validity: Duration::from_secs(u64::from(config.ca.validity_days) * 86_400),
        crl_url: config.ca.crl_url.clone().or_else(|| at_host("crl")),
        issuer_url: config.ca.issuer_url.clone().or_else(|| at_host("issuer.der")),
    }
}

fn settings(config: &Config, offers_persist: bool) -> Settings {
    let server = &config.server;
    let issuer_domains: Vec<String> =
        if offers_persist { server.issuer_domains().iter().map(ToString::to_string).collect() } else { Vec::new() };
    let prefix =
        (!issuer_domains.is_empty()).then(|| AccountHashPrefix::under(config.base_url.as_str()).as_str().to_owned());
    Settings {
        meta: DirectoryMeta {
            terms_of_service: server.terms_of_service_url.clone(),
            website: server.website_url.clone(),
            caa_identities: issuer_domains.clone(),
            issuer_domain_names: issuer_domains.clone(),
            account_hash_prefix: prefix,
        },
        order_expiry: Duration::from_secs(server.order_expiry_secs),
        authorization_expiry: Duration::from_secs(server.authz_expiry_secs),
        max_body_bytes: server.max_body_bytes,
        poll_hold: server.poll_hold(),
        issuer_domains,
        crl_validity: Duration::from_secs(config.ca.crl_next_update_secs),
    }
}

async fn check_clock(store: &Store, now: Timestamp) -> Result<(), StartError> {
    let ClockCheck { newest } = store.clock_check().await.map_err(|error| database(&error))?;
    if let Some(newest) = newest {
        let behind = newest.since(now);
        if behind > CLOCK_REFUSE {
            return Err(StartError::new(format!(
                "this machine's clock says {now}, and the database was written at {newest}; set the clock right"
            )));
        }
        if behind > CLOCK_WARN {
            tracing::warn!(%now, %newest, "this machine's clock is behind the database's newest time");
        }
    }
    store.clock_renew(now).await.map_err(|error| database(&error))
}

/// Writes the newest time and looks after nonces, once a minute, until the server stops.
async fn look_after_time(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = app.clock.sleep(MINUTE) => {}
            () = stopped(&mut stop) => return,
        }
        let now = app.clock.now();
        if let Err(error) = app.store.clock_renew(now).await {
            background::failed(&error, "the newest time could not be written");
        }
        match app.store.nonces_tidy(now).await {
            Ok(count) => app.metrics.removed(Removed::Nonce, count),
            Err(error) => background::failed(&error, "expired nonces could not be forgotten"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn certificates_name_the_list_and_the_issuer_where_they_are_served() {
        let crl = |text: &str| format!("crl_url = \"{text}\"\n");
        let issuer = |text: &str| format!("issuer_url = \"{text}\"\n");
        let listens = |port: u16| format!("http_listen_addr = \"0.0.0.0:{port}\"\n");
        for (settings, crl_url, issuer_url) in [
            (String::new(), None, None),
            (listens(80), Some("http://ca.test/ca/crl"), Some("http://ca.test/ca/issuer.der")),
            (listens(8080), Some("http://ca.test:8080/ca/crl"), Some("http://ca.test:8080/ca/issuer.der")),
            (
                format!("{}{}", listens(80), crl("http://b.test/c")),
                Some("http://b.test/c"),
                Some("http://ca.test/ca/issuer.der"),
            ),
            (issuer("http://b.test/i"), None, Some("http://b.test/i")),
            (
                format!("{}{}", listens(80), issuer("http://b.test/i")),
                Some("http://ca.test/ca/crl"),
                Some("http://b.test/i"),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let text = format!("base_url = \"https://ca.test:8443/path\"\n[ca]\nvalidity_days = 7\n{settings}");
            std::fs::write(directory.path().join("config.toml"), text).unwrap();
            let sources = Sources { working_directory: directory.path().to_owned(), ..Sources::default() };
            let profile = profile(&load(&sources).unwrap().config);
            assert_eq!(profile.crl_url.as_deref(), crl_url, "{settings}");
            assert_eq!(profile.issuer_url.as_deref(), issuer_url, "{settings}");
            assert_eq!(profile.validity, Duration::from_secs(7 * 86_400));
        }
    }
}
