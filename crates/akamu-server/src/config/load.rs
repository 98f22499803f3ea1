//! Merges the sources of the configuration, and says in one line each what is wrong with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use akamu_challenge::{Dnssec, Http01};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::keys::{self, KEYS, Key, Kind};
use super::{Config, PRIMARY, trial};

/// Where the configuration comes from. The environment is an argument, so that a test can have its own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--base-url`.
    pub base_url: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The directory at which relative paths start.
    pub working_directory: PathBuf,
}

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// Things that look like mistakes and are none for sure, one line each.
    pub warnings: Vec<String>,
    pub(super) merged: Figment,
    pub(super) file: Option<PathBuf>,
}

/// What is wrong with the configuration: a line for each mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl ConfigError {
    pub(super) fn one(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

/// One value, or the values of one kind, under a name that a person recognises.
struct Named {
    name: String,
    values: Dict,
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The default of every key that has one.
fn defaults() -> Figment {
    let text: String = KEYS.iter().filter_map(|key| Some(format!("{} = {}\n", key.path, key.default?))).collect();
    let values = Figment::from(Toml::string(&text)).extract::<Dict>().unwrap_or_default();
    Figment::from(Named { name: "default".to_owned(), values })
}

/// Merges everything and reads it.
///
/// # Errors
/// Every unknown key, or else the first value that cannot be taken.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let file = config_file(sources)?;
    let mut mistakes = Vec::new();
    let mut warnings = Vec::new();
    let variables = variables(sources, &mut mistakes, &mut warnings);
    let is_trial = file.is_none() && sources.base_url.is_none() && variables.is_empty();

    let mut merged = defaults();
    if is_trial {
        merged = merged.merge(Named { name: "trial".to_owned(), values: trial::values(sources.listen.as_deref()) });
    }
    if let Some(file) = &file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::one(format!("{}: cannot be read: {error}", file.display())))?;
        let document = toml_edit::ImDocument::parse(text.as_str()).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            ConfigError::one(format!("{} line {line}: {}", file.display(), error.message().replace('\n', "; ")))
        })?;
        unknown_keys(document.as_table(), "", &text, file, &mut mistakes);
        merged = merged.merge(Toml::file_exact(file));
    }
    for variable in variables {
        merged = merged.merge(variable);
    }
    for (flag, path, value) in [
        ("--data-dir", "data_dir", sources.data_dir.as_ref().map(|it| it.to_string_lossy().into_owned())),
        ("--listen", "listen_addr", sources.listen.clone()),
        ("--base-url", "base_url", sources.base_url.clone()),
    ] {
        if let Some(value) = value {
            merged = merged.merge(Named {
                name: flag.to_owned(),
                values: figment::util::nest(path, value.into()).into_dict().unwrap_or_default(),
            });
        }
    }
    if !mistakes.is_empty() {
        return Err(ConfigError(mistakes));
    }
    if merged.find_value("base_url").is_err() {
        return Err(ConfigError::one(format!(
            "base_url is missing: write base_url = \"https://acme.example.com\" into {}, or give --base-url",
            file.as_deref().unwrap_or_else(|| Path::new("config.toml")).display()
        )));
    }
    let mut config: Config = merged.extract().map_err(|error| explain(error, &merged, file.as_deref()))?;
    config.trial = is_trial;
    resolve_paths(&mut config, &merged, sources);
    check(&config, &merged, file.as_deref())?;
    Ok(Loaded { config, warnings, merged, file })
}

fn config_file(sources: &Sources) -> Result<Option<PathBuf>, ConfigError> {
    let absolute = |path: &Path| sources.working_directory.join(path);
    match &sources.config {
        Some(path) if absolute(path).is_file() => Ok(Some(absolute(path))),
        Some(path) => Err(ConfigError::one(format!("--config {}: there is no such file", path.display()))),
        None => Ok(Some(absolute(Path::new("config.toml"))).filter(|path| path.is_file())),
    }
}

