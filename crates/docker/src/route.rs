//! Which handler answers which request.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::query::{Query, decode};
use crate::reply::{Answer, Body, Refusal, json_of};
use crate::{
    API_VERSION, API_VERSION_MIN, Docker, build, commit, containers, events, images, networks,
    system, volumes,
};

/// Answers one request; every answer carries the headers by which clients know the server.
pub async fn answer(docker: Docker, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = dispatch(docker, request).await.unwrap_or_else(|refusal| {
        tracing::debug!(%method, path, status = %refusal.status, message = refusal.message, "refused");
        refusal.response()
    });
    for (name, value) in [
        ("api-version", API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", "plimsoll"),
    ] {
        response
            .headers_mut()
            .insert(name, http::HeaderValue::from_static(value));
    }
    response
}

async fn dispatch(docker: Docker, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let (path, version) = unversioned(&path)?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let method = request.method().clone();
    if let Some(("images", rest)) = segments.split_first().map(|(first, rest)| (*first, rest)) {
        return image_request(docker, &method, rest, query, version, request).await;
    }
    let known = match (&method, segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => return system::ping(),
        (&Method::GET, ["version"]) => return system::version(),
        (&Method::GET, ["info"]) => return system::info(&docker).await,
        (&Method::GET, ["events"]) => return events::events(&docker, &query),
        (&Method::GET, ["system", "df"]) => return system::usage(&docker).await,
        (&Method::GET, ["networks"]) => return networks::list(&docker, &query),
        (&Method::GET, ["networks", name]) => {
            return networks::inspect(&docker, &decode(name)).await;
        }
        (&Method::GET, ["volumes"]) => return volumes::list(&docker, &query).await,
        (&Method::POST, ["volumes", "create"]) => {
            return volumes::create(&docker, request.into_body()).await;
        }
        (&Method::POST, ["volumes", "prune"]) => return volumes::prune(&docker, &query).await,
        (&Method::GET, ["volumes", name]) => return volumes::inspect(&docker, &decode(name)),
        (&Method::DELETE, ["volumes", name]) => {
            return volumes::remove(&docker, &decode(name), &query).await;
        }
        (&Method::POST, ["commit"]) => {
            return commit::commit(&docker, &query, request.into_body()).await;
        }
        // there are none but those that are always there
        (&Method::POST, ["networks", "prune"]) => {
            return json_of(&json!({ "NetworksDeleted": null }));
        }
        (&Method::POST, ["build", "prune"]) => {
            return images::prune_build_cache(&docker, &query).await;
        }
        (&Method::POST, ["auth"]) => return system::auth(),
        (&Method::POST, ["build"]) => return build::build(docker, &query, request).await,
        (&Method::GET, ["containers", "json"]) => {
            return containers::list::list(&docker, &query).await;
        }
        (&Method::POST, ["containers", "create"]) => {
            return containers::create::create(&docker, &query, request.into_body()).await;
        }
        (&Method::POST, ["containers", "prune"]) => {
            return containers::lifecycle::prune(&docker, &query).await;
        }
        (_, ["containers", id]) => Some((decode(id), "")),
        (_, ["containers", id, action]) => Some((decode(id), *action)),
        (_, ["exec", id, action]) => {
            return containers::exec::request(docker, &method, id, action, &query, request).await;
        }
        _ => None,
    };
    let Some((name, action)) = known else {
        return Err(Refusal::not_found(format!(
            "page not found: {method} {path}"
        )));
    };
    let container = containers::find(&docker, &name).await?;
    match (&method, action) {
        (&Method::GET, "json") => containers::inspect::inspect(&docker, &container, &query).await,
        (&Method::POST, "start") => containers::lifecycle::start(&docker, &container).await,
        (&Method::POST, "stop") => containers::lifecycle::stop(&docker, &container, &query).await,
        (&Method::POST, "restart") => {
            containers::lifecycle::restart(&docker, &container, &query).await
        }
        (&Method::POST, "kill") => containers::lifecycle::kill(&docker, &container, &query).await,
        (&Method::POST, "pause") => containers::lifecycle::pause(&docker, &container).await,
        (&Method::POST, "unpause") => containers::lifecycle::unpause(&docker, &container).await,
        (&Method::POST, "wait") => containers::wait::wait(docker.clone(), container, &query).await,
        (&Method::POST, "update") => {
            containers::update::update(&docker, &container, request.into_body()).await
        }
        (&Method::POST, "rename") => {
            containers::lifecycle::rename(&docker, &container, &query).await
        }
        (&Method::POST, "resize") => {
            containers::lifecycle::resize(&docker, &container, &query).await
        }
        (&Method::POST, "attach") => {
            containers::attach::attach(docker.clone(), container, &query, request).await
        }
        (&Method::GET, "logs") => containers::logs::logs(&docker, &container, &query),
        (&Method::GET, "stats") => {
            containers::stats::stats(docker.clone(), container, &query).await
        }
        (&Method::GET, "top") => containers::stats::top(&container),
        (&Method::HEAD, "archive") => containers::archive::stat(&docker, &container, &query).await,
        (&Method::GET, "archive") => containers::archive::get(&docker, &container, &query).await,
        (&Method::PUT, "archive") => {
            containers::archive::put(&docker, &container, &query, request).await
        }
        (&Method::GET, "changes") => containers::inspect::changes(&docker, &container).await,
        (&Method::POST, "exec") => {
            containers::exec::create(&docker, &container, request.into_body()).await
        }
        (&Method::DELETE, "") => containers::lifecycle::remove(&docker, &container, &query).await,
        _ => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{method} {path} is not supported yet"),
        )),
    }
}

