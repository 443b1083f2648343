//! What is said about registries beside their names: who is spoken to without TLS, and who is asked first.

use std::fmt;
use std::str::FromStr;

/// Settings about registries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registries {
    /// Spoken to by HTTPS whatever their certificate, or by HTTP when they do not speak that, as Docker's `insecure-registries`.
    /// Registries of this machine need not be named.
    pub insecure: Vec<Host>,
    /// Asked for Docker Hub's images before Docker Hub, in this order; what they do not have or do not answer comes from there,
    /// as with Docker's `registry-mirrors`.
    pub mirrors: Vec<Mirror>,
}

impl Registries {
    /// Whether the registry of this name may be spoken to without a certificate that somebody vouches for.
    pub fn is_insecure(&self, registry: &str) -> bool {
        self.insecure.iter().any(|host| host.0 == registry)
    }
}

/// A registry as names of images have it: `HOST` or `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// As it stands in names of images.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no registry such as registry.lan:5000");
        let (host, port) = match text.strip_prefix('[') {
            // an IPv6 address
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
                return match port {
                    Some(port) if is_port(port) => Ok(Self(text.to_owned())),
                    _ => Err(wrong()),
                };
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !host.split('.').all(label) || !is_port(port) || text.ends_with(':') {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.parse::<u16>().is_ok_and(|port| port > 0)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a mirror of Docker Hub answers: `https://HOST[:PORT]`, or `http://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub host: Host,
    /// Whether it speaks HTTP.
    pub plain: bool,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, plain) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(host), _) => (host, false),
            (_, Some(host)) => (host, true),
            _ => {
                return Err(format!(
                    "{text:?} is no address such as https://mirror.lan:5000"
                ));
            }
        };
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('/') {
            return Err(format!("{text:?}: the address of a mirror has no path"));
        }
        Ok(Self {
            host: host.parse()?,
            plain,
        })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_what_names_of_images_begin_with() {
        for good in [
            "registry.lan",
            "registry.lan:5000",
            "localhost",
            "192.0.2.7:80",
            "my_host-1:65535",
            "[2001:db8::1]",
            "[2001:db8::1]:5000",
        ] {
            let host: Host = good.parse().expect(good);
            assert_eq!(host.to_string(), good);
        }
        for bad in [
            "",
            ":5000",
            "http://registry.lan",
            "registry.lan/path",
            "registry.lan:",
            "registry.lan:0",
            "registry.lan:65536",
            "registry.lan:x",
            "a..b",
            "10.0.0.0/8",
            "user@registry.lan",
            "[::1",
            "[::1]5000",
            "[registry.lan]",
        ] {
            let error = bad.parse::<Host>().expect_err(bad);
            assert!(error.contains("registry.lan:5000"), "{error}");
        }
    }

    #[test]
    fn mirrors_have_a_scheme_and_no_path() {
        let rows = [
            ("https://mirror.lan", "https://mirror.lan"),
            ("http://mirror.lan:5000/", "http://mirror.lan:5000"),
        ];
        for (text, shown) in rows {
            let mirror: Mirror = text.parse().expect(text);
            assert_eq!(mirror.to_string(), shown);
            assert_eq!(mirror.plain, text.starts_with("http:"));
        }
        for (bad, said) in [
            ("mirror.lan", "https://mirror.lan:5000"),
            ("ftp://mirror.lan", "https://mirror.lan:5000"),
            ("https://mirror.lan/v2", "no path"),
            ("https://", "registry.lan:5000"),
        ] {
            let error = bad.parse::<Mirror>().expect_err(bad);
            assert!(error.contains(said), "{error}");
        }
    }
}
