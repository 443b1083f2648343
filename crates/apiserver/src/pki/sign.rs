//! Signing what somebody else made the key of. The certificate is put together here instead of by rcgen, which cannot keep a
//! subject with several organisations, as the groups of a user are.

use jiff::Timestamp;
use rcgen::SigningKey as _;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use super::authority::Authority;
use super::certificate;
use crate::Error;

/// Bits of the extension keyUsage, by upstream's name of the usage.
const KEY_USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
/// Purposes of the extension extKeyUsage.
const PURPOSES: [(&str, &[u64]); 12] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const SERIAL_BYTES: usize = 16;

impl Authority {
    /// Signs a PKCS#10 request (PEM) for these usages (upstream's names; those of a certificate authority are left out) and
    /// this time, which ends with that of the CA at the latest. Subject, key and alternative names are the request's;
    /// whether they are its maker's to have was somebody else's decision. Returns PEM. Fails when the request cannot be
    /// read or is not signed by its own key.
    pub fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<String, Error> {
        let fail = |reason: String| certificate("sign a certificate request", reason);
        let (_, block) = x509_parser::pem::parse_x509_pem(request)
            .map_err(|error| fail(format!("it is no PEM: {error}")))?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| fail(format!("it is no PKCS#10 request: {error}")))?;
        request
            .verify_signature()
            .map_err(|error| fail(format!("its signature is not its key's: {error}")))?;
        let authority = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| fail(error.to_string()))?;
        let (_, authority) = x509_parser::parse_x509_certificate(&authority)
            .map_err(|error| fail(error.to_string()))?;
        let end = Timestamp::from_second(authority.validity().not_after.timestamp());
        let until = end.map_or(until, |end| until.min(end));
        let mut serial = [0; SERIAL_BYTES];
        rand::fill(&mut serial[..]);
        // A serial number is positive, and at most twenty bytes long.
        serial[0] = serial[0] & 0x7f | 0x40;
        // The CA signed itself with the same key, so its algorithm is this one's too.
        let algorithm = algorithm_of(&authority).map_err(fail)?;
        let information = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                let version = writer.next();
                version.write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(&serial, true);
                writer.next().write_der(&algorithm);
                writer.next().write_der(authority.subject().as_raw());
                writer.next().write_sequence(|writer| {
                    time(writer.next(), from);
                    time(writer.next(), until);
                });
                let asked = &request.certification_request_info;
                writer.next().write_der(asked.subject.as_raw());
                writer.next().write_der(asked.subject_pki.raw);
                writer.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|writer| {
                        for (oid, critical, value) in extensions(&request, &authority, usages) {
                            extension(writer.next(), oid, critical, &value);
                        }
                    });
                });
            });
        });
        let signature = self
            .issuer
            .key()
            .sign(&information)
            .map_err(|error| fail(error.to_string()))?;
        let whole = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&information);
                writer.next().write_der(&algorithm);
                let signature_bits = signature.len() * 8;
                writer.next().write_bitvec_bytes(&signature, signature_bits);
            });
        });
        Ok(pem(&whole))
    }
}

/// The signature algorithm of a certificate as it stands there: the element after the signed part.
fn algorithm_of(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
) -> Result<Vec<u8>, String> {
    yasna::parse_der(certificate.as_raw(), |reader| {
        reader.read_sequence(|reader| {
            reader.next().read_der()?;
            let algorithm = reader.next().read_der()?;
            reader.next().read_der()?;
            Ok(algorithm)
        })
    })
    .map_err(|error| format!("the CA's certificate cannot be read: {error:?}"))
}

type Extension = (&'static [u64], bool, Vec<u8>);

fn extensions(
    request: &X509CertificationRequest<'_>,
    authority: &x509_parser::certificate::X509Certificate<'_>,
    usages: &[String],
) -> Vec<Extension> {
    let has = |name: &str| usages.iter().any(|usage| usage == name);
    let mut all = Vec::new();
    let mut bits = [0_u8; 2];
    let signs = |name: &str| matches!(name, "cert sign" | "crl sign");
    let wanted = KEY_USAGES
        .iter()
        .filter(|(name, _)| has(name) && !signs(name));
    for (_, bit) in wanted {
        bits[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    if bits != [0, 0] {
        // without the zeros behind the last one
        let trailing = u16::from_be_bytes(bits).trailing_zeros() as usize;
        let value = yasna::construct_der(|writer| {
            let length = 16 - trailing;
            writer.write_bitvec_bytes(&bits[..length.div_ceil(8)], length);
        });
        all.push((KEY_USAGE, true, value));
    }
    let purposes: Vec<_> = PURPOSES.iter().filter(|(name, _)| has(name)).collect();
    if !purposes.is_empty() {
        let value = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (_, oid) in &purposes {
                    let oid = ObjectIdentifier::from_slice(oid);
                    writer.next().write_oid(&oid);
                }
            });
        });
        all.push((EXTENDED_KEY_USAGE, false, value));
    }
    let none = yasna::construct_der(|writer| writer.write_sequence(|_| {}));
    all.push((BASIC_CONSTRAINTS, true, none));
    let key =
        authority
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
                _ => None,
            });
    if let Some(key) = key {
        let value = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                let writer = writer.next();
                writer.write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(&key));
            });
        });
        all.push((AUTHORITY_KEY, false, value));
    }
    if let Some((critical, names)) = alternative_names(request) {
        all.push((ALTERNATIVE_NAMES, critical, names));
    }
    all
}

