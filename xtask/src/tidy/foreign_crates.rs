//! What belongs to one crate alone: its foreign crates are nobody else's dependencies.

use serde_json::Value;

use super::arrows::{array, text};

/// A foreign crate, who may know it, and what stands behind that.
const BELONGS: &[(&str, &[&str], &str)] = &[
    ("diesel", &["akamu-store"], "SQL is the store's"),
    ("diesel_migrations", &["akamu-store"], "SQL is the store's"),
    ("libsqlite3-sys", &["akamu-store"], "SQL is the store's"),
    ("pq-sys", &["akamu-store"], "SQL is the store's"),
    ("axum", &["akamu-server"], "requests are the server's"),
    ("figment", &["akamu-server"], "the configuration is the server's"),
    ("hickory-net", &["akamu-challenge"], "only validators ask the DNS"),
    (
        "tokio",
        &["akamu-challenge", "akamu-store", "akamu-server", "akamu", "xtask"],
        "ACME and certificates are not async",
    ),
];

pub(super) fn violations(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        // What a test uses is not in the tree of those who embed the crate.
        let dependencies = array(&package["dependencies"]).iter().filter(|dependency| dependency["kind"].is_null());
        for dependency in dependencies.map(|dependency| text(&dependency["name"])) {
            let rule = BELONGS.iter().find(|(foreign, knowers, _)| *foreign == dependency && !knowers.contains(&name));
            if let Some((foreign, knowers, why)) = rule {
                violations.push(format!("{name} knows {foreign}, which only {} may: {why}", knowers.join(", ")));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(name: &str, foreign: &str, kind: Option<&str>) -> Vec<String> {
        let dependency = json!({"name": foreign, "kind": kind});
        violations(&json!({"packages": [{"name": name, "dependencies": [dependency]}]}))
    }

    #[test]
    fn what_belongs_to_one_crate_is_refused_in_another() {
        assert_eq!(
            check("akamu-server", "diesel", None),
            ["akamu-server knows diesel, which only akamu-store may: SQL is the store's"]
        );
        assert_eq!(check("akamu-challenge", "axum", None).len(), 1);
        assert_eq!(check("akamu-ca", "tokio", None).len(), 1);
    }

    #[test]
    fn its_owner_tests_and_other_crates_pass() {
        assert_eq!(check("akamu-store", "diesel", None), [""; 0]);
        assert_eq!(check("akamu-challenge", "axum", Some("dev")), [""; 0]);
        assert_eq!(check("akamu-ca", "serde", None), [""; 0]);
    }
}
