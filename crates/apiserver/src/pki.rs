//! The instance's certificates: one CA, and leaf certificates signed by it, kept under `DIR/pki`.

mod authority;
mod sign;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::Error;
pub use authority::Authority;

/// The group whose members may do everything (upstream's super-user group).
pub const MASTERS: &str = "system:masters";
/// Validity of the CA, in years.
const CA_YEARS: i32 = 10;
/// Validity of every other certificate, in years.
const LEAF_YEARS: i32 = 5;

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// The certificate authority of an instance and what it signed.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
}

impl Pki {
    /// Opens the PKI in `dir` (made with mode 0700), creating the CA when there is none yet.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        make_dir(dir)?;
        let pair = match read_pair(dir, "ca")? {
            Some(pair) => pair,
            None => {
                let pair = new_ca()?;
                write_pair(dir, "ca", &pair)?;
                pair
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            authority: Authority::new(pair)?,
        })
    }

    /// What signs.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What signs, without the rest.
    pub fn into_authority(self) -> Authority {
        self.authority
    }

    /// The CA's certificate, PEM.
    pub fn ca_certificate(&self) -> &str {
        self.authority.certificate()
    }

    /// The API server's serving certificate for these host names and addresses. Kept as
    /// `apiserver.crt`/`.key`; made anew when a name is missing from the kept one.
    pub fn server(&self, names: &[String]) -> Result<Pair, Error> {
        self.leaf(
            "apiserver",
            "kube-apiserver",
            None,
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A kubelet's serving certificate (CN `system:node:NODE`), kept as `kubelet-NODE.crt`/`.key`.
    pub fn kubelet(&self, node: &str, names: &[String]) -> Result<Pair, Error> {
        let common = format!("system:node:{node}");
        let file = format!("kubelet-{node}");
        self.leaf(
            &file,
            &common,
            Some("system:nodes"),
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A client certificate: `user` becomes the CN, `group` the O; kept as `FILE.crt`/`.key`.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair, Error> {
        self.leaf(file, user, group, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The administrator's client certificate (`kubernetes-admin` in `system:masters`).
    pub fn admin(&self) -> Result<Pair, Error> {
        self.client("admin", "kubernetes-admin", Some(MASTERS))
    }

    /// The client certificate with which the API server speaks to kubelets.
    pub fn kubelet_client(&self) -> Result<Pair, Error> {
        self.client(
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            Some(MASTERS),
        )
    }

    /// TLS settings of a server that shows `pair` and accepts (but does not demand) client certificates of
    /// this CA. The caller decides what an anonymous client may do.
    pub fn server_tls(
        &self,
        pair: &Pair,
        alpn: &[&[u8]],
    ) -> Result<Arc<rustls::ServerConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            provider.clone(),
        )
        .allow_unauthenticated()
        .build()
        .map_err(|e| certificate("verify client certificates", e))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| certificate("set up TLS", e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(pair)?, private_key(pair)?)
            .map_err(|e| certificate("use the server's certificate", e))?;
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// TLS settings of a client that trusts this CA only and shows `pair`.
    pub fn client_tls(&self, pair: &Pair) -> Result<Arc<rustls::ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| certificate("set up TLS", e))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain(pair)?, private_key(pair)?)
            .map_err(|e| certificate("use the client's certificate", e))?;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<rustls::RootCertStore, Error> {
        let mut roots = rustls::RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.ca_certificate().as_bytes())
            .map_err(|e| certificate("read the CA's certificate", e))?;
        roots.add(der).map_err(|e| certificate("trust the CA", e))?;
        Ok(roots)
    }

    fn leaf(
        &self,
        file: &str,
        common_name: &str,
        organisation: Option<&str>,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, Error> {
        if let Some(pair) = read_pair(&self.dir, file)?
            && covers(&pair.certificate, names)
        {
            return Ok(pair);
        }
        let attempt = format!("make the certificate of {common_name}");
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .map_err(|e: rcgen::Error| certificate(&attempt, e))?,
                ),
            });
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        if let Some(organisation) = organisation {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organisation);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        set_validity(&mut params, LEAF_YEARS);
        let key = KeyPair::generate().map_err(|e| certificate(&attempt, e))?;
        let signed = params
            .signed_by(&key, &self.authority.issuer)
            .map_err(|e| certificate(&attempt, e))?;
        let pair = Pair {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        };
        write_pair(&self.dir, file, &pair)?;
        Ok(pair)
    }
}

