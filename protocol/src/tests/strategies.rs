//! Any value of any wire type.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use serde_bytes::ByteBuf;

use crate::{
    admission::{Admission, Statement},
    certificate::{Certificate, Claim, Role},
    edge, frame,
    history::History,
    id::{
        Challenge, Class, Digest, Epoch, Flow, FrameNo, Incarnation, KeyId, MemberId, SeqNo,
        ServiceId, SessionId, Signature, Term,
    },
    limits, notice,
    numbers::NumberSet,
    path, probe, push,
    qos::{ChannelKind, Qos, Transport},
    refusal::{Code, Refusal},
    report, session,
    signature::BatchProof,
    tree,
};

prop_compose! {
    pub(crate) fn session_id()(bytes: [u8; 32]) -> SessionId { SessionId::from_bytes(bytes) }
}
prop_compose! {
    pub(crate) fn member_id()(bytes: [u8; 32]) -> MemberId { MemberId::from_bytes(bytes) }
}
prop_compose! {
    pub(crate) fn incarnation()(bytes: [u8; 16]) -> Incarnation { Incarnation::from_bytes(bytes) }
}
prop_compose! {
    pub(crate) fn digest()(bytes: [u8; 32]) -> Digest { Digest::from_bytes(bytes) }
}
prop_compose! {
    pub(crate) fn challenge()(bytes: [u8; 32]) -> Challenge { Challenge::from_bytes(bytes) }
}
prop_compose! {
    pub(crate) fn signature()(a: [u8; 32], b: [u8; 32]) -> Signature {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&a);
        bytes[32..].copy_from_slice(&b);
        Signature::from_bytes(bytes)
    }
}
prop_compose! {
    pub(crate) fn epoch()(term: u32, counter: u32) -> Epoch { Epoch { term: Term(term), counter } }
}
prop_compose! {
    pub(crate) fn flow()(
        source in member_id(),
        incarnation in incarnation(),
        class in prop_oneof![Just(Class::Reliable), Just(Class::Live)],
        to in option::of(member_id()),
    ) -> Flow {
        Flow { source, incarnation, class, to: to.filter(|to| *to != source) }
    }
}

/// Small numbers and any numbers.
fn number() -> impl Strategy<Value = FrameNo> {
    prop_oneof![0..40_u64, 0..u64::MAX].prop_map(FrameNo)
}

pub(crate) fn numbers() -> impl Strategy<Value = NumberSet> {
    (number(), vec((number(), 0..5_u64), 0..8)).prop_map(|(floor, ranges)| {
        let mut set = NumberSet::up_to(floor);
        for (first, more) in ranges {
            set.insert_range(first, FrameNo(first.0.saturating_add(more)));
        }
        set
    })
}

prop_compose! {
    pub(crate) fn claim()(
        session in session_id(),
        member in member_id(),
        incarnation in incarnation(),
        expires_s: u64,
    ) -> Claim {
        Claim { session, member, incarnation, role: Role::Member, expires_s }
    }
}
prop_compose! {
    pub(crate) fn certificate()(
        claim in claim(),
        coordinator in member_id(),
        signature in signature(),
    ) -> Certificate {
        Certificate { claim, coordinator, signature }
    }
}
prop_compose! {
    pub(crate) fn statement()(
        session in session_id(),
        coordinator in member_id(),
        member in member_id(),
        incarnation in incarnation(),
        challenge in challenge(),
    ) -> Statement {
        Statement { session, coordinator, member, incarnation, challenge }
    }
}

pub(crate) fn admission() -> impl Strategy<Value = Admission> {
    prop_oneof![
        (member_id(), challenge(), signature())
            .prop_map(|(key, challenge, proof)| Admission::Private { key, challenge, proof }),
        (".{0,8}", challenge()).prop_map(|(name, challenge)| Admission::Open { name, challenge }),
    ]
}

prop_compose! {
    pub(crate) fn signed_header()(
        session in session_id(),
        epoch in epoch(),
        hash in digest(),
        coordinator in member_id(),
        signature in signature(),
    ) -> tree::SignedHeader {
        tree::SignedHeader { header: tree::Header { session, epoch, hash }, coordinator, signature }
    }
}

