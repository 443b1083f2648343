//! The flags of RUN: what they ask for, before any of it is there.
//!
//! Behaviour: BuildKit's Dockerfile reference ("RUN --mount"). Of its kinds there are `cache` (a directory of the store that
//! outlives builds), `bind` (context, stage or image; writes are thrown away) and `tmpfs`. Nobody can hand a `secret` or an `ssh`
//! agent to this builder: it is as if none had been given, which only a step that requires one cannot do without.

use crate::dockerfile::step::Flag;

/// A `--mount` flag, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub kind: Kind,
    /// As written; relative to WORKDIR.
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Cache {
        /// Empty: the target is the name.
        id: String,
        exclusive: bool,
        mode: u32,
        owner: (u32, u32),
    },
    Bind {
        from: Option<String>,
        source: String,
    },
    Tmpfs {
        size: Option<String>,
    },
}

/// The flags of a RUN.
#[derive(Debug, Default)]
pub(super) struct RunFlags<'a> {
    /// Values of `--mount`.
    pub mounts: Vec<&'a str>,
    pub no_network: bool,
}

/// Reads the flags.
///
/// # Errors
/// The first that is not known or not supported.
pub(super) fn run_flags(flags: &[Flag]) -> Result<RunFlags<'_>, String> {
    let mut read = RunFlags::default();
    for flag in flags {
        let value = flag.value.as_deref().unwrap_or("");
        match (flag.name.as_str(), value) {
            ("network", "default") | ("security", "sandbox") => {}
            ("network", "none") => read.no_network = true,
            ("mount", value) => read.mounts.push(value),
            ("network" | "security", value) => {
                return Err(format!("RUN --{}={value} is not supported", flag.name));
            }
            (name, _) => return Err(format!("unknown flag: --{name}")),
        }
    }
    Ok(read)
}

/// Name in `from=` of a `--mount` value.
pub(super) fn from_of(value: &str) -> Option<&str> {
    value
        .split(',')
        .find_map(|p| p.trim().strip_prefix("from="))
}