/// The text of a kubeconfig that reaches `server` (a URL) with `pair`, everything embedded.
pub fn kubeconfig(name: &str, server: &str, ca_certificate: &str, pair: &Pair) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    client-certificate-data: {crt}\n    \
         client-key-data: {key}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n\
         current-context: {name}\npreferences: {{}}\n",
        ca = encode(ca_certificate),
        crt = encode(&pair.certificate),
        key = encode(&pair.key),
    )
}

/// User (CN; of several the last, as Go reads them) and groups (O) that a verified client certificate stands for. One with
/// a name that cannot be read stands for nobody.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Option<crate::Identity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().ok().map(str::to_owned)
    };
    let users: Option<Vec<String>> = subject.iter_common_name().map(text).collect();
    let groups: Option<Vec<String>> = subject.iter_organization().map(text).collect();
    Some(crate::Identity {
        user: users?.pop()?,
        groups: groups?,
        ..crate::Identity::default()
    })
}

fn new_ca() -> Result<Pair, Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "plimsoll-ca");
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params, CA_YEARS);
    let key = KeyPair::generate().map_err(|e| certificate("make the CA's key", e))?;
    let signed = params
        .self_signed(&key)
        .map_err(|e| certificate("make the CA", e))?;
    Ok(Pair {
        certificate: signed.pem(),
        key: key.serialize_pem(),
    })
}

/// From yesterday, so that a clock that is a little behind does not refuse a fresh certificate.
fn set_validity(params: &mut CertificateParams, years: i32) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let yesterday = today.yesterday().unwrap_or_else(|_| today.clone());
    let day = |z: &jiff::Zoned, add: i32| {
        // The 29th of February does not exist in every year.
        rcgen::date_time_ymd(
            i32::from(z.year()) + add,
            z.month() as u8,
            z.day().min(28) as u8,
        )
    };
    params.not_before = day(&yesterday, 0);
    params.not_after = day(&today, years);
}

/// Whether a kept certificate is valid for a further month and names all of `names`.
fn covers(pem: &str, names: &[String]) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else {
        return false;
    };
    let month = 30 * 24 * 3600;
    if parsed.validity().not_after.timestamp() < jiff::Timestamp::now().as_second() + month {
        return false;
    }
    let Ok(Some(alternatives)) = parsed.subject_alternative_name() else {
        return names.is_empty();
    };
    names.iter().all(|name| {
        alternatives
            .value
            .general_names
            .iter()
            .any(|general| match general {
                x509_parser::extensions::GeneralName::DNSName(dns) => dns == name,
                x509_parser::extensions::GeneralName::IPAddress(bytes) => {
                    match name.parse::<IpAddr>() {
                        Ok(IpAddr::V4(v4)) => *bytes == v4.octets(),
                        Ok(IpAddr::V6(v6)) => *bytes == v6.octets(),
                        Err(_) => false,
                    }
                }
                _ => false,
            })
    })
}

fn chain(pair: &Pair) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| certificate("read a certificate", e))
}

fn private_key(pair: &Pair) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| certificate("read a key", e))
}

fn certificate(attempt: &str, reason: impl std::fmt::Display) -> Error {
    Error::Certificate {
        attempt: attempt.to_owned(),
        reason: reason.to_string(),
    }
}

fn read_pair(dir: &Path, name: &str) -> Result<Option<Pair>, Error> {
    let read = |extension: &str| {
        let path = dir.join(format!("{name}.{extension}"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File {
                attempt: "read",
                path,
                source,
            }),
        }
    };
    Ok(match (read("crt")?, read("key")?) {
        (Some(certificate), Some(key)) => Some(Pair { certificate, key }),
        _ => None,
    })
}

fn write_pair(dir: &Path, name: &str, pair: &Pair) -> Result<(), Error> {
    // The key first: a crash in between leaves no certificate, and the pair is made again.
    write_private(&dir.join(format!("{name}.key")), &pair.key)?;
    write_private(&dir.join(format!("{name}.crt")), &pair.certificate)
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let fail = |source| Error::File {
        attempt: "write",
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::File {
            attempt: "make",
            path: dir.to_owned(),
            source,
        })
}
