//! One message of each kind.

use libp2p_identity::ed25519;
use multiaddr::Multiaddr;
use serde_bytes::ByteBuf;

use super::sample::{Form, Sample, cbor, frame, ticket};
use crate::{
    admission::{self, Admission, Statement},
    certificate::{Certificate, Claim, Role},
    codec, edge,
    frame::{self, Content, Frame, Proof},
    history::History,
    id::{
        Challenge, Class, Epoch, Flow, FrameNo, Incarnation, KeyId, MemberId, SeqNo, ServiceId,
        SessionId, Term,
    },
    keys::{Access, Secret},
    notice,
    numbers::NumberSet,
    path, probe, push,
    qos::{ChannelKind, Qos, Transport},
    refusal::{Code, Refusal},
    report, session, signature,
    ticket::Ticket,
    tree,
};

fn keypair(byte: u8) -> ed25519::Keypair {
    let secret = ed25519::SecretKey::try_from_bytes([byte; 32]).unwrap();
    ed25519::Keypair::from(secret)
}

fn id(byte: u8) -> MemberId {
    MemberId::from(&keypair(byte))
}

fn secret() -> Secret {
    Secret::from_bytes([0x55; 32])
}

fn session() -> SessionId {
    secret().session()
}

const RUN: Incarnation = Incarnation::from_bytes([0x22; 16]);
const CHALLENGE: Challenge = Challenge::from_bytes([0x77; 32]);
const EPOCH: Epoch = Epoch { term: Term(3), counter: 41 };
const COORDINATOR: u8 = 1;

fn push_key(id: u32) -> push::PushKey {
    push::PushKey { id, secret: push::PushSecret::from_bytes([0x66; 32]) }
}

fn certificate() -> Certificate {
    let claim = Claim {
        session: session(),
        member: id(2),
        incarnation: RUN,
        role: Role::Member,
        expires_s: 1_800_000_000,
    };
    Certificate::sign(claim, &keypair(COORDINATOR))
}

fn statement(session: SessionId) -> Statement {
    Statement {
        session,
        coordinator: id(COORDINATOR),
        member: id(2),
        incarnation: RUN,
        challenge: CHALLENGE,
    }
}

fn open() -> Access {
    Access::Open { name: "lobby".to_owned() }
}

fn address(text: &str) -> session::Address {
    session::Address::from(&text.parse::<Multiaddr>().unwrap())
}

fn addresses() -> Vec<session::Address> {
    vec![address("/ip4/192.0.2.7/tcp/4001"), address("/ip6/2001:db8::7/udp/4001/quic-v1")]
}

fn contact(byte: u8) -> session::Contact {
    session::Contact { member: id(byte), addresses: addresses() }
}

fn member(byte: u8, nick: &str, group: u32) -> tree::Member {
    tree::Member {
        id: id(byte),
        incarnation: Incarnation::from_bytes([byte; 16]),
        nick: nick.to_owned(),
        group,
    }
}

fn edge(a: u8, b: u8) -> tree::Edge {
    tree::Edge::new(id(a), id(b)).unwrap()
}

/// 2 - 3 - 4, with 2 - 4 from the tree before.
fn small_tree() -> tree::Tree {
    let members = [member(2, "ada", 0), member(3, "", 0), member(4, "bea", 1)];
    tree::Tree::new(members, [edge(2, 3), edge(3, 4)], [edge(2, 4)]).unwrap()
}

fn header() -> tree::SignedHeader {
    let header = tree::Header { session: session(), epoch: EPOCH, hash: small_tree().hash() };
    tree::SignedHeader::sign(header, &keypair(COORDINATOR))
}

fn update(body: tree::Body) -> tree::Update {
    tree::Update { header: header(), body }
}

fn neighbours() -> path::Neighbours {
    let tree = small_tree();
    path::Neighbours {
        header: header(),
        neighbours: vec![member(3, "", 0)],
        overlap: vec![id(4)],
        cyclic: Vec::new(),
        roster_hash: tree.roster_hash(id(2)),
        roster_len: 2,
        roster_index: Some(1),
    }
}

fn refusal() -> Refusal {
    Refusal::new(Code::NOT_ADMITTED, "not admitted; ask for a new ticket")
}

fn terms() -> session::Terms {
    session::Terms {
        now_s: 1_799_990_000,
        lease_ms: 30_000,
        renew_ms: 10_000,
        report_ms: 5_000,
        message_bytes: 16_777_216,
        store_bytes: 67_108_864,
        slow_ms: 0,
        history: History::None,
    }
}

