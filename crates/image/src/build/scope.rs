//! Which variables an instruction sees: ARG of this stage and of those it is based on, global ARG where declared, ENV over all.

use std::collections::BTreeMap;

use super::BuildRequest;
use crate::dockerfile::words;
use crate::model::Platform;

/// Arguments that need no ARG and leave no trace in the cache: proxies differ between machines, results should not.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Variables before and outside stages.
pub(super) struct Globals {
    pub escape: char,
    /// `--build-arg` with a value.
    given: BTreeMap<String, String>,
    /// Declared before the first FROM, with values.
    declared: BTreeMap<String, Option<String>>,
    /// TARGETPLATFORM and the like.
    platform: BTreeMap<String, String>,
}

impl Globals {
    pub fn new(request: &BuildRequest, escape: char) -> Globals {
        let host = Platform::host();
        let target = request.platform.clone().unwrap_or_else(Platform::host);
        let mut platform = BTreeMap::new();
        for (prefix, p) in [("TARGET", target), ("BUILD", host)] {
            platform.insert(format!("{prefix}PLATFORM"), p.to_string());
            platform.insert(format!("{prefix}OS"), p.os);
            platform.insert(format!("{prefix}ARCH"), p.architecture);
            platform.insert(format!("{prefix}VARIANT"), p.variant.unwrap_or_default());
        }
        let given = request
            .build_args
            .iter()
            .filter_map(|(n, v)| Some((n.clone(), v.clone()?)))
            .collect();
        Globals {
            escape,
            given,
            declared: BTreeMap::new(),
            platform,
        }
    }

    /// An ARG before the first FROM.
    pub fn declare(&mut self, name: &str, default: Option<&str>) -> Result<(), String> {
        let value = match (self.given.get(name), default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => self.platform.get(name).cloned(),
        };
        self.declared.insert(name.to_owned(), value);
        Ok(())
    }

    /// For FROM: global arguments and the platform's.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        words::expand(text, self.escape, &|name| {
            self.declared
                .get(name)
                .cloned()
                .flatten()
                .or_else(|| self.platform.get(name).cloned())
        })
    }

    /// Build arguments that nothing declared.
    pub fn unused<'a>(&'a self, used: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = &'a str> {
        let known = move |name: &str| {
            used(name) || self.declared.contains_key(name) || PREDEFINED.contains(&name)
        };
        self.given
            .keys()
            .map(String::as_str)
            .filter(move |name| !known(name))
    }
}

/// Variables within one stage.
#[derive(Clone, Default)]
pub(super) struct Scope {
    /// `None`: declared, but without a value.
    args: BTreeMap<String, Option<String>>,
}

impl Scope {
    /// An ARG within a stage; returns the value it now has.
    pub fn declare(
        &mut self,
        globals: &Globals,
        env: &[String],
        name: &str,
        default: Option<&str>,
    ) -> Result<Option<String>, String> {
        let value = match (globals.given.get(name), default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(globals, env, default)?),
            (None, None) => globals
                .declared
                .get(name)
                .cloned()
                .flatten()
                .or_else(|| globals.platform.get(name).cloned()),
        };
        self.args.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    pub fn is_declared(&self, name: &str) -> bool {
        self.args.contains_key(name)
    }

    pub fn expand(&self, globals: &Globals, env: &[String], text: &str) -> Result<String, String> {
        words::expand(text, globals.escape, &|name| self.lookup(env, name))
    }

    /// Replaces variables in a heredoc's body, where quotes are text. Whatever the file's escape character is, here it is the
    /// backslash.
    pub fn expand_heredoc(&self, env: &[String], text: &str) -> Result<String, String> {
        let mut quoted = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '"' | '\'') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        words::expand(&quoted, '\\', &|name| self.lookup(env, name))
    }

    pub fn expand_words(
        &self,
        globals: &Globals,
        env: &[String],
        text: &str,
    ) -> Result<Vec<String>, String> {
        words::expand_words(text, globals.escape, &|name| self.lookup(env, name))
    }

    fn lookup(&self, env: &[String], name: &str) -> Option<String> {
        get(env, name)
            .map(str::to_owned)
            .or_else(|| self.args.get(name).cloned().flatten())
    }

    /// `NAME=value` of arguments that ENV does not override: what a RUN step gets beside the image's environment, and what
    /// its cache key depends on.
    pub fn run_args(&self, env: &[String]) -> Vec<String> {
        let visible = self
            .args
            .iter()
            .filter(|(name, _)| get(env, name).is_none());
        visible
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }

    /// Proxy settings given on the command line and not declared.
    pub fn proxies(&self, globals: &Globals) -> Vec<String> {
        let given = globals
            .given
            .iter()
            .filter(|(n, _)| PREDEFINED.contains(&n.as_str()) && !self.is_declared(n));
        given
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

/// Value of a variable in a `NAME=value` list.
pub(super) fn get<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|pair| {
        pair.split_once('=')
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v)
    })
}

/// Sets a variable in a `NAME=value` list, keeping its place.
pub(super) fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let same = |p: &String| p.split_once('=').is_some_and(|(n, _)| n == name);
    match env.iter().position(same) {
        Some(i) => env[i] = pair,
        None => env.push(pair),
    }
}
