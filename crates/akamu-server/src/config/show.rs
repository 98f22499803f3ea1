//! `akamu-server config`: a commented file of what is in force, with the origin of each value.

use figment::value::Value;
use std::fmt::Write as _;

use super::keys::{KEYS, Key, Kind};
use super::load::{Loaded, file_path};

/// The configuration as a file that has the same effect, secrets hidden.
pub fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS.iter().filter(|key| key.table().is_none()) {
        let (prefix, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if prefix != section {
            section = prefix;
            let _ = writeln!(text, "\n[{section}]");
        }
        let _ = writeln!(text, "# {}", key.help);
        let value = loaded.merged.find_value(key.path);
        if key.kind == Kind::Tables {
            tables(&mut text, loaded, key, value.ok());
            continue;
        }
        match value {
            Ok(value) => {
                let _ = writeln!(text, "{name} = {}  # {}", literal(&value, key.kind), origin(loaded, key));
            }
            Err(_) => {
                let empty = if key.kind == Kind::List { "[]" } else { "…" };
                let _ = writeln!(text, "# {name} = {empty}");
            }
        }
    }
    text.trim_start().to_owned()
}

fn origin(loaded: &Loaded, key: &Key) -> String {
    let metadata = loaded.merged.find_metadata(key.path);
    match (metadata.and_then(file_path), &loaded.file) {
        (Some(_), Some(file)) => file.display().to_string(),
        _ => metadata.map_or_else(|| "default".to_owned(), |it| it.name.to_string()),
    }
}

/// A list of tables, each under its own header; without any, how one is written.
fn tables(text: &mut String, loaded: &Loaded, key: &Key, value: Option<Value>) {
    let tables = value.and_then(Value::into_array).unwrap_or_default();
    if tables.is_empty() {
        let _ = writeln!(text, "# [[{}]]", key.path);
        for column in key.columns() {
            let _ = writeln!(text, "# {} = …  # {}", last(column), column.help);
        }
    }
    for table in tables {
        let _ = writeln!(text, "[[{}]]  # {}", key.path, origin(loaded, key));
        for column in key.columns() {
            if let Some(value) = table.find_ref(last(column)) {
                let _ = writeln!(text, "{} = {}", last(column), literal(value, column.kind));
            }
        }
    }
}

/// The last part of a key's path.
fn last(key: &Key) -> &'static str {
    key.path.rsplit('.').next().unwrap_or(key.path)
}

fn literal(value: &Value, kind: Kind) -> String {
    match value {
        Value::String(_, text) if kind == Kind::SecretUrl => quoted(&without_password(text)),
        Value::String(_, text) => quoted(text),
        Value::Bool(_, it) => it.to_string(),
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(|it| literal(it, Kind::Text)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Num(_, it) => {
            let number = it.to_i128().or_else(|| it.to_u128().and_then(|it| i128::try_from(it).ok()));
            number.map_or_else(|| "…".to_owned(), |it| it.to_string())
        }
        Value::Char(_, _) | Value::Empty(_, _) | Value::Dict(_, _) => "…".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

/// `postgres://user:secret@host,other/db` becomes `postgres://user:hidden@host,other/db`, and so does a parameter like
/// `password=`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once(':') else { return "…".to_owned() };
    if scheme == "sqlite" {
        return text.to_owned();
    }
    let Some(rest) = rest.strip_prefix("//").filter(|_| !scheme.contains(['=', ' '])) else { return "…".to_owned() };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let (authority, path) =
        address.split_once('/').map_or((address, None), |(authority, path)| (authority, Some(path)));
    let mut shown = format!("{scheme}://");
    match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, hidden) = user.split_once(':').map_or((user, ""), |(user, _)| (user, ":hidden"));
            shown.push_str(&format!("{user}{hidden}@{hosts}"));
        }
        None => shown.push_str(authority),
    }
    shown.extend(path.map(|path| format!("/{path}")));
    let parameter = |it: &str| match it.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=hidden"),
        _ => it.to_owned(),
    };
    shown.extend(query.map(|it| format!("?{}", it.split('&').map(parameter).collect::<Vec<_>>().join("&"))));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgres://user:secret@db.test:5432/akamu", "postgres://user:hidden@db.test:5432/akamu"),
            ("postgres://user@db.test/akamu?password=secret", "postgres://user@db.test/akamu?password=hidden"),
            (
                "postgres://db.test/akamu?sslpassword=secret&port=1",
                "postgres://db.test/akamu?sslpassword=hidden&port=1",
            ),
            ("postgres://user@db.test/akamu", "postgres://user@db.test/akamu"),
            ("postgres://user:sec@ret@a:1,b:2/akamu", "postgres://user:hidden@a:1,b:2/akamu"),
            ("postgres://a:1,b:2", "postgres://a:1,b:2"),
            ("postgres:///akamu?host=a,b&password=secret", "postgres:///akamu?host=a,b&password=hidden"),
            ("sqlite://akamu.db", "sqlite://akamu.db"),
            ("sqlite:///srv/my data/akamu.db", "sqlite:///srv/my data/akamu.db"),
            ("host=db.test password=secret", "…"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
