//! Where the daemon listens.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::{TcpListener, TcpSocket};

use crate::ports;

/// Where the Kubernetes API listens: this machine alone, its pods, and what the settings add.
pub fn api_addresses(gateway: IpAddr, further: &[IpAddr]) -> Vec<IpAddr> {
    // an unspecified address takes them all
    if let Some(all) = further.iter().find(|address| address.is_unspecified()) {
        return vec![*all];
    }
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), gateway];
    for address in further {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

pub async fn bind(ip: IpAddr, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    told(TcpListener::bind(address).await, address)
}

/// The same on an address that this machine may get later: the bridge is another process's.
pub fn bind_ahead(ip: IpAddr, port: u16) -> Result<TcpListener> {
    const BACKLOG: u32 = 1024;
    let address = SocketAddr::new(ip, port);
    let listen = || {
        let socket = match ip {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        match ip {
            IpAddr::V4(_) => rustix::net::sockopt::set_ip_freebind(&socket, true)?,
            IpAddr::V6(_) => rustix::net::sockopt::set_ipv6_freebind(&socket, true)?,
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    told(listen(), address)
}

fn told(listener: std::io::Result<TcpListener>, address: SocketAddr) -> Result<TcpListener> {
    let port = address.port();
    let error = match listener {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let holder = match error.kind() {
        ErrorKind::AddrInUse => ports::holder(port),
        _ => None,
    };
    let own = std::process::id();
    let why = match holder {
        _ if error.kind() == ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}: this machine has no such address (`ip addr` shows those that it has); correct --api-address or apiAddresses"
        ),
        Some(holder) if holder.pid == own => format!(
            "cannot listen on {address}: this daemon listens on port {port} already; choose ports that differ with --api-port and --kubelet-port"
        ),
        Some(holder) => format!(
            "cannot listen on {address}: {holder} has the port; end that program, or choose other ports with `plimsoll up --api-port PORT --kubelet-port PORT`"
        ),
        None => format!(
            "cannot listen on {address}; choose other ports with `plimsoll up --api-port PORT --kubelet-port PORT`"
        ),
    };
    Err(anyhow::Error::new(error).context(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_in_the_way_is_told_by_name() {
        let taken = bind(Ipv4Addr::LOCALHOST.into(), 0).await.expect("a port");
        let port = taken.local_addr().expect("an address").port();
        // of the documentation's, which no machine has
        for (address, port, said) in [
            ("127.0.0.1", port, "this daemon listens on port"),
            ("192.0.2.1", 0, "this machine has no such address"),
        ] {
            let error = bind(address.parse().expect("an address"), port).await;
            let error = error.expect_err("in the way").to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_api_listens_where_it_is_told_to_and_on_no_address_twice() {
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let gateway = address("10.64.0.1");
        let listed = |further: &[&str]| {
            let further: Vec<IpAddr> = further.iter().map(|text| address(text)).collect();
            let listed = api_addresses(gateway, &further);
            listed.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listed(&[]), ["127.0.0.1", "10.64.0.1"]);
        assert_eq!(
            listed(&["192.0.2.1", "10.64.0.1", "192.0.2.1"]),
            ["127.0.0.1", "10.64.0.1", "192.0.2.1"]
        );
        assert_eq!(listed(&["192.0.2.1", "0.0.0.0"]), ["0.0.0.0"]);
    }
}
