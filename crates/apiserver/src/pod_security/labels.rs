//! What the labels of a namespace ask for: `pod-security.kubernetes.io/{enforce,audit,warn}`, each with its `-version`.

use std::fmt::{self, Display};

use serde_json::{Map, Value};

use crate::registry::Problems;

/// How much is asked of pods, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// As of which version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Latest,
    /// The minor version of major version 1.
    Minor(u64),
}

impl Version {
    /// `latest` or `v1.N`, N as people write numbers.
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        // upstream's number has a sign
        let minor = digits.parse::<i64>().ok().filter(|_| plain)?;
        Some(Self::Minor(minor.unsigned_abs()))
    }

    /// The minor version, the greatest for `latest`.
    pub fn minor(self) -> u64 {
        match self {
            Self::Latest => u64::MAX,
            Self::Minor(minor) => minor,
        }
    }
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standard {
    pub level: Level,
    pub version: Version,
}

impl Standard {
    const NONE: Self = Self {
        level: Level::Privileged,
        version: Version::Latest,
    };

    /// Whether pods that met `before` may fail to meet this one.
    pub fn may_ask_more_than(self, before: Self) -> bool {
        self.level > Level::Privileged
            && (self.version != before.version || self.level > before.level)
    }
}

impl Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks of its pods. What it wants audited is checked and not kept: there is no audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Pods that do not meet it are refused.
    pub enforce: Standard,
    /// Who makes something that does not meet it is warned.
    pub warn: Standard,
}

impl Policy {
    /// The policy of a namespace with these labels, and what is wrong with them. A wrong level is enforced as `restricted` and
    /// not warned of; a wrong version is `latest`.
    pub fn of(labels: &Value) -> (Self, Problems) {
        let mut problems = Problems::default();
        let mut policy = Policy {
            enforce: Standard::NONE,
            warn: Standard::NONE,
        };
        let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else {
            return (policy, problems);
        };
        let enforce = given(labels, "enforce", &mut problems);
        given(labels, "audit", &mut problems);
        let warn = given(labels, "warn", &mut problems);
        if let Some(level) = enforce.level {
            policy.enforce.level = level.unwrap_or(Level::Restricted);
        }
        policy.enforce.version = enforce.version.unwrap_or(Version::Latest);
        if let Some(level) = warn.level {
            policy.warn.level = level.unwrap_or(Level::Privileged);
        }
        policy.warn.version = warn.version.unwrap_or(Version::Latest);
        // Who says only what is enforced is warned of it, too: a template that no pod can be made of is told at once.
        if warn.level.is_none()
            && let Some(Some(level)) = enforce.level
            && level > policy.warn.level
        {
            policy.warn.level = level;
            if warn.version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, problems)
    }
}

/// What the two labels of a mode say, if they are there; a wrong level is `Some(None)`.
struct Given {
    level: Option<Option<Level>>,
    version: Option<Version>,
}

fn given(labels: &Map<String, Value>, mode: &str, problems: &mut Problems) -> Given {
    let value = |key: &str| labels.get(key).and_then(Value::as_str);
    let key = format!("pod-security.kubernetes.io/{mode}");
    let level = value(&key).map(|text| {
        let level = Level::parse(text);
        if level.is_none() {
            let why = "must be one of privileged, baseline, restricted";
            problems.invalid(&format!("metadata.labels[{key}]"), &text.into(), why);
        }
        level
    });
    let key = format!("{key}-version");
    let version = value(&key).map(|text| {
        Version::parse(text).unwrap_or_else(|| {
            let why = "must be \"latest\" or \"v1.x\"";
            problems.invalid(&format!("metadata.labels[{key}]"), &text.into(), why);
            Version::Latest
        })
    });
    Given { level, version }
}
