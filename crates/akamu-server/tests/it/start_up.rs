//! What an operator can get wrong, and the line that says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::SystemClock;
use akamu_challenge::testing::TestClock;
use akamu_server::config::{KEYS, Kind, Sources, load, show};
use akamu_server::{Parts, SystemRandom, start};
use tokio::net::TcpListener;

use crate::client::Key;
use crate::database::{Beside, Database, on_both_databases};
use crate::issuance::{finalize, pem_der, ready_order};
use crate::server::{epoch, http_client, sources};

on_both_databases! {
    the_newest_time_is_kept,
    what_the_ca_is_made_like_is_configured,
}

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
            format!("{base}[server]\nhttp01_max_redirects = 11\n"),
            "config.toml line 3: server.http01_max_redirects: at most 10 are followed; 0: none",
        ),
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
        (
            format!("{base}[ca]\nissuer_url = \"https://a.test/ca\"\n"),
            "config.toml line 3: ca.issuer_url: must begin with http://",
        ),
        (
            format!("{base}[server]\npoll_hold_ms = 60001\n"),
            "config.toml line 3: server.poll_hold_ms: at most 60000 are allowed",
        ),
        (
            format!("{base}[housekeeping]\norder_retention_days = 0\n"),
            "config.toml line 3: housekeeping.order_retention_days: invalid value unsigned int `0`, expected a number of days from 1, or \"forever\"",
        ),
        (
            format!("{base}[housekeeping]\nauthorization_retention_days = \"never\"\n"),
            "config.toml line 3: housekeeping.authorization_retention_days: invalid value string \"never\", expected a number of days from 1, or \"forever\"",
        ),
        (
            format!("{base}[housekeeping]\ncertificate_retention_days = 1\n"),
            "config.toml line 3: housekeeping.certificate_retention_days: must be more than ca.crl_next_update_secs",
        ),
        (
            format!("{base}[housekeeping]\ninterval_secs = 0\n"),
            "config.toml line 3: housekeeping.interval_secs: 0 is not allowed",
        ),
        (
            format!("{base}[database]\nmin_idle_connections = 11\n"),
            "config.toml line 3: database.min_idle_connections: must not be more than database.max_connections",
        ),
        (
            format!("{base}[database]\nstatement_timeout_secs = 11\n"),
            "config.toml line 3: database.statement_timeout_secs: SQLite has no such limit; leave it out",
        ),
        (
            format!("{base}[database]\nlock_timeout_secs = 6\n"),
            "config.toml line 3: database.lock_timeout_secs: SQLite has no such limit; leave it out",
        ),
        (
            format!("{base}[ca]\nkey_file = \"ca.key\"\n"),
            "config.toml line 3: ca.key_file: a key file and a cert file go together",
        ),
        (
            format!("{base}[tls]\ncert_file = \"tls.pem\"\n"),
            "the configuration: tls.key_file: a key file and a cert file go together",
        ),
        (
            format!("{base}[server]\ndns_persist_issuer_domain = \"ca_1\"\n"),
            "config.toml line 3: server.dns_persist_issuer_domain: \"ca_1\": ",
        ),
        (
            format!("{base}[server]\ndns_persist_issuer_domains = [\"ca.test\", \"\"]\n"),
            "config.toml line 3: server.dns_persist_issuer_domains: \"\": ",
        ),
        (format!("{base}[ca]\nhash_alg = \"md5\"\n"), "config.toml line 3: ca.hash_alg: sha256, sha384 or sha512"),
        (
            format!("{base}[ca]\nhash_alg = \"sha384\"\n"),
            "config.toml line 3: ca.hash_alg: only RSA keys have a choice",
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
fn values_at_the_edge_of_what_is_refused_are_taken() {
    for text in [
        "[server]\npoll_hold_ms = 60000\n",
        "[database]\nmin_idle_connections = 10\nstatement_timeout_secs = 10\nlock_timeout_secs = 5\n",
        "[database]\nurl = \"postgres://db.test/akamu\"\nstatement_timeout_secs = 60\nlock_timeout_secs = 1\n",
        "[ca]\nhash_alg = \"sha384\"\nkey_type = \"rsa-2048\"\n",
        "[ca]\nhash_alg = \"sha384\"\nkey_file = \"a\"\ncert_file = \"b\"\n",
        "[ca]\ncrl_url = \"http://a.test/crl\"\n",
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), format!("base_url = \"https://a.test\"\n{text}")).unwrap();
        load(&sources(directory.path(), &[])).unwrap();
    }
    // A domain may have the dot of a whole name.
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("AKAMU_BASE_URL", "https://a.test"),
        ("AKAMU_SERVER__DNS_PERSIST_ISSUER_DOMAIN", "one.test."),
        ("AKAMU_SERVER__DNS_PERSIST_ISSUER_DOMAINS", "two.test, three.test.,"),
    ];
    let domains = load(&sources(directory.path(), &variables)).unwrap().config.server.issuer_domains();
    assert_eq!(domains.iter().map(ToString::to_string).collect::<Vec<_>>(), ["one.test", "two.test", "three.test"]);
}