/// The alternative names that a request asks for, as they stand there.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Option<(bool, Vec<u8>)> {
    let attributes = request.certification_request_info.iter_attributes();
    attributes
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(asked) => Some(asked),
            _ => None,
        })
        .flat_map(|asked| &asked.extensions)
        .find(|extension| extension.oid.to_id_string() == "2.5.29.17")
        .map(|extension| (extension.critical, extension.value.to_vec()))
}

fn extension(writer: DERWriter<'_>, oid: &[u64], critical: bool, value: &[u8]) {
    writer.write_sequence(|writer| {
        let oid = ObjectIdentifier::from_slice(oid);
        writer.next().write_oid(&oid);
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(value);
    });
}

/// Years up to 2049 have two digits.
fn time(writer: DERWriter<'_>, at: Timestamp) {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let (tag, form) = match at.year() {
        1950..=2049 => (yasna::tags::TAG_UTCTIME, "%y%m%d%H%M%SZ"),
        _ => (yasna::tags::TAG_GENERALIZEDTIME, "%Y%m%d%H%M%SZ"),
    };
    let text = at.strftime(form).to_string();
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    /// As Go's programs read it, so that what was checked is what is believed.
    #[test]
    fn of_several_names_the_last_one_counts() {
        let key = KeyPair::generate().expect("a key");
        let of = |names: &[DnValue]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            // the library keeps one of each kind; the second stands for another attribute first
            for (kind, name) in [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])]
                .into_iter()
                .zip(names)
            {
                params.distinguished_name.push(kind, name.clone());
            }
            let signed = params.self_signed(&key).expect("signed");
            crate::pki::identity_of(signed.der()).map(|identity| identity.user)
        };
        let text = |text: &str| DnValue::Utf8String(text.into());
        assert_eq!(of(&[text("a")]).as_deref(), Some("a"));
        assert_eq!(of(&[text("a"), text("b")]).as_deref(), Some("b"));
    }

    #[test]
    fn a_signed_certificate_is_what_was_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path()).expect("keys");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "people");
        let name = SanType::DnsName("a.example.com".try_into().expect("a name"));
        params.subject_alt_names.push(name);
        let request = params.serialize_request(&key).expect("a request");
        let request = request.pem().expect("PEM");
        let usages = ["digital signature", "client auth", "cert sign"].map(str::to_owned);
        let (from, until) = ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
        let [from, until] = [from, until].map(|text| text.parse().expect("a time"));
        let ca = pki.into_authority();
        let signed = ca
            .sign(request.as_bytes(), &usages, from, until)
            .expect("signed");
        let der = CertificateDer::from_pem_slice(signed.as_bytes()).expect("PEM");
        let (rest, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        assert!(rest.is_empty());
        let identity = crate::pki::identity_of(&der).expect("somebody");
        assert_eq!(
            (identity.user.as_str(), identity.groups),
            ("jane", vec!["people".to_owned()])
        );
        assert_eq!(parsed.validity().not_before.timestamp(), from.as_second());
        let authority = CertificateDer::from_pem_slice(ca.certificate().as_bytes()).expect("PEM");
        let (_, authority) = x509_parser::parse_x509_certificate(&authority).expect("the CA");
        assert_eq!(parsed.validity().not_after, authority.validity().not_after);
        parsed
            .verify_signature(Some(authority.public_key()))
            .expect("the CA's signature");
        let usage = parsed.key_usage().expect("readable").expect("there").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let purposes = parsed
            .extended_key_usage()
            .expect("readable")
            .expect("there");
        assert!(purposes.value.client_auth && !purposes.value.server_auth);
        assert!(!parsed.is_ca());
        let names = parsed
            .subject_alternative_name()
            .expect("readable")
            .expect("there");
        assert_eq!(names.value.general_names.len(), 1);
        let mut forged = request.into_bytes();
        let middle = forged.len() / 2;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        assert!(ca.sign(&forged, &usages, from, until).is_err());
        assert!(ca.sign(b"hello", &usages, from, until).is_err());
    }
}
