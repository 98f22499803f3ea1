//! Every key of the configuration, declared once: its kind, its default, and what it is for.

/// How the text of an environment variable is read, and how a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, as it stands.
    Text,
    /// Text that may hold a password (a URL's), which is not shown.
    SecretUrl,
    /// A path: relative ones in config.toml start at its directory, others at the working directory.
    Path,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list of texts; in a variable separated by commas.
    List,
    /// A list of tables, whose keys are declared below this one's path; in a variable as TOML.
    Tables,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its place, with dots: `server.http_validation_port`.
    pub path: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// The default, as TOML; `None` where there is none.
    pub default: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// Every key, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key("listen_addr", Kind::Text, Some("\"0.0.0.0:443\""), "Address and port of the ACME server."),
    key(
        "base_url",
        Kind::Text,
        None,
        "The URL that clients use, without a trailing slash: https://acme.example.com, with a path where a proxy adds one. Required. It names every account for ever: choose it once.",
    ),
    key("data_dir", Kind::Path, Some("\"./akamu-data\""), "Directory of the database, root.pem and keys/."),
    key(
        "database.url",
        Kind::SecretUrl,
        Some("\"sqlite://akamu.db\""),
        "sqlite://FILE (relative to data_dir) or postgres://USER:PASSWORD@HOST/DATABASE, also with several hosts (HOST,HOST), of which the one that takes writes is used.",
    ),
    key(
        "database.max_connections",
        Kind::Number,
        Some("10"),
        "The most connections to the database; on SQLite the most that read, of which there are no more than processors, or two.",
    ),
    key(
        "database.min_idle_connections",
        Kind::Number,
        Some("1"),
        "The connections that are kept open while nobody uses them, at least. PostgreSQL alone.",
    ),
    key(
        "database.connection_lifetime_secs",
        Kind::Number,
        Some("1800"),
        "How old a connection may get, in seconds; an older one is closed once it is idle. PostgreSQL alone.",
    ),
    key(
        "database.connection_wait_secs",
        Kind::Number,
        Some("5"),
        "How long a request waits for a connection, in seconds, before it is answered 503. On PostgreSQL nothing waits once connecting has failed for three.",
    ),
    key(
        "database.statement_timeout_secs",
        Kind::Number,
        Some("10"),
        "How long a statement may take, in seconds. PostgreSQL alone.",
    ),
    key(
        "database.lock_timeout_secs",
        Kind::Number,
        Some("5"),
        "How long a statement waits for the lock of another one, in seconds. PostgreSQL alone.",
    ),
    key(
        "ca.key_file",
        Kind::Path,
        None,
        "Private key of the issuing certificate, PKCS #8 PEM. Absent: made at the first start.",
    ),
    key(
        "ca.cert_file",
        Kind::Path,
        None,
        "The issuing certificate, then its chain up to the root, PEM. Goes with ca.key_file.",
    ),
    key(
        "ca.key_type",
        Kind::Text,
        Some("\"ec-p256\""),
        "Kind of the keys that the first start makes: ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519.",
    ),
    key(
        "ca.hash_alg",
        Kind::Text,
        Some("\"sha256\""),
        "Hash of RSA signatures: sha256, sha384 or sha512. EC and Ed25519 keys have one hash each.",
    ),
    key("ca.validity_days", Kind::Number, Some("90"), "Validity of a certificate, in days."),
    key(
        "ca.ca_validity_years",
        Kind::Number,
        Some("10"),
        "Validity of the issuing certificate that the first start makes, in years; the root's is twice that.",
    ),
    key(
        "ca.common_name",
        Kind::Text,
        Some("\"Akamu\""),
        "Common name of the CA that the first start makes; \"Root\" and \"Issuing CA\" are added.",
    ),
    key("ca.organization", Kind::Text, None, "Organization in the CA's names."),
    key(
        "ca.http_listen_addr",
        Kind::Text,
        None,
        "Address and port of a plain HTTP listener for /ca/ alone: the CRL and the issuer's certificate.",
    ),
    key(
        "ca.crl_url",
        Kind::Text,
        None,
        "URL of the CRL in certificates (http, not https). Absent: with ca.http_listen_addr its /ca/crl at base_url's host, else none.",
    ),
    key(
        "ca.issuer_url",
        Kind::Text,
        None,
        "URL of the issuer's certificate in certificates (http, not https). Absent: as for ca.crl_url, /ca/issuer.der.",
    ),
    key(
        "ca.crl_next_update_secs",
        Kind::Number,
        Some("86400"),
        "How long a CRL may be used, in seconds; a new one is made at half of that and at each revocation.",
    ),
    key("tls.enabled", Kind::Bool, Some("true"), "false: plain HTTP, for a proxy that ends TLS."),
    key(
        "tls.cert_file",
        Kind::Path,
        None,
        "The server's own certificate chain, PEM. Absent: one for base_url's host by our own CA, renewed by itself.",
    ),
    key("tls.key_file", Kind::Path, None, "Its private key, PKCS #8 PEM."),
    key(
        "admin.listen_addr",
        Kind::Text,
        None,
        "Address and port of /healthz, /readyz and /metrics, plain HTTP. Absent: no such listener.",
    ),
    key("server.terms_of_service_url", Kind::Text, None, "Terms of service that a new account must agree to."),
    key("server.website_url", Kind::Text, None, "A page about the CA, for the directory."),
    key("server.order_expiry_secs", Kind::Number, Some("86400"), "How long an order may take, in seconds."),
    key("server.authz_expiry_secs", Kind::Number, Some("86400"), "How long an authorization may be used, in seconds."),
    key("server.max_body_bytes", Kind::Number, Some("131072"), "The largest request body, in octets."),
    key(
        "server.max_connections",
        Kind::Number,
        None,
        "The most connections at once, of ACME and of ca.http_listen_addr; the one that has been idle longest makes room for a new one. At most half of the files that the process may have open. Absent: 1000, or that half where it is less.",
    ),
    key(
        "server.max_requests",
        Kind::Number,
        None,
        "The most requests worked on at once before newAccount and newOrder are answered 503, so that what was begun ends in time. Polls that are held and bodies that are waited for are not counted. Absent: 32 for each processor.",
    ),
    key("server.nonce_lifetime_secs", Kind::Number, Some("3600"), "How long a nonce may be used, in seconds."),
    key(
        "server.dns_persist_issuer_domain",
        Kind::Text,
        None,
        "Issuer domain of dns-persist-01. Absent, as is the next one: the type is not offered.",
    ),
    key("server.dns_persist_issuer_domains", Kind::List, None, "Several issuer domains of dns-persist-01."),
    key(
        "server.dns_resolver_addr",
        Kind::Text,
        None,
        "DNS server of dns-01 and dns-persist-01: 10.0.0.53, or with a port 10.0.0.53:5353. Absent: the system's, as /etc/resolv.conf names them at the start.",
    ),
    key(
        "server.dns_persist_resolver_addr",
        Kind::Text,
        None,
        "DNS server of dns-persist-01 alone. Absent: that of server.dns_resolver_addr.",
    ),
    key(
        "server.address_resolver_addr",
        Kind::Text,
        None,
        "DNS server for the addresses that http-01 and tls-alpn-01 probe. Absent: the system's.",
    ),
    key(
        "server.dnssec",
        Kind::Text,
        Some("\"off\""),
        "Whether the answers of these three servers are validated: off, or require-if-signed. Forwarders have their own.",
    ),
    key(
        "server.dnssec_trust_anchor_file",
        Kind::Path,
        None,
        "DNSKEY records at which DNSSEC begins. Keys of the root replace the built-in ones, those of other zones add to them.",
    ),
    key("server.http_validation_port", Kind::Number, Some("80"), "Port that http-01 probes."),
    key("server.tls_validation_port", Kind::Number, Some("443"), "Port that tls-alpn-01 probes."),
    key(
        "server.http01_max_redirects",
        Kind::Number,
        Some("0"),
        "How many redirects of http-01 are followed, 0 to 10: to port 80, 443 or one of the two above, over http or https, each under the address policy.",
    ),
    key("server.validation_timeout_secs", Kind::Number, Some("10"), "How long one validation may take, in seconds."),
    key(
        "server.max_concurrent_validations",
        Kind::Number,
        Some("1024"),
        "The most validations at once; a quarter of it for one account.",
    ),
    key(
        "server.validation_allow_networks",
        Kind::List,
        None,
        "Networks that may be probed although the address policy refuses them: [\"127.0.0.0/8\"].",
    ),
    key(
        "server.validation_deny_networks",
        Kind::List,
        None,
        "Networks that may not be probed; stronger than the allowed ones.",
    ),
    key(
        "server.poll_hold_ms",
        Kind::Number,
        Some("2000"),
        "How long a poll of a running validation waits for its end, in milliseconds; 0: not at all.",
    ),
    key(
        "server.perspectives_may_fail",
        Kind::Number,
        None,
        "How many of the other perspectives may fail. Absent: none of one, one of two to five, two of six and more.",
    ),
    key(
        "server.dns_forwarders",
        Kind::Tables,
        None,
        "DNS servers of the names in a zone, for every lookup, before the servers above; the longest zone that holds a name decides.",
    ),
    key(
        "server.dns_forwarders.zone",
        Kind::Text,
        None,
        "The zone: corp.example is that name and every one below it; \".\" is all names. Required.",
    ),
    key(
        "server.dns_forwarders.addrs",
        Kind::List,
        None,
        "Its servers, in the order in which they are asked: [\"10.0.0.53\", \"10.0.1.53:5353\"]. Required.",
    ),
    key(
        "server.dns_forwarders.dnssec",
        Kind::Text,
        None,
        "Whether their answers are validated: off, or require-if-signed. Absent: off.",
    ),
    key(
        "server.perspectives",
        Kind::Tables,
        None,
        "Other places to validate from, beside this server's own, which must find control proved in any case.",
    ),
    key(
        "server.perspectives.name",
        Kind::Text,
        None,
        "What it is called towards operators and clients: letters, digits, \"-\", \".\" and \"_\". Required.",
    ),
    key(
        "server.perspectives.source_addrs",
        Kind::List,
        None,
        "This machine's addresses to ask the DNS and to probe from, one of each family: [\"192.0.2.7\", \"2001:db8::7\"]. Absent: as the system chooses.",
    ),
    key(
        "server.perspectives.dns_resolver_addr",
        Kind::Text,
        None,
        "Its DNS server of TXT records. Absent: the server's.",
    ),
    key(
        "server.perspectives.address_resolver_addr",
        Kind::Text,
        None,
        "Its DNS server of the addresses to probe. Absent: the server's.",
    ),
    key(
        "housekeeping.enabled",
        Kind::Bool,
        Some("true"),
        "Whether what has expired is removed from the database. Accounts are never removed.",
    ),
    key("housekeeping.interval_secs", Kind::Number, Some("3600"), "How often, in seconds."),
    key(
        "housekeeping.order_retention_days",
        Kind::Text,
        Some("30"),
        "How many days an order is kept after it expired, or \"forever\". One that is being issued is kept in any case.",
    ),
    key(
        "housekeeping.authorization_retention_days",
        Kind::Text,
        Some("30"),
        "How many days an authorization is kept after it expired, with its challenges and the reports of its validations, or \"forever\". One that an order still has is kept in any case.",
    ),
    key(
        "housekeeping.certificate_retention_days",
        Kind::Text,
        Some("90"),
        "How many days a certificate is kept after it expired, or \"forever\". More than ca.crl_next_update_secs: the CRL after its end still shows a revoked one.",
    ),
];

impl Key {
    /// The keys of this key's tables.
    pub fn columns(&self) -> impl Iterator<Item = &'static Self> {
        let path = self.path;
        KEYS.iter().filter(move |key| key.table().is_some_and(|table| table.path == path))
    }

    /// The key whose tables this one stands in.
    pub fn table(&self) -> Option<&'static Self> {
        let (table, _) = self.path.rsplit_once('.')?;
        find(table).filter(|key| key.kind == Kind::Tables)
    }
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The known key whose spelling is nearest to `path`, where one is near.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = strsim::normalized_damerau_levenshtein;
    // A key in the wrong section is found by its name; the place decides between equals.
    let score = |key: &Key| likeness(&last(path), &last(key.path)) + likeness(path, key.path) / 10.0;
    let best = KEYS.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.66).then_some(best.path)
}
