//! A certificate authority that signs: the instance's own, or one whose files somebody names.

use std::path::Path;

use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{Pair, certificate};
use crate::Error;

/// A certificate authority: its certificate and its key.
pub struct Authority {
    /// PEM.
    pub(super) certificate: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(pair: Pair) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&pair.key).map_err(|e| certificate("read the CA's key", e))?;
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key)
            .map_err(|e| certificate("read the CA's certificate", e))?;
        Ok(Self {
            certificate: pair.certificate,
            issuer,
        })
    }

    /// Reads it from two PEM files: a certificate that signed itself, and its key as PKCS#8. Fails when they do not belong
    /// together.
    pub fn read(certificate_file: &Path, key_file: &Path) -> Result<Self, Error> {
        let text = |file: &Path| {
            let attempt = format!("read {}", file.display());
            std::fs::read_to_string(file).map_err(|e| certificate(&attempt, e))
        };
        let pair = Pair {
            certificate: text(certificate_file)?,
            key: text(key_file)?,
        };
        if pair.key.contains("BEGIN RSA PRIVATE KEY") || pair.key.contains("BEGIN EC PRIVATE KEY") {
            let attempt = format!("use the key in {}", key_file.display());
            let why = "it is not PKCS#8; `openssl pkcs8 -topk8 -nocrypt` makes it so";
            return Err(certificate(&attempt, why));
        }
        let attempt = format!(
            "use {} with {}",
            certificate_file.display(),
            key_file.display()
        );
        let fail = |why: String| certificate(&attempt, why);
        let authority = Self::new(pair).map_err(|error| fail(error.to_string()))?;
        let der = CertificateDer::from_pem_slice(authority.certificate.as_bytes())
            .map_err(|error| fail(error.to_string()))?;
        let (_, own) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| fail(error.to_string()))?;
        if own.public_key().raw != authority.issuer.key().subject_public_key_info() {
            return Err(fail("the key is not the certificate's".into()));
        }
        if !own.is_ca() || own.verify_signature(None).is_err() {
            return Err(fail(
                "the certificate is no authority that signed itself; give the root's".into(),
            ));
        }
        Ok(authority)
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;

    #[test]
    fn only_what_belongs_together_is_an_authority() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let pki = Pki::open(&one).expect("keys");
        pki.admin().expect("a leaf");
        Pki::open(&two).expect("other keys");
        let read = |certificate: &Path, key: &Path| {
            Authority::read(certificate, key)
                .map(|authority| authority.certificate().to_owned())
                .map_err(|error| error.to_string())
        };
        let ca = (one.join("ca.crt"), one.join("ca.key"));
        assert_eq!(read(&ca.0, &ca.1).as_deref(), Ok(pki.ca_certificate()));
        let rsa = dir.path().join("rsa.key");
        std::fs::write(&rsa, "-----BEGIN RSA PRIVATE KEY-----\n").expect("written");
        for (certificate, key, why) in [
            (
                ca.0.clone(),
                two.join("ca.key"),
                "the key is not the certificate's",
            ),
            (
                one.join("admin.crt"),
                one.join("admin.key"),
                "no authority that signed itself",
            ),
            (ca.0.clone(), rsa, "openssl pkcs8 -topk8 -nocrypt"),
            (ca.0.clone(), one.join("none.key"), "none.key"),
        ] {
            let refused = read(&certificate, &key).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
