//! Listening, on what is asked for or else on free ports of all interfaces.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use libp2p::{
    Multiaddr, Swarm, TransportError, core::transport::ListenerId, multiaddr::Protocol,
    swarm::NetworkBehaviour,
};
use socket2::{Domain, Socket, Type};
use tracing::warn;

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
#[non_exhaustive]
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
    let mut is_told = false;
    if asked.is_empty() {
        let any: Vec<(ListenerId, Multiaddr)> = default_addresses()
            .into_iter()
            // A machine without IPv6 is no error.
            .filter_map(|address| listen_on(swarm, &address, &mut is_told).ok())
            .flatten()
            .collect();
        return if any.is_empty() { Err(ListenError::Nothing) } else { Ok(any) };
    }
    let mut listened = Vec::new();
    let has_v6 = has_ipv6();
    for address in asked {
        if !has_v6 && is_ipv6(address) && asked.iter().any(|other| !is_ipv6(other)) {
            warn!(%address, "not listened on: this machine has no IPv6");
            continue;
        }
        check_free(address).map_err(|error| refused(address, error.to_string()))?;
        let listeners = listen_on(swarm, address, &mut is_told);
        listened.extend(listeners.map_err(|error| refused(address, innermost(&error)))?);
    }
    Ok(listened)
}

/// Listens on one address. Where the system does not tell its interfaces (Android, sandboxes), all of them means
/// those by which packets leave, and loopback.
fn listen_on<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    address: &Multiaddr,
    is_told: &mut bool,
) -> Result<Vec<(ListenerId, Multiaddr)>, TransportError<io::Error>> {
    let error = match swarm.listen_on(address.clone()) {
        Ok(listener) => return Ok(vec![(listener, address.clone())]),
        Err(error) => error,
    };
    let Some(Protocol::Ip4(Ipv4Addr::UNSPECIFIED) | Protocol::Ip6(Ipv6Addr::UNSPECIFIED)) =
        address.iter().next()
    else {
        return Err(error);
    };
    let own = if is_ipv6(address) {
        [Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), outward(Ipv6Addr::UNSPECIFIED.into(), FAR_V6)]
    } else {
        [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), outward(Ipv4Addr::UNSPECIFIED.into(), FAR_V4)]
    };
    let concrete = own.into_iter().flatten().map(|ip| {
        Multiaddr::from(ip).into_iter().chain(address.iter().skip(1)).collect::<Multiaddr>()
    });
    let listeners: Vec<(ListenerId, Multiaddr)> = concrete
        .filter_map(|concrete| Some((swarm.listen_on(concrete).ok()?, address.clone())))
        .collect();
    if listeners.is_empty() {
        return Err(error);
    }
    if !std::mem::replace(is_told, true) {
        warn!(%error, "this system does not tell its interfaces: changes of them are not seen");
    }
    Ok(listeners)
}

/// Somewhere far away, for documentation (RFC 5737, RFC 3849). Nothing is sent there.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The address by which packets leave this machine, if they do.
fn outward(any: IpAddr, far: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn is_ipv6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(_)))
}

/// Whether this machine has IPv6, if only to itself.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
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
        // A process that another test is just starting holds a copy of it until it runs its own program.
        let is_free = || check_free(&at(ip, port)).is_ok();
        let soon = (0..6_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            is_free()
        });
        assert!(soon, "nobody listens there any more");
        assert!(check_free(&at(ip, 0)).is_ok());
    }
}