#[test]
fn no_number_that_must_not_be_0_may_be() {
    let allowed = ["server.http01_max_redirects", "server.perspectives_may_fail", "server.poll_hold_ms"];
    let numbers = KEYS.iter().filter(|key| key.kind == Kind::Number && !allowed.contains(&key.path));
    for key in numbers.clone() {
        let (section, name) = key.path.split_once('.').unwrap();
        let lines = lines(&format!("base_url = \"https://a.test\"\n[{section}]\n{name} = 0\n"), &[]);
        let expected = format!(
            "config.toml line 3: {}: 0 is not allowed, and would not mean \"without limit\"; write 1 or more",
            key.path
        );
        assert_eq!(lines, [expected]);
    }
    assert!(numbers.count() > 10);
}

#[test]
fn a_later_source_wins_and_paths_start_where_they_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().join("etc");
    std::fs::create_dir(&there).unwrap();
    let text = "base_url = \"https://file.test\"\nlisten_addr = \"127.0.0.1:1\"\ndata_dir = \"data\"\n\
                [tls]\nkey_file = \"tls.key\"\ncert_file = \"tls.pem\"\n[ca]\ncommon_name = \"File\"\n";
    std::fs::write(there.join("akamu.toml"), text).unwrap();
    let variables = [("AKAMU_LISTEN_ADDR", "127.0.0.1:2"), ("AKAMU_BASE_URL", "https://variable.test")];
    let mut sources = Sources { config: Some("etc/akamu.toml".into()), ..sources(directory.path(), &variables) };
    sources.listen = Some("127.0.0.1:3".to_owned());
    let config = load(&sources).unwrap().config;
    assert_eq!(config.ca.common_name, "File");
    assert_eq!(config.base_url.as_str(), "https://variable.test");
    assert_eq!(config.listen_addr.port(), 3);
    assert_eq!(config.data_dir, there.join("data"));
    assert_eq!(config.tls.key_file, Some(there.join("tls.key")));
    assert_eq!(config.tls.cert_file, Some(there.join("tls.pem")));
    sources.environment.insert("AKAMU_DATA_DIR".to_owned(), "./variable".to_owned());
    assert_eq!(load(&sources).unwrap().config.data_dir, directory.path().join("variable"));
    sources.data_dir = Some("flag".into());
    sources.base_url = Some("https://flag.test".to_owned());
    let config = load(&sources).unwrap().config;
    assert_eq!((config.data_dir, config.base_url.as_str()), (directory.path().join("flag"), "https://flag.test"));
}