fn channel(byte: u8, kind: ChannelKind, transport: Transport) -> report::Channel {
    report::Channel { peer: id(byte), kind, transport }
}

fn channel_qos() -> report::ChannelQos {
    let qos =
        Qos { delay_us: 20_500, jitter_us: 1_200, loss_ppm: 1_000, bandwidth_kbps: Some(50_000) };
    report::ChannelQos { peer: id(3), qos }
}

fn flow(class: Class) -> Flow {
    Flow { source: id(2), incarnation: RUN, class, to: None }
}

fn numbers() -> NumberSet {
    let mut numbers = NumberSet::up_to(FrameNo(100));
    numbers.insert_range(FrameNo(103), FrameNo(110));
    numbers.insert(FrameNo(300));
    numbers
}

fn frame_header() -> frame::Header {
    frame::Header {
        session: session(),
        source: id(2),
        incarnation: RUN,
        class: Class::Reliable,
        number: FrameNo(7),
        service: ServiceId(0),
        first_seq: SeqNo(9),
        content: Content::Messages { count: 2 },
        key: Some(KeyId(0)),
        to: None,
        in_band: None,
    }
}

/// To member 03 alone.
fn directed_header() -> frame::Header {
    frame::Header { number: FrameNo(1), to: Some(id(3)), ..frame_header() }
}

/// The payload of [`frame_header`]: two messages.
const PAYLOAD: &[u8] = b"\0\0\0\x05hello\0\0\0\x05world";

fn signed(header: frame::Header, sealed: &[u8], among: usize, position: usize) -> Frame {
    let digest = frame::digest(&codec::encode(&header), sealed);
    let mut digests = vec![crate::id::Digest::from_bytes([0x99; 32]); among];
    digests[position] = digest;
    let batch = signature::sign_batch(&keypair(2), &digests).swap_remove(position);
    assert!(batch.verify(&id(2), &digest));
    let proof = Proof { certificate: (&certificate()).into(), batch };
    Frame::new(header, &proof, sealed).unwrap()
}

fn sealed_frame(among: usize, position: usize) -> Frame {
    sealed_as(frame_header(), among, position)
}

fn sealed_as(header: frame::Header, among: usize, position: usize) -> Frame {
    let key = secret().payload_root().flow_key(&header.flow(), KeyId(0));
    let sealed = key.seal(header.number, &codec::encode(&header), PAYLOAD);
    signed(header, &sealed, among, position)
}

fn open_frame() -> Frame {
    let header = frame::Header { key: None, ..frame_header() };
    signed(header, PAYLOAD, 1, 0)
}

/// All of them.
pub(super) fn samples() -> Vec<Sample> {
    [sessions(), reports_and_paths(), trees_and_edges(), frames_and_proofs()]
        .into_iter()
        .flatten()
        .collect()
}

