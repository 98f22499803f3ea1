//! A CA in a directory of its own, and requests put together octet by octet, so that they can be wrong in one place.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use akamu_ca::{
    Authority, Csr, FileKey, FirstRun, HashAlg, IssuedCertificate, Issuer, KeyType, Profile, Serial, SigningKey,
};
use akamu_proto::{Identifier, Timestamp};
use der::Encode as _;
use tempfile::TempDir;

/// 2026-11-23T12:53:20Z: within a year of the tests' first run, so that openssl, which reads the machine's clock, agrees.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_secs(1_795_438_400)
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) const KEY_TYPES: [KeyType; 6] =
    [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096, KeyType::Ed25519];

/// One of each kind: what is larger of the same differs in nothing that a CA does with it, and takes seconds to make.
pub(crate) const KINDS: [KeyType; 4] = [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048, KeyType::Ed25519];

pub(crate) fn profile() -> Profile {
    Profile {
        validity: DAY * 90,
        crl_url: Some("http://ca.example/ca/crl".to_owned()),
        issuer_url: Some("http://ca.example/ca/issuer.der".to_owned()),
    }
}

pub(crate) fn first_run(key_type: KeyType) -> FirstRun {
    FirstRun {
        key_type,
        hash: HashAlg::Sha256,
        common_name: "Example".to_owned(),
        organization: Some("Ex, Ample + Sons".to_owned()),
        ca_validity_years: 10,
    }
}

/// Octets that differ from call to call.
pub(crate) fn random() -> impl FnMut(&mut [u8]) {
    let mut count = 0_u8;
    move |octets| {
        count += 1;
        octets.fill(count);
    }
}

pub(crate) struct Ca {
    pub(crate) directory: TempDir,
    pub(crate) issuer: Issuer,
}

pub(crate) fn ca(key_type: KeyType) -> Ca {
    ca_with(&first_run(key_type), profile())
}

pub(crate) fn ca_with(first_run: &FirstRun, profile: Profile) -> Ca {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let issuer = authority.create(first_run, profile, &mut random(), now()).unwrap();
    authority.write_root(issuer.root_der()).unwrap();
    Ca { directory, issuer }
}

pub(crate) fn key(key_type: KeyType) -> FileKey {
    FileKey::generate(key_type, HashAlg::Sha256).unwrap()
}

pub(crate) fn dns(name: &str) -> Identifier {
    Identifier::dns(name).unwrap()
}

pub(crate) fn ip(address: &str) -> Identifier {
    Identifier::ip(address).unwrap()
}

pub(crate) fn serial(octet: u8) -> Serial {
    Serial::new(now(), [octet; 10])
}

impl Ca {
    pub(crate) fn issue(&self, csr_der: &[u8]) -> IssuedCertificate {
        let csr = Csr::parse(csr_der).unwrap();
        let tbs = self.issuer.prepare(&csr, serial(0x42), now()).unwrap();
        self.issuer.sign(&tbs).unwrap()
    }
}

/// Runs openssl in `directory`; that it is absent fails the test.
pub(crate) fn openssl(directory: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output();
    output.expect("these tests need the program openssl (Debian's package openssl)")
}

/// Standard output and standard error of an openssl that must succeed.
pub(crate) fn openssl_ok(directory: &Path, arguments: &[&str]) -> String {
    let output = openssl(directory, arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

// DER by hand.

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap());
    } else {
        let octets = length.to_be_bytes();
        let skip = octets.iter().take_while(|it| **it == 0).count();
        out.push(0x80 | u8::try_from(4 - skip).unwrap());
        out.extend(&octets[skip..]);
    }
    out.extend(content);
    out
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    der::asn1::ObjectIdentifier::new_unwrap(dotted).to_der().unwrap()
}

/// A Name of common names: the tag of each text, and the text.
pub(crate) fn subject(common_names: &[(u8, &[u8])]) -> Vec<u8> {
    let names = common_names.iter().map(|(tag, text)| set(&[sequence(&[oid("2.5.4.3"), tlv(*tag, text)])]));
    sequence(&names.collect::<Vec<_>>())
}

pub(crate) const UTF8: u8 = 0x0c;

pub(crate) fn common_name(text: &str) -> Vec<u8> {
    subject(&[(UTF8, text.as_bytes())])
}

/// GeneralName dNSName.
pub(crate) fn dns_name(name: &str) -> Vec<u8> {
    tlv(0x82, name.as_bytes())
}

/// GeneralName iPAddress.
pub(crate) fn ip_name(octets: &[u8]) -> Vec<u8> {
    tlv(0x87, octets)
}

/// A subject alternative name extension.
pub(crate) fn san(general_names: &[Vec<u8>]) -> Vec<u8> {
    extension("2.5.29.17", &sequence(general_names))
}

pub(crate) fn extension(dotted: &str, value: &[u8]) -> Vec<u8> {
    sequence(&[oid(dotted), tlv(4, value)])
}

/// The attribute extensionRequest.
pub(crate) fn extension_request(extensions: &[Vec<u8>]) -> Vec<u8> {
    sequence(&[oid("1.2.840.113549.1.9.14"), set(&[sequence(extensions)])])
}

/// A request with this subject and these attributes, signed with `key`.
pub(crate) fn request(key: &FileKey, subject: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    request_for(key, &key.spki_der(), subject, &tlv(0xa0, &attributes.concat()))
}

/// A request in whose info everything can be wrong; the signature is right.
pub(crate) fn request_for(key: &FileKey, spki: &[u8], subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    sign(key, &sequence(&[vec![2, 1, 0], subject.to_vec(), spki.to_vec(), attributes.to_vec()]))
}

/// `signed` with a signature around it.
pub(crate) fn sign(key: &FileKey, signed: &[u8]) -> Vec<u8> {
    let signature = [vec![0], key.sign(&key.algorithm(), signed).unwrap()].concat();
    sequence(&[signed.to_vec(), key.algorithm().to_der().unwrap(), tlv(3, &signature)])
}

/// A request for dns names, without a subject.
pub(crate) fn request_for_names(key: &FileKey, names: &[&str]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|it| dns_name(it)).collect();
    request(key, &subject(&[]), &[extension_request(&[san(&names)])])
}
