//! URIs, as Go reads those of requests (`net/url.ParseRequestURI`): with a scheme, or from the root.

/// Whether a text is a URI.
pub(super) fn is(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control()) {
        return false;
    }
    let Some((scheme, rest)) = split_scheme(text) else {
        return false;
    };
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !rest.starts_with('/') {
        // what comes after a scheme has a meaning of its own (`mailto:a@b`)
        return scheme;
    }
    let Some(hosted) = rest.strip_prefix("//").filter(|_| scheme) else {
        return escapes(rest);
    };
    let (authority, path) = hosted.split_at(hosted.find('/').unwrap_or(hosted.len()));
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => is_user(user).then_some(host),
        None => Some(authority),
    };
    host.is_some_and(is_host) && escapes(path)
}

/// Whether there is a scheme, and what follows it. `None`: it begins with the colon.
fn split_scheme(text: &str) -> Option<(bool, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end) if begins && text[end..].starts_with(':') => Some((true, &text[end + 1..])),
        _ => Some((false, text)),
    }
}

fn is_user(user: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    user.chars().all(plain) && escapes(user)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rfind(']') {
        Some(end) if host.starts_with('[') => host.split_at(end + 1),
        None if host.starts_with('[') => return false,
        _ => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let port_is_one = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let plain = |c: char| {
        !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c)
    };
    port_is_one && name.chars().all(plain) && escapes(name)
}

/// Whether each percent sign begins an escape.
fn escapes(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn uris() {
        for text in [
            "https://a.b/c",
            "http://a:80",
            "http://a:/",
            "http://user:pass%20word@[::1]:8080/x?y=%zz#f",
            "file:///etc/hosts",
            "mailto:a@b.c",
            "urn:isbn:0451450523",
            "s3+v2.x://bucket/a b",
            "/c",
            "//c",
            "http://ä.example/",
            "x:",
        ] {
            assert!(super::is(text), "{text} is one");
        }
        for text in [
            "",
            "a b",
            "a/b",
            ":x",
            "1a:x",
            "*",
            "http://a b/",
            "http://a:b/",
            "http://[::1/",
            "http://a^b/",
            "http://us er@a/",
            "http://a/%zz",
            "/%4",
            "http://a/\n",
        ] {
            assert!(!super::is(text), "{text} is none");
        }
    }
}
