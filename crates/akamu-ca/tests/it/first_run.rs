//! The first run and every later one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use akamu_ca::{Authority, FileKey, FirstRun, FirstRunError, HashAlg, Issuer, KeyType, SigningKey as _};
use der::Decode as _;
use x509_cert::Certificate;

use crate::support::{ca, first_run, now, profile, random};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn the_first_run_makes_these_files_and_no_other() {
    let ca = ca(KeyType::EcP256);
    let at = |name: &str| ca.directory.path().join(name);
    assert_eq!(files(ca.directory.path()), ["keys", "root.pem"]);
    assert_eq!(files(&at("keys")), ["issuing.key", "issuing.pem", "root.key"]);
    assert_eq!(mode(&at("keys")), 0o700);
    assert_eq!(mode(&at("keys/root.key")), 0o600);
    assert_eq!(mode(&at("keys/issuing.key")), 0o600);
    assert_eq!(mode(&at("root.pem")), 0o644);
    let root = std::fs::read_to_string(at("root.pem")).unwrap();
    let chain = std::fs::read_to_string(at("keys/issuing.pem")).unwrap();
    assert_eq!(chain, ca.issuer.certificate_pem() + &root);
    // The keys are those of the certificates.
    for (key, der) in [("keys/root.key", ca.issuer.root_der()), ("keys/issuing.key", ca.issuer.certificate_der())] {
        let key = FileKey::from_pem_file(&at(key), HashAlg::Sha256).unwrap();
        let certificate = Certificate::from_der(der).unwrap();
        let spki = der::Encode::to_der(certificate.tbs_certificate().subject_public_key_info()).unwrap();
        assert_eq!(spki, key.spki_der());
    }
}

#[test]
fn the_data_directory_and_those_above_it_are_made_for_all_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    Authority::create_directory(&at("above/data")).unwrap();
    assert_eq!((mode(&at("above")), mode(&at("above/data"))), (0o755, 0o755));
    // One that is there keeps the mode that somebody gave it.
    std::fs::set_permissions(at("above/data"), std::fs::Permissions::from_mode(0o750)).unwrap();
    std::fs::set_permissions(at("above"), std::fs::Permissions::from_mode(0o711)).unwrap();
    Authority::create_directory(&at("above/data")).unwrap();
    Authority::create_directory(&at("above/other")).unwrap();
    assert_eq!((mode(&at("above")), mode(&at("above/data")), mode(&at("above/other"))), (0o711, 0o750, 0o755));
    std::fs::write(at("file"), "").unwrap();
    let error = Authority::create_directory(&at("file")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: File exists", at("file").display())), "{error}");
}

