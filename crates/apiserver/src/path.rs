//! The path grammar: what a method and a path ask for (apiserver `pkg/endpoints/request`).

/// The resource part of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceInfo {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    /// What follows the subresource (`nodes/NAME/proxy/REST`), without a leading slash.
    pub rest: String,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// Upstream's verb: get, list, watch, create, update, patch, delete, deletecollection; the lowercase
    /// method for a path that is no resource.
    pub verb: String,
    pub path: String,
    pub resource: Option<ResourceInfo>,
}

/// Longest accepted path in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// Decodes and splits a path. `None` when it is not a path this server can have (bad escapes, NULs, slashes
/// hidden in a segment, `.` or `..` as a segment, too long).
pub fn parse(method: &http::Method, path: &str, watch: bool) -> Option<RequestInfo> {
    if path.len() > PATH_BYTES_MAX || !path.starts_with('/') {
        return None;
    }
    let mut segments = Vec::new();
    for raw in path.split('/').skip(1) {
        let segment = crate::query::percent_decode(raw, false)?;
        if segment.contains(['/', '\0']) || segment == "." || segment == ".." {
            return None;
        }
        segments.push(segment);
    }
    if segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    let resource = resource_of(&segments)?;
    let verb = match &resource {
        None => method.as_str().to_ascii_lowercase(),
        Some(resource) => verb_of(method, resource, watch).to_owned(),
    };
    Some(RequestInfo {
        verb,
        path: path.to_owned(),
        resource,
    })
}

/// What a path of the old form of watches asks for: `/api/v1/watch/pods` is `/api/v1/pods?watch=true`. Deprecated since v1.11, and
/// what some clients know alone (Ruby's kubeclient).
pub fn of_old_watch(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').collect();
    let at = match segments.get(1) {
        Some(&"api") => 3,
        Some(&"apis") => 4,
        _ => return None,
    };
    let (head, rest) = segments.split_at_checked(at)?;
    match rest {
        ["watch", first, ..] if !first.is_empty() => {
            let path: Vec<&str> = head.iter().chain(&rest[1..]).copied().collect();
            Some(path.join("/"))
        }
        _ => None,
    }
}

/// Outer `None`: malformed. Inner `None`: not a resource path.
#[allow(clippy::option_option)]
fn resource_of(segments: &[String]) -> Option<Option<ResourceInfo>> {
    let (group, version, rest) = match segments {
        [api, version, rest @ ..] if api == "api" => (String::new(), version, rest),
        [apis, group, version, rest @ ..] if apis == "apis" => (group.clone(), version, rest),
        _ => return Some(None),
    };
    if rest.is_empty() {
        return Some(None);
    }
    if rest.iter().any(String::is_empty) && !rest.iter().any(|s| s == "proxy") {
        return None;
    }
    let mut info = ResourceInfo {
        group,
        version: version.clone(),
        ..ResourceInfo::default()
    };
    let rest = match rest {
        // `/namespaces/NAME/RESOURCE...` is namespaced, except for the subresources of the namespace itself.
        [namespaces, name, resource, more @ ..]
            if namespaces == "namespaces"
                && !(more.is_empty()
                    && info.group.is_empty()
                    && matches!(resource.as_str(), "status" | "finalize")) =>
        {
            info.namespace = name.clone();
            info.resource = resource.clone();
            more
        }
        [resource, more @ ..] => {
            info.resource = resource.clone();
            more
        }
        [] => return Some(None),
    };
    if let [name, more @ ..] = rest {
        info.name = name.clone();
        if let [subresource, more @ ..] = more {
            info.subresource = subresource.clone();
            info.rest = more.join("/");
        }
    }
    if info.resource == "namespaces" && info.group.is_empty() {
        info.namespace = info.name.clone();
    }
    Some(Some(info))
}