pub(crate) fn member() -> impl Strategy<Value = tree::Member> {
    (member_id(), incarnation(), ".{0,8}", 0..3_u32)
        .prop_map(|(id, incarnation, nick, group)| tree::Member { id, incarnation, nick, group })
}

/// A forest: each member but the first hangs on an earlier one or on nobody.
pub(crate) fn any_tree() -> impl Strategy<Value = tree::Tree> {
    let members = prop::collection::btree_map(member_id(), member(), 0..12);
    (members, vec(any::<u16>(), 24), any::<u64>()).prop_map(|(members, picks, shuffle)| {
        let mut members: Vec<tree::Member> =
            members.into_iter().map(|(id, member)| tree::Member { id, ..member }).collect();
        if !members.is_empty() {
            let by = usize::try_from(shuffle % members.len() as u64).unwrap();
            members.rotate_left(by);
        }
        let mut edges = Vec::new();
        for (at, pick) in members.iter().zip(&picks).enumerate().skip(1) {
            let (member, pick) = pick;
            let pick = usize::from(*pick) % (at + 1);
            // Being picked oneself stands for nobody.
            edges.extend(tree::Edge::new(member.id, members[pick].id));
        }
        let mut overlap = std::collections::BTreeSet::new();
        for pair in picks.chunks(2).take(members.len() / 2) {
            let end = |pick: u16| members[usize::from(pick) % members.len()].id;
            overlap.extend(tree::Edge::new(end(pair[0]), end(pair[1])));
        }
        overlap.retain(|edge| !edges.contains(edge));
        tree::Tree::new(members, edges, overlap).unwrap()
    })
}

fn edge() -> impl Strategy<Value = tree::Edge> {
    (member_id(), member_id()).prop_filter_map("a loop", |(a, b)| tree::Edge::new(a, b))
}

pub(crate) fn change() -> impl Strategy<Value = tree::Change> {
    let edges = || vec(edge(), 0..3);
    (epoch(), vec(member(), 0..3), vec(member_id(), 0..3), edges(), edges(), edges()).prop_map(
        |(base, members, left, added, removed, overlap)| tree::Change {
            base,
            members,
            left,
            added,
            removed,
            overlap,
        },
    )
}

pub(crate) fn update() -> impl Strategy<Value = tree::Update> {
    let body = prop_oneof![
        any_tree().prop_map(|tree| tree::Body::Full(Box::new(tree))),
        change().prop_map(tree::Body::Change),
        Just(tree::Body::Fetch),
    ];
    (signed_header(), body).prop_map(|(header, body)| tree::Update { header, body })
}

pub(crate) fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u16>(), ".{0,20}", option::of(any::<u32>())).prop_map(|(code, message, again_ms)| {
        Refusal { again_ms, ..Refusal::new(Code(code), message) }
    })
}

fn addresses() -> impl Strategy<Value = Vec<session::Address>> {
    vec(vec(any::<u8>(), 0..20).prop_map(session::Address), 0..3)
}

fn contacts() -> impl Strategy<Value = Vec<session::Contact>> {
    let contact = (member_id(), addresses())
        .prop_map(|(member, addresses)| session::Contact { member, addresses });
    vec(contact, 0..3)
}

fn join() -> impl Strategy<Value = session::Join> {
    let who = (session_id(), incarnation(), admission());
    let room = (any::<u16>(), option::of(any::<u32>()));
    (who, ".{0,8}", room, addresses(), option::of(signed_header()), any::<bool>()).prop_map(
        |((session, incarnation, admission), nick, room, addresses, held, settled)| {
            let (fanout, upload_kbps) = room;
            session::Join {
                session,
                incarnation,
                admission,
                nick,
                fanout,
                upload_kbps,
                addresses,
                held,
                settled,
            }
        },
    )
}

pub(crate) fn session_request() -> impl Strategy<Value = session::Request> {
    use session::Request;
    prop_oneof![
        session_id().prop_map(|session| Request::Locate { session }),
        session_id().prop_map(|session| Request::Challenge { session }),
        join().prop_map(|join| Request::Join(Box::new(join))),
        (session_id(), incarnation(), addresses(), any::<bool>(), any::<u32>()).prop_map(
            |(session, incarnation, addresses, settled, push_key)| Request::Renew {
                session,
                incarnation,
                addresses,
                settled,
                push_key,
            }
        ),
        (session_id(), incarnation())
            .prop_map(|(session, incarnation)| Request::Leave { session, incarnation }),
    ]
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![Just(History::All), any::<u32>().prop_map(History::from)]
}

