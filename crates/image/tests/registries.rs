//! Registries that the settings speak of, against Debian's docker-registry: those without a certificate that anybody vouches for,
//! and mirrors of Docker Hub.

mod common;

use common::debian::Registry;
use common::{Home, archive, file, import, is_root};
use image::{Error, Options, Registries, silent};

fn with(insecure: &[&str], mirrors: &[&str]) -> Home {
    Home::with(Options {
        registries: Registries {
            insecure: insecure.iter().map(|text| text.parse().unwrap()).collect(),
            mirrors: mirrors.iter().map(|text| text.parse().unwrap()).collect(),
        },
        ..Options::default()
    })
}

/// An image of one file, there under this name.
async fn pushed(home: &Home, name: &str) -> image::Image {
    let layer = archive(&[file("etc/a", "here")]);
    let image = import(&home.images, name, layer).await.unwrap();
    home.images.push(name, None, silent()).await.unwrap();
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn insecure_ones_are_spoken_to_all_the_same() {
    if !is_root() {
        return;
    }
    let certified = rcgen::generate_simple_self_signed(vec!["elsewhere".into()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    // another name of this machine's, one that is not known to be that
    const HERE: &str = "127.1";
    for tls in [None, Some((certificate.as_str(), key.as_str()))] {
        let strict = Home::new();
        let Some(registry) = Registry::start(&strict, false, tls) else {
            return;
        };
        let host = format!("{HERE}:{}", registry.port);
        let name = format!("{host}/team/app:v1");
        let home = with(&[&host], &[]);
        let image = pushed(&home, &name).await;
        let fresh = with(&[&host], &[]);
        let pulled = fresh
            .images
            .pull(&name, None, None, silent())
            .await
            .unwrap();
        assert_eq!(pulled.layers(), image.layers());
        assert_eq!(fresh.read(&pulled, "etc/a").as_deref(), Some("here"));
        // by another name it is another registry
        for home in [&strict, &with(&["other.lan"], &[])] {
            let refused = home.images.pull(&name, None, None, silent()).await;
            assert!(
                matches!(refused, Err(Error::Unreachable { .. })),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_for_docker_hub_only() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, false, None) else {
        return;
    };
    let of_library = pushed(&home, &registry.name("library/app:v1")).await;
    let of_team = pushed(&home, &registry.name("team/app:latest")).await;
    let gone = "http://127.0.0.1:9";
    let fresh = with(&[], &[gone, &format!("http://127.0.0.1:{}", registry.port)]);
    for (name, familiar, image) in [
        ("app:v1", "app:v1", &of_library),
        ("docker.io/library/app:v1", "app:v1", &of_library),
        ("team/app", "team/app:latest", &of_team),
    ] {
        let pulled = fresh.images.pull(name, None, None, silent()).await.unwrap();
        assert_eq!(pulled.layers(), image.layers(), "{name}");
        assert_eq!(fresh.images.get(familiar).unwrap().id, pulled.id);
        let digests = &pulled.digests;
        assert!(
            digests.iter().all(|digest| !digest.contains("127.0.0.1")),
            "{digests:?}"
        );
    }
    assert_eq!(fresh.leftovers(), Vec::<String>::new());
    // another registry's images are asked for there
    let refused = fresh
        .images
        .pull("127.0.0.1:9/library/app:v1", None, None, silent())
        .await;
    assert!(
        matches!(refused, Err(Error::Unreachable { .. })),
        "{refused:?}"
    );
}
