//! Validates one http-01 challenge over the real network:
//!
//! ```console
//! $ cargo run -p akamu-challenge --example validate_http_01 -- www.example.com TOKEN THUMBPRINT
//! ```
//!
//! The name may be an address. The exit status is 0 where control is proved.

#![expect(clippy::print_stdout, reason = "an example shows what came of it")]

use std::process::ExitCode;
use std::time::Duration;

use akamu_challenge::{
    AddressPolicy, Deadline, DnsClient, Http01, Probe, SystemClock, TcpConnector, ValidationRequest, Validator,
};
use akamu_proto::{Identifier, KeyAuthorization};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, token, thumbprint] = arguments.as_slice() else {
        return Err("give a name, a token and a thumbprint".into());
    };
    let identifier: Identifier = name.parse()?;
    let key_authorization = KeyAuthorization::new(&token.parse()?, &thumbprint.parse()?);

    // Where a CA may be sent to is the CA's decision: this one goes to the public Internet alone.
    let policy = AddressPolicy::public_only();
    let probe = Probe::new(DnsClient::system()?, TcpConnector, SystemClock, policy);
    let validator = Http01::new(probe, Http01::PORT);

    let request = ValidationRequest::with_key_authorization(identifier, key_authorization);
    let report = validator.validate(&request, Deadline::after(Duration::from_secs(10))).await;
    println!("{report}");
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
