//! What `imagePullSecrets` say about registries: which user names and passwords are for an image.
//!
//! Follows the kubelet's `pkg/credentialprovider` (`DockerConfig`, `BasicDockerKeyring`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{Auth, Reference};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

/// Docker Hub has two names.
const HUB: [&str; 2] = ["docker.io", "index.docker.io"];

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// Both in one, in base64.
    auth: String,
}

impl Entry {
    fn auth(&self) -> Option<Auth> {
        let (username, password) = match self.auth.is_empty() {
            true => (self.username.clone(), self.password.clone()),
            false => {
                let bytes = STANDARD.decode(self.auth.trim()).ok()?;
                let text = String::from_utf8(bytes).ok()?;
                let (user, password) = text.split_once(':')?;
                (user.to_owned(), password.trim_end_matches('\0').to_owned())
            }
        };
        Some(Auth::Basic { username, password })
    }
}

/// The credentials that the secrets have for the image: those for the longest part of its name first, each once.
pub fn of_image(secrets: &[Secret], image: &Reference) -> Vec<Auth> {
    let mut found: Vec<(String, Auth)> = Vec::new();
    for (place, entry) in secrets.iter().flat_map(entries) {
        let place = place_of(&place);
        if matches(&place, image)
            && let Some(auth) = entry.auth()
        {
            found.push((place, auth));
        }
    }
    found.sort_by(|(one, _), (other, _)| other.cmp(one));
    let mut unique = Vec::new();
    for (_, auth) in found {
        if !unique.contains(&auth) {
            unique.push(auth);
        }
    }
    unique
}

/// By place; a secret of another type, or damaged, has none.
fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = |key: &str| Some(&secret.data.as_ref()?.get(key)?.0);
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson")
                .and_then(|bytes| serde_json::from_slice::<Config>(bytes).ok())
                .unwrap_or_default()
                .auths
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg")
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default(),
        _ => BTreeMap::new(),
    }
}

/// `https://index.docker.io/v1/` is `index.docker.io`.
fn place_of(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = match path {
        "v1" | "v2" => "",
        path => path
            .strip_prefix("v1/")
            .or_else(|| path.strip_prefix("v2/"))
            .unwrap_or(path),
    };
    match path.is_empty() {
        true => host.to_owned(),
        false => format!("{host}/{path}"),
    }
}

/// The place is the image's registry, or a part of its names that begins there; `*` stands for a part of the host between dots.
fn matches(place: &str, image: &Reference) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let hub = HUB.contains(&host) && HUB.contains(&&*image.registry);
    (hub || same_host(host, &image.registry)) && image.repository.starts_with(path)
}

fn same_host(pattern: &str, host: &str) -> bool {
    let split = |text: &str| {
        let (name, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        (parts, port.to_owned())
    };
    let ((pattern, wanted), (host, port)) = (split(pattern), split(host));
    wanted == port
        && pattern.len() == host.len()
        && pattern
            .iter()
            .zip(&host)
            .all(|(pattern, part)| glob(pattern, part))
}

/// `*` for any number of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(kind: &str, content: &serde_json::Value) -> Secret {
        let data = STANDARD.encode(content.to_string());
        let secret =
            json!({"type": format!("kubernetes.io/{kind}"), "data": {format!(".{kind}"): data}});
        serde_json::from_value(secret).expect("a secret")
    }

    fn users(secrets: &[Secret], image: &str) -> Vec<String> {
        let found = of_image(secrets, &Reference::parse(image).expect("an image"));
        let user = |auth| match auth {
            Auth::Basic { username, password } => format!("{username}:{password}"),
            Auth::Bearer(token) | Auth::Refresh(token) => token,
        };
        found.into_iter().map(user).collect()
    }

    #[test]
    fn credentials_are_for_places() {
        let entry = |user: &str| json!({"username": user, "password": "p"});
        let auths = json!({"auths": {
            "https://index.docker.io/v1/": entry("hub"),
            "registry.example.com": entry("all"),
            "registry.example.com/team/": entry("team"),
            "http://registry.example.com:5000/v2/": entry("port"),
            "*.wild.example.com": entry("wild"),
            "127.0.0.1:5000": {"auth": STANDARD.encode("both:a:b")},
            "broken.example.com": {"auth": "!"},
        }});
        let secrets = [secret("dockerconfigjson", &auths)];
        for (image, expected) in [
            ("busybox", &["hub:p"][..]),
            ("docker.io/team/app", &["hub:p"]),
            ("registry.example.com/app", &["all:p"]),
            ("registry.example.com/team/app:1", &["team:p", "all:p"]),
            ("registry.example.com:5000/team/app", &["port:p"]),
            ("registry.example.com:5001/app", &[]),
            ("a.wild.example.com/app", &["wild:p"]),
            ("a.b.wild.example.com/app", &[]),
            ("127.0.0.1:5000/app", &["both:a:b"]),
            ("broken.example.com/app", &[]),
            ("other.example.com/app", &[]),
        ] {
            assert_eq!(users(&secrets, image), expected, "{image}");
        }
    }

    #[test]
    fn both_types_and_nothing_else() {
        let entry = json!({"r.example.com": {"username": "old", "password": "p"}});
        let new = json!({"auths": {"r.example.com": {"username": "new", "password": "p"}}});
        let old = secret("dockercfg", &entry);
        let both = [old.clone(), secret("dockerconfigjson", &new), old];
        assert_eq!(users(&both, "r.example.com/a"), ["old:p", "new:p"]);
        assert!(
            users(
                &[secret("dockerconfigjson", &json!([1]))],
                "r.example.com/a"
            )
            .is_empty()
        );
        assert!(users(&[secret("tls", &entry)], "r.example.com/a").is_empty());
        assert!(users(&[Secret::default()], "r.example.com/a").is_empty());
    }

    #[test]
    fn stars() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "axbxc", true),
            ("a*c", "ab", false),
            ("*", "", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
