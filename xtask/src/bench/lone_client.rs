//! One client that gets its certificates one after the other, untimed.

use rcgen::KeyPair;
use tokio::runtime::Runtime;

use crate::acme::{Challenge, Client, Directory};
use crate::failure::{Context, Failure};
use crate::name_server::ZONE;
use crate::responder::Responder;
use crate::server::Server;

/// Has so many certificates issued, of one name each by http-01; the last one's chain, PEM.
pub(super) fn issue(server: &Server, certificates: u32) -> Result<String, Failure> {
    let runtime = Runtime::new().context(|| "cannot start the client".to_owned())?;
    runtime.block_on(async {
        let responder = Responder::start(server.ports().http)?;
        let directory = Directory::fetch(server.directory_url(), &server.root()).await?;
        let mut client = Client::register(&directory).await?;
        let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;
        let thumbprint = client.account().thumbprint();
        let put = |_: &str, challenge: &Challenge| responder.put(challenge.key_authorization(&thumbprint));
        let mut chain = String::new();
        for number in 0..certificates {
            chain = client.issue(&[format!("lone-{number}.{ZONE}")], &key, "http-01", put).await?;
        }
        Ok(chain)
    })
}
