//! Listening, on what is asked for or else on free ports of all interfaces.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use libp2p::{
    Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::NetworkBehaviour,
};
use socket2::{Domain, Socket, Type};

/// TCP and QUIC on free ports of all interfaces.
#[must_use]
pub fn default_addresses() -> Vec<Multiaddr> {
    let hosts = [Protocol::from(Ipv4Addr::UNSPECIFIED), Protocol::from(Ipv6Addr::UNSPECIFIED)];
    hosts
        .into_iter()
        .flat_map(|host| {
            let host = Multiaddr::empty().with(host);
            [
                host.clone().with(Protocol::Tcp(0)),
                host.with(Protocol::Udp(0)).with(Protocol::QuicV1),
            ]
        })
        .collect()
}

/// Why an address cannot be listened on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenError {
    /// The system does not let us.
    #[error("cannot listen on {address}: {reason}")]
    Address {
        /// Which.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// Nothing can be listened on.
    #[error("cannot listen on any address; name one with --listen")]
    Nothing,
}

/// Listens; gives the listeners with what each was asked for.
///
/// # Errors
/// [`ListenError`]; then nothing that comes of it should be used.
pub fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    asked: &[Multiaddr],
) -> Result<Vec<(ListenerId, Multiaddr)>, ListenError> {
    let refused =
        |address: &Multiaddr, reason| ListenError::Address { address: address.clone(), reason };
    for address in asked {
        check_free(address).map_err(|error| refused(address, error.to_string()))?;
    }
    if asked.is_empty() {
        let any: Vec<(ListenerId, Multiaddr)> = default_addresses()
            .into_iter()
            // A machine without IPv6 is no error.
            .filter_map(|address| Some((swarm.listen_on(address.clone()).ok()?, address)))
            .collect();
        return if any.is_empty() { Err(ListenError::Nothing) } else { Ok(any) };
    }
    let listened = asked.iter().map(|address| {
        let listener = swarm.listen_on(address.clone());
        let listener = listener.map_err(|error| refused(address, innermost(&error)))?;
        Ok((listener, address.clone()))
    });
    listened.collect()
}

/// Whether a TCP port is free. libp2p dials from the ports that it listens on, and has the system share
/// them for that; so the system would let a second process listen there, too, and give it some of the
/// connections.
fn check_free(address: &Multiaddr) -> io::Result<()> {
    let Some(at) = tcp(address).filter(|at| at.port() != 0) else { return Ok(()) };
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // What lingers of connections of before is no obstacle; who listens is.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())
}

/// The socket of an address that is plain TCP.
fn tcp(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The cause that people can act on, which libp2p wraps deeply.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: IpAddr, port: u16) -> Multiaddr {
        Multiaddr::from(ip).with(Protocol::Tcp(port))
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_free_though_it_is_shared() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("shared");
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        socket.set_reuse_port(true).expect("shared");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("a free port");
        socket.listen(1).expect("listens");
        let port = socket.local_addr().expect("bound").as_socket().expect("IP").port();
        let error = check_free(&at(ip, port)).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(check_free(&at(ip, port)).is_ok());
        assert!(check_free(&at(ip, 0)).is_ok());
    }
}