#[test]
fn the_modes_do_not_depend_on_the_umask() {
    // In a process of its own: the umask is the whole process's.
    const TESTS: [&str; 2] = [
        "first_run::the_first_run_makes_these_files_and_no_other",
        "first_run::the_data_directory_and_those_above_it_are_made_for_all_to_read",
    ];
    let test = std::env::current_exe().unwrap();
    for umask in ["077", "000"] {
        let script = format!("umask {umask} && exec \"$0\" --exact \"$@\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).arg(&test).args(TESTS).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("2 passed"), "umask {umask}: {text}");
    }
}

#[test]
fn a_later_run_finds_the_same_ca_also_without_the_roots_key() {
    let ca = ca(KeyType::Ed25519);
    let authority = Authority::new(ca.directory.path());
    assert!(authority.exists().unwrap());
    let load = || authority.load(profile(), HashAlg::Sha256, now()).unwrap();
    assert_eq!(load().certificate_der(), ca.issuer.certificate_der());
    std::fs::remove_file(ca.directory.path().join("keys/root.key")).unwrap();
    assert_eq!(load().root_der(), ca.issuer.root_der());
}

fn create(authority: &Authority) -> Result<Issuer, FirstRunError> {
    authority.create(&first_run(KeyType::EcP256), profile(), &mut random(), now())
}

fn load(authority: &Authority) -> Result<Issuer, FirstRunError> {
    authority.load(profile(), HashAlg::Sha256, now())
}

/// The files of `keys/` in the order in which they are written.
const KEYS: [&str; 3] = ["root.key", "issuing.key", "issuing.pem"];

/// Writes these files with mode 0600: names and contents.
fn write(directory: &Path, files: &[(&str, String)]) {
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn keys_are_never_overwritten() {
    let ca = ca(KeyType::EcP256);
    let again = create(&Authority::new(ca.directory.path()));
    assert!(matches!(again, Err(FirstRunError::Exists { path }) if path == ca.directory.path().join("keys")));
    // Not a file of a CA, and yet somebody's.
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("keys")).unwrap();
    write(&directory.path().join("keys"), &[("old.key", "mine".to_owned())]);
    let authority = Authority::new(directory.path());
    assert!(!authority.exists().unwrap());
    assert!(matches!(create(&authority), Err(FirstRunError::Exists { .. })));
    assert_eq!(files(directory.path()), ["keys"]);
    assert_eq!(files(&directory.path().join("keys")), ["old.key"]);
}

#[test]
fn a_first_run_that_was_cut_off_is_as_if_there_had_been_none() {
    let earlier = ca(KeyType::EcP256);
    let text = |name: &str| std::fs::read_to_string(earlier.directory.path().join("keys").join(name)).unwrap();
    let half = |name: &str| text(name).split_at(100).0.to_owned();
    // How far it got: before, in and after the writing of each file.
    let mut reached: Vec<Vec<(&str, String)>> = vec![Vec::new()];
    for (index, name) in KEYS.into_iter().enumerate() {
        let before: Vec<_> = KEYS.iter().take(index).map(|it| (*it, text(it))).collect();
        for last in [String::new(), half(name), text(name)] {
            reached.push(before.iter().cloned().chain([(name, last)]).collect());
        }
    }
    assert_eq!(reached.len(), 10);
    for left in reached {
        for has_empty_keys in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::new(directory.path());
            std::fs::create_dir(directory.path().join("keys.new")).unwrap();
            write(&directory.path().join("keys.new"), &left);
            if has_empty_keys {
                std::fs::create_dir(directory.path().join("keys")).unwrap();
            }
            assert!(!authority.exists().unwrap());
            let issuer = create(&authority).unwrap();
            assert_ne!(issuer.certificate_der(), earlier.issuer.certificate_der());
            assert_eq!(files(directory.path()), ["keys"]);
            assert_eq!(mode(&directory.path().join("keys")), 0o700);
            assert_eq!(load(&authority).unwrap().certificate_der(), issuer.certificate_der());
        }
    }
}

/// Its presence says that the database has known the issuer, which these do not know.
#[test]
fn root_pem_comes_neither_with_the_keys_nor_by_reading_them() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    create(&authority).unwrap();
    load(&authority).unwrap();
    assert_eq!(files(directory.path()), ["keys"]);
}

#[test]
fn a_root_pem_that_was_cut_off_is_completed() {
    let ca = ca(KeyType::EcP256);
    let authority = Authority::new(ca.directory.path());
    let root = std::fs::read_to_string(authority.root_pem()).unwrap();
    for draft in [None, Some(""), root.get(..100), Some(&root)] {
        std::fs::remove_file(authority.root_pem()).unwrap();
        if let Some(draft) = draft {
            std::fs::write(ca.directory.path().join("root.new"), draft).unwrap();
        }
        assert!(authority.exists().unwrap());
        authority.write_root(load(&authority).unwrap().root_der()).unwrap();
        assert_eq!(files(ca.directory.path()), ["keys", "root.pem"]);
        assert_eq!(std::fs::read_to_string(authority.root_pem()).unwrap(), root);
        assert_eq!(mode(&authority.root_pem()), 0o644);
    }
}

#[test]
fn half_of_a_ca_is_neither_used_nor_replaced() {
    let whole = ca(KeyType::EcP256);
    let text = |name: &str| std::fs::read_to_string(whole.directory.path().join("keys").join(name)).unwrap();
    for chosen in 1_u8..8 {
        let is_there = |index: usize| chosen & (1 << index) != 0;
        let names: Vec<_> = (0..3).filter(|it| is_there(*it)).map(|it| KEYS[it]).collect();
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        write(&keys, &names.iter().map(|it| (*it, text(it))).collect::<Vec<_>>());
        let authority = Authority::new(directory.path());
        assert!(authority.exists().unwrap(), "{names:?}");
        assert!(matches!(create(&authority), Err(FirstRunError::Exists { .. })), "{names:?}");
        let expected = match (is_there(1), is_there(2)) {
            (true, true) => None,
            (false, _) => Some("issuing.key"),
            (true, false) => Some("issuing.pem"),
        };
        match (load(&authority), expected) {
            (Ok(issuer), None) => assert_eq!(issuer.root_der(), whole.issuer.root_der()),
            (Err(error @ FirstRunError::Incomplete { missing, .. }), Some(expected)) => {
                assert_eq!(missing, expected, "{names:?}");
                let text = error.to_string();
                assert!(text.starts_with(&format!("{}: {expected} is missing", keys.display())), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            (other, _) => panic!("{names:?}: {:?}", other.map(drop)),
        }
        let mut names = names;
        names.sort_unstable();
        assert_eq!(files(&keys), names);
    }
    // A file that is cut off, which no first run leaves behind.
    for name in ["issuing.key", "issuing.pem"] {
        let path = whole.directory.path().join("keys").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.split_at(100).0).unwrap();
        let error = load(&Authority::new(whole.directory.path())).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()) && !error.contains('\n'), "{error}");
        std::fs::write(&path, text).unwrap();
    }
    load(&Authority::new(whole.directory.path())).unwrap();
}

