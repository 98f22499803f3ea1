//! A copy of the embedded database is whole, or it is refused.

use akamu_store::{BackupError, Identity, SqliteBackup, Store, StoreOptions};

use crate::database::NOW;

#[tokio::test]
async fn a_copy_that_is_not_whole_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (database, copy) = (directory.path().join("akamu.db"), directory.path().join("copy.db"));
    let refused = |expected: fn(&BackupError) -> bool| {
        let error = SqliteBackup::check(&copy).unwrap_err();
        assert!(expected(&error) && !error.to_string().contains('\n'), "{error}");
    };
    let store = Store::open(StoreOptions::parse("sqlite://akamu.db", directory.path()).unwrap(), NOW).await.unwrap();
    let error = SqliteBackup::take(&database, &copy).unwrap_err();
    assert!(matches!(error, BackupError::Nobodys { .. }), "{error}");
    std::fs::remove_file(&copy).unwrap();
    refused(|error| matches!(error, BackupError::Unusable { .. }));
    assert!(!copy.exists(), "to look is not to make");

    let identity = Identity { base_url: "https://ca.example".to_owned(), issuers: vec![[1; 32]] };
    store.identity_record(identity.clone(), NOW).await.unwrap();
    let taken = SqliteBackup::take(&database, &copy).unwrap();
    assert_eq!((&taken.identity, taken.schema_version.as_str()), (&identity, "20261130000004"));
    let whole = std::fs::read(&copy).unwrap();
    assert_eq!(SqliteBackup::check(&copy).unwrap(), taken);
    assert_eq!(std::fs::read(&copy).unwrap(), whole, "to look is not to change");

    // Somewhere in the middle, where nothing but the check looks.
    let mut damaged = whole.clone();
    let page = whole.len() / 2 / 4096 * 4096;
    damaged[page..page + 4096].fill(0xff);
    for octets in [damaged, whole[..whole.len() - 4096].to_vec(), b"no database, but a text of some length".to_vec()] {
        std::fs::write(&copy, octets).unwrap();
        refused(|error| matches!(error, BackupError::Unusable { .. }));
    }
}
