//! Who may use the kubelet's API: members of `system:masters`, and whoever the API server lets do so (upstream's webhook
//! authoriser: a SubjectAccessReview of subresources of nodes, of which one is enough).

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::Refusal;
use super::token::Tokens;

const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
/// For so long an answer stands, as upstream's.
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
const ANSWERS_MAX: usize = 1000;

/// Whom a client's certificate, or its token, names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    pub user: String,
    pub groups: Vec<String>,
}

impl Client {
    /// The common name (of several the last, as Go reads them) and the organisations of a certificate that was verified.
    /// One with a name that cannot be read stands for nobody.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().ok().map(str::to_owned)
        };
        let users: Option<Vec<String>> = subject.iter_common_name().map(text).collect();
        let groups: Option<Vec<String>> = subject.iter_organization().map(text).collect();
        Some(Self {
            user: users?.pop()?,
            groups: groups?,
        })
    }
}

/// What is asked for: a verb and a subresource of the node.
type Wish = (&'static str, &'static str);

/// A verb, and subresources of which any one will do: the narrow one first.
type Wishes = (&'static str, &'static [&'static str]);

/// Answers of the API server that still stand.
pub struct Guard {
    client: kube::Client,
    tokens: Tokens,
    node: String,
    answers: Mutex<HashMap<(Client, Wish), (bool, Instant)>>,
}

impl Guard {
    pub fn new(client: kube::Client, node: String) -> Self {
        Self {
            tokens: Tokens::new(client.clone()),
            client,
            node,
            answers: Mutex::default(),
        }
    }

    async fn admits(&self, client: &Client, (verb, any): Wishes) -> Result<bool, kube::Error> {
        if client.groups.iter().any(|group| group == MASTERS) {
            return Ok(true);
        }
        for subresource in any {
            if self.may(client, (verb, subresource)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn may(&self, client: &Client, wish: Wish) -> Result<bool, kube::Error> {
        let key = (client.clone(), wish);
        if let Some((allowed, until)) = self.answers.lock().get(&key).copied()
            && Instant::now() < until
        {
            return Ok(allowed);
        }
        let (verb, subresource) = wish;
        let text = |text: &str| Some(text.to_owned());
        let mut groups = client.groups.clone();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: text(&client.user),
                groups: Some(groups),
                resource_attributes: Some(ResourceAttributes {
                    verb: text(verb),
                    version: text("v1"),
                    resource: text("nodes"),
                    subresource: text(subresource),
                    name: text(&self.node),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let stands = if allowed { ALLOWED } else { DENIED };
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(key, (allowed, Instant::now() + stands));
        Ok(allowed)
    }
}

/// The verb and the subresources of nodes that a request needs.
fn wishes(method: &Method, path: &str) -> Wishes {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let subresources: &[_] = match path.split('/').nth(1).unwrap_or_default() {
        "metrics" => &["metrics"],
        "stats" => &["stats"],
        "logs" => &["log"],
        "pods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        _ => &["proxy"],
    };
    (verb, subresources)
}

/// Lets a request pass, or refuses it with 401, 403 or (no answer from the API server) 500.
pub async fn check(
    State(guard): State<std::sync::Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let failed = |why: String| Err((StatusCode::INTERNAL_SERVER_ERROR, why));
    let client = match request.extensions().get::<Client>() {
        Some(client) => Some(client.clone()),
        None => match guard.tokens.client_of(request.headers()).await {
            Ok(client) => client,
            Err(error) => return failed(format!("Authentication error: {error}\n")),
        },
    };
    let Some(client) = client else {
        let why = "Unauthorized: neither a certificate nor a token that names somebody\n";
        return Err((StatusCode::UNAUTHORIZED, why.to_owned()));
    };
    let (verb, any) = wishes(request.method(), request.uri().path());
    let about = format!(
        "(user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
        client.user,
        any.join(" ")
    );
    match guard.admits(&client, (verb, any)).await {
        Ok(true) => Ok(next.run(request).await),
        Ok(false) => Err((StatusCode::FORBIDDEN, format!("Forbidden {about}\n"))),
        Err(error) => failed(format!("Authorization error {about}: {error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_needs() {
        for (method, path, verb, any) in [
            (Method::GET, "/pods", "get", &["pods", "proxy"][..]),
            (Method::GET, "/healthz", "get", &["healthz", "proxy"]),
            (Method::POST, "/exec/a/b/c", "create", &["proxy"]),
            (Method::GET, "/exec/a/b/c", "get", &["proxy"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::GET, "//metrics", "get", &["proxy"]),
            (Method::HEAD, "", "get", &["proxy"]),
        ] {
            assert_eq!(wishes(&method, path), (verb, any), "{method} {path}");
        }
    }

    #[test]
    fn clients_are_who_their_certificates_name() {
        let certificate = |name: Option<&str>, groups: &[&str]| {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            let subject = &mut parameters.distinguished_name;
            if let Some(name) = name {
                subject.push(rcgen::DnType::CommonName, name);
            }
            for group in groups {
                subject.push(rcgen::DnType::OrganizationName, *group);
            }
            let key = rcgen::KeyPair::generate().expect("a key");
            parameters
                .self_signed(&key)
                .expect("a certificate")
                .der()
                .clone()
        };
        let client = Client::of(&certificate(Some("jane"), &["a"])).expect("somebody");
        assert_eq!(
            (&*client.user, &*client.groups),
            ("jane", &["a".to_owned()][..])
        );
        assert_eq!(Client::of(&certificate(None, &["a"])), None);
        assert_eq!(Client::of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
