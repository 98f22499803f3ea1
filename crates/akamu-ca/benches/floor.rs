//! What it costs to check a CSR and to make the certificate.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;

use std::hint::black_box;
use std::time::Duration;

use akamu_ca::{Authority, Csr, FirstRun, HashAlg, Issuer, KeyType, Profile, Serial};
use akamu_proto::{Identifier, Timestamp};
use criterion::Criterion;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use rustix::time::ClockId;
use tempfile::TempDir;

use crate::cpu_time::CpuTime;

const NAME: &str = "www.example.com";
const NOW: Timestamp = Timestamp::from_unix_secs(1_795_438_400);

fn main() {
    let mut criterion = CpuTime(ClockId::ProcessCPUTime).criterion();
    csrs(&mut criterion);
    certificates(&mut criterion);
    criterion.final_summary();
}

fn csr(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).expect("a CSR").der().to_vec()
}

fn csrs(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("ca");
    let order = [Identifier::dns(NAME).expect("a name")];
    let algorithms = [("P-256", &PKCS_ECDSA_P256_SHA256), ("RSA-2048", &PKCS_RSA_SHA256), ("Ed25519", &PKCS_ED25519)];
    for (name, algorithm) in algorithms {
        let der = csr(&KeyPair::generate_for(algorithm).expect("a key"));
        group.bench_function(format!("check CSR {name}"), |it| {
            it.iter(|| Csr::parse(black_box(&der)).expect("a CSR").check_names(&order).expect("its names"));
        });
    }
    group.finish();
}

fn issuer(key_type: KeyType) -> (TempDir, Issuer) {
    let directory = tempfile::tempdir().expect("a directory");
    let first_run = FirstRun {
        key_type,
        hash: HashAlg::Sha256,
        common_name: "Example".to_owned(),
        organization: None,
        ca_validity_years: 10,
    };
    let profile = Profile {
        validity: Duration::from_secs(90 * 86_400),
        crl_url: Some("http://ca.example/ca/crl".to_owned()),
        issuer_url: Some("http://ca.example/ca/issuer.der".to_owned()),
    };
    let mut count = 0_u8;
    let mut random = |octets: &mut [u8]| {
        count += 1;
        octets.fill(count);
    };
    let issuer = Authority::new(directory.path()).create(&first_run, profile, &mut random, NOW).expect("a CA");
    (directory, issuer)
}

fn certificates(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("ca");
    let csr = Csr::parse(&csr(&KeyPair::generate().expect("a key"))).expect("a CSR");
    let key_types = [("P-256", KeyType::EcP256), ("RSA-2048", KeyType::Rsa2048), ("Ed25519", KeyType::Ed25519)];
    for (name, key_type) in key_types {
        let (_directory, issuer) = issuer(key_type);
        let prepare = || issuer.prepare(black_box(&csr), Serial::new(NOW, [0x42; 10]), NOW).expect("a certificate");
        let tbs = prepare();
        group.bench_function(format!("build {name}"), |it| it.iter(prepare));
        group.bench_function(format!("sign and check {name}"), |it| {
            it.iter(|| issuer.sign(black_box(&tbs)).expect("a signature"));
        });
    }
    group.finish();
}
