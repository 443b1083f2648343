//! Asking the machine's own resolvers for names that are not the cluster's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::op::Message;
use rustix::net::{AddressFamily, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one resolver has, and how many are asked, as in glibc's resolver (attempts × servers, shortened).
const TRY_TIMEOUT: Duration = Duration::from_millis(2500);
const TRIES_MAX: usize = 3;

/// Where systemd-resolved listens.
const RESOLVED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
];

/// Search domains taken over from the machine: what resolvers of old look at.
const SEARCH_DOMAINS_MAX: usize = 6;

/// A question is never longer than this without its additional records.
const ANSWER_BYTES_MAX: usize = u16::MAX as usize;

/// Forwards queries, one socket per query, so that answers cannot be guessed by port.
pub(crate) struct Forwarder {
    resolv_conf: PathBuf,
    /// What systemd-resolved asks itself.
    resolved_conf: PathBuf,
    /// Our own addresses: asking them would be asking ourselves.
    own: Vec<Ipv4Addr>,
}

/// The resolvers that a resolv.conf names.
pub(crate) fn resolvers(resolv_conf: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    parse(&text)
}

fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            resolver(words.next()?)
        })
        .collect()
}

/// A name server as resolv.conf(5) has it. `fe80::1%eth0` is one of a network that has no other address for it.
fn resolver(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    let Some((address, scope)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, PORT));
    };
    let scope = match scope.parse() {
        Ok(number) => number,
        Err(_) => interface_index(scope)?,
    };
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

fn interface_index(name: &str) -> Option<u32> {
    let any = rustix::net::socket(AddressFamily::INET6, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(&any, name).ok()
}

/// The domains in which a resolv.conf has names completed: those of the last line that names any.
pub(crate) fn search_domains(resolv_conf: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut domains = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            domains = words
                .map(|word| word.trim_end_matches('.').to_owned())
                // systemd-resolved writes "search ." where there is none.
                .filter(|domain| !domain.is_empty() && domain.chars().all(plain))
                .take(SEARCH_DOMAINS_MAX)
                .collect();
        }
    }
    domains
}

impl Forwarder {
    pub fn new(resolv_conf: PathBuf, resolved_conf: PathBuf, own: Vec<Ipv4Addr>) -> Self {
        Self {
            resolv_conf,
            resolved_conf,
            own,
        }
    }

    /// Passes a query on and returns the answer with the query's own id; `None` when no resolver answers.
    /// `tcp`: the asker can take long answers.
    pub async fn forward(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let mut last = None;
        let mut resolved_answered = false;
        // Read each time: the machine may have moved to another network.
        for resolver in self.upstreams().into_iter().take(TRIES_MAX) {
            let Upstream { resolver, behind } = resolver;
            if behind && resolved_answered {
                continue;
            }
            let answer = if tcp {
                match timeout(TRY_TIMEOUT, ask_tcp(resolver, query)).await {
                    Ok(Some(answer)) => Some(answer),
                    _ => timeout(TRY_TIMEOUT, ask_udp(resolver, query))
                        .await
                        .ok()
                        .flatten(),
                }
            } else {
                timeout(TRY_TIMEOUT, ask_udp(resolver, query))
                    .await
                    .ok()
                    .flatten()
            };
            let Some(answer) = answer else { continue };
            const SERVER_FAILURE: u8 = 2;
            const REFUSED: u8 = 5;
            let code = answer[3] & 0x0f;
            let poor = code == SERVER_FAILURE || code == REFUSED;
            last = Some(answer);
            resolved_answered |= RESOLVED.contains(&resolver.ip());
            if !poor {
                break;
            }
        }
        last
    }

    fn upstreams(&self) -> Vec<Upstream> {
        let all = |path: &Path, behind| {
            let found = resolvers(path).into_iter();
            found.map(move |resolver| Upstream { resolver, behind })
        };
        let mut list: Vec<Upstream> = all(&self.resolv_conf, false).collect();
        // It is asked first, because it knows which names go to which network; we are where it listens, containers are not.
        if list
            .iter()
            .any(|upstream| RESOLVED.contains(&upstream.resolver.ip()))
        {
            list.extend(all(&self.resolved_conf, true));
        }
        let is_own = |address| self.own.iter().any(|own| IpAddr::V4(*own) == address);
        list.retain(|upstream| !is_own(upstream.resolver.ip()));
        list
    }
}

/// A resolver that may be asked.
struct Upstream {
    resolver: SocketAddr,
    /// systemd-resolved asks it itself. It is asked past it only when that says nothing: what it fails or refuses may be
    /// forged, or not for that network to know.
    behind: bool,
}

async fn ask_udp(resolver: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(resolver).await.ok()?;
    let sent = with_fresh_id(query);
    socket.send(&sent).await.ok()?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        if answers(&sent, &buffer[..length]) {
            buffer.truncate(length);
            return Some(with_id_of(query, buffer));
        }
    }
}