#[test]
fn what_is_wrong_with_a_forwarder_is_named_with_its_place() {
    let base = "base_url = \"https://a.test\"\n";
    let one = "[[server.dns_forwarders]]\nzone = \"corp.example\"\naddrs = [\"10.0.0.53\"]\n";
    let key = "server.dns_forwarders";
    for (text, expected) in [
        (format!("{one}adrs = []\n"), "5: there is no key server.dns_forwarders.adrs; did you mean server.dns_forwarders.addrs?".to_owned()),
        (
            "[server]\ndns_forwarders = [{ zone = \"a\", addrs = [\"10.0.0.53\"], dnsec = \"off\" }]\n".to_owned(),
            "3: there is no key server.dns_forwarders.dnsec; did you mean server.dns_forwarders.dnssec?".to_owned(),
        ),
        (format!("{one}{}", one.replace("corp", "CORP")), format!("6: {key}.zone: corp.example has a forwarder already; write all its addresses into one")),
        (one.replace("[\"10.0.0.53\"]", "[]"), format!("4: {key}.addrs: at least one address is needed")),
        (
            format!("{one}{}", one.replace("corp", "lab").replace("0.53", "0.53:x")),
            format!("7: {key}.addrs: \"10.0.0.53:x\" is no DNS server's address; write 10.0.0.53, or with a port 10.0.0.53:5353, [fd00::53]:5353"),
        ),
        (
            one.replace("corp.", "*."),
            format!("3: {key}.zone: \"*.example\": this is no zone: write a domain name such as corp.example, in ASCII (xn--…), or \".\" for all names"),
        ),
        (format!("{one}dnssec = \"on\"\n"), format!("5: {key}.dnssec: ")),
        (one.replace("addrs", "# addrs"), format!("2: {key}: missing field `addrs`")),
        (
            format!("[server]\naddress_resolver_addr = \"10.0.0.1\"\n{}", one.replace("corp.example", ".")),
            "3: server.address_resolver_addr: the forwarder of zone \".\" leaves nothing to it; leave one of the two out".to_owned(),
        ),
        (
            format!("[server]\ndnssec_trust_anchor_file = \"a\"\n{one}"),
            "3: server.dnssec_trust_anchor_file: nothing is validated; set server.dnssec or a forwarder's dnssec to \"require-if-signed\"".to_owned(),
        ),
    ] {
        let lines = lines(&format!("{base}{text}"), &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(&format!("config.toml line {expected}")), "{} / {expected}", lines[0]);
    }
    let variable = "AKAMU_SERVER__DNS_FORWARDERS";
    for (name, text, expected) in [
        (
            variable,
            "[{zone = \"a\", adrs = []}]",
            format!("{variable}: there is no key {key}.adrs; did you mean {key}.addrs?"),
        ),
        (variable, "10.0.0.53", format!("{variable}: \"10.0.0.53\" is not a list of tables in TOML: [{{…}}, {{…}}]")),
        (variable, "[\"a\"]", format!("{variable}: \"[\\\"a\\\"]\" is not a list of tables in TOML: [{{…}}, {{…}}]")),
        (variable, "[{zone = \"a\", addrs = []}]", format!("{variable}: {key}.addrs: at least one address is needed")),
        (
            "AKAMU_SERVER__DNS_FORWARDERS__ZONE",
            "a",
            format!("AKAMU_SERVER__DNS_FORWARDERS__ZONE: write all of {key} into {variable}, as TOML: [{{…}}, {{…}}]"),
        ),
    ] {
        assert_eq!(lines(base, &[(name, text)]), [expected]);
    }
}

#[test]
fn dns_servers_come_from_the_file_or_from_variables() {
    let directory = tempfile::tempdir().unwrap();
    let tables = "[{zone = \"corp.example\", addrs = [\"10.0.0.53\", \"[fd00::53]:5353\"], dnssec = \"require-if-signed\"}, {zone = \".\", addrs = [\"10.0.0.1\"]}]";
    let variables = [
        ("AKAMU_BASE_URL", "https://env.test"),
        ("AKAMU_SERVER__DNS_FORWARDERS", tables),
        ("AKAMU_SERVER__DNSSEC", "require-if-signed"),
        ("AKAMU_SERVER__DNSSEC_TRUST_ANCHOR_FILE", "anchors"),
    ];
    let loaded = load(&sources(directory.path(), &variables)).unwrap();
    let server = &loaded.config.server;
    let told: Vec<_> =
        server.dns_forwarders.iter().map(|it| format!("{} {:?} {:?}", it.zone, it.addrs, it.dnssec)).collect();
    assert_eq!(
        told,
        [
            "corp.example [DnsServer(10.0.0.53:53), DnsServer([fd00::53]:5353)] RequireIfSigned",
            ". [DnsServer(10.0.0.1:53)] Off"
        ]
    );
    assert_eq!(server.dnssec_trust_anchor_file, Some(directory.path().join("anchors")));
    // Written down, they have the same effect.
    let shown = show(&loaded);
    assert!(shown.contains("[[server.dns_forwarders]]  # AKAMU_SERVER__DNS_FORWARDERS\n"), "{shown}");
    std::fs::write(directory.path().join("config.toml"), &shown).unwrap();
    let again = load(&sources(directory.path(), &[])).unwrap();
    assert_eq!(format!("{:?}", again.config.server), format!("{server:?}"));

    let text = "base_url = \"https://a.test\"\n[server]\ndns_resolver_addr = \"10.0.0.1\"\naddress_resolver_addr = \"fd00::1\"\n";
    std::fs::write(directory.path().join("config.toml"), text).unwrap();
    let server = load(&sources(directory.path(), &[])).unwrap().config.server;
    assert_eq!(server.dns_resolver_addr.unwrap().0.to_string(), "10.0.0.1:53");
    assert_eq!(server.address_resolver_addr.unwrap().0.to_string(), "[fd00::1]:53");
}

