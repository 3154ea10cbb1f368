//! What multiaddrs say.

use arborcast_protocol::{limits, qos::Transport, session::Address};
use libp2p::{Multiaddr, multiaddr::Protocol};

/// Whether telling others this address can help them: link-local ones need a zone, wildcards and
/// free ports name nothing.
pub(super) fn is_tellable(address: &Multiaddr) -> bool {
    !address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_unspecified() || ip.is_link_local(),
        Protocol::Ip6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
        Protocol::Tcp(port) | Protocol::Udp(port) => port == 0,
        _ => false,
    })
}

/// Whether only somebody on this machine, or on this link, can mean it.
pub(super) fn is_local(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback() || ip.is_link_local(),
        Protocol::Ip6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        _ => false,
    })
}

/// The address without the id of who is there.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Whether it leads over a circuit.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether a peer that says it saw us at this address can have seen our own socket.
pub(super) fn can_be_observed(address: &Multiaddr) -> bool {
    !is_circuit(address)
        && address.iter().any(|part| match part {
            Protocol::Ip4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
            Protocol::Ip6(ip) => !ip.is_loopback() && !ip.is_unspecified(),
            _ => false,
        })
}

/// What carries a connection to this address.
pub(super) fn transport(address: &Multiaddr) -> Transport {
    for part in address {
        match part {
            Protocol::Tcp(_) => return Transport::Tcp,
            Protocol::QuicV1 | Protocol::Quic => return Transport::Quic,
            _ => {}
        }
    }
    Transport::Other
}

/// On the wire: binary, without the id at the end, within the limits.
pub(super) fn tell(addresses: &[Multiaddr]) -> Vec<Address> {
    addresses
        .iter()
        .map(|address| Address(without_peer(address).to_vec()))
        .filter(|address| address.0.len() <= limits::ADDRESS)
        .take(limits::ADDRESSES)
        .collect()
}

/// From the wire; what is no multiaddr is left out.
pub(super) fn heard(addresses: &[Address]) -> Vec<Multiaddr> {
    addresses
        .iter()
        .take(limits::ADDRESSES)
        .filter_map(|address| Multiaddr::try_from(address.0.clone()).ok())
        .collect()
}
