//! Makes a CA in a new directory and lets it issue: `cargo run -p akamu-ca --example issue -- DIRECTORY`.
//!
//! Beside the CA's own files it writes `leaf.pem` (for nas.example and *.nas.example, with a P-256 key), `rsa-leaf.pem` (without a
//! subject, with an RSA key) and `crl.der`: what a linter of certificates is to look at.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use akamu_ca::{Authority, Csr, FileKey, FirstRun, HashAlg, KeyType, Profile, Revoked, Serial};
use akamu_proto::{Identifier, RevocationReason, Timestamp};
use rcgen::{CertificateParams, DnType};

const DAY: Duration = Duration::from_secs(86_400);

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).ok_or("a directory is expected")?.into();
    let now = Timestamp::from_unix_secs(i64::try_from(UNIX_EPOCH.elapsed()?.as_secs())?);
    let mut random = |octets: &mut [u8]| {
        // Without random octets there is no CA.
        aws_lc_rs::rand::fill(octets).expect("the system gives random octets");
    };
    Authority::create_directory(&directory)?;
    let first_run = FirstRun {
        key_type: KeyType::EcP256,
        hash: HashAlg::Sha256,
        common_name: "Example".to_owned(),
        organization: Some("Example Ltd".to_owned()),
        ca_validity_years: 10,
    };
    let profile = Profile {
        validity: DAY * 90,
        crl_url: Some("http://ca.nas.example/ca/crl".to_owned()),
        issuer_url: Some("http://ca.nas.example/ca/issuer.der".to_owned()),
    };
    let issuer = Authority::new(&directory).create(&first_run, profile, &mut random, now)?;
    std::fs::write(directory.join("issuer.pem"), issuer.certificate_pem())?;

    for (file, key_type, common_name, names) in [
        ("leaf.pem", KeyType::EcP256, Some("nas.example"), &["nas.example", "*.nas.example"][..]),
        ("rsa-leaf.pem", KeyType::Rsa2048, None, &["nas.example"]),
    ] {
        // What a client does.
        let key = rcgen::KeyPair::try_from(FileKey::generate(key_type, HashAlg::Sha256)?.to_pkcs8()?)?;
        let mut parameters = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common_name) = common_name {
            parameters.distinguished_name.push(DnType::CommonName, common_name);
        }
        let request = parameters.serialize_request(&key)?;

        // What the CA does.
        let csr = Csr::parse(request.der())?;
        csr.check_names(&names.iter().map(|it| Identifier::dns(it)).collect::<Result<Vec<_>, _>>()?)?;
        let mut octets = [0; 10];
        random(&mut octets);
        let tbs = issuer.prepare(&csr, Serial::new(now, octets), now)?;
        std::fs::write(directory.join(file), issuer.sign(&tbs)?.chain_pem())?;
    }

    let mut serial = [0; 10];
    random(&mut serial);
    let serial = Serial::new(now, serial).as_octets().to_vec();
    let revoked = Revoked { serial, revoked_at: now, reason: RevocationReason::Superseded };
    std::fs::write(directory.join("crl.der"), issuer.crl(1, now, now.plus(DAY), &[revoked])?)?;
    Ok(())
}
