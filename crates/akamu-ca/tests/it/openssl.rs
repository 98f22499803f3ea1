//! OpenSSL's opinion of what is issued. It reads the machine's clock, so the time is given to it.

use akamu_ca::{FirstRun, HashAlg, KeyType, Revoked};
use akamu_proto::RevocationReason;

use crate::support::{
    Ca, DAY, KINDS, ca, ca_with, dns_name, extension_request, first_run, ip_name, key, now, openssl, openssl_ok,
    profile, request, san, serial, subject,
};

/// Writes root.pem, issuing.pem and leaf.pem for openssl; the leaf is for nas.example, *.nas.example and 192.0.2.1.
fn write_all(ca: &Ca) -> std::path::PathBuf {
    let names = [dns_name("nas.example"), dns_name("*.nas.example"), ip_name(&[192, 0, 2, 1])];
    let issued = ca.issue(&request(&key(KeyType::EcP256), &subject(&[]), &[extension_request(&[san(&names)])]));
    let directory = ca.directory.path().to_owned();
    std::fs::write(directory.join("issuing.pem"), ca.issuer.certificate_pem()).unwrap();
    std::fs::write(directory.join("leaf.pem"), issued.chain_pem()).unwrap();
    directory
}

fn verify<'a>(more: &[&'a str], time: &'a str) -> Vec<&'a str> {
    let mut all = vec!["verify", "-x509_strict", "-check_ss_sig", "-attime", time, "-CAfile", "root.pem"];
    all.extend(["-untrusted", "issuing.pem"]);
    all.extend(more);
    all.push("leaf.pem");
    all
}

#[test]
fn openssl_verifies_the_chain_for_every_name_and_both_purposes() {
    for key_type in KINDS {
        let ca = ca(key_type);
        let directory = write_all(&ca);
        let time = now().unix_secs().to_string();
        for purpose in ["sslserver", "sslclient"] {
            openssl_ok(&directory, &verify(&["-purpose", purpose], &time));
        }
        for name in ["nas.example", "x.nas.example"] {
            openssl_ok(&directory, &verify(&["-verify_hostname", name], &time));
        }
        openssl_ok(&directory, &verify(&["-verify_ip", "192.0.2.1"], &time));
        for wrong in [["-verify_hostname", "other.example"], ["-verify_ip", "192.0.2.2"], ["-purpose", "smimesign"]] {
            assert!(!openssl(&directory, &verify(&wrong, &time)).status.success(), "{key_type:?} {wrong:?}");
        }
        let late = now().plus(DAY * 91).unix_secs().to_string();
        assert!(!openssl(&directory, &verify(&[], &late)).status.success());
    }
}

#[test]
fn openssl_verifies_every_hash_of_rsa() {
    for hash in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
        let ca = ca_with(&FirstRun { hash, ..first_run(KeyType::Rsa2048) }, profile());
        let directory = write_all(&ca);
        openssl_ok(&directory, &verify(&[], &now().unix_secs().to_string()));
    }
}

#[test]
fn openssl_reads_the_list_and_refuses_what_stands_on_it() {
    for key_type in KINDS {
        let ca = ca(key_type);
        let directory = write_all(&ca);
        let time = now().unix_secs().to_string();
        let crl = |number: i64, octets: &[u8]| {
            let entry = |octet: &u8| Revoked {
                serial: serial(*octet).as_octets().to_vec(),
                revoked_at: now(),
                reason: RevocationReason::KeyCompromise,
            };
            let entries: Vec<_> = octets.iter().map(entry).collect();
            std::fs::write(directory.join("crl.der"), ca.issuer.crl(number, now(), now().plus(DAY), &entries).unwrap())
                .unwrap();
            openssl_ok(&directory, &["crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem"]);
            openssl_ok(
                &directory,
                &["crl", "-inform", "DER", "-in", "crl.der", "-CAfile", "issuing.pem", "-noout", "-text"],
            )
        };
        let text = crl(258, &[7, 8]);
        assert!(text.contains("verify OK"), "{text}");
        assert!(
            text.contains("Version 2 (0x1)") && text.contains("X509v3 CRL Number: \n                258"),
            "{text}"
        );
        assert!(text.contains("Serial Number: 01A20877D20007070707") && text.contains("Key Compromise"), "{text}");
        let check = ["-crl_check", "-CRLfile", "crl.pem"];
        openssl_ok(&directory, &verify(&check, &time));
        crl(259, &[0x42]);
        let refused = openssl(&directory, &verify(&check, &time));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate revoked"), "{refused:?}");
        let text = crl(260, &[]);
        assert!(text.contains("No Revoked Certificates."), "{text}");
        openssl_ok(&directory, &verify(&check, &time));
    }
}

#[test]
fn openssl_shows_what_the_profile_says() {
    let ca = ca(KeyType::EcP256);
    let directory = write_all(&ca);
    let text = openssl_ok(&directory, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for line in [
        "Version: 3 (0x2)",
        "01:a2:08:77:d2:00:42:42:42:42:42:42:42:42:42:42",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: O = \"Ex, Ample + Sons\", CN = Example Issuing CA",
        "Not Before: Nov 23 11:53:20 2026 GMT",
        "Not After : Feb 21 12:53:20 2027 GMT",
        "Subject:",
        "X509v3 Key Usage: critical",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Basic Constraints: critical",
        "CA:FALSE",
        "X509v3 Subject Alternative Name: critical",
        "DNS:nas.example, DNS:*.nas.example, IP Address:192.0.2.1",
        "URI:http://ca.example/ca/crl",
        "CA Issuers - URI:http://ca.example/ca/issuer.der",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in\n{text}");
    }
    for (file, path_len) in [("root.pem", "CA:TRUE"), ("issuing.pem", "CA:TRUE, pathlen:0")] {
        let text = openssl_ok(&directory, &["x509", "-in", file, "-noout", "-text"]);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert!(lines.contains(&path_len) && lines.contains(&"Certificate Sign, CRL Sign"), "{text}");
    }
}
