//! Databases that are not what a server wrote: it comes up as the same CA, or says in one line what is wrong.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use instant_acme::{Account, Error, NewAccount};
use rustix::process::Signal;

use crate::{CONFIG, akamu_server, end, refusal, run, started, text};

/// What SQLite's files begin with.
const PAGE: usize = 4096;
/// Where the header says whose file it is.
const APPLICATION_ID: std::ops::Range<usize> = 68..72;

/// A directory whose server has served, with the whole of its database in one file.
struct Served {
    directory: tempfile::TempDir,
    /// What it said when it was ready.
    ready: Vec<String>,
    database: Vec<u8>,
}

impl Served {
    fn with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("config.toml"), config).unwrap();
        let (child, ready) = started(path, &[]);
        assert_eq!(end(child, Signal::TERM).0, Some(0));
        let backup = run(path, &["backup", "backup"]);
        assert!(backup.status.success(), "{}", text(&backup.stderr));
        let database = std::fs::read(path.join("backup/akamu.db")).unwrap();
        let served = Self { directory, ready, database };
        served.put(&served.database);
        served
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join("data").join(name)
    }

    /// Puts this in the place of the database and its log.
    fn put(&self, octets: &[u8]) {
        for name in ["akamu.db-wal", "akamu.db-shm"] {
            let _ = std::fs::remove_file(self.at(name));
        }
        std::fs::write(self.at("akamu.db"), octets).unwrap();
    }

    /// Its server does not start, says so naming `file`, and leaves it as it is.
    fn assert_refused(&self, file: &str, expected: &str) {
        let before = std::fs::read(self.at(file)).ok();
        let error = refusal(akamu_server(self.path()));
        assert!(error.contains(self.at(file).to_str().unwrap()) && error.contains(expected), "{error}");
        assert_eq!(std::fs::read(self.at(file)).ok(), before, "{file} was changed: {error}");
    }

    /// Its server starts as the same CA.
    fn assert_starts(&self) {
        let (child, again) = started(self.path(), &[]);
        assert_eq!(again, self.ready, "the directory and the root");
        assert_eq!(end(child, Signal::TERM).0, Some(0));
    }
}

#[test]
fn what_is_no_database_of_ours_is_named_in_one_line_and_left_alone() {
    let served = Served::with(CONFIG);
    let whole = &served.database;
    let half_a_page = whole.len() / 2 / PAGE * PAGE + PAGE / 2;

    served.put(&b"[server]\nlisten_addr = \"0.0.0.0:443\"\n".repeat(400));
    served.assert_refused("akamu.db", "restore it from a backup");
    served.put(&whole[..half_a_page]);
    served.assert_refused("akamu.db", "restore it from a backup");
    served.put(&whole[..100]);
    served.assert_refused("akamu.db", "restore it from a backup");
    let mut foreign = whole.clone();
    foreign[APPLICATION_ID].copy_from_slice(b"GPKG");
    served.put(&foreign);
    served.assert_refused("akamu.db", "of another program; name another file in database.url");
    served.put(b"");
    served.assert_refused("akamu.db", "is empty, and ");
    std::fs::remove_file(served.at("akamu.db")).unwrap();
    served.assert_refused("akamu.db", "is missing, and ");
    assert!(!served.at("akamu.db").exists());

    served.put(whole);
    std::fs::write(served.at("akamu.db-wal"), b"minutes of the meeting\n".repeat(100)).unwrap();
    served.assert_refused("akamu.db-wal", "is no write-ahead log of SQLite");
    served.put(whole);
    served.assert_starts();
}

#[test]
fn a_log_with_a_damaged_header_is_named_in_one_line_and_left_alone() {
    let served = Served::with(CONFIG);
    let (child, _) = started(served.path(), &[]);
    // The CRL, which is made while it serves already.
    let begun = Instant::now();
    while std::fs::metadata(served.at("akamu.db-wal")).unwrap().len() < 2 * PAGE as u64 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is written");
        std::thread::yield_now();
    }
    assert_eq!(end(child, Signal::KILL).0, None);
    let log = std::fs::read(served.at("akamu.db-wal")).unwrap();
    for octet in [0, 3, 9, 17, 31] {
        let mut damaged = log.clone();
        damaged[octet] ^= 0x10;
        std::fs::write(served.at("akamu.db-wal"), damaged).unwrap();
        served.assert_refused("akamu.db-wal", "or is damaged");
    }
    std::fs::write(served.at("akamu.db-wal"), log).unwrap();
    served.assert_starts();
}

