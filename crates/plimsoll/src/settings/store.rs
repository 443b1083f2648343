//! Where the API's objects are kept, when that is not the instance's own file.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use store::etcd::{Options, Tls, User, parse_url};

/// Where Kubernetes keeps everything in etcd.
const PREFIX: &str = "/registry/";
/// Shorter than `up` waits for the daemon, so that it is told why.
const OPEN: Duration = Duration::from_secs(40);
/// Upstream's `--etcd-compaction-interval`.
const COMPACTION: Duration = Duration::from_secs(300);

/// The key `etcd` of the file; as flags and variables they stand beside the others.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Etcd {
    /// Certificates of the authority that etcd's certificates are of (PEM); with it, connections are TLS
    #[arg(
        long = "etcd-cafile",
        env = "PLIMSOLL_ETCD_CAFILE",
        value_name = "FILE"
    )]
    pub cafile: Option<PathBuf>,
    /// Certificate that is shown to etcd (PEM)
    #[arg(
        long = "etcd-certfile",
        env = "PLIMSOLL_ETCD_CERTFILE",
        value_name = "FILE"
    )]
    pub certfile: Option<PathBuf>,
    /// ... and its key (PEM)
    #[arg(
        long = "etcd-keyfile",
        env = "PLIMSOLL_ETCD_KEYFILE",
        value_name = "FILE"
    )]
    pub keyfile: Option<PathBuf>,
    /// User to log in as, where etcd has authentication enabled; it must be allowed to read all keys
    #[arg(long = "etcd-user", env = "PLIMSOLL_ETCD_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// File with that user's password
    #[arg(
        long = "etcd-password-file",
        env = "PLIMSOLL_ETCD_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,
}

impl Etcd {
    /// These, and where they say nothing, `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            cafile: self.cafile.or(below.cafile),
            certfile: self.certfile.or(below.certfile),
            keyfile: self.keyfile.or(below.keyfile),
            user: self.user.or(below.user),
            password_file: self.password_file.or(below.password_file),
        }
    }

    /// The flags that say the same, for a process that this one starts (and that runs in another directory).
    pub fn flags(&self) -> Vec<OsString> {
        let flag = |name: &str, value: &Option<PathBuf>| {
            let mut flag = OsString::from(format!("--{name}="));
            let path = value.as_ref()?;
            flag.push(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
            Some(flag)
        };
        let user = self
            .user
            .as_ref()
            .map(|name| format!("--etcd-user={name}").into());
        [
            flag("etcd-cafile", &self.cafile),
            flag("etcd-certfile", &self.certfile),
            flag("etcd-keyfile", &self.keyfile),
            user,
            flag("etcd-password-file", &self.password_file),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How the etcd of this URL is reached. Reads the files.
    pub fn options(&self, url: &str) -> Result<Options> {
        let (endpoints, secure) = parse_url(url)?;
        let mut options = Options::new(endpoints);
        options.prefix = PREFIX.into();
        options.open_timeout = OPEN;
        options.compaction_interval = Some(COMPACTION);
        options.tls = self.tls(secure)?;
        options.user = match (&self.user, &self.password_file) {
            (None, None) => None,
            (Some(name), Some(file)) => Some(User {
                name: name.clone(),
                password: String::from_utf8(read(file)?)
                    .with_context(|| format!("{} is not text", file.display()))?
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
            }),
            _ => bail!("--etcd-user and --etcd-password-file belong together"),
        };
        Ok(options)
    }

    fn tls(&self, secure: bool) -> Result<Option<Tls>> {
        let identity = match (&self.certfile, &self.keyfile) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => bail!("--etcd-certfile and --etcd-keyfile belong together"),
        };
        match &self.cafile {
            Some(file) => Ok(Some(Tls {
                authority: read(file)?,
                identity,
                server_name: None,
            })),
            None if secure || identity.is_some() => {
                bail!("TLS to etcd needs --etcd-cafile: whose certificates etcd has")
            }
            None => Ok(None),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_demanded_together() {
        let path = || Some(PathBuf::from("/dev/null"));
        let nothing = Etcd::default();
        let options = nothing.options("etcd://a:1,b").expect("valid");
        assert_eq!(options.endpoints, ["a:1", "b:2379"]);
        assert_eq!(options.prefix, "/registry/");
        assert!(options.tls.is_none() && options.user.is_none());
        let with_ca = Etcd {
            cafile: path(),
            ..Etcd::default()
        };
        assert!(with_ca.options("etcd://a").expect("valid").tls.is_some());
        let user = Etcd {
            user: Some("root".into()),
            ..Etcd::default()
        };
        let certificate = Etcd {
            certfile: path(),
            ..Etcd::default()
        };
        let pair = Etcd {
            keyfile: path(),
            ..certificate.clone()
        };
        let missing = Etcd {
            cafile: Some("/nonexistent/ca".into()),
            ..Etcd::default()
        };
        for (etcd, url, part) in [
            (&nothing, "etcds://a", "--etcd-cafile"),
            (&nothing, "redis://a", "begin with etcd://"),
            (&user, "etcd://a", "belong together"),
            (&certificate, "etcd://a", "belong together"),
            (&pair, "etcd://a", "--etcd-cafile"),
            (&missing, "etcd://a", "/nonexistent/ca"),
        ] {
            let said = format!("{:#}", etcd.options(url).expect_err(url));
            assert!(said.contains(part), "{said}");
        }
    }
}