fn sessions() -> Vec<Sample> {
    use session::{Granted, Request};
    let join = |session, access: &Access, held| {
        Request::Join(Box::new(session::Join {
            session,
            incarnation: RUN,
            admission: access.admission(&statement(session)),
            nick: "ada".to_owned(),
            fanout: 8,
            upload_kbps: None,
            addresses: addresses(),
            held,
            settled: false,
        }))
    };
    let joined = session::Joined {
        certificate: certificate(),
        terms: terms(),
        settled: true,
        candidates: vec![contact(3)],
        push: None,
    };
    let with_push = session::Joined {
        push: Some(push::PushAccess {
            topic: push::PushSecret::from_bytes([0x55; 32]),
            keys: vec![push_key(2), push_key(3)],
        }),
        ..joined.clone()
    };
    let with_slow =
        session::Joined { terms: session::Terms { slow_ms: 2_000, ..terms() }, ..joined.clone() };
    let with_history = session::Joined {
        terms: session::Terms { history: History::from(5), ..terms() },
        ..joined.clone()
    };
    let renewed = session::Renewed {
        certificate: None,
        settled: false,
        candidates: vec![],
        now_s: 1_799_990_010,
        epoch: None,
        push_key: None,
        measure: vec![],
    };
    let asking = session::Renewed { measure: vec![id(2), id(3)], ..renewed.clone() };
    let with_key = session::Renewed { push_key: Some(push_key(3)), ..renewed.clone() };
    let newer = session::Renewed { epoch: Some(EPOCH), ..renewed.clone() };
    let answer = |name, about: &str, granted| {
        cbor::<session::Answer>(name, &format!("Answer on /arborcast/session/1: {about}"), granted)
    };
    let request = |name, about: &str, request| {
        cbor::<Request>(name, &format!("Request on /arborcast/session/1: {about}"), request)
    };
    let (private, session) = (Access::Private(secret()), session());
    vec![
        request("session-request-locate", "who coordinates?", Request::Locate { session }),
        request("session-request-challenge", "what to sign?", Request::Challenge { session }),
        request(
            "session-request-join",
            "let me into this private session.",
            join(session, &private, Some(header())),
        ),
        request(
            "session-request-join-open",
            "let me into this open session.",
            join(open().session(), &open(), None),
        ),
        request(
            "session-request-renew",
            "I am still here.",
            Request::Renew {
                session,
                incarnation: RUN,
                addresses: addresses(),
                settled: true,
                push_key: 0,
            },
        ),
        request(
            "session-request-renew-key",
            "I am still here, and hold this key of pushes.",
            Request::Renew {
                session,
                incarnation: RUN,
                addresses: vec![],
                settled: true,
                push_key: 2,
            },
        ),
        request(
            "session-request-leave",
            "I am leaving.",
            Request::Leave { session, incarnation: RUN },
        ),
        answer(
            "session-answer-located",
            "these coordinate.",
            Ok(Granted::Located { coordinators: vec![contact(COORDINATOR)] }),
        ),
        answer(
            "session-answer-challenge",
            "sign this.",
            Ok(Granted::Challenge { challenge: CHALLENGE }),
        ),
        answer("session-answer-joined", "you are in.", Ok(Granted::Joined(Box::new(joined)))),
        answer(
            "session-answer-joined-slow",
            "you are in, and are to say who keeps you waiting.",
            Ok(Granted::Joined(Box::new(with_slow))),
        ),
        answer(
            "session-answer-joined-history",
            "you are in, and get the last 5 messages of each source.",
            Ok(Granted::Joined(Box::new(with_history))),
        ),
        answer(
            "session-answer-joined-push",
            "you are in, and this lets you follow pushes.",
            Ok(Granted::Joined(Box::new(with_push))),
        ),
        answer("session-answer-renewed", "you stay in.", Ok(Granted::Renewed(Box::new(renewed)))),
        answer(
            "session-answer-renewed-key",
            "you stay in, and pushes will be under this key.",
            Ok(Granted::Renewed(Box::new(with_key))),
        ),
        answer(
            "session-answer-renewed-epoch",
            "you stay in, and there is this tree.",
            Ok(Granted::Renewed(Box::new(newer))),
        ),
        answer(
            "session-answer-renewed-measure",
            "you stay in; how wide are your channels with these?",
            Ok(Granted::Renewed(Box::new(asking))),
        ),
        answer("session-answer-left", "you are out.", Ok(Granted::Left)),
        answer(
            "session-answer-handing-over",
            "others take your place first.",
            Ok(Granted::HandingOver { again_ms: 50 }),
        ),
        answer("session-answer-refused", "no.", Err(refusal())),
        answer(
            "session-answer-busy",
            "not now: come again in a while.",
            Err(Refusal {
                again_ms: Some(1_500),
                ..Refusal::new(Code::BUSY, "others are let in first")
            }),
        ),
    ]
}

