//! Debian's docker-registry as a child process on a free loopback port.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Home;

pub struct Registry {
    child: Child,
    pub port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one on a free loopback port; `None`, loudly, where it is not installed.
    /// `auth` is user:secret; `tls` a certificate and its key.
    pub fn start(home: &Home, auth: bool, tls: Option<(&str, &str)>) -> Option<Registry> {
        let missing = ["docker-registry", "skopeo"]
            .into_iter()
            .find(|p| !Path::new("/usr/bin").join(p).exists());
        if let Some(missing) = missing {
            eprintln!("SKIPPED: {missing} is not installed");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let data = home.path("registry");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n",
            data.display()
        );
        if let Some((certificate, key)) = tls {
            for (name, pem) in [("certificate", certificate), ("key", key)] {
                std::fs::write(home.path(name), pem).unwrap();
                let path = home.path(name);
                config.push_str(&match name {
                    "key" => format!("    key: {}\n", path.display()),
                    _ => format!("  tls:\n    certificate: {}\n", path.display()),
                });
            }
        }
        if auth {
            // user:secret in bcrypt
            let hash = "user:$2y$05$6X8gVDBVQm.Wb0VcnCHQ9OPXCNr73sUoK6v7zENlziHBzdeo3skMu\n";
            std::fs::write(home.path("htpasswd"), hash).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: plim\n    path: {}\n",
                home.path("htpasswd").display()
            ));
        }
        let path = home.path("registry.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command
            .args(["serve", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Registry { child, port };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            assert!(
                registry.child.try_wait().unwrap().is_none(),
                "the registry ended"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the registry does not listen");
    }

    pub fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }
}
