//! Names of images: `[registry/]repository[:tag][@digest]`, with Docker's short forms.
//!
//! Grammar: distribution/reference (docs of the distribution project).

use std::fmt;

use crate::error::Error;

pub(crate) const HUB: &str = "docker.io";

/// A complete name. Displayed in the short ("familiar") form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Registry host, with port if not the default one.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    /// Tag; `latest` if the text had neither tag nor digest.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a name; `busybox` becomes `docker.io/library/busybox:latest`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`].
    pub fn parse(text: &str) -> Result<Reference, Error> {
        let bad = |reason: &str| Error::InvalidReference {
            reference: text.chars().take(300).collect(),
            reason: reason.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(bad("the digest is not sha256: and 64 hex digits"));
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad(
                "a tag has at most 128 letters, digits, '_', '.' and '-'",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, path)
            }
            _ => (HUB, name),
        };
        let registry = if registry == "index.docker.io" {
            HUB
        } else {
            registry
        };
        if !is_registry(registry) {
            return Err(bad("the registry is no host[:port]"));
        }
        let repository = if registry == HUB && !path.contains('/') && !path.is_empty() {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("repository name must be lowercase"));
        }
        if repository.len() + registry.len() > 254 || !repository.split('/').all(is_component) {
            return Err(bad(
                "a repository is lowercase letters and digits, separated by '/', '.', '_', '__' or '-'",
            ));
        }
        if digest.is_none() && tag.is_none() && is_hex64(name) {
            return Err(bad("64 hex digits would be taken for an id"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag,
            digest: digest.map(str::to_owned),
        })
    }

    /// `registry/repository` without tag and digest, short form.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        self.repository
            .strip_prefix("library/")
            .unwrap_or(&self.repository)
            .to_owned()
    }

    /// `name:tag` in short form, if there is a tag.
    pub fn familiar_tag(&self) -> Option<String> {
        Some(format!("{}:{}", self.familiar_name(), self.tag.as_ref()?))
    }

    /// Whether the registry is on this machine, where TLS is not expected.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(""),
            None => self.registry.split(':').next().unwrap_or(""),
        };
        host == "localhost"
            || host == "::1"
            || host
                .parse()
                .is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether the text is `sha256:` and 64 lowercase hex digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex64)
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, port)) if ip.parse::<std::net::Ipv6Addr>().is_ok() => (
                "v6",
                port.strip_prefix(':')
                    .or(if port.is_empty() { None } else { Some("x") }),
            ),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

fn is_component(text: &str) -> bool {
    let mut previous_separator = true;
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        if first.is_ascii_lowercase() || first.is_ascii_digit() {
            previous_separator = false;
            rest = &rest[1..];
            continue;
        }
        let length = match first {
            b'.' => 1,
            b'_' if rest.starts_with("__") => 2,
            b'_' => 1,
            b'-' => rest.len() - rest.trim_start_matches('-').len(),
            _ => return false,
        };
        if previous_separator {
            return false;
        }
        previous_separator = true;
        rest = &rest[length..];
    }
    !previous_separator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shortened() {
        for (text, full, short) in [
            (
                "busybox",
                "docker.io/library/busybox latest",
                "busybox:latest",
            ),
            (
                "library/busybox:1",
                "docker.io/library/busybox 1",
                "busybox:1",
            ),
            (
                "docker.io/grafana/k6",
                "docker.io/grafana/k6 latest",
                "grafana/k6:latest",
            ),
            (
                "index.docker.io/a",
                "docker.io/library/a latest",
                "a:latest",
            ),
            ("localhost/a", "localhost/a latest", "localhost/a:latest"),
            (
                "127.0.0.1:5000/a/b:x",
                "127.0.0.1:5000/a/b x",
                "127.0.0.1:5000/a/b:x",
            ),
            ("[::1]:5000/a", "[::1]:5000/a latest", "[::1]:5000/a:latest"),
            (
                "ghcr.io/a__b/c-d.e:V1",
                "ghcr.io/a__b/c-d.e V1",
                "ghcr.io/a__b/c-d.e:V1",
            ),
        ] {
            let r = Reference::parse(text).unwrap();
            let tag = r.tag.clone().unwrap();
            assert_eq!(format!("{}/{} {tag}", r.registry, r.repository), full);
            assert_eq!(r.to_string(), short);
            assert_eq!(Reference::parse(short).unwrap(), r, "round trip of {short}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let r = Reference::parse(&format!("busybox@{digest}")).unwrap();
        assert_eq!((r.tag, r.digest), (None, Some(digest)));
    }

    #[test]
    fn bad_names_are_refused() {
        let hex = "a".repeat(64);
        for text in [
            "",
            ":",
            "a:",
            "/a",
            "a//b",
            "a/",
            "A",
            "a/B",
            "a:b:c",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:12",
            "a@",
            "host:port/a",
            "a:.x",
            "../a",
            "a/../b",
            "x.y:99999/a",
            "[::g]/a",
            &hex,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
        }
        let long = format!("a:{}", "t".repeat(129));
        assert!(Reference::parse(&long).is_err());
    }

    #[test]
    fn loopback_registries() {
        for (text, loopback) in [
            ("localhost:1/a", true),
            ("127.0.0.1/a", true),
            ("127.3.2.1:5/a", true),
            ("[::1]:5/a", true),
            ("localhost.example/a", false),
            ("10.0.0.1:5000/a", false),
            ("busybox", false),
        ] {
            assert_eq!(
                Reference::parse(text).unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,60}") {
            if let Ok(r) = Reference::parse(&text) {
                proptest::prop_assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
            }
        }
    }
}
