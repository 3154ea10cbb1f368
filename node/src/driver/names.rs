//! Names in addresses (`/dns4/example.org/tcp/4001`) are looked up at each dial, by the resolver of the
//! system: a name may point elsewhere at any time, and what `/etc/hosts` and the rest of the machine's
//! name services say counts. All addresses of a name are tried at once; the first that answers is taken.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{Boxed, DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
};

/// Addresses of one name that are tried, at most.
const PER_NAME: usize = 16;

/// A transport that understands names. It dials anew for each address of a name, so others hold it too.
pub(super) struct Named<O>(Arc<Mutex<Boxed<O>>>);

impl<O> Named<O> {
    /// Adds names to a transport.
    pub(super) fn new(transport: Boxed<O>) -> Self {
        Self(Arc::new(Mutex::new(transport)))
    }

    fn lock(&self) -> MutexGuard<'_, Boxed<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Send + 'static> Transport for Named<O> {
    type Output = O;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<O>>;
    type Dial = BoxFuture<'static, io::Result<O>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.lock().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.lock().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(name) = Name::of(&address) else { return self.lock().dial(address, options) };
        let transport = Self(Arc::clone(&self.0));
        Ok(Box::pin(async move {
            let mut dials = FuturesUnordered::new();
            let mut failed = None;
            for address in name.look_up(&address).await? {
                let dial = transport.lock().dial(address, options);
                match dial {
                    Ok(dial) => dials.push(dial),
                    Err(TransportError::MultiaddrNotSupported(address)) => {
                        let why = format!("{address}: this kind of address is not supported");
                        failed = Some(io::Error::other(why));
                    }
                    Err(TransportError::Other(error)) => failed = Some(error),
                }
            }
            while let Some(outcome) = dials.next().await {
                match outcome {
                    Ok(connection) => return Ok(connection),
                    Err(error) => failed = Some(error),
                }
            }
            Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")))
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.lock()).poll(cx)
    }
}

/// A name in an address.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Name {
    /// Its position in the address.
    at: usize,
    text: String,
    v4: bool,
    v6: bool,
}

impl Name {
    /// The name at the beginning of an address: the others behind it are for those who relay.
    fn of(address: &Multiaddr) -> Option<Self> {
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return None;
        }
        address.iter().enumerate().find_map(|(at, part)| {
            let (name, v4, v6) = match part {
                Protocol::Dns(name) => (name, true, true),
                Protocol::Dns4(name) => (name, true, false),
                Protocol::Dns6(name) => (name, false, true),
                _ => return None,
            };
            Some(Self { at, text: name.into_owned(), v4, v6 })
        })
    }

    /// The address with the name replaced by each of the IPs that it stands for now.
    async fn look_up(&self, address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
        let found = tokio::net::lookup_host((self.text.as_str(), 0)).await.map_err(|error| {
            io::Error::other(format!("the name {} cannot be resolved: {error}", self.text))
        })?;
        let found: Vec<Multiaddr> =
            found.filter_map(|socket| self.replaced(address, socket.ip())).take(PER_NAME).collect();
        if found.is_empty() {
            return Err(io::Error::other(format!(
                "the name {} has no address of that kind",
                self.text
            )));
        }
        Ok(found)
    }

    fn replaced(&self, address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
        let ip = match ip {
            IpAddr::V4(ip) if self.v4 => Protocol::Ip4(ip),
            IpAddr::V6(ip) if self.v6 => Protocol::Ip6(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        address.replace(self.at, |_| Some(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_name_is_replaced_by_addresses_of_its_kind_alone() {
        let named = address("/dns4/co.test/tcp/4001");
        let name = Name::of(&named).expect("has a name");
        let v4 = name.replaced(&named, [192, 0, 2, 1].into());
        assert_eq!(v4, Some(address("/ip4/192.0.2.1/tcp/4001")));
        assert_eq!(name.replaced(&named, IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)), None);
    }

    #[test]
    fn plain_addresses_and_circuits_have_no_name_to_look_up() {
        assert_eq!(Name::of(&address("/ip4/127.0.0.1/tcp/1")), None);
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let circuit = format!("/dns4/co.test/tcp/4001/p2p/{peer}/p2p-circuit");
        assert_eq!(Name::of(&address(&circuit)), None, "the relay is dialled by its own address");
    }
}
