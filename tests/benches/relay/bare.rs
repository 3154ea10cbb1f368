//! Bytes over two hops with libp2p-stream and nothing else: what the network stack itself can do.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, noise, swarm::SwarmEvent, tcp, yamux,
};
use libp2p_stream as stream;

use crate::now;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/arborcast-bench/copy/1");
/// As much as a frame carries.
const BLOCK: usize = 64 << 10;

/// Three swarms: bytes go from the first through the second to the third, which says when it has
/// all.
pub(crate) struct Path {
    out: Stream,
}

impl Path {
    pub(crate) async fn new() -> Self {
        let (source, _) = node().await;
        let (relay, relay_at) = node().await;
        let (receiver, receiver_at) = node().await;
        let mut incoming = receiver.control.clone().accept(PROTOCOL).expect("once");
        tokio::spawn(async move {
            let (_, mut stream) = incoming.next().await.expect("the relay opens");
            count(&mut stream).await;
        });
        let mut incoming = relay.control.clone().accept(PROTOCOL).expect("once");
        let mut onward = relay.connect(receiver.id, receiver_at).await;
        tokio::spawn(async move {
            let (_, mut stream) = incoming.next().await.expect("the source opens");
            pass_on(&mut stream, &mut onward).await;
        });
        let out = source.connect(relay.id, relay_at).await;
        Self { out }
    }

    /// Time until the receiver had `bytes`.
    pub(crate) async fn run(&mut self, bytes: usize) -> Duration {
        let block = vec![0x5a; BLOCK];
        let began = now();
        let size = u64::try_from(bytes).expect("fits");
        self.out.write_all(&size.to_be_bytes()).await.expect("writes");
        for _ in 0..bytes / BLOCK {
            self.out.write_all(&block).await.expect("writes");
        }
        self.out.flush().await.expect("flushes");
        let mut done = [0; 1];
        self.out.read_exact(&mut done).await.expect("is told");
        began.elapsed()
    }
}

struct Running {
    id: PeerId,
    control: stream::Control,
    dial: tokio::sync::mpsc::Sender<Multiaddr>,
}

impl Running {
    async fn connect(&self, peer: PeerId, at: Multiaddr) -> Stream {
        self.dial.send(at).await.expect("runs");
        loop {
            match self.control.clone().open_stream(peer, PROTOCOL).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// A swarm of its own task, and where it listens.
async fn node() -> (Running, Multiaddr) {
    let mut swarm: Swarm<stream::Behaviour> = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|_| stream::Behaviour::new())
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listens");
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let (id, control) = (*swarm.local_peer_id(), swarm.behaviour().new_control());
    let (dial, mut dials) = tokio::sync::mpsc::channel::<Multiaddr>(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Some(at) = dials.recv() => swarm.dial(at).expect("dials"),
            }
        }
    });
    (Running { id, control, dial }, at)
}

/// At the receiver: reads rounds and answers each with one byte.
async fn count(stream: &mut Stream) {
    let mut block = vec![0; BLOCK];
    let mut size = [0; 8];
    while stream.read_exact(&mut size).await.is_ok() {
        for _ in 0..u64::from_be_bytes(size) / BLOCK as u64 {
            stream.read_exact(&mut block).await.expect("reads");
        }
        stream.write_all(&[1]).await.expect("writes");
        stream.flush().await.expect("flushes");
    }
}

/// At the relay: block for block, then the answer back.
async fn pass_on(from: &mut Stream, to: &mut Stream) {
    let mut block = vec![0; BLOCK];
    let mut size = [0; 8];
    while from.read_exact(&mut size).await.is_ok() {
        to.write_all(&size).await.expect("writes");
        for _ in 0..u64::from_be_bytes(size) / BLOCK as u64 {
            from.read_exact(&mut block).await.expect("reads");
            to.write_all(&block).await.expect("writes");
        }
        to.flush().await.expect("flushes");
        let mut done = [0; 1];
        to.read_exact(&mut done).await.expect("is told");
        from.write_all(&done).await.expect("writes");
        from.flush().await.expect("flushes");
    }
}
