//! Where the CA's keys come from: the configured files, or the data directory, where the first start makes them.
//!
//! root.pem is written once the database knows the issuer, and so is the proof that there has been a database.

use std::path::{Path, PathBuf};

use akamu_ca::{Authority, FirstRun, HashAlg, Issuer, KeyType, Profile};
use akamu_proto::Timestamp;

use crate::config::Config;
use crate::random::Random;
use crate::start::StartError;

/// The certificate to trust.
pub(crate) fn root_pem(data_dir: &Path) -> PathBuf {
    Authority::new(data_dir).root_pem()
}

/// Makes the data directory, where there is none.
pub(crate) fn create_data_dir(data_dir: &Path) -> Result<(), StartError> {
    Authority::create_directory(data_dir).map_err(|error| StartError::new(format!("data_dir: {error}")))
}

/// Refuses to begin anew where the embedded database of a CA is gone. To be asked before anything makes the file.
pub(crate) fn assert_database_is_not_lost(config: &Config, file: &Path) -> Result<(), StartError> {
    let state = match std::fs::metadata(file) {
        Ok(it) if it.len() > 0 => return Ok(()),
        Ok(_) => "is empty",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing",
        Err(error) => return Err(StartError::new(format!("{}: {error}", file.display()))),
    };
    assert_first_start(config, &format!("{}: {state}", file.display()))
}

/// Refuses a start that would be the first where it is not: `what` says why it would be.
pub(crate) fn assert_first_start(config: &Config, what: &str) -> Result<(), StartError> {
    let root = root_pem(&config.data_dir);
    match root.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StartError::new(format!(
            "{what}, and {} says that there was a database; restore a backup, or remove root.pem to begin anew, without the accounts and certificates that were in it",
            root.display()
        ))),
        Err(error) => Err(StartError::new(format!("{}: {error}", root.display()))),
    }
}

/// Writes root.pem. To be called once the database knows the issuer.
pub(crate) fn write_root(config: &Config, issuer: &Issuer) -> Result<(), StartError> {
    let authority = Authority::new(&config.data_dir);
    authority.write_root(issuer.root_der()).map_err(|error| StartError::new(error.to_string()))
}

/// Reads the issuer; makes one only together with a new database: a server that has lost its keys must not go on with
/// others.
pub(crate) fn open_or_make(
    config: &Config,
    profile: Profile,
    database_is_new: bool,
    random: &dyn Random,
    now: Timestamp,
) -> Result<Issuer, StartError> {
    let hash: HashAlg = config.ca.hash_alg.parse().map_err(|error| StartError::new(format!("ca.hash_alg: {error}")))?;
    let key_type: KeyType =
        config.ca.key_type.parse().map_err(|error| StartError::new(format!("ca.key_type: {error}")))?;
    let authority = Authority::new(&config.data_dir);
    if let (Some(key_file), Some(cert_file)) = (&config.ca.key_file, &config.ca.cert_file) {
        return Issuer::load(key_file, cert_file, profile, hash, now)
            .map_err(|error| StartError::new(format!("ca.key_file, ca.cert_file: {error}")));
    }
    if authority.exists().map_err(|error| StartError::new(error.to_string()))? {
        return authority.load(profile, hash, now).map_err(|error| StartError::new(error.to_string()));
    }
    if !database_is_new {
        return Err(StartError::new(format!(
            "{}: the database has an issuer, and its keys are not here; restore keys/ from the backup, copy the first server's, or set ca.key_file and ca.cert_file",
            config.data_dir.join("keys").display()
        )));
    }
    let first_run = FirstRun {
        key_type,
        hash,
        common_name: config.ca.common_name.clone(),
        organization: config.ca.organization.clone(),
        ca_validity_years: config.ca.ca_validity_years,
    };
    let issuer = authority
        .create(&first_run, profile, &mut |octets| random.fill(octets), now)
        .map_err(|error| StartError::new(error.to_string()))?;
    tracing::info!(keys = %config.data_dir.join("keys").display(), "a new CA is made");
    Ok(issuer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use crate::random::SystemRandom;

    #[test]
    fn a_ca_is_made_where_none_of_its_files_is_and_the_database_is_new() {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            base_url: Some("https://ca.test".to_owned()),
            working_directory: directory.path().to_owned(),
            ..Sources::default()
        };
        let config = load(&sources).unwrap().config;
        let open = |database_is_new| {
            let profile = Profile { validity: std::time::Duration::from_secs(1), crl_url: None, issuer_url: None };
            let now = Timestamp::from_unix_secs(1_790_000_000);
            let issuer = open_or_make(&config, profile, database_is_new, &SystemRandom, now);
            issuer.map(|it| it.certificate_der().to_vec()).map_err(|error| error.to_string())
        };
        create_data_dir(&config.data_dir).unwrap();
        let keys = config.data_dir.join("keys");
        // Twice: without keys/, and with one that a mount or a person made.
        for _ in 0..2 {
            let error = open(false).unwrap_err();
            assert!(error.starts_with(&format!("{}: the database has an issuer", keys.display())), "{error}");
            std::fs::create_dir_all(&keys).unwrap();
        }
        let made = open(true).unwrap();
        for database_is_new in [true, false] {
            assert_eq!(open(database_is_new), Ok(made.clone()), "a start that was cut off before the database knew it");
        }
        std::fs::remove_file(keys.join("issuing.pem")).unwrap();
        for database_is_new in [true, false] {
            let error = open(database_is_new).unwrap_err();
            assert!(error.starts_with(&format!("{}: issuing.pem is missing", keys.display())), "{error}");
        }
    }
}
