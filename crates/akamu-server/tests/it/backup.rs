//! A backup that is taken while clients get certificates, and what a server finds that starts on it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use akamu_server::backup::{BackupError, Keys, back_up};
use akamu_server::config::{Config, load};
use akamu_server::restore::restore;
use serde_json::json;

use crate::client::Client;
use crate::database::{Beside, Database};
use crate::issuance::{finalize, pem_der, ready_order, verified_names};
use crate::postgres_database::PostgresDatabase;
use crate::server::{Place, TestServer, epoch, sources};

/// The configuration of the server that lives here.
fn config(place: &Place) -> Config {
    load(&sources(place.data_dir().parent().unwrap(), &[])).unwrap().config
}

/// Takes a backup on a thread of its own, as another process would.
async fn taken(place: &Place, directory: &Path, keys: Keys) -> Result<(), BackupError> {
    let (config, directory) = (config(place), directory.to_owned());
    tokio::task::spawn_blocking(move || back_up(&config, &directory, &keys, epoch()).map(drop)).await.unwrap()
}

/// What a client was told.
struct Acknowledged {
    client: Client,
    order: String,
    chain: String,
}

/// A new account's certificate for `name`.
async fn acknowledged(server: &TestServer, name: &str) -> Acknowledged {
    let client = server.registered().await;
    let order = ready_order(server, &client, &[name], "dns-01").await;
    let chain = finalize(&client, &order.json(), &[name]).await;
    Acknowledged { order: order.header("location").to_owned(), client, chain }
}

/// The account, the order and the certificate are there, and the account gets another.
async fn assert_found(server: &TestServer, told: Acknowledged, name: &str) {
    let client = Client { http: server.http.clone(), ..told.client };
    let known = client.new_account(&json!({ "onlyReturnExisting": true })).await.expect(200);
    assert_eq!(known.header("location"), client.kid);
    let order = client.post_as_get(&told.order).await.expect(200).json();
    assert_eq!(order["status"], "valid", "{order}");
    let chain = client.post_as_get(order["certificate"].as_str().unwrap()).await.expect(200);
    assert_eq!(chain.text(), told.chain);
    let renewed = ready_order(server, &client, &[name], "dns-01").await;
    let renewed = finalize(&client, &renewed.json(), &[name]).await;
    assert_ne!(renewed, told.chain);
    assert_eq!(verified_names(server, &renewed), [name]);
}

#[tokio::test]
async fn a_backup_taken_under_traffic_has_everything_that_was_acknowledged_before_it() {
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let place = Place::on(&Database::Sqlite);
    let server = doomed.spawn(place.clone().start()).await.unwrap();
    let root = std::fs::read(server.root_pem()).unwrap();
    let mut before = Vec::new();
    for number in 0..5 {
        before.push(acknowledged(&server, &format!("before{number}.test")).await);
    }
    let backups = tempfile::tempdir().unwrap();
    let directory = backups.path().join("backup");
    // Not one of its requests fails meanwhile, and there is one in hand whenever the copy is made.
    let mut backup = std::pin::pin!(taken(&place, &directory, Keys::Plain));
    let mut is_taken = false;
    for number in 0.. {
        let name = format!("during{number}.test");
        let mut traffic = std::pin::pin!(acknowledged(&server, &name));
        tokio::select! {
            biased;
            outcome = &mut backup, if !is_taken => {
                outcome.unwrap();
                is_taken = true;
                traffic.await;
            }
            _ = &mut traffic => {}
        }
        if is_taken {
            break;
        }
    }
    let lost = acknowledged(&server, "after.test").await;
    drop(server);
    doomed.shutdown_background();

    let place = place.moved(&Database::Sqlite);
    let manifest = restore(&config(&place), &directory, None).unwrap();
    assert_eq!(manifest.files.len(), 5, "{manifest:?}");
    let server = place.start().await;
    assert_eq!(std::fs::read(server.root_pem()).unwrap(), root);
    for (number, told) in before.into_iter().enumerate() {
        assert_found(&server, told, &format!("before{number}.test")).await;
    }
    // What came later is gone, and its client can begin anew.
    let mut client = Client { http: server.http.clone(), ..lost.client };
    client.post_as_get(&lost.order).await.expect_problem(400, "accountDoesNotExist");
    let earlier = client.kid.clone();
    client.register().await;
    assert_ne!(client.kid, earlier);
}

