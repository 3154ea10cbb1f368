//! Which of this machine's addresses a ticket is to tell: those that lead here from elsewhere, and tomorrow.

use std::{collections::BTreeSet, net::Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Drops what leads here on one link alone, and IPv6 addresses that the system will soon replace by others (RFC
/// 8981).
pub(super) fn only_lasting(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let passing = passing(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default());
    addresses.into_iter().filter(|address| is_lasting(address, &passing)).collect()
}

fn is_lasting(address: &Multiaddr, passing: &BTreeSet<Ipv6Addr>) -> bool {
    address.iter().all(|part| {
        if let Protocol::Ip4(ip) = part {
            !ip.is_link_local()
        } else if let Protocol::Ip6(ip) = part {
            !ip.is_unicast_link_local() && !passing.contains(&ip)
        } else {
            true
        }
    })
}

/// The addresses that Linux lists as temporary or deprecated: address, interface, length of the prefix, scope, and
/// flags, each in hexadecimal, then a name (`if_inet6`). Other systems tell nobody.
fn passing(listed: &str) -> BTreeSet<Ipv6Addr> {
    const TEMPORARY: u32 = 0x01;
    const DEPRECATED: u32 = 0x20;
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        (flags & (TEMPORARY | DEPRECATED) != 0).then(|| Ipv6Addr::from(address))
    };
    listed.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_from_elsewhere_or_not_for_long_is_not_told() {
        let passing = passing(
            "20010db8000000000000000000000001 02 40 00 80 eth0\n\
             20010db8000000000000000000000002 02 40 00 01 eth0\n\
             20010db8000000000000000000000003 02 40 00 20 eth0\n\
             fe800000000000000000000000000001 02 40 20 80 eth0\n\
             no line of it\n",
        );
        let is = |text: &str| is_lasting(&text.parse().expect("an address"), &passing);
        for good in ["/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns/tree.example/tcp/1"] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "/ip6/2001:db8::2/tcp/1",
            "/ip6/2001:db8::3/udp/1/quic-v1",
            "/ip6/fe80::1/tcp/1",
            "/ip4/169.254.1.1/tcp/1",
        ] {
            assert!(!is(bad), "{bad}");
        }
    }
}