prop_compose! {
    fn terms()(
        now_s: u64,
        lease_ms: u32,
        renew_ms: u32,
        report_ms: u32,
        message_bytes: u64,
        store_bytes: u64,
        slow_ms: u32,
        history in history(),
    ) -> session::Terms {
        session::Terms {
            now_s, lease_ms, renew_ms, report_ms, message_bytes, store_bytes, slow_ms, history,
        }
    }
}

prop_compose! {
    fn push_key()(id in any::<u32>(), bytes in any::<[u8; 32]>()) -> push::PushKey {
        push::PushKey { id, secret: push::PushSecret::from_bytes(bytes) }
    }
}

prop_compose! {
    fn push_access()(topic in any::<[u8; 32]>(), keys in vec(push_key(), 0..3)) -> push::PushAccess {
        push::PushAccess { topic: push::PushSecret::from_bytes(topic), keys }
    }
}

prop_compose! {
    pub(crate) fn push()(
        key in any::<u32>(), epoch in epoch(), sealed in vec(any::<u8>(), 0..100),
    ) -> push::Push {
        push::Push { key, epoch, sealed: sealed.into() }
    }
}

pub(crate) fn session_answer() -> impl Strategy<Value = session::Answer> {
    use session::Granted;
    prop_oneof![
        refusal().prop_map(Err),
        contacts().prop_map(|coordinators| Ok(Granted::Located { coordinators })),
        challenge().prop_map(|challenge| Ok(Granted::Challenge { challenge })),
        (certificate(), terms(), any::<bool>(), contacts(), option::of(push_access())).prop_map(
            |(certificate, terms, settled, candidates, push)| {
                let joined = session::Joined { certificate, terms, settled, candidates, push };
                Ok(Granted::Joined(Box::new(joined)))
            }
        ),
        (
            (option::of(certificate()), any::<bool>(), contacts()),
            (any::<u64>(), option::of(epoch()), option::of(push_key()), vec(member_id(), 0..3)),
        )
            .prop_map(
                |((certificate, settled, candidates), (now_s, epoch, push_key, measure))| {
                    Ok(Granted::Renewed(Box::new(session::Renewed {
                        certificate,
                        settled,
                        candidates,
                        now_s,
                        epoch,
                        push_key,
                        measure,
                    })))
                }
            ),
        Just(Ok(Granted::Left)),
        any::<u32>().prop_map(|again_ms| Ok(Granted::HandingOver { again_ms })),
    ]
}

prop_compose! {
    fn qos()(
        delay_us: u32,
        jitter_us: u32,
        loss_ppm: u32,
        bandwidth_kbps in option::of(any::<u32>()),
    ) -> Qos {
        Qos { delay_us, jitter_us, loss_ppm, bandwidth_kbps }
    }
}

fn channels() -> impl Strategy<Value = Vec<report::Channel>> {
    let kind = prop_oneof![Just(ChannelKind::Direct), Just(ChannelKind::Relayed)];
    let transport =
        prop_oneof![Just(Transport::Tcp), Just(Transport::Quic), Just(Transport::Other)];
    let channel = (member_id(), kind, transport)
        .prop_map(|(peer, kind, transport)| report::Channel { peer, kind, transport });
    vec(channel, 0..4)
}

pub(crate) fn any_report() -> impl Strategy<Value = report::Report> {
    let adjacency = prop_oneof![
        channels().prop_map(report::Adjacency::Full),
        (channels(), vec(member_id(), 0..3))
            .prop_map(|(up, down)| report::Adjacency::Change { up, down }),
    ];
    let qos = (member_id(), qos()).prop_map(|(peer, qos)| report::ChannelQos { peer, qos });
    let who = (session_id(), incarnation());
    let held = option::of(signed_header());
    let members = || vec(member_id(), 0..3);
    let edges = (members(), members(), members());
    (who, option::of(adjacency), vec(qos, 0..4), held, edges, any::<bool>()).prop_map(
        |((session, incarnation), adjacency, qos, held, (carrying, silent, slow), settled)| {
            report::Report {
                session,
                incarnation,
                adjacency,
                qos,
                held,
                carrying,
                settled,
                silent,
                slow,
            }
        },
    )
}

