//! Tables of what the user may say.

use super::*;
use serde_json::json;

fn said(
    host: serde_json::Value,
    config: serde_json::Value,
    image: &[&str],
) -> Result<Vec<String>, String> {
    let host: HostConfig = serde_json::from_value(host).expect("a configuration");
    let config: Config = serde_json::from_value(config).expect("a configuration");
    let image = image.iter().map(|path| (*path).to_owned());
    let points = plan(&config, &host, image, Vec::new()).map_err(|refusal| refusal.message)?;
    Ok(points.iter().map(show).collect())
}

fn show(point: &Point) -> String {
    let source = match &point.source {
        Source::Host { path, make } => {
            format!("{}{}", path.display(), if *make { "+" } else { "" })
        }
        Source::Volume { name, copy, .. } => format!(
            "<{}>{}",
            name.as_deref().unwrap_or(""),
            if *copy { "" } else { "!" }
        ),
        Source::Tmpfs => "tmpfs".into(),
    };
    let access = if point.read_only { ":ro" } else { "" };
    let options = if point.options.is_empty() {
        String::new()
    } else {
        format!(" {}", point.options.join(","))
    };
    format!("{source}:{}{access}{options}", point.target)
}

#[test]
fn binds_by_their_short_form() {
    for (text, want) in [
        ("/tmp:/data:ro", Ok("/tmp+:/data:ro")),
        ("name:/data", Ok("<name>:/data")),
        ("/data", Ok("<>:/data")),
        ("/tmp:/data:z,rw", Ok("/tmp+:/data")),
        ("/tmp:/a/../data/:rshared", Ok("/tmp+:/data rshared")),
        ("name:/data:nocopy,ro", Ok("<name>!:/data:ro")),
        ("/tmp:data", Err("mount path must be absolute")),
        ("../up:/data", Err("includes invalid characters")),
        ("a/b:/data", Err("includes invalid characters")),
        (":/data", Err("invalid volume specification")),
        ("a:/b:ro:x", Err("invalid volume specification")),
        ("/a:/b:rx", Err("invalid mode: rx")),
        ("/a:/b:ro,rw", Err("invalid mode: ro,rw")),
        ("name:/b:rshared", Err("invalid mode: rshared")),
        ("/a:/b:nocopy", Err("invalid mode: nocopy")),
        ("/a:/", Err("destination can't be '/'")),
        ("", Err("mount path must be absolute")),
    ] {
        let got = said(json!({"Binds": [text]}), json!({}), &[]);
        match want {
            Ok(want) => assert_eq!(got.as_deref(), Ok(&[want.to_owned()][..]), "{text}"),
            Err(want) => assert!(got.expect_err(text).contains(want), "{text}"),
        }
    }
}

#[test]
fn mounts_by_their_long_form() {
    for (request, want) in [
        (
            json!({"Type": "bind", "Source": "/", "Target": "/x", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}}),
            Ok("/:/x:ro rslave"),
        ),
        (
            json!({"Type": "bind", "Source": "/no/where", "Target": "/x", "BindOptions": {"CreateMountpoint": true}}),
            Ok("/no/where+:/x"),
        ),
        (
            json!({"Type": "bind", "Source": "/no/where", "Target": "/x"}),
            Err(
                "invalid mount config for type \"bind\": bind source path does not exist: /no/where",
            ),
        ),
        (
            json!({"Type": "bind", "Source": "rel", "Target": "/x"}),
            Err("mount path must be absolute"),
        ),
        (
            json!({"Type": "bind", "Target": "/x"}),
            Err("field Source must not be empty"),
        ),
        (
            json!({"Type": "volume", "Source": "vol", "Target": "/x", "VolumeOptions": {"NoCopy": true}}),
            Ok("<vol>!:/x"),
        ),
        (json!({"Type": "volume", "Target": "/x"}), Ok("<>:/x")),
        (
            json!({"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}),
            Err("error looking up volume plugin nfs: plugin not found"),
        ),
        (
            json!({"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": "a"}}),
            Err("a part of a volume (volume-subpath \"a\") is not supported"),
        ),
        (
            json!({"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"type": "nfs"}}}}),
            Err("volume options (type) are not supported"),
        ),
        (
            json!({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 448}}),
            Ok("tmpfs:/x size=1024,mode=700,noexec"),
        ),
        (
            json!({"Type": "tmpfs", "Source": "a", "Target": "/x"}),
            Err("field Source must not be specified"),
        ),
        (
            json!({"Type": "npipe", "Target": "/x"}),
            Err("mount type unknown"),
        ),
        (
            json!({"Type": "volume", "Source": "v"}),
            Err("field Target must not be empty"),
        ),
    ] {
        let got = said(json!({"Mounts": [request]}), json!({}), &[]);
        match want {
            Ok(want) => assert_eq!(got.as_deref(), Ok(&[want.to_owned()][..]), "{request}"),
            Err(want) => {
                let got = got.expect_err("refused");
                assert!(got.contains(want), "{request} {got}");
            }
        }
    }
}

#[test]
fn memory() {
    for (options, want) in [
        ("", Ok("tmpfs:/x noexec")),
        ("size=64m,mode=1770,exec", Ok("tmpfs:/x size=64m,mode=1770")),
        ("ro", Ok("tmpfs:/x:ro noexec")),
        ("size", Err("invalid tmpfs option [\"size\"]")),
        ("loud", Err("invalid tmpfs option [\"loud\"]")),
    ] {
        let got = said(json!({"Tmpfs": {"/x": options}}), json!({}), &[]);
        match want {
            Ok(want) => assert_eq!(got.as_deref(), Ok(&[want.to_owned()][..]), "{options}"),
            Err(want) => assert_eq!(got, Err(want.to_owned()), "{options}"),
        }
    }
}

#[test]
fn who_comes_first() {
    let twice = json!({"Binds": ["/a:/x"], "Mounts": [{"Type": "volume", "Target": "/x/"}]});
    assert_eq!(
        said(twice, json!({}), &[]),
        Err("Duplicate mount point: /x".into())
    );
    let own = said(
        json!({"Binds": ["/a:/x"]}),
        json!({"Volumes": {"/y": {}}}),
        &["/x", "/z"],
    );
    assert_eq!(own.expect("planned"), ["/a+:/x", "<>:/y", "<>:/z"]);
    let lent = |source: &str, target: &str, volume: Option<&str>| Borrowed {
        mount: engine::Mount {
            source: source.into(),
            target: target.into(),
            ..engine::Mount::default()
        },
        volume: volume.map(str::to_owned),
        read_only: true,
    };
    let host: HostConfig =
        serde_json::from_value(json!({"Binds": ["/a:/x"]})).expect("a configuration");
    let borrowed = vec![
        lent("/b", "/x", None),
        lent("/v", "/y", Some("v")),
        lent("/c", "/z", None),
    ];
    let points = plan(
        &Config::default(),
        &host,
        std::iter::once("/y".to_owned()),
        borrowed,
    )
    .expect("planned");
    let shown: Vec<String> = points.iter().map(show).collect();
    assert_eq!(shown, ["/a+:/x", "<v>!:/y:ro", "/c:/z:ro"]);
    for (text, want) in [
        ("c", Some(("c", false))),
        ("c:ro", Some(("c", true))),
        ("c:x", None),
        (":ro", None),
    ] {
        assert_eq!(borrowed_from(text).ok(), want, "{text}");
    }
}