#[test]
fn perspectives_are_told_apart() {
    let with = |text: &str| {
        let lines = lines(&format!("base_url = \"https://a.test\"\n{text}"), &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    };
    let table = "[[server.perspectives]]\n";
    assert_eq!(
        with(&format!("{table}name = \"a b\"\ndns_resolver_addr = \"10.0.0.53\"\n")),
        "config.toml line 3: server.perspectives.name: \"a b\": a perspective's name is 1 to 63 letters, digits, '-', '.' and '_'"
    );
    assert_eq!(
        with(&format!("{table}name = \"primary\"\ndns_resolver_addr = \"10.0.0.53\"\n")),
        "config.toml line 3: server.perspectives.name: primary is the name of another perspective"
    );
    assert_eq!(
        with(&format!("{table}name = \"uplink-2\"\n")),
        "config.toml line 3: server.perspectives.name: sees what the server itself sees; give it source_addrs or DNS servers of its own"
    );
    let two = format!("{table}name = \"a\"\nsource_addrs = [\"10.0.0.7\"]\n").repeat(2);
    assert_eq!(with(&two), "config.toml line 6: server.perspectives.name: a is the name of another perspective");
    assert_eq!(
        with(&format!("{table}name = \"a\"\nsource_addrs = [\"10.0.0.7\", \"fd00::7\", \"10.0.0.8\"]\n")),
        "config.toml line 4: server.perspectives.source_addrs: one IPv4 and one IPv6 address at most; give the others a perspective each"
    );
    let one = format!("{table}name = \"a\"\nsource_addrs = [\"10.0.0.7\"]\n");
    assert_eq!(
        with(&format!("[server]\nperspectives_may_fail = 1\n{one}")),
        "config.toml line 3: server.perspectives_may_fail: must be less than there are [[server.perspectives]]"
    );
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
    assert!(first.contains("# validation_allow_networks = []\n") && first.contains("# organization = …\n"), "{first}");
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
    // Whoever has said anything means it.
    let configured = Sources { base_url: Some("https://a.test".to_owned()), ..sources.clone() };
    assert!(!load(&configured).unwrap().config.trial);
    sources.listen = Some("127.0.0.1:14001".to_owned());
    assert_eq!(load(&sources).unwrap().config.base_url.as_str(), "https://localhost:14001");
    sources.listen = Some("0.0.0.0:14000".to_owned());
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.starts_with("--listen: listen_addr: ") && error.contains("config.toml"), "{error}");
    sources.config = Some("absent.toml".into());
    assert_eq!(load(&sources).unwrap_err().to_string(), "--config absent.toml: there is no such file");
}

async fn refusal(directory: &Path, text: &str) -> String {
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

    let error = refusal(path, &with("203.0.113.7:0", "")).await;
    assert_eq!(error, "listen_addr 203.0.113.7:0: this machine does not have the address");

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

    let validated = "[server]\ndnssec = \"require-if-signed\"\ndnssec_trust_anchor_file = \"root.key\"\n";
    let error = refusal(path, &with("127.0.0.1:0", validated)).await;
    assert!(error.starts_with("server.dnssec_trust_anchor_file: ") && error.contains("cannot be read"), "{error}");
    std::fs::write(path.join("root.key"), ". IN DS 20326 8 2 e06d44b8").unwrap();
    let error = refusal(path, &with("127.0.0.1:0", validated)).await;
    assert!(error.contains("root.key: ") && error.contains("DNSKEY records are expected"), "{error}");
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
    // The database has the new URL: configured with it, it is taken.
    let config = "base_url = \"https://localhost:14001\"\nlisten_addr = \"127.0.0.1:0\"\ndata_dir = \"akamu-trial\"\n";
    std::fs::write(directory.path().join("config.toml"), config).unwrap();
    let config = load(&sources(directory.path(), &[])).unwrap().config;
    let parts =
        Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None };
    start(&config, parts).await.unwrap().shut_down().await;
}