/// Reads the AKAMU_* variables. One without `__` that is no top-level key is only warned about: Kubernetes puts
/// AKAMU_PORT and AKAMU_SERVICE_HOST into every pod beside a Service called akamu.
fn variables(sources: &Sources, mistakes: &mut Vec<String>, warnings: &mut Vec<String>) -> Vec<Named> {
    let mut found = Vec::new();
    for (name, text) in &sources.environment {
        let Some(rest) = name.strip_prefix("AKAMU_") else { continue };
        let path = rest.to_ascii_lowercase().replace("__", ".");
        let key = keys::find(&path);
        if let Some(table) = key.and_then(Key::table) {
            let variable = format!("AKAMU_{}", table.path.to_ascii_uppercase().replace('.', "__"));
            mistakes.push(format!("{name}: write all of {} into {variable}, as TOML: [{{…}}, {{…}}]", table.path));
            continue;
        }
        match key {
            Some(key) if key.kind == Kind::Tables => match tables(key, text, name, mistakes) {
                Some(values) => found.push(Named { name: name.clone(), values }),
                None => mistakes.push(format!("{name}: {text:?} is not a list of tables in TOML: [{{…}}, {{…}}]")),
            },
            Some(key) => match read(key, text) {
                Ok(value) => {
                    let values = figment::util::nest(key.path, value).into_dict().unwrap_or_default();
                    found.push(Named { name: name.clone(), values });
                }
                Err(expected) => mistakes.push(format!("{name}: {text:?} is not {expected}")),
            },
            None if rest.contains("__") => {
                mistakes.push(format!("{name}: there is no key {path}{}", suggestion(&path)))
            }
            None => warnings.push(format!("{name} is no setting and is ignored")),
        }
    }
    found
}

/// Tables in a variable's text; their unknown keys are mistakes.
fn tables(key: &Key, text: &str, variable: &str, mistakes: &mut Vec<String>) -> Option<Dict> {
    let document = format!("{} = {text}", key.path);
    // Not yet tagged with an origin: that is the variable, once it is merged.
    let values = Toml::string(&document).data().ok()?.remove(&Profile::Default)?;
    let value = Value::from(values.clone());
    for table in value.find_ref(key.path)?.as_array()? {
        for name in table.as_dict()?.keys() {
            let path = format!("{}.{name}", key.path);
            if keys::find(&path).is_none() {
                mistakes.push(format!("{variable}: there is no key {path}{}", suggestion(&path)));
            }
        }
    }
    Some(values)
}

/// A variable's text, by its key's kind: `42` is a good name.
fn read(key: &Key, text: &str) -> Result<Value, &'static str> {
    Ok(match key.kind {
        Kind::Text | Kind::SecretUrl | Kind::Path => Value::from(text),
        Kind::Number => Value::from(text.trim().parse::<u64>().map_err(|_| "a whole number")?),
        Kind::Bool => Value::from(text.trim().parse::<bool>().map_err(|_| "true or false")?),
        Kind::Tables => return Err("a list of tables"),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(Value::from);
            Value::Array(Tag::Default, items.collect())
        }
    })
}

fn suggestion(path: &str) -> String {
    keys::nearest(path).map_or_else(String::new, |key| format!("; did you mean {key}?"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&c| c == b'\n').count() + 1
}

fn unknown_keys(table: &dyn toml_edit::TableLike, prefix: &str, text: &str, file: &Path, mistakes: &mut Vec<String>) {
    for (name, item) in table.iter() {
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let is_section = KEYS.iter().any(|key| key.path.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')));
        match item.as_table_like() {
            Some(inner) if is_section => unknown_keys(inner, &path, text, file, mistakes),
            _ if keys::find(&path).is_some_and(|key| key.kind == Kind::Tables) => {
                for inner in elements(item) {
                    unknown_keys(inner, &path, text, file, mistakes);
                }
            }
            _ if keys::find(&path).is_some() => {}
            _ => {
                let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
                let line = span.map_or(1, |span| line_of(text, span.start));
                let hint = suggestion(&path);
                mistakes.push(format!("{} line {line}: there is no key {path}{hint}", file.display()));
            }
        }
    }
}

/// The tables in a list, in either form.
fn elements(item: &toml_edit::Item) -> Vec<&dyn toml_edit::TableLike> {
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|it| it as &dyn toml_edit::TableLike).collect();
    }
    let values = item.as_array().into_iter().flatten();
    values.filter_map(|it| it.as_inline_table().map(|it| it as &dyn toml_edit::TableLike)).collect()
}

/// The file that a value comes from.
pub(super) fn file_path(metadata: &Metadata) -> Option<&Path> {
    metadata.source.as_ref()?.file_path()
}

/// Where a key's value stands: `config.toml line 3`, a variable's name, a flag. The path may go through lists by index.
fn place(path: &str, merged: &Figment, file: Option<&Path>) -> String {
    let index = |name: &str| name.parse::<usize>().ok();
    let list: Vec<_> = path.split('.').take_while(|name| index(name).is_none()).collect();
    let Some(metadata) = merged.find_metadata(&list.join(".")) else { return "the configuration".to_owned() };
    let (Some(_), Some(file)) = (file_path(metadata), file) else { return metadata.name.to_string() };
    let line = std::fs::read_to_string(file).ok().and_then(|text| {
        let document = toml_edit::ImDocument::parse(text.as_str()).ok()?;
        let mut item = document.as_item();
        for name in path.split('.') {
            item = match index(name) {
                Some(index) => item.get(index)?,
                None => item.get(name)?,
            };
        }
        Some(line_of(&text, item.span()?.start))
    });
    match line {
        Some(line) => format!("{} line {line}", file.display()),
        None => file.display().to_string(),
    }
}

