//! An insider with a place in the tree that lies on its edges.

use arborcast_protocol::{
    DATA, EDGE,
    certificate::{Certificate, Claim},
    codec,
    edge::{DataHello, Hello, Message, Summary},
    frame::{self, Content, Frame, Header, InBand, Proof},
    id::{Class, Epoch, FrameNo, KeyId, MemberId, SeqNo, ServiceId, Signature},
    limits,
    signature::sign_batch,
    tree::{self, SignedHeader},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{PeerId, Stream, StreamProtocol};

use super::{
    peer::{Peer, within},
    world::{Member, World, forged, id, until},
};

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&u32::try_from(bytes.len()).expect("short").to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Opens the control substream with this certificate; the other side's certificate if it answers.
async fn hello(
    peer: &Peer,
    to: PeerId,
    certificate: Certificate,
) -> Option<(Stream, Certificate, Hello)> {
    let mut streams = peer.streams.clone();
    let mut stream = within(streams.open_stream(to, StreamProtocol::new(EDGE))).await.ok()?;
    let hello = Hello {
        session: certificate.claim.session,
        certificate,
        epoch: Epoch::default(),
        token: [3; 16],
    };
    write(&mut stream, &codec::encode(&hello)).await.ok()?;
    let answer = within(read(&mut stream)).await.ok()?;
    let answer: Hello = codec::decode(&answer, limits::HELLO).expect("a hello");
    Some((stream, answer.certificate, hello))
}

/// A settled edge: both summaries exchanged, frames may flow.
struct Edge {
    control: Stream,
    data: Stream,
    theirs: Certificate,
}

async fn edge(mallory: &Peer, to: PeerId, certificate: Certificate) -> Edge {
    let (mut control, theirs, said) = hello(mallory, to, certificate).await.expect("an answer");
    let mut streams = mallory.streams.clone();
    let mut data =
        within(streams.open_stream(to, StreamProtocol::new(DATA))).await.expect("a substream");
    let hello = DataHello { session: said.session, token: said.token };
    write(&mut data, &codec::encode(&hello)).await.expect("written");
    let summary = Message::Summary(Summary { settled: true, flows: Vec::new(), live: false });
    write(&mut control, &codec::encode(&summary)).await.expect("written");
    loop {
        let message = within(read(&mut control)).await.expect("a message");
        if let Ok(Message::Summary(_)) = codec::decode(&message, limits::EDGE_MESSAGE) {
            return Edge { control, data, theirs };
        }
    }
}

/// An insider that is connected to both members and whose edges the tree names.
pub(super) async fn insider(world: &World) -> (Peer, Certificate, [PeerId; 2]) {
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    let certificate = mallory.join(coordinator, &world.access.clone()).await.expect("an insider");
    let mut peers = Vec::new();
    for member in [&world.ada, &world.bea] {
        let address = member.node.listen_addresses().into_iter().next().expect("an address");
        peers.push(mallory.dial(&address).await);
    }
    let members = [id(&world.ada), id(&world.bea)];
    mallory.report_channels(coordinator, world.access.session(), &members).await;
    until("the insider in the tree", async || {
        world
            .ada
            .session
            .tree()
            .is_some_and(|(_, tree)| tree.neighbours(mallory.member).next().is_some())
    })
    .await;
    (mallory, certificate, [peers[0], peers[1]])
}

/// Which of the two members the tree made the insider's neighbour.
fn neighbour<'a>(
    world: &'a World,
    mallory: &Peer,
    peers: [PeerId; 2],
) -> (&'a Member, PeerId, &'a Member, PeerId) {
    let (_, tree) = world.ada.session.tree().expect("a tree");
    if tree.neighbours(mallory.member).any(|next| next == id(&world.ada)) {
        (&world.ada, peers[0], &world.bea, peers[1])
    } else {
        (&world.bea, peers[1], &world.ada, peers[0])
    }
}

fn header(world: &World, source: MemberId, certificate: &Certificate, number: u64) -> Header {
    Header {
        session: world.access.session(),
        source,
        incarnation: certificate.claim.incarnation,
        class: Class::Reliable,
        number: FrameNo(number),
        service: ServiceId(0),
        first_seq: SeqNo(number),
        content: Content::Messages { count: 1 },
        key: Some(KeyId(0)),
        to: None,
        in_band: None,
    }
}

