//! `akamu-server adopt`: gives a database to another issuer or base_url, after showing what that means.

use akamu_store::{Identity, Store};
use sha2::{Digest as _, Sha256};

use crate::authority_files;
use crate::config::Config;
use crate::start::{Parts, StartError, profile};

/// Shows what the database knows and what the configuration says, and with `yes` records the latter.
pub(crate) async fn adopt(config: &Config, parts: Parts, yes: bool) -> Result<String, StartError> {
    let now = parts.clock.now();
    let database = |error: &dyn std::fmt::Display| StartError::new(format!("the database: {error}"));
    let options = config.database.options(&config.data_dir, config.listen_addr).map_err(|error| database(&error))?;
    const NEW: &str = "The database is new; `akamu-server serve` will make it its own.\n";
    if let Some(file) = options.sqlite_file() {
        authority_files::assert_database_is_not_lost(config, file)?;
        // To open it would make it.
        if !file.exists() {
            return Ok(NEW.to_owned());
        }
    }
    let store = Store::open(options, now).await.map_err(|error| database(&error))?;
    let known = store.identity().await.map_err(|error| database(&error))?;
    let Some(known) = known else {
        return Ok(NEW.to_owned());
    };
    let issuer = authority_files::open_or_make(config, profile(config), false, &*parts.random, now)?;
    let ours = Identity {
        base_url: config.base_url.as_str().to_owned(),
        issuers: vec![Sha256::digest(issuer.certificate_der()).into()],
    };
    let show = |identity: &Identity| {
        let issuers: Vec<String> =
            identity.issuers.iter().map(|it| it.iter().map(|octet| format!("{octet:02x}")).collect()).collect();
        format!("base_url {}\n  issuer SHA-256 {}", identity.base_url, issuers.join(" "))
    };
    let mut text = format!("The database belongs to\n  {}\nThe configuration says\n  {}\n", show(&known), show(&ours));
    if known == ours {
        text.push_str("They are the same: nothing is to be done.\n");
        return Ok(text);
    }
    if known.base_url != ours.base_url {
        text.push_str(
            "With another base_url every account URL changes: clients find their account by its key, and every _validation-persist TXT record that names an old URL must be written anew.\n",
        );
    }
    if known.issuers != ours.issuers {
        text.push_str("With another issuer, earlier certificates are no longer on a CRL of their own issuer.\n");
    }
    if yes {
        store.identity_adopt(ours).await.map_err(|error| database(&error))?;
        text.push_str("Recorded.\n");
    } else {
        text.push_str("Run it again with --yes to record this.\n");
    }
    store.close().await;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    use akamu_challenge::SystemClock;

    use crate::config::{Sources, load};
    use crate::random::SystemRandom;
    use crate::start::start;

    fn config(directory: &Path) -> Config {
        let sources = Sources {
            base_url: Some("https://localhost".to_owned()),
            listen: Some("127.0.0.1:0".to_owned()),
            working_directory: directory.to_owned(),
            ..Sources::default()
        };
        load(&sources).unwrap().config
    }

    fn parts() -> Parts {
        Parts { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), validators: None, listener: None }
    }

    #[tokio::test]
    async fn another_issuer_is_shown_and_none_is_made() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&ours, &theirs] {
            start(&config(directory.path()), parts()).await.unwrap().shut_down().await;
        }
        let config = config(ours.path());
        let keys = config.data_dir.join("keys");
        std::fs::remove_dir_all(&keys).unwrap();
        let error = adopt(&config, parts(), true).await.unwrap_err().to_string();
        assert!(error.contains("its keys are not here") && !keys.exists(), "{error}");
        std::fs::rename(self::config(theirs.path()).data_dir.join("keys"), &keys).unwrap();
        let refused = start(&config, parts()).await.unwrap_err().to_string();
        assert!(refused.contains("the issuing certificate has SHA-256"), "{refused}");
        let shown = adopt(&config, parts(), true).await.unwrap();
        assert!(shown.contains("With another issuer") && !shown.contains("account URL"), "{shown}");
        start(&config, parts()).await.unwrap().shut_down().await;
    }
}