fn reports_and_paths() -> Vec<Sample> {
    let base = report::Report {
        session: session(),
        incarnation: RUN,
        adjacency: None,
        qos: vec![channel_qos()],
        held: Some(header()),
        carrying: vec![],
        settled: true,
        silent: vec![],
        slow: vec![],
    };
    let slow = report::Report { qos: vec![], slow: vec![id(3), id(4)], ..base.clone() };
    let full = report::Adjacency::Full(vec![
        channel(3, ChannelKind::Direct, Transport::Quic),
        channel(4, ChannelKind::Relayed, Transport::Tcp),
    ]);
    let change = report::Adjacency::Change {
        up: vec![channel(4, ChannelKind::Direct, Transport::Other)],
        down: vec![id(3)],
    };
    let full = report::Report { adjacency: Some(full), ..base.clone() };
    let change = report::Report { adjacency: Some(change), carrying: vec![id(4)], ..base };
    let accepted = report::Accepted { candidates: vec![contact(3)], report_full: true };
    let notice = |news| notice::Notice { session: session(), news };
    let news = "Notice on /arborcast/notice/1:";
    let asks = "Request on /arborcast/path/1:";
    let answers = "Answer on /arborcast/path/1:";
    let (query, scope) = (session(), path::Scope::Tree);
    vec![
        cbor("report-full", "Report on /arborcast/report/1 with all channels.", full),
        cbor("report-change", "Report on /arborcast/report/1 with changed channels.", change),
        cbor("report-slow", "Report on /arborcast/report/1 of who keeps others waiting.", slow),
        cbor::<report::Answer>("report-answer", "Answer to a report.", Ok(accepted)),
        cbor::<report::Answer>(
            "report-answer-refused",
            "Answer to a report that does not count.",
            Err(Refusal::new(Code::NOT_MEMBER, "not a member; join again")),
        ),
        cbor(
            "path-request-query",
            &format!("{asks} the tree, once."),
            path::Request::Query { session: query, scope },
        ),
        cbor(
            "path-request-subscribe",
            &format!("{asks} my neighbours, now and whenever they change."),
            path::Request::Subscribe { session: query, scope: path::Scope::Neighbours },
        ),
        cbor(
            "path-request-unsubscribe",
            &format!("{asks} no more."),
            path::Request::Unsubscribe { session: query },
        ),
        cbor::<path::Answer>(
            "path-answer-tree",
            &format!("{answers} the tree."),
            Ok(path::State::Tree(Box::new(update(tree::Body::Full(Box::new(small_tree())))))),
        ),
        cbor::<path::Answer>(
            "path-answer-neighbours",
            &format!("{answers} your neighbours."),
            Ok(path::State::Neighbours(Box::new(neighbours()))),
        ),
        cbor::<path::Answer>(
            "path-answer-unsubscribed",
            &format!("{answers} you will hear no more."),
            Ok(path::State::Unsubscribed),
        ),
        cbor::<path::Answer>(
            "path-answer-refused",
            &format!("{answers} no."),
            Err(Refusal::new(Code::NO_TREE, "there is no tree yet")),
        ),
        cbor(
            "notice-neighbours",
            &format!("{news} your new neighbours."),
            notice(notice::News::Neighbours(Box::new(neighbours()))),
        ),
        cbor(
            "notice-neighbours-overlap",
            &format!("{news} your new neighbours, the edge with one of them on a cycle."),
            notice(notice::News::Neighbours(Box::new(path::Neighbours {
                neighbours: vec![member(3, "", 0), member(4, "", 0)],
                cyclic: vec![id(3)],
                ..neighbours()
            }))),
        ),
        cbor(
            "notice-candidates",
            &format!("{news} members to connect to."),
            notice(notice::News::Candidates(vec![contact(3), contact(4)])),
        ),
        cbor(
            "notice-removed",
            &format!("{news} you are out."),
            notice(notice::News::Removed(Refusal::new(Code::REPLACED, "a newer run joined"))),
        ),
        cbor("noted", "Answer on /arborcast/notice/1.", notice::Noted {}),
        cbor(
            "probe",
            "Request on /arborcast/probe/2.",
            probe::Probe {
                session: session(),
                serial: 99,
                train: ByteBuf::from([0xee; 8]),
                certificate: None,
            },
        ),
        cbor(
            "probe-first",
            "Request on /arborcast/probe/2, by a member that the other end may not know.",
            probe::Probe {
                session: session(),
                serial: 1,
                train: ByteBuf::new(),
                certificate: Some(certificate()),
            },
        ),
        cbor(
            "probe-echo",
            "Answer on /arborcast/probe/2.",
            probe::Echo { serial: 99, train_bytes: 8, ..probe::Echo::default() },
        ),
        cbor(
            "probe-echo-train",
            "Answer on /arborcast/probe/2 to a train that was timed.",
            probe::Echo {
                serial: 99,
                train_bytes: 32_768,
                spread_bytes: 26_000,
                spread_us: 104_000,
                lag_us: 250,
            },
        ),
    ]
}