/// A frame with this header and certificate, signed by the insider, sealed as it should be.
fn made(world: &World, mallory: &Peer, header: Header, certificate: &Certificate) -> Frame {
    let root = world.access.payload_root().expect("a private session");
    let key = root.flow_key(&header.flow(), KeyId(0));
    let head = codec::encode(&header);
    let sealed = key.seal(header.number, &head, b"\0\0\0\x03lie");
    let keypair = mallory.keypair.clone().try_into_ed25519().expect("Ed25519");
    let batch = sign_batch(&keypair, &[frame::digest(&head, &sealed)]).remove(0);
    Frame::new(header, &Proof { certificate: certificate.into(), batch }, &sealed).expect("a frame")
}

/// A frame of the insider with the session's tree, signed by itself (R13).
fn with_own_tree(world: &World, mallory: &Peer, certificate: &Certificate) -> Vec<u8> {
    let (epoch, tree) = world.ada.session.tree().expect("a tree");
    let session = world.access.session();
    let keypair = mallory.keypair.clone().try_into_ed25519().expect("Ed25519");
    let signed = SignedHeader::sign(tree::Header { session, epoch, hash: tree.hash() }, &keypair);
    let in_band = Some(InBand::new(&signed, &tree).expect("a small tree"));
    let header = Header { in_band, ..header(world, mallory.member, certificate, 1) };
    made(world, mallory, header, certificate).bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_frames_are_dropped_and_counted() {
    let mut world = World::new().await;
    let (mallory, own, peers) = insider(&world).await;
    let (near, near_peer, far, far_peer) = neighbour(&world, &mallory, peers);
    // The certificate of the other member is no secret: everybody that meets it has it.
    let victim = hello(&mallory, far_peer, own).await.expect("an answer").1;
    let mut edge = edge(&mallory, near_peer, own).await;
    assert_eq!(edge.theirs.claim.member, id(near));
    let before = forged(near).await;

    let unsigned = Certificate {
        signature: Signature::from_bytes([0; 64]),
        ..Certificate::sign(
            Claim { member: mallory.member, ..own.claim },
            &mallory.keypair.clone().try_into_ed25519().expect("Ed25519"),
        )
    };
    let self_signed =
        Certificate::sign(own.claim, &mallory.keypair.clone().try_into_ed25519().expect("Ed25519"));
    let good = made(&world, &mallory, header(&world, mallory.member, &own, 1), &own);
    let mut flipped = good.bytes().to_vec();
    *flipped.last_mut().expect("bytes") ^= 1;
    let forgeries: Vec<(&str, Vec<u8>)> = vec![
        ("a tree that no coordinator signed", with_own_tree(&world, &mallory, &own)),
        (
            "another source, its certificate, our signature",
            made(&world, &mallory, header(&world, id(far), &victim, 999), &victim).bytes().to_vec(),
        ),
        (
            "another source, our certificate",
            made(&world, &mallory, header(&world, id(far), &own, 999), &own).bytes().to_vec(),
        ),
        (
            "no certificate",
            made(&world, &mallory, header(&world, mallory.member, &own, 1), &unsigned)
                .bytes()
                .to_vec(),
        ),
        (
            "a certificate by ourselves",
            made(&world, &mallory, header(&world, mallory.member, &own, 1), &self_signed)
                .bytes()
                .to_vec(),
        ),
        ("a changed payload", flipped),
    ];
    for (at, (what, bytes)) in forgeries.iter().enumerate() {
        write(&mut edge.data, bytes).await.expect(what);
        until(what, async || forged(near).await > before + at as u64).await;
    }
    // The numbers that the forgeries used are not burnt: the real frame still counts.
    write(&mut edge.data, good.bytes()).await.expect("written");
    world.honest_members_still_talk().await;
    let status = world.ada.session.status().await.expect("a status");
    assert_eq!(status.member, id(&world.ada));
    drop(edge.control);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_over_the_limit_and_garbage_close_the_edge_and_no_more() {
    let mut world = World::new().await;
    let (mallory, own, peers) = insider(&world).await;
    let garbage: Vec<(&str, bool, Vec<u8>)> = vec![
        ("a length over the limit", true, u32::MAX.to_be_bytes().to_vec()),
        ("a frame that is none", true, [&16_u32.to_be_bytes()[..], &[0xff; 16]].concat()),
        ("a control message over the limit", false, u32::MAX.to_be_bytes().to_vec()),
        ("a control message that is none", false, [&4_u32.to_be_bytes()[..], &[0xff; 4]].concat()),
    ];
    for (what, on_data, bytes) in garbage {
        let (_, near_peer, ..) = neighbour(&world, &mallory, peers);
        let mut edge = edge(&mallory, near_peer, own).await;
        let stream = if on_data { &mut edge.data } else { &mut edge.control };
        stream.write_all(&bytes).await.expect(what);
        stream.flush().await.expect(what);
        // The other side hangs up.
        let mut rest = Vec::new();
        let _ = within(edge.control.read_to_end(&mut rest)).await;
        world.honest_members_still_talk().await;
    }
}

/// Sends frames that do not prove genuine until so many went, on one edge after another: each is closed
/// after some of them. Gives how many that took.
async fn flood(mallory: &Peer, to: PeerId, own: Certificate, bad: &[u8], frames: usize) -> usize {
    let (mut sent, mut edges) = (0, 0);
    let mut streams = mallory.streams.clone();
    while sent < frames {
        let Some((mut control, _, said)) = hello(mallory, to, own).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let opened = streams.open_stream(to, StreamProtocol::new(DATA));
        let Ok(mut data) = within(opened).await else { continue };
        edges += 1;
        let hello = DataHello { session: said.session, token: said.token };
        let summary = Message::Summary(Summary { settled: true, flows: Vec::new(), live: false });
        let begun = async {
            write(&mut data, &codec::encode(&hello)).await?;
            write(&mut control, &codec::encode(&summary)).await
        };
        if begun.await.is_ok() {
            while sent < frames && write(&mut data, bad).await.is_ok() {
                sent += 1;
            }
        }
    }
    edges
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_a_flood_of_frames_that_are_not_genuine_holds_nobody_up() {
    let mut world = World::new().await;
    let (mallory, own, peers) = insider(&world).await;
    let (_, near_peer, ..) = neighbour(&world, &mallory, peers);
    let good = made(&world, &mallory, header(&world, mallory.member, &own, 1), &own);
    let mut bad = good.bytes().to_vec();
    *bad.last_mut().expect("bytes") ^= 1;
    let began = arborcast_tests::process::now();
    let flooding = flood(&mallory, near_peer, own, &bad, 5_000);
    let mut talked = 0_u32;
    let talking = async {
        loop {
            world.honest_members_still_talk().await;
            talked += 1;
        }
    };
    let edges = tokio::select! {
        edges = within(flooding) => edges,
        () = talking => unreachable!("it goes on"),
    };
    let rate = 5_000.0 / began.elapsed().as_secs_f64();
    println!(
        "{rate:.0} bad frames a second on {edges} edges; {talked} times both were heard meanwhile"
    );
    assert!(talked > 0, "nobody was heard");
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_answered_only_to_members_with_their_own_certificate() {
    let mut world = World::new().await;
    let (mallory, own, [ada, bea]) = insider(&world).await;
    let others = hello(&mallory, bea, own).await.expect("an answer").1;
    assert!(hello(&mallory, ada, others).await.is_none(), "somebody else's certificate");
    let keypair = mallory.keypair.clone().try_into_ed25519().expect("Ed25519");
    let self_made = Certificate::sign(own.claim, &keypair);
    assert!(hello(&mallory, ada, self_made).await.is_none(), "a certificate by ourselves");
    let stranger = Peer::new();
    let address = world.ada.node.listen_addresses().into_iter().next().expect("an address");
    stranger.dial(&address).await;
    assert!(hello(&stranger, ada, own).await.is_none(), "a stolen certificate");
    world.honest_members_still_talk().await;
}
