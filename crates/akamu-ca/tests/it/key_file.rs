//! Files of private keys: which are read, and what an operator is told of others.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use akamu_ca::{FileError, FileKey, HashAlg, KeyError, KeyType, SigningKey as _};

use crate::support::{KEY_TYPES, key, openssl_ok};

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn read(path: &Path) -> Result<FileKey, KeyError> {
    FileKey::from_pem_file(path, HashAlg::Sha256)
}

#[test]
fn every_kind_of_key_survives_its_file() {
    let directory = tempfile::tempdir().unwrap();
    for key_type in KEY_TYPES {
        let path = directory.path().join(format!("{key_type:?}"));
        let key = key(key_type);
        key.write_new(&path).unwrap();
        assert_eq!(read(&path).unwrap().spki_der(), key.spki_der(), "{key_type:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        // Other programs read it, and see the same public key.
        openssl_ok(
            directory.path(),
            &["pkey", "-in", path.to_str().unwrap(), "-pubout", "-outform", "DER", "-out", "pub"],
        );
        assert_eq!(std::fs::read(directory.path().join("pub")).unwrap(), key.spki_der(), "{key_type:?}");
    }
}

#[test]
fn only_keys_whose_signatures_take_little_time_are_quick() {
    let quick: Vec<_> = KEY_TYPES.into_iter().filter(|it| key(*it).is_quick()).collect();
    assert_eq!(quick, [KeyType::EcP256, KeyType::Ed25519]);
}

#[test]
fn a_key_is_never_written_over_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let first = key(KeyType::EcP256);
    first.write_new(&path).unwrap();
    let again = key(KeyType::EcP256).write_new(&path);
    assert!(
        matches!(again, Err(KeyError::File(FileError::Io { source, .. })) if source.kind() == std::io::ErrorKind::AlreadyExists)
    );
    assert_eq!(read(&path).unwrap().spki_der(), first.spki_der());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    key(KeyType::EcP256).write_new(&path).unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap()) == 0;
    for mode in [0o600, 0o400, 0o200] {
        chmod(&path, mode);
        // A file that we may not read at all is an error of another kind.
        assert!(!matches!(read(&path), Err(KeyError::File(FileError::KeyIsReadable { .. }))), "{mode:o}");
    }
    for mode in [0o644, 0o604, 0o601, 0o660, 0o620, 0o610, 0o700, 0o777] {
        chmod(&path, mode);
        assert!(
            matches!(read(&path), Err(KeyError::File(FileError::KeyIsReadable { mode: found, .. })) if found == mode),
            "{mode:o}"
        );
    }
    for mode in [0o640, 0o440] {
        chmod(&path, mode);
        // Root's, and a group that it chose.
        assert_eq!(read(&path).is_ok(), is_root, "{mode:o}");
    }
    chmod(&path, 0o604);
    assert!(read(&path).unwrap_err().to_string().contains("has mode 0604 and owner"));
}

#[test]
fn another_users_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    key(KeyType::EcP256).write_new(&path).unwrap();
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_err() {
        // Only root can give a file away; the rule is then tested by whoever runs the tests as root.
        return;
    }
    assert!(matches!(read(&path), Err(KeyError::File(FileError::KeyIsReadable { owner: 65_534, mode: 0o600, .. }))));
}

#[test]
fn each_refusal_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let make = |arguments: &[&str]| openssl_ok(directory.path(), arguments);
    make(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1"]);
    make(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1_alone"]);
    make(&["genrsa", "-traditional", "-out", "pkcs1", "2048"]);
    make(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-aes256",
        "-pass",
        "pass:x",
        "-out",
        "locked",
    ]);
    make(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521", "-out", "p521"]);
    make(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "rsa1024"]);
    make(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4104", "-out", "rsa4104"]);
    make(&["genpkey", "-algorithm", "X25519", "-out", "x25519"]);
    make(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "-",
        "-subj",
        "/CN=x",
        "-out",
        "certificate",
    ]);
    std::fs::write(at("certificate_alone"), crate::support::ca(KeyType::EcP256).issuer.certificate_pem()).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("hello"), "hello").unwrap();
    std::fs::write(at("binary"), [0xff, 0xfe, 0]).unwrap();
    std::fs::write(at("half"), "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n").unwrap();
    std::fs::write(at("large"), vec![b'a'; (1 << 20) + 1]).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    make(&["genpkey", "-algorithm", "ed25519", "-out", "good"]);
    let good = std::fs::read_to_string(at("good")).unwrap();
    std::fs::write(at("good_with_text"), format!("# our key\n\n{good}")).unwrap();

    for (name, text) in [
        (
            "sec1",
            "\"BEGIN EC PRIVATE KEY\" is found here, PKCS #8 is expected; convert it: openssl pkcs8 -topk8 -nocrypt -in",
        ),
        (
            "sec1_alone",
            "\"BEGIN EC PRIVATE KEY\" is found here, PKCS #8 is expected; convert it: openssl pkcs8 -topk8 -nocrypt -in",
        ),
        ("pkcs1", "\"BEGIN RSA PRIVATE KEY\" is found here, PKCS #8 is expected; convert it"),
        ("locked", "the private key is encrypted; decrypt it into a file of mode 0600: openssl pkcs8 -in"),
        (
            "p521",
            "the private key is of a kind that is not supported; use EC P-256, EC P-384, RSA 2048 to 4096 or Ed25519",
        ),
        ("rsa1024", "the private key is of a kind that is not supported"),
        ("rsa4104", "the private key is of a kind that is not supported"),
        ("x25519", "the private key is of a kind that is not supported"),
        ("certificate_alone", "no private key is found here; PKCS #8 in PEM (\"BEGIN PRIVATE KEY\") is expected"),
        ("empty", "no private key is found here"),
        ("hello", "no private key is found here"),
        ("half", "no private key is found here"),
        ("binary", "stream did not contain valid UTF-8"),
        ("large", "is no regular file of at most 1 MiB"),
        ("directory", "is no regular file of at most 1 MiB"),
        ("absent", "No such file or directory"),
    ] {
        let path = at(name);
        if path.is_file() {
            chmod(&path, 0o600);
        }
        let error = read(&path).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: {text}", path.display())), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}");
    }
    for name in ["good", "good_with_text"] {
        chmod(&at(name), 0o600);
        assert!(read(&at(name)).is_ok(), "{name}");
    }
}

#[test]
fn debug_shows_no_key() {
    let key = key(KeyType::EcP256);
    assert_eq!(format!("{key:?}"), "FileKey(…)");
}