#[test]
fn a_keys_directory_that_is_none_ends_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keys"), "").unwrap();
    let authority = Authority::new(directory.path());
    for error in [authority.exists().map(drop).unwrap_err().to_string(), create(&authority).unwrap_err().to_string()] {
        assert!(error.contains("keys") && error.contains("Not a directory"), "{error}");
    }
    assert_eq!(files(directory.path()), ["keys"]);
}

#[test]
fn root_pem_becomes_the_issuers_root() {
    let (ca, other) = (ca(KeyType::EcP256), ca(KeyType::EcP256));
    let path = ca.directory.path().join("root.pem");
    let ours = std::fs::read_to_string(&path).unwrap();
    let write = || Authority::new(ca.directory.path()).write_root(ca.issuer.root_der()).unwrap();
    for text in [std::fs::read_to_string(other.directory.path().join("root.pem")).unwrap(), String::new()] {
        std::fs::write(&path, text).unwrap();
        write();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), ours);
    }
    // It is not written where it is right: on a file system that is read-only too there is a start.
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    write();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    let create = |common_name: &str, organization: Option<&str>| {
        let directory = tempfile::tempdir().unwrap();
        let first_run = FirstRun {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            ..first_run(KeyType::EcP256)
        };
        let made = Authority::new(directory.path()).create(&first_run, profile(), &mut random(), now());
        made.map(|it| Certificate::from_der(it.root_der()).unwrap().tbs_certificate().subject().to_string())
    };
    let refused = |common_name: &str, organization: Option<&str>| match create(common_name, organization) {
        Err(FirstRunError::Name { key, limit, .. }) => (key, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("", None), ("ca.common_name", 53));
    assert_eq!(refused(&"n".repeat(54), None), ("ca.common_name", 53));
    assert_eq!(refused("line\nbreak", None), ("ca.common_name", 53));
    assert_eq!(refused("Example", Some("")), ("ca.organization", 64));
    assert_eq!(refused("Example", Some(&"o".repeat(65))), ("ca.organization", 64));
    for name in [&"ü".repeat(53), " a, b=c+d;\\,<#> ", "#", "CN=x,O=y"] {
        let subject = create(name, Some(&"o".repeat(64))).unwrap();
        assert!(subject.starts_with("CN=") && subject.ends_with(&"o".repeat(64)), "{subject}");
    }
}

#[test]
fn certificates_end_before_the_year_10000() {
    let create = |ca_validity_years: u32| {
        let directory = tempfile::tempdir().unwrap();
        let first_run = FirstRun { ca_validity_years, ..first_run(KeyType::EcP256) };
        let made = Authority::new(directory.path()).create(&first_run, profile(), &mut random(), now());
        assert_eq!(files(directory.path()).is_empty(), made.is_err());
        made
    };
    // 7,978 times 365 days are left, and the root has twice as many years.
    const MOST: u32 = 3_989;
    let issuer = create(MOST).unwrap();
    let root = Certificate::from_der(issuer.root_der()).unwrap();
    assert!(root.tbs_certificate().validity().not_after.to_string().starts_with("9999-"), "{root:?}");
    for years in [MOST + 1, 10_000, u32::MAX] {
        let error = create(years).map(drop).unwrap_err();
        assert!(matches!(error, FirstRunError::ValidityYears { most: 3_989, .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("ca.ca_validity_years is {years}; at most 3989 are possible")), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn the_words_of_the_configuration_are_read() {
    for name in ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"] {
        assert!(name.parse::<KeyType>().is_ok(), "{name}");
    }
    for name in ["sha256", "sha384", "sha512"] {
        assert!(name.parse::<HashAlg>().is_ok(), "{name}");
    }
    assert_eq!(
        "EC-P256".parse::<KeyType>().unwrap_err(),
        "\"EC-P256\": ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519 is expected"
    );
    assert_eq!("sha1".parse::<HashAlg>().unwrap_err(), "\"sha1\": sha256, sha384 or sha512 is expected");
}
