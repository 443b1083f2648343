//! The names by which something is proxied to: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.

/// A name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `https` was asked for.
    pub https: bool,
    pub name: &'a str,
    /// A number or a name; empty when none is given.
    pub port: &'a str,
}

/// `None` for a name that has another form.
pub fn parse(id: &str) -> Option<Target<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    let known = matches!(scheme, "" | "http" | "https");
    (known && !name.is_empty()).then_some(Target {
        https: scheme == "https",
        name,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let target = |https, name, port| Some(Target { https, name, port });
        for (id, expected) in [
            ("web", target(false, "web", "")),
            ("web:80", target(false, "web", "80")),
            ("web:", target(false, "web", "")),
            ("web:http", target(false, "web", "http")),
            ("http:web:", target(false, "web", "")),
            ("https:web:443", target(true, "web", "443")),
            (":web:443", target(false, "web", "443")),
            ("ftp:web:21", None),
            ("a:b:c:d", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(parse(id), expected, "{id:?}");
        }
    }
}