/// A backup of a server that has stopped, and where it came from.
async fn backup_of_a_stopped_server(keys: Keys) -> (tempfile::TempDir, PathBuf, Place) {
    let server = Database::Sqlite.server().await;
    server.registered().await;
    let place = server.shut_down().await;
    let backups = tempfile::tempdir().unwrap();
    let directory = backups.path().join("backup");
    taken(&place, &directory, keys).await.unwrap();
    (backups, directory, place)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn nobody_else_can_read_a_backup_or_what_is_restored() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Plain).await;
    let place = place.moved(&Database::Sqlite);
    restore(&config(&place), &directory, None).unwrap();
    for (root, root_pem) in [(directory, 0o600), (place.data_dir(), 0o644)] {
        for (name, expected) in [
            ("akamu.db", 0o600),
            ("root.pem", root_pem),
            ("keys", 0o700),
            ("keys/root.key", 0o600),
            ("keys/issuing.key", 0o600),
            ("keys/issuing.pem", 0o600),
        ] {
            assert_eq!(mode(&root.join(name)), expected, "{}", root.join(name).display());
        }
    }
}

#[tokio::test]
async fn a_backup_without_keys_starts_once_they_are_there() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::LeftOut).await;
    assert!(!directory.join("keys").exists());
    let moved = place.moved(&Database::Sqlite);
    // Before or after: they are not in its way.
    std::fs::create_dir_all(moved.data_dir()).unwrap();
    let copied = Command::new("cp").arg("-rp").arg(place.data_dir().join("keys")).arg(moved.data_dir()).status();
    assert!(copied.unwrap().success());
    restore(&config(&moved), &directory, None).unwrap();
    moved.start().await;
}

#[tokio::test]
async fn keys_that_are_configured_elsewhere_are_left_to_the_operator() {
    let place = Database::Sqlite.server().await.shut_down().await;
    let keys = place.data_dir().join("keys");
    let own = place.data_dir().with_file_name("own");
    std::fs::rename(&keys, &own).unwrap();
    let server =
        place.settings("[ca]\nkey_file = \"own/issuing.key\"\ncert_file = \"own/issuing.pem\"\n").start().await;
    let backups = tempfile::tempdir().unwrap();
    let directory = backups.path().join("backup");
    taken(&server.place, &directory, Keys::Plain).await.unwrap();
    assert!(directory.join("akamu.db").exists() && !directory.join("keys").exists());
    std::fs::copy(server.root_pem(), own.join("issuing.pem")).unwrap();
    let error = taken(&server.place, &backups.path().join("second"), Keys::Plain).await.unwrap_err();
    assert!(matches!(&error, BackupError::OtherIssuer { path, .. } if path.ends_with("own/issuing.pem")), "{error}");
}

#[tokio::test]
async fn encrypted_keys_are_opened_by_openssl_with_the_passphrase_alone() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Encrypted("open sesame".to_owned())).await;
    let moved = place.moved(&Database::Sqlite);
    assert!(restore(&config(&moved), &directory, None).unwrap().keys_are_encrypted);
    let keys = moved.data_dir().join("keys");
    for name in ["issuing.key", "root.key"] {
        let file = keys.join(name);
        let original = std::fs::read_to_string(place.data_dir().join("keys").join(name)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{text}");
        let open = |passphrase: &str| {
            let mut command = Command::new("openssl");
            let output = command.args(["pkey", "-in"]).arg(&file).args(["-passin", passphrase]).output();
            output.expect("openssl must be installed")
        };
        assert!(!open("pass:open barley").status.success());
        let opened = open("pass:open sesame");
        assert_eq!(pem_der(std::str::from_utf8(&opened.stdout).unwrap()), pem_der(&original));
        std::fs::write(&file, opened.stdout).unwrap();
    }
    moved.start().await;
}

