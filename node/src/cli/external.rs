//! Where others reach a session's coordinator, as people say it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "addresses have many parts, and two of them count"
)]

use std::{net::IpAddr, str::FromStr};

use crate::Multiaddr;
use libp2p::multiaddr::Protocol;

/// An address from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum External {
    /// In full.
    Address(Multiaddr),
    /// A name or an IP address, at the ports that are listened on, or at this one.
    Host(Protocol<'static>, Option<u16>),
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return text.parse().map(Self::Address).map_err(|error| format!("{error}"));
        }
        let (host, port) =
            match text.rsplit_once(':') {
                // An IPv6 address has several, and a port after it only behind a bracket.
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    let port = port.parse().ok().filter(|port| *port != 0);
                    (
                        host,
                        Some(port.ok_or_else(|| {
                            format!("{text}: the port is a number from 1 to 65535")
                        })?),
                    )
                }
                Some(_) | None => (text, None),
            };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self::Host(part(host)?, port))
    }
}

/// A name or an IP address as the first part of an address.
fn part(host: &str) -> Result<Protocol<'static>, String> {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => Ok(Protocol::Ip4(ip)),
        Ok(IpAddr::V6(ip)) => Ok(Protocol::Ip6(ip)),
        Err(_) => {
            let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.len() > 253 || !host.chars().all(good) {
                return Err(format!(
                    "{host:?} is no name of a machine; give a name, an IP address (with :PORT if it differs \
                     from where the session listens), or an address like /dns/NAME/tcp/PORT"
                ));
            }
            Ok(Protocol::Dns(host.to_owned().into()))
        }
    }
}

impl External {
    /// The addresses that it comes to, given those that are listened on.
    pub(super) fn addresses(&self, listening: &[Multiaddr]) -> Vec<Multiaddr> {
        let (host, port) = match self {
            Self::Address(address) => return vec![address.clone()],
            Self::Host(host, port) => (host, *port),
        };
        let host = Multiaddr::empty().with(host.clone());
        let tcp = listening.iter().find_map(|address| {
            address.iter().find_map(|part| match part {
                Protocol::Tcp(port) => Some(port),
                _ => None,
            })
        });
        let is_quic = |address: &&Multiaddr| address.iter().any(|part| part == Protocol::QuicV1);
        let quic = listening.iter().find(is_quic).and_then(|address| {
            address.iter().find_map(|part| match part {
                Protocol::Udp(port) => Some(port),
                _ => None,
            })
        });
        let tcp = tcp.map(|own| host.clone().with(Protocol::Tcp(port.unwrap_or(own))));
        let quic =
            quic.map(|own| host.with(Protocol::Udp(port.unwrap_or(own))).with(Protocol::QuicV1));
        tcp.into_iter().chain(quic).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        let listening = ["/ip4/10.0.0.1/udp/4002/quic-v1", "/ip4/10.0.0.1/tcp/4001"]
            .map(|address| address.parse().expect("an address"));
        let external: External = text.parse().expect("is one");
        external.addresses(&listening).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_or_an_address_stands_for_all_transports() {
        let both = |host: &str, tcp: u16, udp: u16| {
            vec![format!("{host}/tcp/{tcp}"), format!("{host}/udp/{udp}/quic-v1")]
        };
        assert_eq!(addresses("tree.example"), both("/dns/tree.example", 4001, 4002));
        assert_eq!(addresses("tree.example:443"), both("/dns/tree.example", 443, 443));
        assert_eq!(addresses("192.0.2.7"), both("/ip4/192.0.2.7", 4001, 4002));
        assert_eq!(addresses("2001:db8::7"), both("/ip6/2001:db8::7", 4001, 4002));
        assert_eq!(addresses("[2001:db8::7]:443"), both("/ip6/2001:db8::7", 443, 443));
        assert_eq!(addresses("/dns4/tree.example/tcp/9"), ["/dns4/tree.example/tcp/9"]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bad in ["", "tree example", "tree.example:0", "tree.example:x", "/ip4/tree", "a/b"] {
            assert!(bad.parse::<External>().is_err(), "{bad:?}");
        }
    }
}
