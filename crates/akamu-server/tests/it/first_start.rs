//! What a first start leaves that is cut off between any two of its steps, and what is no first start though it looks like
//! one: root.pem is there, and the database is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akamu_challenge::SystemClock;
use akamu_server::config::load;
use akamu_server::{Parts, SystemRandom, start};
use akamu_store::{SqliteBackup, Store, StoreOptions};

use crate::server::{epoch, sources};

const CONFIG: &str = "base_url = \"https://localhost\"\nlisten_addr = \"127.0.0.1:0\"\ndata_dir = \"data\"\n";

/// Starts a server on what lies in `directory` and stops it again, or tells why it does not start.
async fn started(directory: &Path) -> Result<(), String> {
    std::fs::write(directory.join("config.toml"), CONFIG).unwrap();
    let config = load(&sources(directory, &[])).unwrap().config;
    let parts =
        Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None };
    start(&config, parts).await.map_err(|error| error.to_string())?.shut_down().await;
    Ok(())
}

/// A database with its schema that knows no issuer.
async fn blank_database(data: &Path) {
    let options = StoreOptions::parse("sqlite://akamu.db", data).unwrap();
    Store::open(options, epoch()).await.unwrap().close().await;
}

/// A copy of a directory, which no closing connection reaches.
fn copy(from: &Path, to: &Path, names: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|it| (it.clone(), std::fs::metadata(it).unwrap().len())).collect()
}

#[tokio::test]
async fn one_that_is_cut_off_between_any_two_steps_comes_up() {
    let whole = tempfile::tempdir().unwrap();
    started(whole.path()).await.unwrap();
    let whole_keys = whole.path().join("data/keys");
    // The steps, each on what those before it have left.
    for steps in 0..=7 {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let keys = data.join("keys");
        for step in 0..=steps {
            match step {
                1 => std::fs::create_dir(&data).unwrap(),
                2 => std::fs::write(data.join("akamu.db"), "").unwrap(),
                3 if steps < 6 => blank_database(&data).await,
                4 => copy(&whole_keys, &data.join("keys.new"), &["root.key"]),
                5 => {
                    copy(&whole_keys, &data.join("keys.new"), &["issuing.key", "issuing.pem"]);
                    std::fs::rename(data.join("keys.new"), &keys).unwrap();
                }
                6 => {
                    let database = whole.path().join("data/akamu.db");
                    drop(SqliteBackup::take(&database, &data.join("akamu.db")).unwrap());
                }
                7 => std::fs::write(data.join("root.new"), "-----BEGIN").unwrap(),
                _ => {}
            }
        }
        started(directory.path()).await.unwrap_or_else(|error| panic!("after step {steps}: {error}"));
        let text = |directory: &Path, name: &str| std::fs::read_to_string(directory.join("data").join(name)).unwrap();
        let is_same = text(directory.path(), "keys/issuing.pem") == text(whole.path(), "keys/issuing.pem");
        assert_eq!(is_same, steps >= 5, "after step {steps}");
        assert!(text(directory.path(), "keys/issuing.pem").ends_with(&text(directory.path(), "root.pem")));
        assert!(!data.join("root.new").exists() && !data.join("keys.new").exists(), "after step {steps}");
        started(directory.path()).await.unwrap_or_else(|error| panic!("again, after step {steps}: {error}"));
    }
}

#[tokio::test]
async fn a_database_that_is_lost_is_not_replaced() {
    let whole = tempfile::tempdir().unwrap();
    let whole = whole.path();
    started(whole).await.unwrap();
    let issuer = std::fs::read(whole.join("data/keys/issuing.pem")).unwrap();
    for (state, is_file) in [("is missing", true), ("is empty", true), ("the database is new", false)] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        copy(&whole.join("data"), &data, &["root.pem"]);
        copy(&whole.join("data/keys"), &data.join("keys"), &["root.key", "issuing.key", "issuing.pem"]);
        match state {
            "is empty" => std::fs::write(data.join("akamu.db"), "").unwrap(),
            "the database is new" => blank_database(&data).await,
            _ => {}
        }
        let before = files(&data);
        let error = started(directory.path()).await.unwrap_err();
        let place = if is_file { format!("{}: ", data.join("akamu.db").display()) } else { String::new() };
        let root = data.join("root.pem");
        let expected =
            format!("{place}{state}, and {} says that there was a database; restore a backup", root.display());
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
        let after: Vec<_> = files(&data).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        assert!(!is_file || after == before, "{after:?}");
        // As the line says.
        std::fs::remove_file(data.join("root.pem")).unwrap();
        started(directory.path()).await.unwrap();
        assert_eq!(std::fs::read(data.join("keys/issuing.pem")).unwrap(), issuer);
        assert!(data.join("root.pem").exists());
    }
}