fn verb_of(method: &http::Method, resource: &ResourceInfo, watch: bool) -> &'static str {
    let named = !resource.name.is_empty();
    match *method {
        http::Method::POST => "create",
        http::Method::GET | http::Method::HEAD if watch && resource.subresource.is_empty() => {
            "watch"
        }
        http::Method::GET | http::Method::HEAD if named => "get",
        http::Method::GET | http::Method::HEAD => "list",
        http::Method::PUT => "update",
        http::Method::PATCH => "patch",
        http::Method::DELETE if named => "delete",
        http::Method::DELETE => "deletecollection",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<ResourceInfo> {
        parse(&http::Method::GET, path, false)?.resource
    }

    #[test]
    fn splits_resource_paths() {
        let cases = [
            ("/api/v1/pods", ["", "v1", "", "pods", "", "", ""]),
            (
                "/api/v1/namespaces",
                ["", "v1", "", "namespaces", "", "", ""],
            ),
            (
                "/api/v1/namespaces/a",
                ["", "v1", "a", "namespaces", "a", "", ""],
            ),
            (
                "/api/v1/namespaces/a/status",
                ["", "v1", "a", "namespaces", "a", "status", ""],
            ),
            (
                "/api/v1/namespaces/a/finalize",
                ["", "v1", "a", "namespaces", "a", "finalize", ""],
            ),
            (
                "/api/v1/namespaces/a/pods/b/log",
                ["", "v1", "a", "pods", "b", "log", ""],
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                ["apps", "v1", "a", "deployments", "b", "scale", ""],
            ),
            (
                "/api/v1/nodes/n/proxy/metrics/resource",
                ["", "v1", "", "nodes", "n", "proxy", "metrics/resource"],
            ),
            (
                "/api/v1/namespaces/a%2Db/pods",
                ["", "v1", "a-b", "pods", "", "", ""],
            ),
        ];
        for (path, [group, version, namespace, resource, name, subresource, rest]) in cases {
            let info = parsed(path).unwrap_or_else(|| panic!("{path} is a resource path"));
            let expected = ResourceInfo {
                group: group.into(),
                version: version.into(),
                namespace: namespace.into(),
                resource: resource.into(),
                name: name.into(),
                subresource: subresource.into(),
                rest: rest.into(),
            };
            assert_eq!(info, expected, "{path}");
        }
    }

    #[test]
    fn watches_have_an_old_form() {
        for (path, meant) in [
            ("/api/v1/watch/pods", Some("/api/v1/pods")),
            (
                "/api/v1/watch/namespaces/a/pods/b",
                Some("/api/v1/namespaces/a/pods/b"),
            ),
            (
                "/apis/apps/v1/watch/deployments",
                Some("/apis/apps/v1/deployments"),
            ),
            ("/api/v1/watch", None),
            ("/api/v1/watch/", None),
            ("/api/v1/pods/watch", None),
            ("/api/v1/namespaces/watch/pods", None),
            ("/watch/pods", None),
            ("/api", None),
            ("", None),
        ] {
            assert_eq!(of_old_watch(path).as_deref(), meant, "{path}");
        }
    }

    #[test]
    fn refuses_hostile_paths() {
        for path in [
            "",
            "x",
            "/api/v1/namespaces/a%00b/pods",
            "/api/v1/namespaces/a%2Fb/pods",
            "/api/v1/../secrets",
            "/api/v1/%2e%2e/pods",
            "/api/v1//pods",
            "/api/v1/pods/%zz",
            "/api/v1/pods/%ff",
        ] {
            assert_eq!(parse(&http::Method::GET, path, false), None, "{path:?}");
        }
        assert_eq!(
            parse(&http::Method::GET, &format!("/{}", "a".repeat(5000)), false),
            None
        );
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/openapi/v3",
        ] {
            let info =
                parse(&http::Method::GET, path, false).unwrap_or_else(|| panic!("{path} parses"));
            assert_eq!(info.resource, None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path in "(/|%|[a-z0-9.]|.){0,40}") {
            let _ = parse(&http::Method::GET, &path, true);
            let _ = parse(&http::Method::GET, &format!("/api/v1/{path}"), false);
        }
    }
}
