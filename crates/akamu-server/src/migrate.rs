//! `akamu-server migrate`: brings the schema up to date and ends. The role that owns the tables runs it, so that the
//! server's own role needs no right to make any.

use akamu_store::Store;

use crate::authority_files;
use crate::config::Config;
use crate::start::StartError;

/// Migrates, and tells which version the schema has now.
pub(crate) async fn migrate(config: &Config) -> Result<String, StartError> {
    let options = (config.database.options(&config.data_dir, config.listen_addr))
        .map_err(|error| StartError::new(format!("database.url: {error}")))?;
    if options.sqlite_file().is_some() {
        authority_files::create_data_dir(&config.data_dir)?;
    }
    let version = Store::migrate(options).await.map_err(|error| StartError::new(format!("the database: {error}")))?;
    Ok(format!("the schema is up to date: migration {version}\n"))
}
