//! Datagrams with the address of this machine that they were sent to, so that the answer comes from there: a socket that
//! listens on all addresses would otherwise answer from whichever the route back suggests, and clients that compare drop it.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for control messages: one of either family, in words because they have to be aligned.
const CONTROL_WORDS: usize = 16;

/// An address of this machine, and for link-local ones the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    ip: IpAddr,
    interface: u32,
}

/// Has a socket tell with each datagram which address it was sent to.
pub fn tell_destination(socket: BorrowedFd<'_>, ipv4: bool) -> io::Result<()> {
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call, and its size is what is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The next datagram: its length, who sent it, and where to. Never blocks.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<Own>)> {
    // SAFETY: a sockaddr_storage of zeros is a valid one (of no family).
    let mut name: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a msghdr of zeros is a valid one (everything absent).
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = mem::size_of_val(&name) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: what the header points to (`name`, `part`, `buffer`, `control`) outlives the call and has the sizes it says.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let from = address(&name).ok_or(io::ErrorKind::Unsupported)?;
    let mut own = None;
    // SAFETY: the kernel has set the header's control length to what it wrote into `control`, which is still there.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR only return headers that lie within `control`.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
            // SAFETY: a message of this kind carries an in_pktinfo; read without assuming its alignment.
            let info: libc::in_pktinfo = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::in_pktinfo>()
                    .read_unaligned()
            };
            own = Some(Own {
                ip: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into(),
                interface: 0,
            });
        } else if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
            // SAFETY: a message of this kind carries an in6_pktinfo; read without assuming its alignment.
            let info: libc::in6_pktinfo = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::in6_pktinfo>()
                    .read_unaligned()
            };
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            own = Some(Own {
                ip: ip.into(),
                interface: if ip.is_unicast_link_local() {
                    info.ipi6_ifindex
                } else {
                    0
                },
            });
        }
        // SAFETY: `message` is a header within `control`.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok((count, from, own))
}

/// Sends a datagram from one of this machine's addresses. Never blocks.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<Own>,
) -> io::Result<()> {
    let (mut name, length) = socket_address(to);
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a msghdr of zeros is a valid one (everything absent).
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = length;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(own) = from {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        let used = match own.ip {
            IpAddr::V4(ip) => {
                // SAFETY: an in_pktinfo of zeros is a valid one.
                let mut info: libc::in_pktinfo = unsafe { mem::zeroed() };
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                put(&header, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            IpAddr::V6(ip) => {
                // SAFETY: an in6_pktinfo of zeros is a valid one.
                let mut info: libc::in6_pktinfo = unsafe { mem::zeroed() };
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = own.interface;
                put(&header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        };
        header.msg_controllen = used as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: what the header points to (`name`, `part`, `bytes`, `control`) outlives the call and has the sizes it says;
    // sending does not write to it.
    if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts the one control message into a header's room for it, which is large enough for either kind; returns its length.
fn put<T: Copy>(header: &libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = mem::size_of::<T>() as libc::c_uint;
    assert!(mem::size_of::<T>() <= CONTROL_WORDS * 4);
    // SAFETY: the header's control buffer is aligned for a cmsghdr and, by the assertion, holds one with a `T`; it is
    // written to without assuming the alignment of `T`.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(&raw const *header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(size) as usize
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a storage is large enough and aligned for every address, and this one says that it is IPv4's.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, and this one says that it is IPv6's.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn socket_address(to: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: a sockaddr_storage of zeros is a valid one (of no family).
    let mut name: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match to {
        SocketAddr::V4(to) => {
            // SAFETY: a storage is large enough and aligned for every address.
            let name = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = to.port().to_be();
            name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            // SAFETY: a storage is large enough and aligned for every address.
            let name = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = to.port().to_be();
            name.sin6_addr.s6_addr = to.ip().octets();
            name.sin6_flowinfo = to.flowinfo();
            name.sin6_scope_id = to.scope_id();
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (name, length as libc::socklen_t)
}