pub(crate) fn report_answer() -> impl Strategy<Value = report::Answer> {
    prop_oneof![
        refusal().prop_map(Err),
        (contacts(), any::<bool>()).prop_map(|(candidates, report_full)| {
            Ok(report::Accepted { candidates, report_full })
        }),
    ]
}

pub(crate) fn path_request() -> impl Strategy<Value = path::Request> {
    let scope = || prop_oneof![Just(path::Scope::Tree), Just(path::Scope::Neighbours)];
    prop_oneof![
        (session_id(), scope())
            .prop_map(|(session, scope)| path::Request::Query { session, scope }),
        (session_id(), scope())
            .prop_map(|(session, scope)| path::Request::Subscribe { session, scope }),
        session_id().prop_map(|session| path::Request::Unsubscribe { session }),
    ]
}

fn neighbours() -> impl Strategy<Value = path::Neighbours> {
    let roster = (digest(), any::<u32>(), option::of(any::<u32>()));
    let old = (vec(member_id(), 0..3), vec(member_id(), 0..3));
    (signed_header(), vec(member(), 0..4), old, roster).prop_map(
        |(header, neighbours, (overlap, cyclic), (roster_hash, roster_len, roster_index))| {
            path::Neighbours {
                header,
                neighbours,
                overlap,
                cyclic,
                roster_hash,
                roster_len,
                roster_index,
            }
        },
    )
}

pub(crate) fn path_answer() -> impl Strategy<Value = path::Answer> {
    prop_oneof![
        refusal().prop_map(Err),
        update().prop_map(|update| Ok(path::State::Tree(Box::new(update)))),
        neighbours().prop_map(|neighbours| Ok(path::State::Neighbours(Box::new(neighbours)))),
        Just(Ok(path::State::Unsubscribed)),
    ]
}

pub(crate) fn any_notice() -> impl Strategy<Value = notice::Notice> {
    let news = prop_oneof![
        neighbours().prop_map(|neighbours| notice::News::Neighbours(Box::new(neighbours))),
        contacts().prop_map(notice::News::Candidates),
        refusal().prop_map(notice::News::Removed),
    ];
    (session_id(), news).prop_map(|(session, news)| notice::Notice { session, news })
}

pub(crate) fn any_probe() -> impl Strategy<Value = probe::Probe> {
    (session_id(), any::<u64>(), vec(any::<u8>(), 0..40), option::of(certificate())).prop_map(
        |(session, serial, train, certificate)| probe::Probe {
            session,
            serial,
            train: ByteBuf::from(train),
            certificate,
        },
    )
}

prop_compose! {
    pub(crate) fn echo()(
        serial: u64,
        train_bytes: u32,
        spread_bytes: u32,
        spread_us: u32,
        lag_us: u32,
    ) -> probe::Echo {
        probe::Echo { serial, train_bytes, spread_bytes, spread_us, lag_us }
    }
}
prop_compose! {
    pub(crate) fn edge_hello()(
        session in session_id(),
        certificate in certificate(),
        epoch in epoch(),
        token: [u8; 16],
    ) -> edge::Hello {
        edge::Hello { session, certificate, epoch, token }
    }
}
prop_compose! {
    pub(crate) fn data_hello()(session in session_id(), token: [u8; 16]) -> edge::DataHello {
        edge::DataHello { session, token }
    }
}

fn summary() -> impl Strategy<Value = edge::Summary> {
    let start = (number(), any::<u64>())
        .prop_map(|(after, first)| edge::Start { after, first: SeqNo(first) });
    let flow = (flow(), numbers(), number(), option::of(number()), option::of(start)).prop_map(
        |(flow, has, released, begin, start)| edge::FlowSummary {
            flow,
            has,
            released,
            begin,
            start,
        },
    );
    (any::<bool>(), vec(flow, 0..3), any::<bool>())
        .prop_map(|(settled, flows, live)| edge::Summary { settled, flows, live })
}

