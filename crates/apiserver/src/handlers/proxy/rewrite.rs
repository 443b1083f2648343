//! Links of proxied pages: those that begin at the root lead through the proxy again.
//!
//! Which attributes of which elements are links is apimachinery's `pkg/util/proxy/transport.go`. Everything else of a page
//! stays as it is, byte by byte.

/// What a page's links are held against.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    /// The path of the proxy, without a slash at its end.
    pub prefix: &'a str,
    /// The address that the page came from, `HOST:PORT`.
    pub source: &'a str,
    /// The host by which the client reached this server.
    pub client: &'a str,
}

impl Links<'_> {
    /// The link through the proxy; `None` when it stays as it is: relative, elsewhere, or through the proxy already.
    pub fn rewritten(&self, link: &str) -> Option<String> {
        let (scheme, rest) = match link.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, Some(rest)),
            _ => ("", link.strip_prefix("//")),
        };
        let (host, path) = match rest {
            None => ("", link),
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        };
        let elsewhere = !host.is_empty() && host != self.source && host != self.client;
        if elsewhere || !path.starts_with('/') {
            return None;
        }
        let through = path.starts_with(self.prefix);
        let host = match host {
            host if host.is_empty() || host == self.source => String::new(),
            host if host == self.client && scheme.is_empty() => format!("//{host}"),
            host if host == self.client => format!("{scheme}://{host}"),
            _ => String::new(),
        };
        let path = if through {
            path.to_owned()
        } else {
            format!("{}{path}", self.prefix)
        };
        Some(format!("{host}{path}")).filter(|new| new != link)
    }

    /// A page with its links rewritten.
    pub fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 16);
        let mut at = 0;
        while let Some(open) = find(&page[at..], b"<").map(|n| at + n) {
            out.extend_from_slice(&page[at..open]);
            at = if page[open..].starts_with(b"<!--") {
                let end = find(&page[open + 4..], b"-->").map(|n| open + 4 + n + 3);
                copied(page, open, end, &mut out)
            } else if page.get(open + 1).is_some_and(u8::is_ascii_alphabetic) {
                self.tag(page, open, &mut out)
            } else {
                copied(page, open, Some(open + 1), &mut out)
            };
        }
        out.extend_from_slice(&page[at..]);
        out
    }

    /// Writes the tag that begins at `open`, and what is raw text in it; says where it ends.
    fn tag(&self, page: &[u8], open: usize, out: &mut Vec<u8>) -> usize {
        let name_end = skip(page, open + 1, |b| {
            !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>')
        });
        let name = lower(&page[open + 1..name_end]);
        let links = links_of(&name);
        out.extend_from_slice(&page[open..name_end]);
        let mut at = name_end;
        loop {
            let start = at;
            at = skip(page, at, |b| b.is_ascii_whitespace() || b == b'/');
            out.extend_from_slice(&page[start..at]);
            match page.get(at) {
                None => return at,
                Some(b'>') => {
                    at += 1;
                    out.push(b'>');
                    break;
                }
                Some(_) => {}
            }
            let key = at;
            at = skip(page, at + 1, |b| {
                !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>' | b'=')
            });
            let is_link = links.contains(&lower(&page[key..at]).as_str());
            let equals = skip(page, at, |b| b.is_ascii_whitespace());
            if page.get(equals) != Some(&b'=') {
                out.extend_from_slice(&page[key..at]);
                continue;
            }
            let mut value = skip(page, equals + 1, |b| b.is_ascii_whitespace());
            let quote = page.get(value).filter(|b| matches!(b, b'"' | b'\''));
            value += usize::from(quote.is_some());
            let end = match quote {
                Some(quote) => skip(page, value, |b| b != *quote),
                None => skip(page, value, |b| !b.is_ascii_whitespace() && b != b'>'),
            };
            out.extend_from_slice(&page[key..value]);
            let text = std::str::from_utf8(&page[value..end]).ok();
            let new = text
                .filter(|_| is_link)
                .and_then(|text| self.rewritten(text));
            match new {
                Some(new) => out.extend_from_slice(new.as_bytes()),
                None => out.extend_from_slice(&page[value..end]),
            }
            at = end;
            if quote.is_some() && at < page.len() {
                out.push(page[at]);
                at += 1;
            }
        }
        if !RAW.contains(&name.as_str()) {
            return at;
        }
        let closing = format!("</{name}");
        let end = (at..page.len())
            .find(|n| {
                page.get(*n..*n + closing.len())
                    .is_some_and(|text| text.eq_ignore_ascii_case(closing.as_bytes()))
            })
            .unwrap_or(page.len());
        copied(page, at, Some(end), out)
    }
}

