//! What an operator can get wrong, and the line that says so.

use std::sync::Arc;

use akamu_challenge::SystemClock;
use akamu_server::config::{Sources, load, show};
use akamu_server::{Parts, SystemRandom, start};
use tokio::net::TcpListener;

use crate::database::Database;
use crate::server::sources;

fn lines(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), text).unwrap();
    let error = load(&sources(directory.path(), variables)).expect_err("is refused");
    let path = directory.path().join("config.toml");
    error.0.iter().map(|line| line.replace(path.to_str().unwrap(), "config.toml")).collect()
}

#[test]
fn every_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let text =
        "base_url = \"https://a.test\"\nlisten_adr = \"x\"\n[server]\nhttp_validation_prot = 81\n[sever]\nx = 1\n";
    assert_eq!(
        lines(text, &[("AKAMU_CA__VALIDITY_DAY", "3")]),
        [
            "AKAMU_CA__VALIDITY_DAY: there is no key ca.validity_day; did you mean ca.validity_days?",
            "config.toml line 2: there is no key listen_adr; did you mean listen_addr?",
            "config.toml line 4: there is no key server.http_validation_prot; did you mean server.http_validation_port?",
            "config.toml line 5: there is no key sever",
        ]
    );
}

#[test]
fn a_bad_value_is_named_with_its_place() {
    let base = "base_url = \"https://a.test\"\n";
    for (text, expected) in [
        ("base_url = \"https://a.test/\"\n".to_owned(), "config.toml line 1: base_url: write it as \"https://a.test\""),
        (
            format!("{base}[server]\nhttp_validation_port = 70000\n"),
            "config.toml line 3: server.http_validation_port: ",
        ),
        (format!("{base}[server]\npoll_hold_ms = \"x\"\n"), "config.toml line 3: server.poll_hold_ms: "),
        (
            format!("{base}[server]\nmax_concurrent_validations = 0\n"),
            "config.toml line 3: server.max_concurrent_validations: 0 is not allowed",
        ),
        (
            format!("{base}[ca]\ncrl_url = \"https://a.test/crl\"\n"),
            "config.toml line 3: ca.crl_url: must begin with http://",
        ),
        (
            format!("{base}[server]\nvalidation_allow_networks = [\"10.0.0.0/33\"]\n"),
            "config.toml line 3: server.validation_allow_networks: ",
        ),
        (format!("{base}= 1\n"), "config.toml line 2: "),
        ("listen_addr = \"0.0.0.0:443\"\n".to_owned(), "base_url is missing"),
    ] {
        let lines = lines(&text, &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(expected), "{} / {expected}", lines[0]);
    }
}

#[test]
fn a_variable_is_read_by_the_type_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("AKAMU_BASE_URL", "https://env.test"),
        ("AKAMU_CA__COMMON_NAME", "42"),
        ("AKAMU_SERVER__POLL_HOLD_MS", "0"),
        ("AKAMU_SERVER__VALIDATION_ALLOW_NETWORKS", "127.0.0.0/8, ::1/128"),
        ("AKAMU_TLS__ENABLED", "false"),
        ("AKAMU_DATABASE__URL", "postgres://akamu:secret@db.test/akamu"),
        ("AKAMU_PORT", "tcp://10.0.0.1:443"),
        ("AKAMU_SERVICE_HOST", "10.0.0.1"),
    ];
    let loaded = load(&sources(directory.path(), &variables)).unwrap();
    assert_eq!(loaded.config.ca.common_name, "42");
    assert_eq!(loaded.config.server.validation_allow_networks.len(), 2);
    assert!(!loaded.config.tls.enabled && !loaded.config.trial);
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    let shown = show(&loaded);
    assert!(shown.contains("common_name = \"42\"  # AKAMU_CA__COMMON_NAME"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    let number = [("AKAMU_BASE_URL", "https://env.test"), ("AKAMU_SERVER__POLL_HOLD_MS", "soon")];
    let error = load(&sources(directory.path(), &number)).unwrap_err();
    assert_eq!(error.to_string(), "AKAMU_SERVER__POLL_HOLD_MS: \"soon\" is not a whole number");
}

#[test]
fn the_shown_configuration_has_the_same_effect() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [("AKAMU_BASE_URL", "https://env.test"), ("AKAMU_SERVER__VALIDATION_DENY_NETWORKS", "10.0.0.0/8")];
    let first = show(&load(&sources(directory.path(), &variables)).unwrap());
    std::fs::write(directory.path().join("config.toml"), &first).unwrap();
    let second = show(&load(&sources(directory.path(), &[])).unwrap());
    let values = |text: &str| text.lines().map(|it| it.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&first), values(&second));
}

