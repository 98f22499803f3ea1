//! A PostgreSQL URL as libpq is given it: one host or several, and what the operator left open filled in.
//!
//! libpq reads it (<https://www.postgresql.org/docs/current/libpq-connect.html>), tries the hosts in turn and picks the
//! one that takes writes; here is only said what it would otherwise do for hours, or not at all.

/// What libpq is told where the URL does not say it. A host that does not answer is waited for two or five seconds, a
/// connection on which nothing comes any more for fifteen, and a server that takes no writes is none.
const DEFAULTS: [(&str, &str); 5] = [
    ("tcp_user_timeout", "15000"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("target_session_attrs", "read-write"),
];

/// The URL with what it leaves open. `application_name` is what an operator sees in `pg_stat_activity`, unless the URL
/// or `PGAPPNAME` names it.
pub(crate) fn completed(url: &str, application_name: &str) -> String {
    // Each host has it for itself.
    let connect_timeout = if has_several_hosts(url) { "2" } else { "5" };
    let mut url = url.to_owned();
    add(&mut url, "connect_timeout", connect_timeout);
    for (name, value) in DEFAULTS {
        add(&mut url, name, value);
    }
    add(&mut url, "fallback_application_name", application_name);
    url
}

fn has_several_hosts(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    hosts.contains(',')
        || ["host", "hostaddr"].iter().any(|name| parameter(url, name).is_some_and(|it| it.contains(',')))
}

fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
}

fn add(url: &mut String, name: &str, value: &str) {
    if parameter(url, name).is_some() {
        return;
    }
    let separator = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    url.push_str(&format!("{separator}{name}="));
    for octet in value.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => url.push(char::from(octet)),
            _ => url.push_str(&format!("%{octet:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "tcp_user_timeout=15000&keepalives_idle=10&keepalives_interval=5&keepalives_count=3\
                        &target_session_attrs=read-write&fallback_application_name=akamu-server%20%5B%3A%3A1%5D%3A443";

    #[track_caller]
    fn check(url: &str, expected: &str) {
        assert_eq!(completed(url, "akamu-server [::1]:443"), expected);
    }

    #[test]
    fn what_is_left_open_is_filled_in() {
        check("postgres://host/db", &format!("postgres://host/db?connect_timeout=5&{REST}"));
        check("postgres://host/db?", &format!("postgres://host/db?connect_timeout=5&{REST}"));
        check("postgres://host", &format!("postgres://host?connect_timeout=5&{REST}"));
    }

    #[test]
    fn several_hosts_have_less_time_each() {
        check("postgres://u:p@a:1,b:2/db", &format!("postgres://u:p@a:1,b:2/db?connect_timeout=2&{REST}"));
        check("postgres:///db?host=a,b", &format!("postgres:///db?host=a,b&connect_timeout=2&{REST}"));
        check("postgres://u:p,p@a/db,b", &format!("postgres://u:p,p@a/db,b?connect_timeout=5&{REST}"));
    }

    #[test]
    fn what_the_url_says_stays() {
        let url = "postgres://a,b/db?target_session_attrs=any&connect_timeout=9&application_name=ours&tcp_user_timeout=1\
                   &keepalives_idle=2&keepalives_interval=3&keepalives_count=4&fallback_application_name=theirs";
        check(url, url);
    }
}