async fn ask_tcp(resolver: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await.ok()?;
    let sent = with_fresh_id(query);
    let mut framed = u16::try_from(sent.len()).ok()?.to_be_bytes().to_vec();
    framed.extend_from_slice(&sent);
    stream.write_all(&framed).await.ok()?;
    let length = stream.read_u16().await.ok()?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.ok()?;
    answers(&sent, &answer).then(|| with_id_of(query, answer))
}

/// A different id than the asker's: it chose its own for its own socket, and may have chosen badly.
fn with_fresh_id(query: &[u8]) -> Vec<u8> {
    let mut sent = query.to_vec();
    let id = Message::query().metadata.id;
    sent[..2].copy_from_slice(&id.to_be_bytes());
    sent
}

fn with_id_of(query: &[u8], mut answer: Vec<u8>) -> Vec<u8> {
    answer[..2].copy_from_slice(&query[..2]);
    answer
}

/// Whether `answer` is one to `sent`: same id, a response, the same question.
fn answers(sent: &[u8], answer: &[u8]) -> bool {
    let Some(question) = question_bytes(sent) else {
        return false;
    };
    answer.len() >= 12
        && answer[..2] == sent[..2]
        && answer[2] & 0x80 != 0
        && answer
            .get(12..12 + question.len())
            .is_some_and(|theirs| theirs.eq_ignore_ascii_case(question))
}

/// The question section of a query with one question, whose name cannot be compressed.
fn question_bytes(query: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => return query.get(12..at + 4),
            1..=63 => at += length,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    #[test]
    fn resolv_conf_is_read_as_it_is_found() {
        let text = "# comment\nsearch example\nnameserver 10.0.0.2 \n nameserver fd00::1\nnameserver\nnameserver rubbish\noptions x\nnameserver 127.0.0.53 # trailing\nnameserver fe80::1%lo\nnameserver fe80::2%7\nnameserver fe80::3%none\nnameserver 10.0.0.3%lo";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        let plain = ["10.0.0.2:53", "[fd00::1]:53", "127.0.0.53:53"];
        assert_eq!(found[..3], plain);
        assert_eq!(found[3..], ["[fe80::1%1]:53", "[fe80::2%7]:53"]);
    }

    #[test]
    fn it_never_asks_itself() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-")
            .tempdir()
            .unwrap();
        let path = directory.path().join("resolv.conf");
        std::fs::write(
            &path,
            "nameserver 10.64.0.1\nnameserver 192.0.2.1\nnameserver 10.112.0.10\n",
        )
        .unwrap();
        let own = vec![Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 112, 0, 10)];
        let resolved = directory.path().join("resolved.conf");
        std::fs::write(&resolved, "nameserver 10.64.0.1\nnameserver 192.0.2.9\n").unwrap();
        let forwarder = Forwarder::new(path.clone(), resolved, own);
        let texts = || -> Vec<String> {
            let asked = forwarder.upstreams();
            let asked = asked.iter().map(|upstream| upstream.resolver);
            asked.map(|resolver| resolver.to_string()).collect()
        };
        assert_eq!(texts(), ["192.0.2.1:53"]);
        std::fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(texts(), ["127.0.0.53:53", "192.0.2.9:53"]);
    }

    #[test]
    fn search_domains_are_those_of_the_last_line() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-")
            .tempdir()
            .unwrap();
        let path = directory.path().join("resolv.conf");
        for (text, expected) in [
            ("nameserver 192.0.2.1", vec![]),
            ("search .", vec![]),
            ("domain a.example", vec!["a.example"]),
            (
                "search a.example\nsearch b.example. c",
                vec!["b.example", "c"],
            ),
            ("search a;b good", vec!["good"]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(search_domains(&path), expected, "{text}");
        }
        assert!(search_domains(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn an_answer_to_something_else_is_not_taken() {
        let mut query = Message::query();
        query.add_query(Query::query(
            Name::from_ascii("a.example.").unwrap(),
            RecordType::A,
        ));
        let sent = query.to_vec().unwrap();
        let answer = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = sent.clone();
            bytes[2] |= 0x80;
            edit(&mut bytes);
            answers(&sent, &bytes)
        };
        assert!(answer(&|_| {}));
        assert!(
            answer(&|bytes| bytes[13].make_ascii_uppercase()),
            "case is free"
        );
        assert!(!answer(&|bytes| bytes[2] &= 0x7f), "a query");
        assert!(!answer(&|bytes| bytes[1] ^= 1), "another id");
        assert!(!answer(&|bytes| bytes[13] = b'b'), "another name");
        assert!(!answer(&|bytes| bytes.truncate(14)), "cut");
        assert!(!answer(&|bytes| bytes.truncate(3)), "shorter than a header");
    }
}
