//! Addresses in little room: each IP address once, with the ports at which it is reached.
//!
//! ```text
//! groups, one after another:
//!   TCP port (2 bytes, 0: none) ‖ port of QUIC (2 bytes, 0: none)
//!   ‖ number of IPv4 addresses (1 byte) ‖ they (4 bytes each)
//!   ‖ number of IPv6 addresses (1 byte) ‖ they (16 bytes each)
//! ```
//!
//! An address stands for one over TCP and one over QUIC, as far as its group has the ports. What is
//! neither is written as it is, beside the groups.

use std::{collections::BTreeMap, net::IpAddr};

use multiaddr::{Multiaddr, Protocol};

use crate::session::Address;

/// The ports of a group: TCP and QUIC, 0 for none.
type Ports = (u16, u16);

/// The groups, and what fits into none.
pub(super) fn pack(addresses: &[Address]) -> (Vec<u8>, Vec<Address>) {
    // In the order in which they first come.
    let mut hosts: Vec<(IpAddr, Ports)> = Vec::new();
    let mut others = Vec::new();
    for address in addresses {
        let Some((ip, (tcp, quic))) = address.multiaddr().and_then(|address| plain(&address))
        else {
            others.push(address.clone());
            continue;
        };
        let fits = |ports: &Ports| (tcp == 0 || ports.0 == 0) && (quic == 0 || ports.1 == 0);
        match hosts.iter_mut().find(|(host, ports)| *host == ip && fits(ports)) {
            Some((_, ports)) => *ports = (ports.0.max(tcp), ports.1.max(quic)),
            None => hosts.push((ip, (tcp, quic))),
        }
    }
    let mut order: Vec<Ports> = Vec::new();
    let mut groups: BTreeMap<Ports, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    for (ip, ports) in hosts {
        if !order.contains(&ports) {
            order.push(ports);
        }
        let (v4, v6) = groups.entry(ports).or_default();
        match ip {
            IpAddr::V4(ip) => v4.extend(ip.octets()),
            IpAddr::V6(ip) => v6.extend(ip.octets()),
        }
    }
    let mut packed = Vec::new();
    for ports in order {
        let Some((v4, v6)) = groups.remove(&ports) else { continue };
        packed.extend(ports.0.to_be_bytes());
        packed.extend(ports.1.to_be_bytes());
        for (ips, len) in [(v4, 4), (v6, 16)] {
            // A contact has a few addresses.
            packed.push(u8::try_from(ips.len() / len).unwrap_or(u8::MAX));
            packed.extend(ips);
        }
    }
    (packed, others)
}

/// What was packed; `None` if it was not.
pub(super) fn unpack(mut packed: &[u8]) -> Option<Vec<Address>> {
    let mut addresses = Vec::new();
    while !packed.is_empty() {
        let (tcp, rest) = packed.split_first_chunk()?;
        let (quic, rest) = rest.split_first_chunk()?;
        let ports = (u16::from_be_bytes(*tcp), u16::from_be_bytes(*quic));
        let (v4, rest) = ips::<4>(rest)?;
        let (v6, rest) = ips::<16>(rest)?;
        packed = rest;
        if v4.len() + v6.len() > crate::limits::ADDRESSES {
            return None;
        }
        let all =
            v4.iter().map(|ip| IpAddr::from(*ip)).chain(v6.iter().map(|ip| IpAddr::from(*ip)));
        addresses.extend(all.flat_map(|ip| expand(ip, ports)));
    }
    Some(addresses)
}

/// Addresses of one length, and what comes after them.
fn ips<const LEN: usize>(bytes: &[u8]) -> Option<(Vec<[u8; LEN]>, &[u8])> {
    let (count, rest) = bytes.split_first()?;
    let (ips, rest) = rest.split_at_checked(usize::from(*count) * LEN)?;
    let (whole, _) = ips.as_chunks::<LEN>();
    Some((whole.to_vec(), rest))
}

/// An address that is an IP address and one port, as a host of one of its two kinds.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is neither is written in full")]
fn plain(address: &Multiaddr) -> Option<(IpAddr, Ports)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None, None) if port != 0 => Some((ip, (port, 0))),
        (Protocol::Udp(port), Some(Protocol::QuicV1), None) if port != 0 => Some((ip, (0, port))),
        _ => None,
    }
}

fn expand(ip: IpAddr, (tcp, quic): Ports) -> impl Iterator<Item = Address> {
    let tcp = (tcp != 0).then(|| Multiaddr::from(ip).with(Protocol::Tcp(tcp)));
    let quic =
        (quic != 0).then(|| Multiaddr::from(ip).with(Protocol::Udp(quic)).with(Protocol::QuicV1));
    tcp.into_iter().chain(quic).map(|address| Address::from(&address))
}
