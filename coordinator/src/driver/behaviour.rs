//! What the coordinator speaks. The derive polls the fields in this order, so that connections are
//! refused before anything is done for them, and control comes before pushes.

use std::{num::NonZeroU32, time::Duration};

use arborcast_protocol::{NOTICE, PATH, REPORT, SESSION};
use libp2p::{
    PeerId, autonat, connection_limits, gossipsub as gs, identify, identity::Keypair, ping, relay,
    request_response::ProtocolSupport, swarm::NetworkBehaviour,
};

use arborcast_net::{
    IDENTIFY, exchange,
    gate::Gate,
    gossipsub,
    slots::{Bounds, Slots},
};

/// Between two pings on each connection.
const PING: Duration = Duration::from_secs(30);

/// The coordinator's protocols.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) slots: Slots,
    pub(super) session: exchange::Session,
    pub(super) report: exchange::Report,
    pub(super) path: exchange::Path,
    pub(super) notice: exchange::Notice,
    pub(super) gossipsub: Gate<gs::Behaviour>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) circuit: Gate<relay::Behaviour>,
    pub(super) autonat: Gate<autonat::v2::server::Behaviour>,
}

/// Connections that are coming up; a handshake takes some milliseconds.
const PENDING: u32 = 512;

/// Connections of peers that are no members yet, most of which one address may have: a large group behind
/// one NAT comes at once. So many are to spare beside those of all members; see [`super::Config`].
const STRANGERS: usize = 512;

impl Behaviour {
    pub(super) fn new(keypair: &Keypair, connections: u32) -> Result<Self, String> {
        let peer = PeerId::from(keypair.public());
        let mut circuit = relay::Behaviour::new(peer, circuits());
        // Without an address that is known to be reached from outside it would offer none at all, and
        // members behind NATs would never meet.
        circuit.set_status(Some(relay::Status::Enable));
        Ok(Self {
            // A member needs one connection for each transport and one over a circuit, and ten addresses of
            // its may be tried at a time.
            limits: connection_limits::Behaviour::new(
                connection_limits::ConnectionLimits::default()
                    .with_max_pending_incoming(Some(PENDING))
                    .with_max_established_per_peer(Some(14))
                    .with_max_established(Some(connections)),
            ),
            slots: Slots::new(Bounds {
                strangers: STRANGERS,
                per_origin: STRANGERS * 7 / 8,
                pending_per_origin: PENDING as usize / 4,
            }),
            session: exchange::behaviour(SESSION, ProtocolSupport::Inbound),
            report: exchange::behaviour(REPORT, ProtocolSupport::Inbound),
            path: exchange::behaviour(PATH, ProtocolSupport::Inbound),
            notice: exchange::behaviour(NOTICE, ProtocolSupport::Outbound),
            gossipsub: Gate::new(gossipsub(keypair)?),
            identify: identify::Behaviour::new(
                identify::Config::new(IDENTIFY.to_owned(), keypair.public())
                    .with_agent_version(concat!("arborcast/", env!("CARGO_PKG_VERSION")).to_owned())
                    // Members hear of new addresses and look for it there, too.
                    .with_push_listen_addr_updates(true),
            ),
            // Members renew far more often; this finds what is left of connections of before.
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING)),
            circuit: Gate::new(circuit),
            autonat: Gate::new(autonat::v2::server::Behaviour::default()),
        })
    }
}

impl Behaviour {
    /// Whether a connected peer may use what is for members.
    pub(super) fn turn(&mut self, peer: PeerId, is_member: bool) {
        self.slots.turn(peer, is_member);
        self.gossipsub.turn(peer, is_member);
        self.circuit.turn(peer, is_member);
        self.autonat.turn(peer, is_member);
    }
}

/// Circuits serve signalling for hole punching; bytes and time suffice for that and no more.
fn circuits() -> relay::Config {
    let per_peer = NonZeroU32::new(120).unwrap_or(NonZeroU32::MIN);
    relay::Config {
        max_reservations: 4096,
        max_reservations_per_peer: 2,
        max_circuits: 1024,
        max_circuits_per_peer: 64,
        max_circuit_duration: Duration::from_secs(120),
        max_circuit_bytes: 1 << 20,
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    }
    .circuit_src_per_peer(per_peer, Duration::from_secs(1))
}
