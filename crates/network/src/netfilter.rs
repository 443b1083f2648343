//! Netlink of the kernel's netfilter subsystems (linux/netfilter/nfnetlink.h): framing, dumps, transactions, and word of
//! changes.

use std::io;

use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use rustix::net::sockopt;

const NETLINK_NETFILTER: isize = 12;
const NETLINK_HEADER_BYTES: usize = 16;
/// nfgenmsg: family, version, resource.
const FAMILY_HEADER_BYTES: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FLAGS_DUMP: u16 = 0x0301;
const FLAGS_ACKNOWLEDGE: u16 = 0x0005;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
/// Beyond this the kernel refuses a transaction for its length.
const TRANSACTION_BYTES_MAX: usize = 64 << 20;
/// Dumps that a concurrent change has torn are taken again so often.
const DUMP_TRIES: usize = 5;

/// One message as it came: cut into its header's fields and the attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Subsystem and message (`NFNL_SUBSYS_* << 8 | *_MSG_*`).
    pub kind: u16,
    flags: u16,
    sequence: u32,
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

/// A socket for transactions. What it is given is done, or refused, when it returns.
pub(crate) struct Transactions {
    socket: Socket,
    port: u32,
}

/// Why a transaction was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The message that the kernel did not like; `None`: it did not like the whole.
    pub sequence: Option<u32>,
    pub error: io::Error,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self {
            sequence: None,
            error,
        }
    }
}

impl Transactions {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // An answer need not repeat what was said.
        socket.set_cap_ack(true)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, port })
    }

    /// By which the kernel tells others who has changed something.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Hands over all messages of a transaction, of which the one numbered `last` asks to be acknowledged. Whatever is not
    /// acknowledged counts as refused.
    pub fn run(&mut self, messages: &[u8], last: u32) -> Result<(), Refusal> {
        // What may be left of an earlier one.
        while self.answers(|_, _| ())? {}
        self.make_room(messages.len())?;
        loop {
            match self.socket.send(messages, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    sent?;
                    break;
                }
            }
        }
        // The kernel has acted and answered by now: it did so on this thread.
        let (mut done, mut refusal) = (false, None);
        let lost = self.answers(|sequence, error| match error {
            None => done |= sequence == last,
            // Numbers begin at 1; that of the whole is 0.
            Some(error) if refusal.is_none() => {
                let sequence = Some(sequence).filter(|number| *number > 0);
                refusal = Some(Refusal { sequence, error });
            }
            Some(_) => {}
        })?;
        match refusal {
            Some(refusal) => Err(refusal),
            None if lost => Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()),
            None if !done => Err(io::Error::other("the kernel has not answered").into()),
            None => Ok(()),
        }
    }

    /// Reads the answers that are there. Returns whether some were lost for want of room.
    fn answers(&self, mut take: impl FnMut(u32, Option<io::Error>)) -> io::Result<bool> {
        let mut lost = false;
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => {
                    for message in Messages(&bytes).filter(|m| m.kind == NLMSG_ERROR) {
                        let error = error_of(message.body);
                        let failed = error.raw_os_error() != Some(0);
                        take(message.sequence, failed.then_some(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(lost),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// A transaction is one datagram, which has to fit into the socket's buffer, with what the kernel adds for itself.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let wanted = bytes.saturating_mul(2).min(TRANSACTION_BYTES_MAX);
        if sockopt::socket_send_buffer_size(&self.socket)? < wanted {
            sockopt::set_socket_send_buffer_size_force(&self.socket, wanted)?;
        }
        Ok(())
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
    let mut bytes = Vec::new();
    frame(&mut bytes, (kind, flags, 0), (family, 0), attributes);
    bytes
}

/// Appends a message: type, flags, and the number by which an answer names it; family, and a resource that few have.
pub(crate) fn frame(
    out: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    let length = NETLINK_HEADER_BYTES + FAMILY_HEADER_BYTES + attributes.len();
    out.extend((length as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    out.extend(padded(attributes));
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

/// Attributes as the kernel takes them, one after the other.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// To be added to the type of an attribute that has attributes in it.
    pub const NESTED: u16 = 0x8000;

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes as they are.
    pub fn value(&mut self, kind: u16, value: &[u8]) {
        self.head(kind, value.len());
        self.0.extend(padded(value));
    }

    /// A text, with a zero at its end.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.0.extend(text_attribute(kind, text));
    }

    /// A number in network byte order.
    pub fn number(&mut self, kind: u16, number: u32) {
        self.value(kind, &number.to_be_bytes());
    }

    /// Attributes in an attribute. They have to stay below 64 KiB, which is for callers to see to.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.head(kind | Self::NESTED, 0);
        fill(self);
        let length = self.0.len() - start;
        debug_assert!(
            length <= usize::from(u16::MAX),
            "an attribute of {length} bytes"
        );
        self.0[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    fn head(&mut self, kind: u16, bytes: usize) {
        self.0.extend(((bytes + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
    }
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
            sequence: word(8)?,
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