fn trees_and_edges() -> Vec<Sample> {
    use edge::Message;
    let members = [member(2, "ada", 0), member(3, "", 0)];
    let base = tree::Tree::new(members, [edge(2, 3)], []).unwrap();
    let before = Epoch { term: EPOCH.term, counter: EPOCH.counter - 1 };
    let change = small_tree().change_from(&base, before);
    let summary = edge::Summary {
        settled: true,
        flows: vec![edge::FlowSummary {
            flow: flow(Class::Reliable),
            has: numbers(),
            released: FrameNo(90),
            begin: None,
            start: None,
        }],
        live: false,
    };
    let history = edge::Summary {
        settled: true,
        flows: vec![edge::FlowSummary {
            flow: flow(Class::Reliable),
            has: numbers(),
            released: FrameNo(90),
            begin: Some(FrameNo(40)),
            start: Some(edge::Start { after: FrameNo(87), first: SeqNo(412) }),
        }],
        live: false,
    };
    let takes_live = edge::Summary { live: true, ..summary.clone() };
    let passed = vec![edge::Passed { flow: flow(Class::Live), up_to: FrameNo(1207) }];
    let receipts = edge::Receipts {
        roster: small_tree().roster_hash(id(2)),
        covered: vec![0b11],
        flows: vec![edge::FlowReceipt {
            flow: flow(Class::Live),
            floor: FrameNo(100),
            top: FrameNo(300),
            delivered: FrameNo(98),
            released: FrameNo(90),
            begin: None,
        }],
    };
    let receipts_history = edge::Receipts {
        flows: vec![edge::FlowReceipt {
            flow: flow(Class::Reliable),
            floor: FrameNo(100),
            top: FrameNo(300),
            delivered: FrameNo(98),
            released: FrameNo(90),
            begin: Some(FrameNo(40)),
        }],
        ..receipts.clone()
    };
    let directed = edge::Receipts {
        flows: vec![edge::FlowReceipt {
            flow: Flow { to: Some(id(3)), ..flow(Class::Reliable) },
            floor: FrameNo(4),
            top: FrameNo(4),
            delivered: FrameNo(3),
            released: FrameNo(3),
            begin: None,
        }],
        ..receipts.clone()
    };
    let inquire = edge::Inquire { flow: flow(Class::Reliable), number: FrameNo(7), wait_ms: 875 };
    let have = edge::Have {
        flow: flow(Class::Reliable),
        number: FrameNo(7),
        roster: crate::id::Digest::from_bytes([0x0b; 32]),
        members: vec![0b101],
    };
    let missing = edge::Missing {
        flow: flow(Class::Reliable),
        ranges: vec![(FrameNo(101), FrameNo(102)), (FrameNo(111), FrameNo(299))],
    };
    let hello = edge::Hello {
        session: session(),
        certificate: certificate(),
        epoch: EPOCH,
        token: [0x44; 16],
    };
    let data_hello = edge::DataHello { session: session(), token: [0x44; 16] };
    let push = "Sealed in a message on the gossipsub topic of a session's trees:";
    let says = "Message on /arborcast/edge/1:";
    vec![
        cbor(
            "tree-update-full",
            &format!("{push} the whole tree."),
            update(tree::Body::Full(Box::new(small_tree()))),
        ),
        cbor(
            "tree-update-change",
            &format!("{push} what changed."),
            update(tree::Body::Change(change)),
        ),
        cbor(
            "tree-update-fetch",
            &format!("{push} there is a new one, ask for it."),
            update(tree::Body::Fetch),
        ),
        cbor(
            "push",
            "Message on the gossipsub topic of a session's trees.",
            push_key(2).seal(session(), &update(tree::Body::Fetch)),
        ),
        cbor("adjacency-list", "A tree as adjacency list.", small_tree().adjacency_list()),
        cbor("adjacency-matrix", "A tree as adjacency matrix.", small_tree().adjacency_matrix()),
        cbor("edge-hello", "First message on /arborcast/edge/1.", hello),
        cbor("data-hello", "First message on /arborcast/data/1.", data_hello),
        cbor("edge-summary", &format!("{says} what I have."), Message::Summary(summary)),
        cbor(
            "edge-summary-live",
            &format!("{says} what I have, and that I take live frames."),
            Message::Summary(takes_live),
        ),
        cbor(
            "edge-summary-history",
            &format!("{says} what I have, also of what all have, and where a joiner begins."),
            Message::Summary(history),
        ),
        cbor(
            "edge-heartbeat",
            &format!("{says} I am alive."),
            Message::Heartbeat(edge::Heartbeat {
                epoch: EPOCH,
                sent: 1234,
                ..edge::Heartbeat::default()
            }),
        ),
        cbor(
            "edge-heartbeat-next",
            &format!("{says} I am alive, and say so again in 108 ms."),
            Message::Heartbeat(edge::Heartbeat {
                epoch: EPOCH,
                sent: 1234,
                next_ms: Some(108),
                ..edge::Heartbeat::default()
            }),
        ),
        cbor(
            "edge-heartbeat-received",
            &format!("{says} I am alive, say so again in 108 ms, and have got 5678 frames."),
            Message::Heartbeat(edge::Heartbeat {
                epoch: EPOCH,
                sent: 1234,
                next_ms: Some(108),
                received: Some(5678),
                ..edge::Heartbeat::default()
            }),
        ),
        cbor(
            "edge-heartbeat-echo",
            &format!(
                "{says} I am alive, answer your stamp of 12.345 s while my data waits, and want mine back; I am \
                 3 ms late at times."
            ),
            Message::Heartbeat(edge::Heartbeat {
                epoch: EPOCH,
                sent: 1234,
                stamp_us: Some(98_765_432),
                echo_us: Some(12_345_000),
                lag_us: 3_000,
                is_full: true,
                ..edge::Heartbeat::default()
            }),
        ),
        cbor("edge-receipts", &format!("{says} what has arrived."), Message::Receipts(receipts)),
        cbor(
            "edge-receipts-history",
            &format!("{says} what has arrived, and from where on I keep what all have."),
            Message::Receipts(receipts_history),
        ),
        cbor(
            "edge-receipts-to",
            &format!("{says} what of a flow for member 03 alone has arrived."),
            Message::Receipts(directed),
        ),
        cbor("edge-ask", &format!("{says} what I lack."), Message::Ask(vec![missing])),
        cbor(
            "edge-inquire",
            &format!("{says} who has everything up to 7? I wait for 875 ms."),
            Message::Inquire(inquire),
        ),
        cbor(
            "edge-have",
            &format!("{says} the first and the third member have it."),
            Message::Have(have),
        ),
        cbor(
            "edge-passed",
            &format!("{says} live frames up to 1207 do not come here any more."),
            Message::Passed(passed),
        ),
        cbor("edge-fin", &format!("{says} nothing more will come."), Message::Fin),
    ]
}

