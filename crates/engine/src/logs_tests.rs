//! Tests of reading logs.

use super::*;
use proptest::prelude::*;
use std::io::Write;

fn stamp(second: u32) -> String {
    format!("2024-01-01T00:00:{second:02}.000000000Z")
}

fn dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("plimsoll-logs")
        .tempdir()
        .expect("temp dir")
}

fn all(path: &Path, options: ReadOptions) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let (out, mut lines) = mpsc::channel(1);
        let mut text = String::new();
        let reading = read(path, options, async {}, out);
        let collecting = async {
            while let Some(line) = lines.recv().await {
                text.push_str(&String::from_utf8_lossy(&line.content));
                text.push(if line.partial { '+' } else { '|' });
            }
        };
        let (result, ()) = tokio::join!(reading, collecting);
        result.expect("read");
        text
    })
}

#[test]
fn lines() {
    let line = |stream, partial, content: &'static str| {
        Some(Line {
            at: stamp(0).parse().expect("time"),
            stream,
            partial,
            content: Bytes::from_static(content.as_bytes()),
        })
    };
    let rows = [
        (
            "2024-01-01T00:00:00.000000000Z stdout F foo bar",
            line(Stream::Stdout, false, "foo bar"),
        ),
        (
            "2024-01-01T00:00:00Z stderr P foo",
            line(Stream::Stderr, true, "foo"),
        ),
        (
            "2024-01-01T01:00:00+01:00 stdout F:tag  two",
            line(Stream::Stdout, false, " two"),
        ),
        (
            "2024-01-01T00:00:00Z stdout F ",
            line(Stream::Stdout, false, ""),
        ),
        (
            "2024-01-01T00:00:00Z stdout F",
            line(Stream::Stdout, false, ""),
        ),
        ("2024-01-01T00:00:00Z stdin F x", None),
        ("2024-01-01T00:00:00Z stdout X x", None),
        ("yesterday stdout F x", None),
        ("2024-01-01T00:00:00Z", None),
        ("", None),
    ];
    for (text, expected) in rows {
        assert_eq!(parse_line(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn tail_since_and_rotated_files() {
    let dir = dir();
    let path = dir.path().join("0.log");
    let write = |path: &Path, entries: &[(u32, char, &str)]| {
        let text: String = entries
            .iter()
            .map(|(second, tag, content)| format!("{} stdout {tag} {content}\n", stamp(*second)))
            .collect();
        fs::write(path, text).expect("write");
    };
    write(&rotated(&path, 2), &[(1, 'F', "a")]);
    write(&rotated(&path, 1), &[(2, 'F', "b"), (3, 'P', "c1")]);
    write(&path, &[(3, 'F', "c2"), (4, 'F', "d"), (5, 'P', "e")]);
    let at = |second| Some(stamp(second).parse().expect("time"));
    let rows = [
        (ReadOptions::default(), "a|b|c1+c2|d|e+"),
        (
            ReadOptions {
                tail: Some(0),
                ..ReadOptions::default()
            },
            "",
        ),
        (
            ReadOptions {
                tail: Some(1),
                ..ReadOptions::default()
            },
            "e+",
        ),
        (
            ReadOptions {
                tail: Some(3),
                ..ReadOptions::default()
            },
            "c1+c2|d|e+",
        ),
        (
            ReadOptions {
                tail: Some(99),
                ..ReadOptions::default()
            },
            "a|b|c1+c2|d|e+",
        ),
        (
            ReadOptions {
                since: at(4),
                ..ReadOptions::default()
            },
            "d|e+",
        ),
        (
            ReadOptions {
                since: at(2),
                until: at(3),
                ..ReadOptions::default()
            },
            "b|c1+c2|",
        ),
        (
            ReadOptions {
                follow: true,
                tail: Some(1),
                ..ReadOptions::default()
            },
            "e+",
        ),
    ];
    for (options, expected) in rows {
        assert_eq!(all(&path, options.clone()), expected, "{options:?}");
    }
    assert_eq!(all(&dir.path().join("missing"), ReadOptions::default()), "");
}

#[test]
fn following_misses_nothing_when_the_log_is_rotated() {
    let dir = dir();
    let path = dir.path().join("0.log");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let (config_path, writer_path) = (path.clone(), path.clone());
    runtime.block_on(async move {
        let (out, mut lines) = mpsc::channel(4);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let ended = async move {
            let _ = ended.await;
        };
        let options = ReadOptions {
            follow: true,
            ..ReadOptions::default()
        };
        let reading = tokio::spawn(async move { read(&config_path, options, ended, out).await });
        // Not a second rotation before the first has been read: what is rotated away twice as fast as it is read is gone.
        let writing = tokio::spawn(async move {
            for number in 0..30_u32 {
                if number % 10 == 9 {
                    tokio::time::sleep(FOLLOW_EVERY * 3).await;
                    fs::rename(&writer_path, rotated(&writer_path, 1)).expect("rotate");
                }
                let mut file = File::options()
                    .append(true)
                    .create(true)
                    .open(&writer_path)
                    .expect("open");
                // In two pieces: a line is not read before it is whole.
                write!(file, "{} stdout F ", stamp(number)).expect("write");
                tokio::task::yield_now().await;
                writeln!(file, "{number}").expect("write");
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
            end.send(()).expect("end");
        });
        let mut seen = Vec::new();
        while let Some(line) = lines.recv().await {
            seen.push(
                String::from_utf8_lossy(&line.content)
                    .parse::<u32>()
                    .expect("number"),
            );
        }
        writing.await.expect("writing");
        reading.await.expect("reading").expect("read");
        assert_eq!(seen, (0..30).collect::<Vec<_>>());
    });
}

proptest! {
    #[test]
    fn hostile_files_are_skipped(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = dir();
        let path = dir.path().join("0.log");
        let mut file = bytes;
        file.extend_from_slice(format!("\n{} stdout F end\n", stamp(1)).as_bytes());
        fs::write(&path, &file).expect("write");
        prop_assert!(all(&path, ReadOptions::default()).ends_with("end|"));
    }
}