fn receipts() -> impl Strategy<Value = edge::Receipts> {
    let flow = (flow(), [(); 4].map(|()| number()), option::of(number())).prop_map(
        |(flow, [floor, top, delivered, released], begin)| edge::FlowReceipt {
            flow,
            floor,
            top,
            delivered,
            released,
            begin,
        },
    );
    (digest(), vec(any::<u8>(), 0..9), vec(flow, 0..3))
        .prop_map(|(roster, covered, flows)| edge::Receipts { roster, covered, flows })
}

fn heartbeat() -> impl Strategy<Value = edge::Heartbeat> {
    (epoch(), any::<u64>(), option::of(any::<u32>()), option::of(any::<u64>())).prop_map(
        |(epoch, sent, next_ms, received)| {
            let rest = edge::Heartbeat::default();
            edge::Heartbeat { epoch, sent, next_ms, received, ..rest }
        },
    )
}

pub(crate) fn edge_message() -> impl Strategy<Value = edge::Message> {
    use edge::Message;
    let missing = (flow(), vec((number(), number()), 0..4))
        .prop_map(|(flow, ranges)| edge::Missing { flow, ranges });
    prop_oneof![
        summary().prop_map(Message::Summary),
        (heartbeat(), option::of(any::<u64>()), option::of(any::<u64>()), any::<u32>()).prop_map(
            |(heartbeat, stamp_us, echo_us, lag_us)| {
                let is_full = lag_us % 2 == 1;
                let echo = edge::Heartbeat { stamp_us, echo_us, lag_us, is_full, ..heartbeat };
                Message::Heartbeat(echo)
            }
        ),
        vec((flow(), number()).prop_map(|(flow, up_to)| edge::Passed { flow, up_to }), 0..3)
            .prop_map(Message::Passed),
        receipts().prop_map(Message::Receipts),
        vec(missing, 0..3).prop_map(Message::Ask),
        (flow(), number(), any::<u32>()).prop_map(|(flow, number, wait_ms)| {
            Message::Inquire(edge::Inquire { flow, number, wait_ms })
        }),
        (flow(), number(), digest(), vec(any::<u8>(), 0..9)).prop_map(
            |(flow, number, roster, members)| {
                Message::Have(edge::Have { flow, number, roster, members })
            }
        ),
        Just(Message::Fin),
    ]
}

fn content() -> impl Strategy<Value = frame::Content> {
    prop_oneof![
        (0..=limits::MESSAGES_PER_FRAME).prop_map(|count| frame::Content::Messages { count }),
        (2..=limits::PIECES).prop_flat_map(|of| {
            let most = u64::from(of) * limits::FRAME_PAYLOAD as u64;
            (0..of, u64::from(of)..=most).prop_map(move |(index, bytes)| frame::Content::Piece {
                index,
                of,
                bytes,
            })
        }),
    ]
}

pub(crate) fn in_band() -> impl Strategy<Value = frame::InBand> {
    (signed_header(), any_tree())
        .prop_map(|(header, tree)| frame::InBand::new(&header, &tree).unwrap())
}

pub(crate) fn frame_header() -> impl Strategy<Value = frame::Header> {
    let counts = (1..u64::MAX, any::<u32>(), 1..=u64::MAX);
    let of_all = (session_id(), flow(), counts, content());
    (of_all, option::of(any::<u32>()), option::of(in_band())).prop_map(
        |((session, flow, (number, service, first_seq), content), key, in_band)| frame::Header {
            session,
            source: flow.source,
            incarnation: flow.incarnation,
            class: flow.class,
            number: FrameNo(number),
            service: ServiceId(service),
            first_seq: SeqNo(first_seq),
            content,
            key: key.map(KeyId),
            to: flow.to,
            in_band,
        },
    )
}

pub(crate) fn frame_proof() -> impl Strategy<Value = frame::Proof> {
    let batch = (signature(), any::<u16>(), vec(digest(), 0..=limits::BATCH_PATH))
        .prop_map(|(signature, index, path)| BatchProof { signature, index, path });
    (certificate(), batch)
        .prop_map(|(certificate, batch)| frame::Proof { certificate: (&certificate).into(), batch })
}

pub(crate) fn any_frame() -> impl Strategy<Value = (frame::Header, frame::Proof, Bytes)> {
    (frame_header(), frame_proof(), vec(any::<u8>(), 0..300))
        .prop_map(|(header, proof, sealed)| (header, proof, sealed.into()))
}