#[test]
fn without_any_configuration_it_is_a_trial_on_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let mut sources = sources(directory.path(), &[]);
    let config = load(&sources).unwrap().config;
    assert!(config.trial && config.data_dir.ends_with("akamu-trial"));
    assert_eq!(config.listen_addr.to_string(), "127.0.0.1:14000");
    assert!(config.server.issuer_domains().is_empty());
    sources.listen = Some("127.0.0.1:14001".to_owned());
    assert_eq!(load(&sources).unwrap().config.base_url.as_str(), "https://localhost:14001");
    sources.listen = Some("0.0.0.0:14000".to_owned());
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.starts_with("--listen: listen_addr: ") && error.contains("config.toml"), "{error}");
    sources.config = Some("absent.toml".into());
    assert_eq!(load(&sources).unwrap_err().to_string(), "--config absent.toml: there is no such file");
}

async fn refusal(directory: &std::path::Path, text: &str) -> String {
    std::fs::write(directory.join("config.toml"), text).unwrap();
    let config = load(&sources(directory, &[])).unwrap().config;
    let parts =
        Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None };
    match start(&config, parts).await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let with = |listen: &str, rest: &str| {
        format!("base_url = \"https://localhost\"\nlisten_addr = \"{listen}\"\ndata_dir = \"data\"\n{rest}")
    };
    let error = refusal(path, &with(&address.to_string(), "")).await;
    assert!(
        error.starts_with(&format!("listen_addr {address}: the port is taken")) && error.contains("--listen"),
        "{error}"
    );
    assert!(!path.join("data/keys").exists(), "no keys for a server that cannot start");

    std::fs::create_dir_all(path.join("data")).unwrap();
    std::fs::write(path.join("data/akamu.db"), "this is no database, but a text of some length").unwrap();
    let error = refusal(path, &with("127.0.0.1:0", "")).await;
    assert!(error.contains("akamu.db") && error.contains("backup"), "{error}");
    std::fs::remove_file(path.join("data/akamu.db")).unwrap();

    std::fs::write(path.join("key.pem"), "").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path.join("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refusal(path, &with("127.0.0.1:0", "[ca]\nkey_file = \"key.pem\"\ncert_file = \"cert.pem\"\n")).await;
    assert!(error.contains("key.pem") && error.contains("chmod 600"), "{error}");
    let error =
        refusal(path, &with("127.0.0.1:0", "[ca]\nkey_file = \"absent.pem\"\ncert_file = \"cert.pem\"\n")).await;
    assert!(error.contains("absent.pem"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[tokio::test]
async fn a_database_of_another_base_url_is_refused_and_adopt_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = "base_url = \"https://localhost\"\nlisten_addr = \"127.0.0.1:0\"\ndata_dir = \"data\"\n";
    std::fs::write(directory.path().join("config.toml"), text).unwrap();
    let config = load(&sources(directory.path(), &[])).unwrap().config;
    let parts =
        Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None };
    let running = start(&config, parts).await.unwrap();
    let error = refusal(directory.path(), text).await;
    assert!(error.contains("another akamu-server is running"), "{error}");
    running.shut_down().await;
    let error = refusal(directory.path(), &text.replace("https://localhost", "https://other.test")).await;
    assert!(error.contains("https://localhost") && error.contains("akamu-server adopt"), "{error}");
    std::fs::remove_dir_all(directory.path().join("data/keys")).unwrap();
    let error = refusal(directory.path(), text).await;
    assert!(error.contains("keys") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn a_trial_moves_to_another_port_and_stays_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut roots = Vec::new();
    for listen in ["127.0.0.1:14000", "127.0.0.1:14001", "127.0.0.1:14001"] {
        let config =
            load(&Sources { listen: Some(listen.to_owned()), ..sources(directory.path(), &[]) }).unwrap().config;
        // Where it really listens is of no matter here.
        let listener = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let parts = Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener };
        let running = start(&config, parts).await.unwrap();
        assert_eq!(
            running.directory_url(),
            format!("https://{}/acme/directory", listen.replace("127.0.0.1", "localhost"))
        );
        roots.push(running.root_sha256);
        running.shut_down().await;
    }
    roots.dedup();
    assert_eq!(roots.len(), 1);
}

#[tokio::test]
async fn readiness_names_what_fails() {
    let settings = "[admin]\nlisten_addr = \"127.0.0.1:0\"\n[ca]\nca_validity_years = 1\n";
    let server = Database::Sqlite.server_with(settings).await;
    let address = server.running.admin_addr.unwrap();
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    server.clock.advance(std::time::Duration::from_secs(86_400 * 366));
    let (status, text) = get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("issuing certificate: expired at "), "{text}");
}