#[tokio::test]
async fn a_clock_that_is_more_than_a_day_behind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = "base_url = \"https://localhost\"\nlisten_addr = \"127.0.0.1:0\"\ndata_dir = \"data\"\n";
    std::fs::write(directory.path().join("config.toml"), text).unwrap();
    let config = load(&sources(directory.path(), &[])).unwrap().config;
    let begun = epoch();
    let start_at = async |seconds: u64| {
        let clock = Arc::new(TestClock::at(begun.plus(Duration::from_secs(seconds))));
        let parts = Parts { clock, random: Arc::new(SystemRandom), validators: None, listener: None };
        match start(&config, parts).await {
            Ok(running) => {
                running.shut_down().await;
                String::new()
            }
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(start_at(0).await, "");
    assert_eq!(start_at(200_000).await, "");
    let error = start_at(200_000 - 86_401).await;
    assert!(error.contains("this machine's clock says") && error.contains("set the clock right"), "{error}");
    assert_eq!(start_at(200_000 - 86_400).await, "");
}

async fn the_newest_time_is_kept(database: Database) {
    let server = database.server().await;
    let client = server.client(Key::p256());
    let mut beside = Beside::of(&server.place);
    let newest = "SELECT CAST(value AS TEXT) AS text FROM counters WHERE name = 'newest_time'";
    let before = beside.text(newest);
    for _ in 0..10_000 {
        if beside.text(newest) != before {
            return;
        }
        server.clock.advance(Duration::from_secs(1));
        client.nonce().await;
    }
    panic!("it is not");
}

/// A certificate for localhost by somebody else, and its key.
fn own_certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (cert_file, key_file) = (directory.join("tls.pem"), directory.join("tls.key"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    (cert_file, key_file)
}

#[tokio::test]
async fn the_servers_own_certificate_may_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = own_certificate(directory.path());
    let settings = format!("[tls]\ncert_file = {cert_file:?}\nkey_file = {key_file:?}\n");
    let server = Database::Sqlite.server_with(&settings).await;
    let http = http_client(&cert_file).build().unwrap();
    let directory_url = server.running.directory_url();
    assert_eq!(http.get(&directory_url).send().await.unwrap().status(), 200);
    assert!(server.http.get(&directory_url).send().await.is_err(), "it is not by our own CA");

    let beside = tempfile::tempdir().unwrap();
    let (_, other_key) = own_certificate(beside.path());
    let start = |rest: String| format!("base_url = \"https://localhost\"\nlisten_addr = \"127.0.0.1:0\"\n{rest}");
    let with = |cert_file: &Path, key_file: &Path| {
        start(format!("[tls]\ncert_file = {cert_file:?}\nkey_file = {key_file:?}\n"))
    };
    let absent = directory.path().join("absent.pem");
    for (cert_file, key_file, expected) in [
        (&cert_file, &other_key, format!("{}: is not the key of {}", other_key.display(), cert_file.display())),
        (&key_file, &key_file, format!("{}: has no certificate", key_file.display())),
        (&cert_file, &cert_file, format!("{}: no private key in PEM", cert_file.display())),
        (&absent, &key_file, format!("{}: no certificate chain in PEM", absent.display())),
    ] {
        let error = refusal(beside.path(), &with(cert_file, key_file)).await;
        assert!(error.starts_with(&expected) && !error.contains('\n'), "{error} / {expected}");
    }
}

async fn what_the_ca_is_made_like_is_configured(database: Database) {
    let settings = "[ca]\nkey_type = \"rsa-2048\"\nhash_alg = \"sha384\"\ncommon_name = \"Corp\"\n\
                    organization = \"Corp Ltd\"\nca_validity_years = 3\nvalidity_days = 7\n";
    let server = database.server_with(settings).await;
    let client = server.registered().await;
    let file = server.data_dir().join("issuer.pem");
    let pem = client.get("/ca/issuer.pem").await.expect(200);
    assert_eq!(pem.header("content-type"), "application/x-pem-file");
    std::fs::write(&file, &pem.body).unwrap();
    let der = client.get("/ca/issuer.der").await.expect(200);
    assert_eq!(der.header("content-type"), "application/pkix-cert");
    assert_eq!(pem_der(pem.text()).1, der.body);
    let openssl = |file: &Path, arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        let output = command.args(["x509", "-noout", "-in"]).arg(file).args(arguments).output();
        String::from_utf8(output.expect("openssl must be installed").stdout).unwrap()
    };
    let text = openssl(&file, &["-text"]);
    for part in ["sha384WithRSAEncryption", "Public-Key: (2048 bit)", "CN = Corp Issuing CA", "O = Corp Ltd"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let lives = |file: &Path, days: u64| {
        openssl(file, &["-checkend", &(days * 86_400).to_string()]).contains("will not expire")
    };
    assert!(lives(&file, 3 * 365 - 2) && !lives(&file, 3 * 366), "{text}");
    let order = ready_order(&server, &client, &["week.test"], "dns-01").await.json();
    let leaf = server.data_dir().join("leaf.pem");
    std::fs::write(&leaf, finalize(&client, &order, &["week.test"]).await).unwrap();
    assert!(lives(&leaf, 6) && !lives(&leaf, 8));
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
    server.clock.advance(Duration::from_secs(86_400 * 366));
    let (status, text) = get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("issuing certificate: expired at "), "{text}");
}
