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

/// Where somebody is looked for: where the invitation says, and where it said itself since that it is.
#[derive(Debug)]
pub(super) struct Known {
    /// The invitation's, then those that were told, the newest first.
    all: Vec<Multiaddr>,
    invited: usize,
}

impl Known {
    pub(super) const fn new(invited: Vec<Multiaddr>) -> Self {
        Self { invited: invited.len(), all: invited }
    }

    pub(super) fn all(&self) -> &[Multiaddr] {
        &self.all
    }

    /// Adds what is new of these. What is local there is only local here if it is the same machine, and
    /// then known already. Of those told before the oldest give way.
    pub(super) fn learn(&mut self, told: &[Multiaddr]) {
        let mut fresh: Vec<Multiaddr> = told
            .iter()
            .filter(|address| is_tellable(address) && !is_local(address))
            .map(without_peer)
            .filter(|told| !self.all.iter().any(|own| without_peer(own) == *told))
            .collect();
        fresh.truncate(limits::ADDRESSES / 2);
        self.all.splice(self.invited..self.invited, fresh);
        self.all.truncate(limits::ADDRESSES.max(self.invited));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap_or_else(|_| Multiaddr::empty())
    }

    #[test]
    fn what_a_coordinator_says_of_itself_is_looked_for_after_what_the_invitation_says() {
        let invited = at("/ip4/192.0.2.1/tcp/4001");
        let mut known = Known::new(vec![invited.clone()]);
        let (second, third) = (at("/ip4/192.0.2.2/tcp/4001"), at("/ip4/192.0.2.3/tcp/4001"));
        let told = [
            invited.clone(),
            at("/ip4/127.0.0.1/tcp/4001"),
            at("/ip4/169.254.1.1/tcp/4001"),
            at("/ip4/0.0.0.0/tcp/4001"),
            second.clone(),
        ];
        known.learn(&told);
        known.learn(&told);
        assert_eq!(known.all(), [invited.clone(), second.clone()]);
        known.learn(std::slice::from_ref(&third));
        assert_eq!(known.all(), [invited.clone(), third, second]);
        for number in 0..100 {
            known.learn(&[at(&format!("/ip4/198.51.100.{number}/tcp/4001"))]);
        }
        assert_eq!(known.all().len(), limits::ADDRESSES);
        assert_eq!(known.all().first(), Some(&invited));
        assert_eq!(known.all().get(1), Some(&at("/ip4/198.51.100.99/tcp/4001")));
    }
}