/// Names of images hold slashes: what stands around them decides.
async fn image_request(
    docker: Docker,
    method: &Method,
    rest: &[&str],
    query: Query,
    version: u32,
    request: Request<Incoming>,
) -> Answer {
    let joined = |parts: &[&str]| decode(&parts.join("/"));
    match (method, rest) {
        (&Method::GET, ["json"]) => images::list(&docker, &query, version),
        (&Method::POST, ["create"]) => images::create(docker, &query, request).await,
        (&Method::POST, ["load"]) => images::load(docker, request.into_body()).await,
        (&Method::POST, ["prune"]) => images::prune(&docker, &query).await,
        (&Method::GET, ["get"]) => {
            images::save(docker, query.all("names").map(str::to_owned).collect())
        }
        (&Method::GET, [name @ .., "get"]) => images::save(docker, vec![joined(name)]),
        (&Method::GET, [name @ .., "json"]) => images::inspect(&docker, &joined(name), version),
        (&Method::GET, [name @ .., "history"]) => images::history(&docker, &joined(name)),
        (&Method::POST, [name @ .., "tag"]) => images::tag(&docker, &joined(name), &query),
        (&Method::POST, [name @ .., "push"]) => {
            images::push(docker, &joined(name), &query, &request)
        }
        (&Method::DELETE, name) if !name.is_empty() => {
            images::remove(&docker, &joined(name), &query).await
        }
        _ => Err(Refusal::not_found(format!(
            "page not found: {method} {}",
            request.uri().path()
        ))),
    }
}

/// The path without `/v1.NN`, and NN; versions that this server does not speak are refused as Docker refuses them.
fn unversioned(path: &str) -> Result<(&str, u32), Refusal> {
    let number = |text: &str| text.trim_start_matches("1.").parse::<u32>().unwrap_or(0);
    let newest = Ok((path, number(API_VERSION)));
    let Some(rest) = path.strip_prefix("/v") else {
        return newest;
    };
    let Some((version, _)) = rest.split_once('/') else {
        return newest;
    };
    let Some(minor) = version
        .strip_prefix("1.")
        .and_then(|minor| minor.parse::<u32>().ok())
    else {
        return newest;
    };
    if minor > number(API_VERSION) {
        return Err(Refusal::bad(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if minor < number(API_VERSION_MIN) {
        return Err(Refusal::bad(format!(
            "client version {version} is too old. Minimum supported API version is {API_VERSION_MIN}, please upgrade your client to a newer version"
        )));
    }
    Ok((&path[2 + version.len()..], minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (path, expected) in [
            ("/v1.44/info", ("/info", 44)),
            ("/v1.43/info", ("/info", 43)),
            ("/version", ("/version", 44)),
            ("/_ping", ("/_ping", 44)),
        ] {
            assert_eq!(unversioned(path).expect("known"), expected, "{path}");
        }
        assert!(
            unversioned("/v1.99/info")
                .expect_err("new")
                .message
                .contains("too new")
        );
        assert!(
            unversioned("/v1.12/info")
                .expect_err("old")
                .message
                .contains("too old")
        );
    }
}
