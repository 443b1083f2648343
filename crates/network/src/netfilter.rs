//! Netlink of the kernel's netfilter subsystems (linux/netfilter/nfnetlink.h): framing, dumps, and word of changes.

use std::io;

use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};

const NETLINK_NETFILTER: isize = 12;
const NETLINK_HEADER_BYTES: usize = 16;
/// nfgenmsg: family, version, resource.
const FAMILY_HEADER_BYTES: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FLAGS_DUMP: u16 = 0x0301;
const FLAGS_ACKNOWLEDGE: u16 = 0x0005;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// Dumps that a concurrent change has torn are taken again so often.
const DUMP_TRIES: usize = 5;

/// One message as it came: cut into its header's fields and the attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Subsystem and message (`NFNL_SUBSYS_* << 8 | *_MSG_*`).
    pub kind: u16,
    flags: u16,
    /// The netlink port of whoever caused it: for a short program its PID.
    pub port: u32,
    /// After the netlink header.
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family that the message is about (NFPROTO_*).
    pub fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or_default()
    }

    /// What follows the family.
    pub fn attributes(&self) -> &'a [u8] {
        self.body.get(FAMILY_HEADER_BYTES..).unwrap_or_default()
    }
}

/// A socket for requests.
pub(crate) struct Requests(Socket);

impl Requests {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// All objects of a kind, as `read` makes them from their messages: a whole picture, or an error.
    pub fn dump<T>(
        &self,
        kind: u16,
        family: u8,
        attributes: &[u8],
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let request = message(kind, FLAGS_DUMP, family, attributes);
            self.0.send(&request, 0)?;
            let mut found = Vec::new();
            let mut torn = false;
            'dump: loop {
                let (bytes, _) = self.0.recv_from_full()?;
                for message in Messages(&bytes) {
                    torn |= message.flags & FLAG_DUMP_INTERRUPTED != 0;
                    match message.kind {
                        NLMSG_DONE => break 'dump,
                        NLMSG_ERROR => return Err(error_of(message.body)),
                        _ => found.extend(read(message)),
                    }
                }
            }
            if !torn {
                return Ok(found);
            }
        }
        Err(io::Error::other("it kept changing while it was read"))
    }

    /// Sends a request and waits until the kernel has acted on it; what the kernel thinks of it is not reported.
    pub fn tell(&self, kind: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
        self.0
            .send(&message(kind, FLAGS_ACKNOWLEDGE, family, attributes), 0)?;
        self.0.recv_from_full().map(|_| ())
    }
}

/// A socket that hears of every change of the packet filter in this network namespace.
pub(crate) fn listen() -> io::Result<TokioSocket> {
    const NFNLGRP_NFTABLES: u32 = 7;
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
    Ok(socket)
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER_BYTES + FAMILY_HEADER_BYTES + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn error_of(body: &[u8]) -> io::Error {
    let code = body.get(..4).and_then(|code| code.try_into().ok());
    io::Error::from_raw_os_error(code.map_or(libc::EPROTO, |code| -i32::from_ne_bytes(code)))
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|(kind, _, _)| *kind == wanted)
        .map(|(_, value, _)| value)
}

/// A text attribute, without its terminating zero.
pub(crate) fn text(attributes: &[u8], wanted: u16) -> Option<String> {
    let bytes = attribute(attributes, wanted)?;
    Some(until_zero(bytes))
}

/// Bytes up to the first zero, as text.
pub(crate) fn until_zero(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// A number in network byte order.
pub(crate) fn number(attributes: &[u8], wanted: u16) -> Option<u32> {
    let bytes = attribute(attributes, wanted)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// An attribute with a text value, as the kernel takes it.
pub(crate) fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    let mut bytes = ((text.len() + 5) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    padded(&bytes).collect()
}

/// Bytes filled up to netlink's alignment.
pub(crate) fn padded(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    bytes.iter().copied().chain(std::iter::repeat_n(0, padding))
}

/// The messages of a datagram. Ends at the first that is cut.
pub(crate) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let half = |at: usize| {
            let bytes = self.0.get(at..at + 2)?.try_into().ok()?;
            Some(u16::from_ne_bytes(bytes))
        };
        let word = |at: usize| {
            let bytes = self.0.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let length = word(0)? as usize;
        let message = Message {
            kind: half(4)?,
            flags: half(6)?,
            port: word(12)?,
            body: self.0.get(NETLINK_HEADER_BYTES..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes: (type, value, header and value). Ends at the first that is cut.
pub(crate) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER_BYTES: usize = 4;
        /// "nested" and "network byte order" share the word with the type.
        const TYPE_MASK: u16 = 0x3fff;
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let whole = self.0.get(..length)?;
        let value = whole.get(HEADER_BYTES..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_framed_is_read_again() {
        let bytes = message(0x0a07, FLAGS_DUMP, 2, &text_attribute(1, "filter"));
        let read: Vec<Message> = Messages(&bytes).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].kind, read[0].family()), (0x0a07, 2));
        assert_eq!(text(read[0].attributes(), 1).as_deref(), Some("filter"));
        assert_eq!(bytes.len() % 4, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes) {
                let _ = (message.family(), Attributes(message.attributes()).count());
            }
        }

        #[test]
        fn lengths_that_lie_end_the_walk(lengths in prop::collection::vec(any::<u16>(), 0..40)) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert!(Attributes(&bytes).count() <= bytes.len() / 4);
            prop_assert!(Messages(&bytes).count() <= bytes.len() / 16);
        }
    }
}