#[tokio::test]
async fn a_restore_opens_encrypted_keys_with_the_passphrase_alone() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Encrypted("open sesame".to_owned())).await;
    let moved = place.moved(&Database::Sqlite);
    let error = restore(&config(&moved), &directory, Some("open barley")).unwrap_err();
    let key = directory.join("keys/issuing.key");
    assert!(matches!(&error, BackupError::Passphrase { path, .. } if *path == key), "{error}");
    assert!(!error.to_string().contains('\n') && !error.to_string().contains("barley"), "{error}");
    assert!(!moved.data_dir().join("keys").exists() && !moved.data_dir().join("akamu.db").exists());
    assert!(!restore(&config(&moved), &directory, Some("open sesame")).unwrap().keys_are_encrypted);
    for name in ["issuing.key", "root.key"] {
        let [restored, original] = [&moved, &place].map(|it| it.data_dir().join("keys").join(name));
        let pem = |path| pem_der(&std::fs::read_to_string(path).unwrap());
        assert_eq!(pem(&restored), pem(&original), "{name}");
        assert_eq!(std::fs::metadata(restored).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    moved.start().await;
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Plain).await;
    let error = restore(&config(&place.moved(&Database::Sqlite)), &directory, Some("open sesame")).unwrap_err();
    assert!(matches!(error, BackupError::NotEncrypted { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Plain).await;
    let place = place.moved(&Database::Sqlite);
    let config = config(&place);
    let refused = |what: &str| {
        let error = restore(&config, &directory, None).unwrap_err();
        let left: Vec<_> = std::fs::read_dir(place.data_dir()).into_iter().flatten().collect();
        assert!(left.iter().all(|it| it.as_ref().unwrap().file_name() == "lock"), "{what}: {left:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    };
    for name in ["akamu.db", "keys/issuing.key", "root.pem"] {
        let file = directory.join(name);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(refused(name), BackupError::Damaged { path, .. } if path == file));
        let mut other = whole.clone();
        other[whole.len() / 2] ^= 1;
        std::fs::write(&file, other).unwrap();
        assert!(matches!(refused(name), BackupError::Damaged { path, .. } if path == file));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(refused(name), BackupError::File(_)));
        std::fs::write(&file, whole).unwrap();
    }
    let manifest = directory.join("backup.json");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    for (from, to) in [
        (whole.as_str(), ""),
        ("\"format\": 1", "\"format\": 2"),
        ("keys/issuing.key", "keys/../issuing.key"),
        ("root.pem", "/etc/passwd"),
        ("\"akamu.db\"", "\"root.pem\""),
    ] {
        std::fs::write(&manifest, whole.replacen(from, to, 1)).unwrap();
        assert!(matches!(refused(to), BackupError::NotABackup { .. }), "{to}");
    }
    std::fs::write(&manifest, whole.replace("\"schema_version\": \"2026", "\"schema_version\": \"2025")).unwrap();
    assert!(matches!(refused("schema"), BackupError::OtherDatabase { .. }));
    std::fs::write(&manifest, whole).unwrap();
    restore(&config, &directory, None).unwrap();
}

#[tokio::test]
async fn a_restore_that_is_cut_off_begins_no_new_ca_and_may_be_made_again() {
    let (_backups, directory, place) = backup_of_a_stopped_server(Keys::Plain).await;
    // What was to be put in place when the power went: database, keys and root, in this order.
    for left in [&["akamu.db", "keys", "root.pem"][..], &["keys", "root.pem"], &["root.pem"]] {
        let place = place.moved(&Database::Sqlite);
        restore(&config(&place), &directory, None).unwrap();
        for name in left {
            let path = place.data_dir().join(name);
            std::fs::rename(&path, path.with_file_name(format!("{name}.restoring"))).unwrap();
        }
        let refused = place.clone().try_start().await.err().expect("it must not start").to_string();
        assert!(refused.contains(": a restore was cut off here; ") && !refused.contains('\n'), "{refused}");
        for name in ["akamu.db", "keys"].into_iter().filter(|name| !left.contains(name)) {
            let placed = place.data_dir().join(name);
            let error = restore(&config(&place), &directory, None).unwrap_err();
            assert!(matches!(&error, BackupError::InTheWay { path } if *path == placed), "{error}");
            std::fs::rename(&placed, placed.with_extension("away")).unwrap();
        }
        restore(&config(&place), &directory, None).unwrap_or_else(|error| panic!("{left:?}: {error}"));
        place.start().await;
    }
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let (backups, directory, place) = backup_of_a_stopped_server(Keys::Plain).await;
    let error = restore(&config(&place), &directory, None).unwrap_err();
    assert!(matches!(&error, BackupError::InTheWay { path } if path.ends_with("akamu.db")), "{error}");
    let server = place.clone().start().await;
    let error = restore(&config(&server.place), &directory, None).unwrap_err();
    assert!(matches!(error, BackupError::Lock(_)), "{error}");
    let moved = place.moved(&Database::Sqlite);
    for name in ["akamu.db-wal", "keys/own.key"] {
        let file = moved.data_dir().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "mine").unwrap();
        let error = restore(&config(&moved), &directory, None).unwrap_err();
        assert!(matches!(&error, BackupError::InTheWay { path } if file.starts_with(path)), "{error}");
        std::fs::remove_file(file).unwrap();
    }
    let error = taken(&place, &directory, Keys::Plain).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    let other = backups.path().join("other");
    std::fs::create_dir(backups.path().join("other.partial")).unwrap();
    let error = taken(&place, &other, Keys::Plain).await.unwrap_err();
    assert!(matches!(error, BackupError::Partial { .. }) && !other.exists(), "{error}");
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_said_and_leaves_nothing() {
    let (backups, _, place) = backup_of_a_stopped_server(Keys::Plain).await;
    let assert_refused = async |expected: fn(&BackupError) -> bool| {
        let error = taken(&place, &backups.path().join("second"), Keys::LeftOut).await.unwrap_err();
        assert!(expected(&error) && !error.to_string().contains('\n'), "{error}");
        let left = std::fs::read_dir(backups.path()).unwrap().count();
        assert_eq!(left, 1, "{error}");
    };
    let issuing = place.data_dir().join("keys/issuing.pem");
    std::fs::rename(&issuing, place.data_dir().join("issuing.pem")).unwrap();
    std::fs::copy(place.data_dir().join("root.pem"), &issuing).unwrap();
    assert_refused(|error| matches!(error, BackupError::OtherIssuer { .. })).await;
    let database = place.data_dir().join("akamu.db");
    let mut octets = std::fs::read(&database).unwrap();
    octets[8192..].fill(0xff);
    std::fs::write(&database, octets).unwrap();
    assert_refused(|error| matches!(error, BackupError::Database(_))).await;
    std::fs::write(&database, "this is no database, but a text of some length").unwrap();
    assert_refused(|error| matches!(error, BackupError::Database(_))).await;
    std::fs::remove_file(&database).unwrap();
    assert_refused(|error| matches!(error, BackupError::NoDatabase { .. })).await;
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("PostgreSQL's clients must be installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn postgresql_is_backed_up_by_pg_dump_while_the_server_serves() {
    let Some(database) = PostgresDatabase::new().map(Database::Postgres) else { return };
    let other = Database::Postgres(PostgresDatabase::new().unwrap());
    let server = database.server().await;
    let told = acknowledged(&server, "dumped.test").await;
    let directory = server.data_dir().join("backup");
    for outcome in [
        taken(&server.place, &directory, Keys::Plain).await,
        restore(&config(&server.place), &directory, None).map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, BackupError::Postgres { .. }) && !error.to_string().contains('\n'), "{error}");
    }
    let dump = server.data_dir().join("akamu.dump");
    run("pg_dump", &["--format=custom", "--file", dump.to_str().unwrap(), &database.url()]);
    acknowledged(&server, "after.test").await;
    let nonce = told.client.nonce().await;
    let place = server.shut_down().await;

    run("pg_restore", &["--exit-on-error", "--no-owner", "--dbname", &other.url(), dump.to_str().unwrap()]);
    let moved = place.moved(&other);
    // What was redeemed after the dump would be taken once more.
    Beside::of(&moved).execute("DELETE FROM nonce_keys");
    std::fs::create_dir_all(moved.data_dir()).unwrap();
    let copied = Command::new("cp").arg("-rp").arg(place.data_dir().join("keys")).arg(moved.data_dir()).status();
    assert!(copied.unwrap().success());
    let server = moved.start().await;
    let client = Client { http: server.http.clone(), ..told.client };
    let protected = json!({ "alg": "ES256", "kid": client.kid, "nonce": nonce, "url": client.kid });
    let answer = client.post_raw(&client.kid, client.key.jws(&protected, "").to_string()).await;
    answer.expect_problem(400, "badNonce");
    assert_found(&server, Acknowledged { client, ..told }, "dumped.test").await;
}
