//! `akamu-server adopt`: gives a database to another issuer or base_url, after showing what that means.

use akamu_store::{Identity, Store, StoreOptions};
use sha2::{Digest as _, Sha256};

use crate::authority_files;
use crate::config::Config;
use crate::start::{Parts, StartError, profile};

/// Shows what the database knows and what the configuration says, and with `yes` records the latter.
pub(crate) async fn adopt(config: &Config, parts: Parts, yes: bool) -> Result<String, StartError> {
    let now = parts.clock.now();
    let database = |error: &dyn std::fmt::Display| StartError::new(format!("the database: {error}"));
    let options = StoreOptions::parse(&config.database.url, &config.data_dir).map_err(|error| database(&error))?;
    const NEW: &str = "The database is new; `akamu-server serve` will make it its own.\n";
    // To open it would make it.
    if options.sqlite_file().is_some_and(|file| !file.exists()) {
        return Ok(NEW.to_owned());
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
