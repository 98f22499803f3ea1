//! The crate arrows: they point down only, development dependencies included.

use serde_json::Value;

use crate::failure::{Context, Failure};
use crate::process;

/// Whom each package of the workspace may know. One that is not listed may not exist.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("akamu", &["akamu-server"]),
    ("akamu-server", &["akamu-store", "akamu-ca", "akamu-challenge", "akamu-proto"]),
    ("akamu-store", &["akamu-proto"]),
    ("akamu-ca", &["akamu-proto"]),
    ("akamu-challenge", &["akamu-proto"]),
    ("akamu-proto", &[]),
    // Its commands then wait for no other crate to be built.
    ("xtask", &[]),
    // It is loaded into the server, and knows nothing of it.
    ("power-cut-shim", &[]),
];

/// A package of the workspace and the packages of the workspace that it depends on.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    knows: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    kind: Option<String>,
    /// The features it is used with, `default` among them where it is used with its defaults.
    features: Vec<String>,
}

/// The workspace as cargo sees it.
pub(super) fn metadata() -> Result<Value, Failure> {
    let json = process::output(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&json).context(|| "cannot read cargo's metadata".to_owned())
}

pub(super) fn violations(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for Package { name, knows } in packages {
        let Some((_, may_know)) = MAY_KNOW.iter().find(|(listed, _)| listed == name) else {
            violations
                .push(format!("package {name} has no place yet: say in xtask/src/tidy/arrows.rs whom it may know"));
            continue;
        };
        for dependency in knows {
            let known = dependency.name.as_str();
            // A crate may turn its own features on for its tests.
            let own = known == name && dependency.kind.as_deref() == Some("dev");
            if !own && !may_know.contains(&known) {
                let kind = dependency.kind.as_deref().map_or_else(String::new, |kind| format!("{kind}-"));
                violations.push(format!("{name} has the {kind}dependency {known}; it may know {}", listed(may_know)));
            }
            if name == "akamu-challenge" && known == "akamu-proto" && dependency.verifies() {
                violations.push(
                    "akamu-challenge turns on akamu-proto's feature `verify`: validators check no JWS signatures"
                        .to_owned(),
                );
            }
        }
    }
    violations
}

impl Dependency {
    fn verifies(&self) -> bool {
        self.features.iter().any(|feature| feature == "verify" || feature == "default")
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no crate of the workspace".to_owned() } else { names.join(", ") }
}

pub(super) fn packages(metadata: &Value) -> Vec<Package> {
    let packages = array(&metadata["packages"]);
    let names: Vec<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    packages
        .iter()
        .map(|package| Package {
            name: text(&package["name"]).to_owned(),
            knows: array(&package["dependencies"])
                .iter()
                // One from a registry has a source; it may share a name with one of ours.
                .filter(|dependency| dependency["source"].is_null() && names.contains(&text(&dependency["name"])))
                .map(dependency)
                .collect(),
        })
        .collect()
}

fn dependency(value: &Value) -> Dependency {
    let mut features: Vec<String> = array(&value["features"]).iter().map(|feature| text(feature).to_owned()).collect();
    if value["uses_default_features"].as_bool().unwrap_or(true) {
        features.push("default".to_owned());
    }
    Dependency { name: text(&value["name"]).to_owned(), kind: value["kind"].as_str().map(str::to_owned), features }
}

pub(super) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of package `name` when it depends so on `known`.
    fn check(name: &str, known: &str, kind: Option<&str>) -> Vec<String> {
        violations(&packages(&metadata(name, known, kind, &Value::Null, false)))
    }

    fn metadata(name: &str, known: &str, kind: Option<&str>, source: &Value, defaults: bool) -> Value {
        let dependency = json!({
            "name": known, "kind": kind, "source": source, "features": [], "uses_default_features": defaults
        });
        let mut packages = vec![json!({"name": name, "dependencies": [dependency]})];
        if known != name {
            packages.push(json!({"name": known, "dependencies": []}));
        }
        json!({ "packages": packages })
    }

    #[test]
    fn arrows_that_point_down_are_allowed() {
        for (name, known) in [
            ("akamu", "akamu-server"),
            ("akamu-server", "akamu-store"),
            ("akamu-server", "akamu-ca"),
            ("akamu-server", "akamu-challenge"),
            ("akamu-server", "akamu-proto"),
            ("akamu-store", "akamu-proto"),
            ("akamu-ca", "akamu-proto"),
            ("akamu-challenge", "akamu-proto"),
        ] {
            assert_eq!(check(name, known, None), [""; 0], "{name} → {known}");
        }
    }

    #[test]
    fn an_arrow_that_points_up_or_sideways_is_named() {
        for (name, known) in [
            ("akamu-proto", "akamu-challenge"),
            ("akamu-challenge", "akamu-store"),
            ("akamu-ca", "akamu-server"),
            ("akamu-store", "akamu-ca"),
            ("akamu", "akamu-proto"),
            ("xtask", "akamu-proto"),
            ("akamu-server", "akamu"),
        ] {
            let said = check(name, known, None);
            assert_eq!(said.len(), 1, "{name} → {known}: {said:?}");
            assert!(said[0].contains(name) && said[0].contains(known), "{said:?}");
        }
    }

    #[test]
    fn a_development_dependency_is_an_arrow_too() {
        assert_eq!(
            check("akamu-store", "akamu-ca", Some("dev")),
            ["akamu-store has the dev-dependency akamu-ca; it may know akamu-proto"]
        );
    }

    #[test]
    fn xtask_knows_no_other_crate_not_even_for_its_tests() {
        for kind in [None, Some("dev"), Some("build")] {
            let said = check("xtask", "akamu-server", kind);
            assert!(matches!(said.as_slice(), [only] if only.contains("akamu-server")), "{kind:?}: {said:?}");
        }
    }

    #[test]
    fn a_crate_may_turn_its_own_features_on_for_its_tests() {
        assert_eq!(check("akamu-challenge", "akamu-challenge", Some("dev")), [""; 0]);
    }

    #[test]
    fn a_registry_package_of_the_same_name_is_no_arrow() {
        let registry = json!("registry+https://example.com/index");
        let metadata = metadata("akamu-proto", "xtask", None, &registry, false);
        assert_eq!(violations(&packages(&metadata)), [""; 0]);
    }

    #[test]
    fn a_package_without_a_place_is_named() {
        assert_eq!(
            check("akamu-extra", "akamu-proto", None),
            ["package akamu-extra has no place yet: say in xtask/src/tidy/arrows.rs whom it may know"]
        );
    }

    #[test]
    fn challenge_does_not_turn_signature_checks_on() {
        let metadata = metadata("akamu-challenge", "akamu-proto", None, &Value::Null, true);
        let said = violations(&packages(&metadata));
        assert!(matches!(said.as_slice(), [only] if only.contains("verify")), "{said:?}");
    }
}