fn explain(error: figment::Error, merged: &Figment, file: Option<&Path>) -> ConfigError {
    ConfigError(
        error
            .into_iter()
            .map(|error| {
                let place = place(&error.path.join("."), merged, file);
                // An element of a list has its index in the path.
                let parts = error.path.iter().filter(|part| part.parse::<usize>().is_err());
                let path = parts.map(String::as_str).collect::<Vec<_>>().join(".");
                format!("{place}: {path}: {}", error.kind)
            })
            .collect(),
    )
}

/// Without the `.` of `./akamu-data`, which would stand in every message.
fn join(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path).components().collect()
}

fn resolve_paths(config: &mut Config, merged: &Figment, sources: &Sources) {
    let start = |path: &str| {
        let in_file = merged.find_metadata(path).and_then(|it| file_path(it)?.parent());
        in_file.map_or_else(|| sources.working_directory.clone(), Path::to_path_buf)
    };
    let Config { data_dir, ca, tls, server, .. } = config;
    *data_dir = join(&start("data_dir"), data_dir);
    for (path, value) in [
        ("ca.key_file", &mut ca.key_file),
        ("ca.cert_file", &mut ca.cert_file),
        ("tls.key_file", &mut tls.key_file),
        ("tls.cert_file", &mut tls.cert_file),
        ("server.dnssec_trust_anchor_file", &mut server.dnssec_trust_anchor_file),
    ] {
        if let Some(value) = value {
            *value = join(&start(path), value);
        }
    }
}