fn frames_and_proofs() -> Vec<Sample> {
    let piece = frame::Header {
        class: Class::Live,
        service: ServiceId(5),
        content: Content::Piece { index: 1, of: 3, bytes: 150_000 },
        key: None,
        ..frame_header()
    };
    let tree = frame::InBand::new(&header(), &small_tree()).unwrap();
    let in_band = frame::Header { in_band: Some(tree), ..frame_header() };
    let carries = "Header of a frame with the tree of tree-update-full, whose members in order are \
                   02, 04 and 03.";
    let sealed = "The session's secret is 32 times 55, the payload two messages, hello and world.";
    let private = Access::Private(secret());
    let name = Some("tea round".to_owned());
    let coordinators = vec![contact(COORDINATOR)];
    vec![
        Sample {
            form: Form::Header,
            ..cbor("frame-header", "Header of a frame of messages.", frame_header())
        },
        Sample { form: Form::Header, ..cbor("frame-header-in-band", carries, in_band) },
        Sample {
            form: Form::Header,
            ..cbor("frame-header-piece", "Header of a frame with a piece.", piece)
        },
        Sample {
            form: Form::Header,
            ..cbor(
                "frame-header-to",
                "Header of a frame of messages for member 03 alone.",
                directed_header(),
            )
        },
        frame(
            "frame-to",
            &format!("A frame for member 03 alone.\n{sealed}"),
            sealed_as(directed_header(), 1, 0),
        ),
        frame("frame", &format!("A frame, signed alone.\n{sealed}"), sealed_frame(1, 0)),
        frame(
            "frame-in-batch",
            &format!("The same frame, signed as the last of three.\n{sealed}"),
            sealed_frame(3, 2),
        ),
        frame("frame-open", "The same frame in a session without encryption.", open_frame()),
        cbor("certificate", "A certificate of member 02 by coordinator 01.", certificate()),
        cbor::<Admission>(
            "admission-private",
            "Admission to the private session with the secret of 32 times 55.",
            private.admission(&statement(session())),
        ),
        cbor::<Admission>(
            "admission-open",
            "Admission to the open session \"lobby\".",
            open().admission(&statement(admission::open_session("lobby"))),
        ),
        ticket(
            "ticket-private",
            "Ticket of the private session with the secret of 32 times 55.",
            Ticket::new(private, name, coordinators.clone()).unwrap(),
        ),
        ticket(
            "ticket-open",
            "Ticket of the open session \"lobby\".",
            Ticket::new(open(), None, coordinators).unwrap(),
        ),
    ]
}
