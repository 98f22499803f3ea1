//! What is in force when nothing is configured: a trial that needs neither root nor DNS.

use std::net::SocketAddr;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::Dict;

/// Never ./akamu-data: the first config.toml would meet a database whose base_url is the trial's, and be refused.
pub const TRIAL_DIR: &str = "./akamu-trial";

const TRIAL: &str = r#"
listen_addr = "127.0.0.1:14000"
base_url = "https://localhost:14000"
data_dir = "./akamu-trial"

[ca]
common_name = "Akamu trial"

[server]
http_validation_port = 5002
tls_validation_port = 5001
validation_allow_networks = ["127.0.0.0/8", "::1/128"]
"#;

/// The trial's values. Where `--listen` names another port, the trial's URL does too.
pub(super) fn values(listen: Option<&str>) -> Dict {
    let mut values: Dict = Figment::from(Toml::string(TRIAL)).extract().unwrap_or_default();
    if let Some(address) = listen.and_then(|it| it.parse::<SocketAddr>().ok()) {
        values.insert("base_url".to_owned(), format!("https://localhost:{}", address.port()).into());
    }
    values
}