/// Reads a `--mount` value; `None` for what may be missing and is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn wanted(text: &str) -> Result<Option<Wanted>, String> {
    let bad = |reason: String| format!("RUN --mount={text}: {reason}");
    let mut options: Vec<(String, &str)> = Vec::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = match name.trim().to_ascii_lowercase().as_str() {
            "dst" | "destination" => "target".to_owned(),
            "src" => "source".to_owned(),
            "ro" => "readonly".to_owned(),
            "rw" => "readwrite".to_owned(),
            other => other.to_owned(),
        };
        if options.iter().any(|(n, _)| *n == name) {
            return Err(bad(format!("{name} is given twice")));
        }
        options.push((name, value));
    }
    let mut take = |name: &str| {
        let at = options.iter().position(|(n, _)| n == name)?;
        Some(options.remove(at).1)
    };
    let kind = take("type").unwrap_or("bind");
    let target = take("target").unwrap_or("").to_owned();
    let switch = |value: Option<&str>| value.map(|v| !matches!(v, "false" | "0"));
    let (mut read_only, writable) = (switch(take("readonly")), switch(take("readwrite")));
    if let Some(writable) = writable {
        read_only = Some(!writable);
    }
    let number = |name: &str, text: Option<&str>, radix, default| match text {
        None => Ok(default),
        Some(text) => u32::from_str_radix(text, radix)
            .map_err(|e| bad(format!("{name}={text} is no number: {e}"))),
    };
    let (kind, default_read_only) = match kind {
        "cache" => {
            if let Some(from) = take("from").or_else(|| take("source")) {
                return Err(bad(format!(
                    "a cache that begins with the content of {from:?} is not supported"
                )));
            }
            let exclusive = match take("sharing").unwrap_or("shared") {
                "shared" => false,
                // Builds take turns instead of having a cache each: slower, with the same result.
                "private" | "locked" => true,
                other => {
                    return Err(bad(format!(
                        "sharing={other} is none of shared, private, locked"
                    )));
                }
            };
            let mode = number("mode", take("mode"), 8, 0o755)? & 0o7777;
            let owner = (
                number("uid", take("uid"), 10, 0)?,
                number("gid", take("gid"), 10, 0)?,
            );
            let id = take("id").unwrap_or("").to_owned();
            (
                Kind::Cache {
                    id,
                    exclusive,
                    mode,
                    owner,
                },
                false,
            )
        }
        "bind" => (
            Kind::Bind {
                from: take("from").map(str::to_owned),
                source: take("source").unwrap_or(".").to_owned(),
            },
            true,
        ),
        "tmpfs" => (
            Kind::Tmpfs {
                size: take("size").map(str::to_owned),
            },
            false,
        ),
        "secret" | "ssh" => {
            number("mode", take("mode"), 8, 0)?;
            number("uid", take("uid"), 10, 0)?;
            number("gid", take("gid"), 10, 0)?;
            let required = take("required").is_some_and(|v| !matches!(v, "false" | "0"));
            let id = take("id").unwrap_or("");
            let missing = if kind == "ssh" {
                let id = if id.is_empty() { "default" } else { id };
                format!("no SSH key {id:?} forwarded from the client")
            } else {
                take("env");
                let source = take("source").unwrap_or("");
                if !source.is_empty() && !id.is_empty() {
                    return Err(bad("both source and id can't be set".into()));
                }
                let name = target.rsplit('/').find(|name| !name.is_empty());
                let name = [source, id, name.unwrap_or("")].into_iter();
                match name.into_iter().find(|name| !name.is_empty()) {
                    Some(name) => format!("secret {name}: not found"),
                    None => return Err(bad("one of source, target required".into())),
                }
            };
            if let Some((name, _)) = options.first() {
                return Err(bad(format!("unknown option {name:?}")));
            }
            return if required { Err(missing) } else { Ok(None) };
        }
        other => {
            return Err(bad(format!(
                "type={other} is none of bind, cache, tmpfs, secret, ssh"
            )));
        }
    };
    if let Some((name, _)) = options.first() {
        return Err(bad(format!("unknown option {name:?}")));
    }
    if target.is_empty() {
        return Err(bad("target is missing".into()));
    }
    Ok(Some(Wanted {
        kind,
        target,
        read_only: read_only.unwrap_or(default_read_only),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_mounts() {
        let cache = |id: &str, exclusive, mode| Kind::Cache {
            id: id.into(),
            exclusive,
            mode,
            owner: (0, 0),
        };
        for (text, kind, read_only) in [
            ("type=cache,target=/t", cache("", false, 0o755), false),
            (
                "type=cache,id=a,dst=/t,sharing=locked,mode=0700,ro",
                cache("a", true, 0o700),
                true,
            ),
            (
                "type=tmpfs,destination=/t,size=1m",
                Kind::Tmpfs {
                    size: Some("1m".into()),
                },
                false,
            ),
            (
                "target=/t",
                Kind::Bind {
                    from: None,
                    source: ".".into(),
                },
                true,
            ),
            (
                "type=bind,from=a,src=/b,target=/t,rw",
                Kind::Bind {
                    from: Some("a".into()),
                    source: "/b".into(),
                },
                false,
            ),
        ] {
            let target = "/t".into();
            assert_eq!(
                wanted(text),
                Ok(Some(Wanted {
                    kind,
                    target,
                    read_only
                })),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, reason) in [
            ("type=secret,id=x,required=true", "secret x: not found"),
            ("type=secret,target=/a/x,required", "secret x: not found"),
            ("type=secret,src=x,env=X,required=1", "secret x: not found"),
            ("type=secret", "one of source, target required"),
            ("type=secret,id=x,src=y", "both source and id"),
            ("type=secret,id=x,from=y", "unknown option \"from\""),
            ("type=secret,id=x,mode=rw", "mode=rw is no number"),
            (
                "type=ssh,required=true",
                "no SSH key \"default\" forwarded from the client",
            ),
            ("type=ssh,src=/x", "unknown option \"source\""),
            ("type=cache", "target is missing"),
            ("type=cache,target=/t,from=x", "begins with the content"),
            ("type=cache,target=/t,mode=9", "mode=9 is no number"),
            ("type=cache,target=/t,sharing=no", "none of shared"),
            ("type=tmpfs,target=/t,source=x", "unknown option \"source\""),
            ("type=bind,target=/t,dst=/u", "target is given twice"),
            ("type=nope,target=/t", "none of bind"),
            ("", "unknown option \"\""),
        ] {
            let error = wanted(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let flag = |name: &str, value: &str| {
            [Flag {
                name: name.into(),
                value: Some(value.into()),
            }]
        };
        for (name, value) in [("network", "host"), ("security", "insecure"), ("nope", "1")] {
            assert!(run_flags(&flag(name, value)).is_err(), "{name}={value}");
        }
        assert!(run_flags(&flag("network", "none")).unwrap().no_network);
        assert!(!run_flags(&flag("network", "default")).unwrap().no_network);
    }

    #[test]
    fn what_may_be_missing_is() {
        for text in [
            "type=secret,id=npmrc,target=/root/.npmrc",
            "type=secret,id=t,env=TOKEN,required=false",
            "type=secret,target=/run/x,uid=1,gid=2,mode=0400,ro",
            "type=ssh",
            "type=ssh,id=k,target=/agent,required=0,mode=0600",
        ] {
            assert_eq!(wanted(text), Ok(None), "{text}");
        }
    }
}
