//! Who is let in: token servers, tokens that run out, credentials that must not travel, TLS.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::server::{Content, Reply, Request, Server};
use common::{Home, archive, file, is_root};
use image::{Auth, Error, silent};

fn content() -> Content {
    Content::new(&archive(&[file("a", "content")]), "gzip")
}

fn basic(password: &str) -> Option<Auth> {
    Some(Auth::Basic {
        username: "user".into(),
        password: password.into(),
    })
}

fn challenge(request: &Request) -> Reply {
    let host = request.header("host").unwrap();
    let value = format!(
        "Bearer realm=\"http://{host}/token\",service=\"plim.test\",scope=\"repository:app:pull\""
    );
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Reply::status(401, body).with("WWW-Authenticate", value)
}

fn has_token(request: &Request, token: &str) -> bool {
    request.header("authorization") == Some(&format!("Bearer {token}"))
}

/// `user:secret`
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_and_shown() {
    for (field, private, auth) in [
        ("token", false, None),
        ("access_token", false, None),
        ("token", true, basic("secret")),
    ] {
        let content = content();
        let server = Server::start(move |request| {
            if request.path.starts_with("/token?") {
                return match private && request.header("authorization") != Some(BASIC) {
                    true => Reply::status(401, "incorrect username or password"),
                    false => Reply::ok(format!("{{\"{field}\":\"opaque\",\"expires_in\":60}}")),
                };
            }
            if has_token(request, "opaque") {
                content.reply(request)
            } else {
                challenge(request)
            }
        })
        .await;
        let home = Home::new();
        let image = home
            .images
            .pull(&server.name("team/app:1"), auth, None, silent())
            .await
            .unwrap();
        assert_eq!(image.config.cmd.as_deref(), Some(&["run".to_owned()][..]));
        let asked = server.requests("/token");
        assert_eq!(asked.len(), 1, "one token serves the whole pull: {asked:?}");
        for part in ["service=plim.test", "scope=repository%3Ateam%2Fapp%3Apull"] {
            assert!(asked[0].path.contains(part), "{:?}", asked[0].path);
        }
        assert!(
            server
                .requests("/blobs/")
                .iter()
                .all(|r| has_token(r, "opaque"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_given_for_an_identity_token_or_taken_as_they_are() {
    for (auth, asked) in [
        (Auth::Refresh("identity token".into()), 1),
        (Auth::Bearer("opaque".into()), 0),
    ] {
        let content = content();
        let server = Server::start(move |request| {
            if request.path == "/token" {
                let form =
                    request.header("content-type") == Some("application/x-www-form-urlencoded");
                assert!(form && request.header("authorization").is_none());
                return Reply::ok("{\"access_token\":\"opaque\"}");
            }
            if has_token(request, "opaque") {
                content.reply(request)
            } else {
                challenge(request)
            }
        })
        .await;
        let home = Home::new();
        let name = server.name("team/app:1");
        let pulled = home.images.pull(&name, Some(auth), None, silent()).await;
        pulled.unwrap();
        assert_eq!(server.requests("/token").len(), asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_token_server_is_passed_on() {
    let server = Server::start(|request| match request.path.starts_with("/token?") {
        true => Reply::status(401, "incorrect username or password"),
        false => challenge(request),
    })
    .await;
    let home = Home::new();
    for auth in [None, basic("wrong")] {
        let error = home
            .images
            .pull(&server.name("app"), auth, None, silent())
            .await;
        match error {
            Err(Error::Unauthorized { reason, .. }) => {
                assert!(reason.contains("incorrect username"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(home.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_is_replaced_once() {
    for (blobs_take, works) in [("token-2", true), ("never", false)] {
        let content = content();
        let given = Arc::new(AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if request.path.starts_with("/token?") {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                return Reply::ok(format!("{{\"token\":\"token-{number}\"}}"));
            }
            let wanted = match request.path.contains("/blobs/") {
                true => blobs_take,
                false => "token-1",
            };
            match has_token(request, wanted) {
                true => content.reply(request),
                false => challenge(request),
            }
        })
        .await;
        let home = Home::new();
        let result = home
            .images
            .pull(&server.name("app"), None, None, silent())
            .await;
        match (&result, works) {
            (Ok(_), true) | (Err(Error::Unauthorized { .. }), false) => {}
            _ => panic!("{result:?}"),
        }
        assert_eq!(server.requests("/token").len(), 2, "no endless asking");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let content = content();
    let behind = content.clone();
    let storage = Server::start(move |request| match request.header("authorization") {
        Some(_) => Reply::status(400, "only one auth mechanism is allowed"),
        None => behind.reply(request),
    })
    .await;
    for (auth, expected) in [(None, "Bearer opaque"), (basic("secret"), BASIC)] {
        let (content, port, bearer) = (content.clone(), storage.port, auth.is_none());
        let server = Server::start(move |request| {
            if request.path.starts_with("/token?") {
                return Reply::ok("{\"token\":\"opaque\"}");
            }
            if request.header("authorization") != Some(expected) {
                return match bearer {
                    true => challenge(request),
                    false => Reply::status(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
                };
            }
            match request.path.contains("/blobs/") {
                true => Reply::status(307, "").with(
                    "Location",
                    format!("http://localhost:{port}{}", request.path),
                ),
                false => content.reply(request),
            }
        })
        .await;
        let home = Home::new();
        let pulled = home
            .images
            .pull(&server.name("app"), auth, None, silent())
            .await;
        pulled.unwrap();
        let seen = storage.requests("/blobs/");
        assert!(!seen.is_empty() && seen.iter().all(|r| r.header("authorization").is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_password_opens_debians_registry() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = common::debian::Registry::start(&home, true, None) else {
        return;
    };
    let name = registry.name("private/app");
    let base = common::import(&home.images, &name, archive(&[file("a", "b")]))
        .await
        .unwrap();
    home.images
        .push(&name, basic("secret"), silent())
        .await
        .unwrap();
    let fresh = Home::new();
    let pulled = fresh
        .images
        .pull(&name, basic("secret"), None, silent())
        .await
        .unwrap();
    assert_eq!(pulled.id, base.id);
    let refused = fresh
        .images
        .pull(&name, basic("wrong"), None, silent())
        .await;
    assert!(
        matches!(refused, Err(Error::Unauthorized { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_trusted_by_the_authority_in_its_directory() {
    if !is_root() {
        return;
    }
    let mut home = Home::new();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let tls = Some((certificate.as_str(), key.as_str()));
    let Some(registry) = common::debian::Registry::start(&home, true, tls) else {
        return;
    };
    let name = registry.name("app");
    let certificates = home.path("certs.d");
    let directory = certificates.join(format!("127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&directory).unwrap();
    let reopen = |at: &str| {
        let options = image::Options {
            certificates: certificates.clone(),
            ..Default::default()
        };
        image::Images::open(home.path(at), options).unwrap()
    };
    let trusting = reopen("trusting");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::write(directory.join("ca.crt"), other.cert.pem()).unwrap();
    let untrusted = trusting.pull(&name, basic("secret"), None, silent()).await;
    match untrusted {
        Err(Error::Unreachable { reason, .. }) => {
            assert!(reason.contains("certificate"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    std::fs::write(directory.join("ca.crt"), "nonsense").unwrap();
    let broken = trusting.pull(&name, basic("secret"), None, silent()).await;
    assert!(matches!(broken, Err(Error::Malformed { .. })), "{broken:?}");

    std::fs::write(directory.join("ca.crt"), other.cert.pem() + &certificate).unwrap();
    let base = common::import(&trusting, &name, archive(&[file("a", "b")]))
        .await
        .unwrap();
    trusting
        .push(&name, basic("secret"), silent())
        .await
        .unwrap();
    let fresh = reopen("fresh");
    let pulled = fresh
        .pull(&name, basic("secret"), None, silent())
        .await
        .unwrap();
    assert_eq!(pulled.id, base.id);
    home.images = fresh;
}
