//! What a request for one of Kubernetes' own signers must and must not ask for (upstream
//! `pkg/apis/certificates/helpers.go`). Pure.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// Users' certificates; never auto-approved.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Kubelets' own certificates as clients.
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Kubelets' certificates as servers.
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// What to do with an approved request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody else's signer.
    NotOurs,
    /// It may be signed.
    Fine,
    /// It will never be; why, in upstream's words.
    Wrong(String),
}

/// Checks a request (PEM) of a signer for the usages that it names.
pub fn check(signer: &str, request: &[u8], usages: &[String]) -> Verdict {
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer) {
        return Verdict::NotOurs;
    }
    let checked = match signer {
        CLIENT => client(usages),
        _ => Asked::read(request).and_then(|asked| match signer {
            KUBELET_CLIENT => kubelet_client(&asked, usages),
            _ => kubelet_serving(&asked, usages),
        }),
    };
    checked.map_or_else(Verdict::Wrong, |()| Verdict::Fine)
}

/// What a request asks for.
#[derive(Debug, Default)]
struct Asked {
    common_name: String,
    organisations: Vec<String>,
    dns: usize,
    emails: usize,
    addresses: usize,
    uris: usize,
}

impl Asked {
    fn read(request: &[u8]) -> Result<Self, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(request)
            .map_err(|error| format!("unable to parse csr: {error}"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| format!("unable to parse csr: {error}"))?;
        let subject = &parsed.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| match value.as_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(format!(
                "unable to parse csr: a name in its subject: {error}"
            )),
        };
        let names: Vec<String> = subject
            .iter_common_name()
            .map(text)
            .collect::<Result<_, _>>()?;
        // whoever reads the certificate may take another one of them
        refuse(names.len() > 1, "subject has more than one common name")?;
        let mut asked = Self {
            common_name: names.into_iter().next().unwrap_or_default(),
            organisations: subject
                .iter_organization()
                .map(text)
                .collect::<Result<_, _>>()?,
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => asked.dns += 1,
                    GeneralName::RFC822Name(_) => asked.emails += 1,
                    GeneralName::IPAddress(_) => asked.addresses += 1,
                    GeneralName::URI(_) => asked.uris += 1,
                    _ => {}
                }
            }
        }
        Ok(asked)
    }

    fn of_nodes(&self) -> Result<(), String> {
        match self.organisations[..] {
            [ref only] if only == "system:nodes" => Ok(()),
            _ => Err("subject organization is not system:nodes".into()),
        }
    }

    fn of_a_node(&self) -> Result<(), String> {
        refuse(
            !self.common_name.starts_with("system:node:"),
            "subject common name does not begin with system:node:",
        )
    }
}

fn refuse(wrong: bool, why: &str) -> Result<(), String> {
    if wrong { Err(why.into()) } else { Ok(()) }
}

fn client(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !["digital signature", "key encipherment", "client auth"].contains(&usage.as_str()) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    let missing = !usages.iter().any(|usage| usage == "client auth");
    refuse(
        missing,
        "missing required usage for client certificate: client auth",
    )
}

/// Exactly these three; the second may be missing, since only RSA needs it.
fn exactly(usages: &[String], wanted: [&str; 3]) -> Result<(), String> {
    let same = |wanted: &[&str]| {
        wanted
            .iter()
            .all(|one| usages.iter().any(|usage| usage == one))
            && usages.iter().all(|usage| wanted.contains(&usage.as_str()))
    };
    if same(&wanted) || same(&[wanted[0], wanted[2]]) {
        return Ok(());
    }
    let mut sorted = wanted;
    sorted.sort_unstable();
    Err(format!("usages did not match [{}]", sorted.join(" ")))
}

fn kubelet_client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    asked.of_nodes()?;
    refuse(asked.dns > 0, "DNS subjectAltNames are not allowed")?;
    refuse(asked.emails > 0, "Email subjectAltNames are not allowed")?;
    refuse(asked.addresses > 0, "IP subjectAltNames are not allowed")?;
    refuse(asked.uris > 0, "URI subjectAltNames are not allowed")?;
    asked.of_a_node()?;
    exactly(
        usages,
        ["digital signature", "key encipherment", "client auth"],
    )
}

fn kubelet_serving(asked: &Asked, usages: &[String]) -> Result<(), String> {
    asked.of_nodes()?;
    refuse(
        asked.dns == 0 && asked.addresses == 0,
        "DNS or IP subjectAltName is required",
    )?;
    refuse(asked.emails > 0, "Email subjectAltNames are not allowed")?;
    refuse(asked.uris > 0, "URI subjectAltNames are not allowed")?;
    exactly(
        usages,
        ["digital signature", "key encipherment", "server auth"],
    )?;
    asked.of_a_node()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(common_name: &str, organisations: &[&str], dns: usize) -> Asked {
        Asked {
            common_name: common_name.into(),
            organisations: organisations.iter().map(|&name| name.into()).collect(),
            dns,
            ..Asked::default()
        }
    }

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|&usage| usage.into()).collect()
    }

    #[test]
    fn clients() {
        for (list, why) in [
            (&["client auth"][..], None),
            (
                &["client auth", "digital signature", "key encipherment"],
                None,
            ),
            (
                &["client auth", "server auth"],
                Some("invalid usage for client certificate: server auth"),
            ),
            (
                &["digital signature"],
                Some("missing required usage for client certificate: client auth"),
            ),
        ] {
            assert_eq!(client(&usages(list)).err().as_deref(), why);
        }
    }

    #[test]
    fn kubelets() {
        let client_usages = usages(&["client auth", "digital signature"]);
        let server_usages = usages(&["server auth", "digital signature", "key encipherment"]);
        let nodes = &["system:nodes"][..];
        for (asked, why) in [
            (asked("system:node:a", nodes, 0), None),
            (
                asked("system:node:a", &["system:nodes", "x"], 0),
                Some("subject organization is not system:nodes"),
            ),
            (
                asked("system:node:a", nodes, 1),
                Some("DNS subjectAltNames are not allowed"),
            ),
            (
                asked("a", nodes, 0),
                Some("subject common name does not begin with system:node:"),
            ),
        ] {
            assert_eq!(kubelet_client(&asked, &client_usages).err().as_deref(), why);
        }
        let fine = asked("system:node:a", nodes, 1);
        assert_eq!(kubelet_serving(&fine, &server_usages), Ok(()));
        assert_eq!(
            kubelet_serving(&fine, &client_usages),
            Err("usages did not match [digital signature key encipherment server auth]".into())
        );
        assert_eq!(
            kubelet_serving(&asked("system:node:a", nodes, 0), &server_usages),
            Err("DNS or IP subjectAltName is required".into())
        );
    }

    #[test]
    fn other_signers_are_left_alone() {
        assert_eq!(check("example.com/s", b"", &[]), Verdict::NotOurs);
        let unreadable = check(KUBELET_CLIENT, b"hello", &[]);
        assert!(
            matches!(unreadable, Verdict::Wrong(why) if why.starts_with("unable to parse csr"))
        );
    }
}