#[test]
fn random_octets_in_any_page_stop_the_start_in_one_line_or_nothing_that_it_needs() {
    let served = Served::with(CONFIG);
    let pages = served.database.len() / PAGE;
    let (mut refused, mut serving) = (0, 0);
    let mut random = fastrand::Rng::with_seed(5);
    for page in 0..pages {
        let mut damaged = served.database.clone();
        // In the first page not the file's own header: that is the test of other files.
        let begin = page * PAGE + if page == 0 { 100 } else { 0 };
        random.fill(&mut damaged[begin..(page + 1) * PAGE]);
        served.put(&damaged);
        let (child, lines) = started(served.path(), &[]);
        if lines.is_empty() {
            let (code, error) = end(child, Signal::TERM);
            assert_eq!((code, error.lines().count()), (Some(69), 1), "page {page}: {error}");
            assert!(error.contains(served.at("akamu.db").to_str().unwrap()), "page {page}: {error}");
            refused += 1;
        } else {
            assert_eq!(lines, served.ready, "page {page}: the directory and the root");
            end(child, Signal::KILL);
            serving += 1;
        }
    }
    assert!(refused > 3 && serving > 3, "{refused} refused, {serving} serving");
}

#[test]
fn a_database_of_a_newer_version_is_refused_in_one_line() {
    let served = Served::with(CONFIG);
    // The version is text in the file: a later one of the same length.
    let version = b"20261124000001";
    let mut newer = served.database.clone();
    let places: Vec<_> =
        newer.windows(version.len()).enumerate().filter(|(_, it)| it == version).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        newer[at..at + version.len()].copy_from_slice(b"20991124000001");
    }
    served.put(&newer);
    let error = refusal(akamu_server(served.path()));
    assert!(error.contains("written by a newer version") && error.contains("20991124000001"), "{error}");
    served.put(&served.database);
    served.assert_starts();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body of a GET.
fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn damage_while_serving_is_a_problem_to_clients_and_named_in_the_log() {
    let (listen, admin) = (free_port(), free_port());
    let config = format!(
        "base_url = \"https://localhost:{listen}\"\nlisten_addr = \"127.0.0.1:{listen}\"\ndata_dir = \"data\"\n\
         [admin]\nlisten_addr = \"127.0.0.1:{admin}\"\n"
    );
    let served = Served::with(&config);
    let (child, _) = started(served.path(), &[]);
    assert_eq!(get(admin, "/readyz").0, 200);

    // In place, as a disk does it: all but the first page, which every connection has read.
    let mut file = std::fs::File::options().write(true).open(served.at("akamu.db")).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(PAGE as u64)).unwrap();
    file.write_all(&vec![0xa5; served.database.len() - PAGE]).unwrap();

    let new_account = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let url = format!("https://localhost:{listen}/acme/directory");
    for _ in 0..2 {
        let builder = Account::builder_with_root(served.at("root.pem")).unwrap();
        let refused = builder.create(&new_account, url.clone(), None).await.map(drop).unwrap_err();
        let Error::Api(problem) = &refused else { panic!("{refused:?}") };
        let shown = format!("{problem:?}");
        assert_eq!(problem.status, Some(500), "{shown}");
        assert!(problem.r#type.as_deref().is_some_and(|it| it.ends_with(":serverInternal")), "{shown}");
        assert!(!shown.contains("akamu.db") && !shown.contains("data/"), "{shown}");
        let (status, body) = get(admin, "/readyz");
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("database: ") && !body.contains("akamu.db"), "{body}");
    }
    let (_, log) = end(child, Signal::TERM);
    let file = served.at("akamu.db");
    let said = log.lines().find(|it| it.contains("ERROR") && it.contains(file.to_str().unwrap()));
    assert!(said.is_some_and(|it| it.contains("malformed") && it.contains("restore a backup")), "{log}");

    served.put(&served.database);
    let (child, again) = started(served.path(), &[]);
    assert_eq!((again, get(admin, "/readyz").0), (served.ready.clone(), 200));
    assert_eq!(end(child, Signal::TERM).0, Some(0));
}
