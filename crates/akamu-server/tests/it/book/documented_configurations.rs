//! Every configuration that is shown to users is one that the server takes.

use std::fs;

use akamu_server::config::{Sources, load};

use super::pages::{blocks, pages};

#[test]
fn every_documented_configuration_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "toml") {
            seen += 1;
            // An example of one section leaves out what every configuration needs.
            let base_url = if block.contains("base_url") { "" } else { "base_url = \"https://acme.example.com\"\n" };
            let file = directory.path().join("config.toml");
            fs::write(&file, format!("{base_url}{block}")).unwrap();
            let sources = Sources { working_directory: directory.path().to_path_buf(), ..Sources::default() };
            let loaded = load(&sources);
            assert!(loaded.is_ok(), "{}:\n{block}\n{}", path.display(), loaded.unwrap_err());
            assert_eq!(loaded.unwrap().warnings, [""; 0], "{}:\n{block}", path.display());
        }
    }
    assert!(seen > 3, "only {seen} examples were found");
}

#[test]
fn the_readme_shows_six_lines_for_a_real_host_name() {
    let (_, readme) = pages().into_iter().next().unwrap();
    let example = blocks(&readme, "toml").into_iter().next().unwrap();
    assert_eq!(example.lines().filter(|line| !line.is_empty()).count(), 6, "{example}");
}