/// Rules about values that their types do not know.
fn check(config: &Config, merged: &Figment, file: Option<&Path>) -> Result<(), ConfigError> {
    let mut mistakes = Vec::new();
    let mut refuse = |path: &str, what: &str| {
        let name: Vec<_> = path.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
        mistakes.push(format!("{}: {}: {what}", place(path, merged, file), name.join(".")));
    };
    for (path, one, other) in [
        ("ca.key_file", &config.ca.key_file, &config.ca.cert_file),
        ("tls.key_file", &config.tls.key_file, &config.tls.cert_file),
    ] {
        if one.is_some() != other.is_some() {
            refuse(path, "a key file and a cert file go together; give both or neither");
        }
    }
    if config.trial && !config.listen_addr.ip().is_loopback() {
        refuse(
            "listen_addr",
            "without a configuration the server answers on loopback only; to serve others, write a config.toml with base_url, listen_addr and data_dir",
        );
    }
    let server = &config.server;
    let at_least_one = [
        ("server.order_expiry_secs", server.order_expiry_secs),
        ("server.authz_expiry_secs", server.authz_expiry_secs),
        ("server.nonce_lifetime_secs", server.nonce_lifetime_secs),
        ("server.validation_timeout_secs", server.validation_timeout_secs),
        ("server.max_body_bytes", server.max_body_bytes as u64),
        ("server.max_connections", server.max_connections.map_or(1, u64::from)),
        ("server.max_requests", server.max_requests.map_or(1, u64::from)),
        ("server.max_concurrent_validations", server.max_concurrent_validations as u64),
        ("server.http_validation_port", server.http_validation_port.into()),
        ("server.tls_validation_port", server.tls_validation_port.into()),
        ("ca.validity_days", config.ca.validity_days.into()),
        ("ca.ca_validity_years", config.ca.ca_validity_years.into()),
        ("ca.crl_next_update_secs", config.ca.crl_next_update_secs),
        ("database.max_connections", config.database.max_connections.into()),
        ("database.min_idle_connections", config.database.min_idle_connections.into()),
        ("database.connection_lifetime_secs", config.database.connection_lifetime_secs),
        ("database.connection_wait_secs", config.database.connection_wait_secs),
        ("database.statement_timeout_secs", config.database.statement_timeout_secs),
        ("database.lock_timeout_secs", config.database.lock_timeout_secs),
        ("housekeeping.interval_secs", config.housekeeping.interval_secs),
    ];
    for (path, value) in at_least_one {
        if value == 0 {
            refuse(path, "0 is not allowed, and would not mean \"without limit\"; write 1 or more");
        }
    }
    let database = &config.database;
    if database.min_idle_connections > database.max_connections && database.max_connections > 0 {
        refuse("database.min_idle_connections", "must not be more than database.max_connections");
    }
    for (path, value) in [
        ("database.statement_timeout_secs", database.statement_timeout_secs),
        ("database.lock_timeout_secs", database.lock_timeout_secs),
    ] {
        let default = keys::find(path).and_then(|key| key.default?.parse::<u64>().ok());
        if database.url.starts_with("sqlite:") && value > 0 && Some(value) != default {
            refuse(path, "SQLite has no such limit; leave it out, or set database.url to postgres://…");
        }
    }
    let retention = config.housekeeping.certificate_retention_days.duration();
    if retention.is_some_and(|it| it.as_secs() <= config.ca.crl_next_update_secs) {
        refuse(
            "housekeeping.certificate_retention_days",
            "must be more than ca.crl_next_update_secs: the CRL after its end still shows a revoked certificate",
        );
    }
    if server.http01_max_redirects > Http01::MAX_REDIRECTS {
        refuse("server.http01_max_redirects", "at most 10 are followed; 0: none");
    }
    if server.poll_hold_ms > 60_000 {
        refuse("server.poll_hold_ms", "at most 60000 are allowed");
    }
    for (path, url) in [("ca.crl_url", &config.ca.crl_url), ("ca.issuer_url", &config.ca.issuer_url)] {
        if url.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            refuse(path, "must begin with http:// (a client that checks a certificate cannot fetch this by https)");
        }
    }
    let one = server.dns_persist_issuer_domain.iter().map(|it| ("server.dns_persist_issuer_domain", it));
    let several = server.dns_persist_issuer_domains.iter().map(|it| ("server.dns_persist_issuer_domains", it));
    for (path, domain) in one.chain(several) {
        if let Err(error) = akamu_proto::DnsName::parse(domain.strip_suffix('.').unwrap_or(domain)) {
            refuse(path, &format!("{domain:?}: {error}"));
        }
    }
    for (index, forwarder) in server.dns_forwarders.iter().enumerate() {
        let path = |key: &str| format!("server.dns_forwarders.{index}.{key}");
        if forwarder.addrs.is_empty() {
            refuse(&path("addrs"), "at least one address is needed");
        }
        if server.dns_forwarders.iter().take(index).any(|earlier| earlier.zone == forwarder.zone) {
            let zone = &forwarder.zone;
            refuse(&path("zone"), &format!("{zone} has a forwarder already; write all its addresses into one"));
        }
    }
    if server.dns_forwarders.iter().any(|it| it.zone.is_root()) {
        for (path, address) in [
            ("server.dns_resolver_addr", server.dns_resolver_addr),
            ("server.dns_persist_resolver_addr", server.dns_persist_resolver_addr),
            ("server.address_resolver_addr", server.address_resolver_addr),
        ] {
            if address.is_some() {
                refuse(path, "the forwarder of zone \".\" leaves nothing to it; leave one of the two out");
            }
        }
    }
    for (index, perspective) in server.perspectives.iter().enumerate() {
        let path = |key: &str| format!("server.perspectives.{index}.{key}");
        let name = &perspective.name;
        if name.to_string() == PRIMARY || server.perspectives.iter().take(index).any(|earlier| earlier.name == *name) {
            refuse(&path("name"), &format!("{name} is the name of another perspective"));
        }
        let of_ipv4 = perspective.source_addrs.iter().filter(|it| it.is_ipv4()).count();
        if of_ipv4 > 1 || perspective.source_addrs.len() - of_ipv4 > 1 {
            refuse(&path("source_addrs"), "one IPv4 and one IPv6 address at most; give the others a perspective each");
        }
        let is_the_servers = perspective.source_addrs.is_empty()
            && perspective.dns_resolver_addr.is_none()
            && perspective.address_resolver_addr.is_none();
        if is_the_servers {
            refuse(&path("name"), "sees what the server itself sees; give it source_addrs or DNS servers of its own");
        }
    }
    if server.perspectives_may_fail.is_some_and(|it| it > 0 && it >= server.perspectives.len()) {
        refuse("server.perspectives_may_fail", "must be less than there are [[server.perspectives]]");
    }
    let is_validated = |dnssec: Dnssec| dnssec != Dnssec::Off;
    let is_any = is_validated(server.dnssec) || server.dns_forwarders.iter().any(|it| is_validated(it.dnssec));
    if server.dnssec_trust_anchor_file.is_some() && !is_any {
        refuse(
            "server.dnssec_trust_anchor_file",
            "nothing is validated; set server.dnssec or a forwarder's dnssec to \"require-if-signed\"",
        );
    }
    if !["sha256", "sha384", "sha512"].contains(&config.ca.hash_alg.as_str()) {
        refuse("ca.hash_alg", "sha256, sha384 or sha512 is expected");
    } else if config.ca.hash_alg != "sha256" && !config.ca.key_type.starts_with("rsa") && config.ca.key_file.is_none() {
        refuse("ca.hash_alg", "only RSA keys have a choice of hash; leave it out");
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ConfigError(mistakes)) }
}