/// Elements whose content is text, whatever it looks like.
const RAW: &[&str] = &[
    "iframe",
    "noembed",
    "noframes",
    "plaintext",
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
];

fn links_of(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn lower(text: &[u8]) -> String {
    String::from_utf8_lossy(text).to_ascii_lowercase()
}

/// The first place from `at` on that `within` does not hold for.
fn skip(page: &[u8], at: usize, within: impl Fn(u8) -> bool) -> usize {
    let rest = page.get(at..).unwrap_or_default();
    at.min(page.len()) + rest.iter().position(|b| !within(*b)).unwrap_or(rest.len())
}

fn find(page: &[u8], what: &[u8]) -> Option<usize> {
    page.windows(what.len()).position(|window| window == what)
}

fn copied(page: &[u8], from: usize, to: Option<usize>, out: &mut Vec<u8>) -> usize {
    let to = to.unwrap_or(page.len());
    out.extend_from_slice(&page[from..to]);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: Links = Links {
        prefix: "/api/v1/namespaces/a/services/web/proxy",
        source: "10.1.2.3:80",
        client: "localhost:8001",
    };

    #[test]
    fn links_lead_through_the_proxy() {
        let through = |rest: &str| format!("{}{rest}", LINKS.prefix);
        for (link, expected) in [
            ("/", through("/")),
            ("/a/b?c=d#e", through("/a/b?c=d#e")),
            ("a/b", "a/b".into()),
            ("?x", "?x".into()),
            ("#x", "#x".into()),
            ("mailto:a@b", "mailto:a@b".into()),
            ("javascript:a('://')", "javascript:a('://')".into()),
            ("http://elsewhere/a", "http://elsewhere/a".into()),
            ("//elsewhere/a", "//elsewhere/a".into()),
            ("http://10.1.2.3:80/a", through("/a")),
            ("//10.1.2.3:80/a", through("/a")),
            (
                "http://localhost:8001/a",
                format!("http://localhost:8001{}", through("/a")),
            ),
            ("http://10.1.2.3:80", "http://10.1.2.3:80".into()),
            (&through("/a"), through("/a")),
        ] {
            let new = LINKS.rewritten(link).unwrap_or_else(|| link.to_owned());
            assert_eq!(new, expected, "{link}");
        }
    }

    #[test]
    fn pages_keep_what_is_no_link() {
        let links = Links {
            prefix: "/p",
            source: "h:1",
            client: "c",
        };
        for (page, expected) in [
            (r#"<a href="/x">/x</a>"#, r#"<a href="/p/x">/x</a>"#),
            (
                r#"<A class=b HREF='/x?a=1&amp;b'>"#,
                r#"<A class=b HREF='/p/x?a=1&amp;b'>"#,
            ),
            ("<img alt=\"/x\" src=/y>", "<img alt=\"/x\" src=/p/y>"),
            ("<img src = /y/>", "<img src = /p/y/>"),
            ("<br/><p>1 < 2</p>", "<br/><p>1 < 2</p>"),
            (
                r#"<script src="/a.js">if (a<b) x='<a href="/no">'</script><a href="/y">"#,
                r#"<script src="/p/a.js">if (a<b) x='<a href="/no">'</script><a href="/p/y">"#,
            ),
            (
                r#"<!-- <a href="/no"> --><link href="/y">"#,
                r#"<!-- <a href="/no"> --><link href="/p/y">"#,
            ),
            ("<a href=\"/x", "<a href=\"/p/x"),
            ("<a href=", "<a href="),
            ("<a href", "<a href"),
            ("<", "<"),
            ("<!--", "<!--"),
            (
                "<script>never ended <a href='/x'>",
                "<script>never ended <a href='/x'>",
            ),
        ] {
            let new = links.page(page.as_bytes());
            assert_eq!(String::from_utf8_lossy(&new), expected, "{page}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_page_without_links_stays_as_it_is(page in "(<|>|/|=|\"|'|a|script|!--|-->| |b|\\PC){0,60}") {
            let links = Links { prefix: "", source: "h:1", client: "c" };
            proptest::prop_assert_eq!(links.page(page.as_bytes()), page.as_bytes());
        }
    }
}
