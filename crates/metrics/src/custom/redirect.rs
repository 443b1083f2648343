//! Where an answer leads that is another address (RFC 9110, 15.4): followed within the pod's own port, nowhere else.

use std::net::IpAddr;

use super::target::{Target, is_path};

/// The path that `location` names, if it is on the target's own address and port. `path` is what was asked for.
pub fn path(target: &Target, path: &str, location: &str) -> Option<String> {
    let plain = location.split('#').next().unwrap_or_default().trim();
    let path = match rest_of_own(target, plain)? {
        "" => "/".to_owned(),
        rest if rest.starts_with('/') => rest.to_owned(),
        rest if rest.starts_with('?') => format!("{}{rest}", without_query(path)),
        rest => {
            let (directory, _) = without_query(path).rsplit_once('/')?;
            format!("{directory}/{rest}")
        }
    };
    let path = without_dots(&path);
    is_path(&path).then_some(path)
}

/// What follows the scheme and the authority, if they are the target's.
fn rest_of_own<'a>(target: &Target, location: &'a str) -> Option<&'a str> {
    let scheme = if target.tls { "https" } else { "http" };
    let after_scheme = match location.split_once("://") {
        Some((other, rest)) if !other.contains(['/', '?']) => {
            other.eq_ignore_ascii_case(scheme).then_some(rest)?
        }
        _ => match location.strip_prefix("//") {
            Some(rest) => rest,
            // no authority at all; a scheme without one is nothing that could be asked
            None => {
                let first = location.split(['/', '?']).next().unwrap_or_default();
                return (!first.contains(':')).then_some(location);
            }
        },
    };
    let end = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    is_own(target, authority).then_some(match rest.starts_with('?') {
        // a query of the root
        true => "/",
        false => rest,
    })
}

fn is_own(target: &Target, authority: &str) -> bool {
    let default = if target.tls { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        // within brackets it is a part of the address
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (authority, Some(default)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host: Option<IpAddr> = host.parse().ok();
    host == Some(target.address.ip()) && port == Some(target.address.port())
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(without_query(path).len());
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for part in path.split('/').skip(1) {
        ends_open = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let end = if ends_open && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_the_pods_own_port() {
        let target = |address: &str, tls| Target {
            uid: "u".into(),
            address: address.parse().expect("an address"),
            path: "/metrics".into(),
            tls,
            ready: true,
        };
        let plain = target("10.1.0.7:8080", false);
        for (location, expected) in [
            ("/metrics/", Some("/metrics/")),
            ("http://10.1.0.7:8080/x?a=b#c", Some("/x?a=b")),
            ("//10.1.0.7:8080/x", Some("/x")),
            ("http://10.1.0.7:8080", Some("/")),
            ("stats", Some("/app/stats")),
            ("../stats", Some("/stats")),
            ("/a/./b/../c/..", Some("/a/")),
            ("../../../..", Some("/")),
            ("?b=c", Some("/app/metrics?b=c")),
            (
                "/login?to=http://10.1.0.7:8080/",
                Some("/login?to=http://10.1.0.7:8080/"),
            ),
            ("http://10.1.0.7/x", None),
            ("http://10.1.0.7:8081/x", None),
            ("http://10.1.0.8:8080/x", None),
            ("https://10.1.0.7:8080/x", None),
            ("http://169.254.169.254/latest", None),
            ("//169.254.169.254/latest", None),
            ("http://10.1.0.7:8080@169.254.169.254/", None),
            ("http://web.default.svc:8080/x", None),
            ("file:/etc/passwd", None),
            ("/a b", None),
            ("/a\r\nx: y", None),
        ] {
            let found = path(&plain, "/app/metrics?a=b", location);
            assert_eq!(found.as_deref(), expected, "{location}");
        }
        let six = target("[fd00::7]:443", true);
        for (location, expected) in [
            ("https://[fd00::7]/x", Some("/x")),
            ("https://[fd00::7]:443/x", Some("/x")),
            ("https://[fd00::7]:8443/x", None),
            ("http://[fd00::7]/x", None),
        ] {
            assert_eq!(
                path(&six, "/metrics", location).as_deref(),
                expected,
                "{location}"
            );
        }
        assert_eq!(path(&plain, "/", &format!("/{}", "x".repeat(2000))), None);
    }
}
