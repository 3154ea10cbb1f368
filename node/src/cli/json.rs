//! The JSON lines that programs read, one variant for each event. Scripts rely on every name here.

use std::time::Duration;

use crate::{
    ChannelEvent, ChannelState, LossReason, Message, Nicked, Status, TreeEvent,
    engine::{Neighbour, relay},
    protocol::{
        id::{Class, Epoch, Flow, MemberId, SeqNo},
        qos::{ChannelKind, Transport},
        tree::{self, Edge},
    },
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// What happened, as one line.
#[derive(Serialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The node is let in.
    Ready {
        peer_id: String,
        listen: Vec<String>,
        session: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        ticket: Option<String>,
    },
    /// Somebody came.
    Joined(Peer),
    /// Somebody left.
    Left(Peer),
    /// The coordinator answers again.
    CoordinatorBack {},
    /// A new tree.
    Tree(Tree),
    /// A channel changed.
    Channel(Channel),
    /// A message came.
    Message {
        source: String,
        incarnation: String,
        seq: u64,
        service: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Of a message that is not reliable.
        #[serde(skip_serializing_if = "Option::is_none")]
        class: Option<Class>,
        bytes: usize,
        #[serde(flatten)]
        content: Content<'a>,
    },
    /// A message was taken in; or, with `delivered`, is where it should be.
    Sent {
        seq: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        delivered: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        missing: Option<Vec<Peer>>,
    },
    /// Members that keep this one's messages waiting, for so long.
    Waiting { seconds: f64, r#for: Vec<Peer> },
    /// A rule about a channel is in force.
    Ruled { rule: &'a str, peer_id: String, present: bool },
    /// Messages that will never come.
    Lost {
        source: String,
        incarnation: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        from_seq: u64,
        to_seq: u64,
        reason: &'a str,
    },
    /// Something is wrong.
    Error { code: &'a str, message: &'a str },
}

/// A member as people know it.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Peer {
    pub(super) peer_id: String,
    pub(super) nick: String,
}

/// A relay tree.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Tree {
    pub(super) epoch: u64,
    pub(super) edges: Vec<(String, String)>,
    pub(super) overlap: Vec<(String, String)>,
    pub(super) neighbours: Vec<String>,
}

/// A channel. Figures are absent before the first measurement and once it is gone.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Channel {
    pub(super) peer_id: String,
    /// `direct`, `relayed`, or `none` for a channel that is gone.
    pub(super) kind: String,
    pub(super) transport: Option<String>,
    pub(super) delay_ms: Option<f64>,
    pub(super) jitter_ms: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) bandwidth_mbps: Option<f64>,
}

/// What a message holds: text if it is UTF-8.
#[derive(Serialize, Debug)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    /// UTF-8.
    Text { text: &'a str },
    /// Anything else.
    Data { data_b64: String },
}

impl Line<'_> {
    /// The line as text, without its end.
    pub(super) fn text(&self) -> String {
        as_line(self)
    }
}

/// Anything as one line of JSON.
pub(super) fn as_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers under string keys are JSON")
}

/// An `error` line.
pub(super) fn error(code: &str, message: &str) -> String {
    Line::Error { code, message }.text()
}

/// A `waiting` line.
pub(super) fn waiting(lasted: Duration, behind: Vec<Peer>) -> String {
    // Tenths are enough.
    let seconds = (lasted.as_secs_f64() * 10.0).round() / 10.0;
    Line::Waiting { seconds, r#for: behind }.text()
}

/// A `sent` line for a message that was taken in.
pub(super) fn taken(seq: SeqNo) -> String {
    Line::Sent { seq: seq.0, delivered: None, missing: None }.text()
}

/// A `sent` line for a message that all present members have.
pub(super) fn delivered(seq: u64, members: u32) -> String {
    Line::Sent { seq, delivered: Some(members), missing: Some(Vec::new()) }.text()
}

/// A `sent` line for a message whose only receiver left without it.
pub(super) fn missed(seq: u64, by: Peer) -> String {
    Line::Sent { seq, delivered: Some(0), missing: Some(vec![by]) }.text()
}

/// A `sent` line for a message that some do not have in time.
pub(super) fn lacking(seq: SeqNo, members: u32, missing: Vec<Peer>) -> String {
    Line::Sent { seq: seq.0, delivered: Some(members), missing: Some(missing) }.text()
}

/// A `message` line.
pub(super) fn message(message: &Message) -> String {
    let content = match std::str::from_utf8(&message.payload) {
        Ok(text) => Content::Text { text },
        Err(_) => Content::Data { data_b64: BASE64.encode(&message.payload) },
    };
    let line = Line::Message {
        source: message.source.to_string(),
        incarnation: message.incarnation.to_string(),
        seq: message.seq.0,
        service: message.service.0,
        to: message.to.map(|to| to.to_string()),
        class: Some(message.class).filter(|class| *class != Class::Reliable),
        bytes: message.payload.len(),
        content,
    };
    line.text()
}

/// A `lost` line.
pub(super) fn lost(flow: &Flow, from: SeqNo, to: SeqNo, reason: LossReason) -> String {
    let line = Line::Lost {
        source: flow.source.to_string(),
        incarnation: flow.incarnation.to_string(),
        to: flow.to.map(|to| to.to_string()),
        from_seq: from.0,
        to_seq: to.0,
        reason: &reason.to_string(),
    };
    line.text()
}

impl From<&Nicked> for Peer {
    fn from(member: &Nicked) -> Self {
        Self { peer_id: member.member.to_string(), nick: member.nick.clone() }
    }
}

impl Tree {
    /// The tree in force, as a status tells it.
    pub(super) fn of_status(epoch: Epoch, status: &Status) -> Self {
        let neighbours: Vec<MemberId> =
            status.neighbours.iter().map(|neighbour| neighbour.member).collect();
        let old = status.neighbours.iter().filter(|neighbour| neighbour.overlap);
        let overlap = old.filter_map(|old| Edge::new(status.member, old.member)).collect();
        Self::known(status.member, epoch, status.tree.as_deref(), &neighbours, overlap)
    }

    /// A tree as the node at `member` is told of it. A node that follows its neighbours alone knows
    /// no other edges than its own.
    pub(super) fn new(member: MemberId, event: &TreeEvent) -> Self {
        let tree = event.tree.as_deref();
        Self::known(member, event.epoch, tree, &event.neighbours, event.overlap.clone())
    }

    /// `overlap` are the member's own edges of the tree before.
    fn known(
        member: MemberId,
        epoch: Epoch,
        tree: Option<&tree::Tree>,
        neighbours: &[MemberId],
        overlap: Vec<Edge>,
    ) -> Self {
        let (edges, overlap) = if let Some(tree) = tree {
            (tree.edges().collect(), tree.overlap().collect())
        } else {
            let own = neighbours.iter().filter_map(|other| Edge::new(member, *other));
            (own.filter(|edge| !overlap.contains(edge)).collect::<Vec<_>>(), overlap)
        };
        Self {
            epoch: epoch.as_u64(),
            edges: pairs(&edges),
            overlap: pairs(&overlap),
            neighbours: neighbours.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a member has counted, and what it holds.
#[derive(Serialize, Debug)]
struct Stats {
    /// By tree neighbour.
    channels: Vec<ChannelStats>,
    /// Over all channels since the start, those that are gone as well.
    totals: Traffic,
    queries: u64,
    subscribes: u64,
    in_band_frames: u64,
    in_band_refused: u64,
    /// Messages of this member that are not frames yet.
    queue_bytes: u64,
    /// Frames kept for others.
    store_bytes: u64,
    /// Frames that all have, kept for those who were away or come late.
    history_bytes: u64,
    /// Of what is kept for others, what waits until the next hops were asked for.
    held_bytes: u64,
    /// Times that this had to be asked for.
    overflows: u64,
    /// Messages that wait to be shown.
    undelivered_bytes: u64,
    /// Parts of messages that are not whole yet.
    assembly_bytes: u64,
    /// Frames that never came and were given up.
    given_up: u64,
    /// Live frames that gave way to newer ones before they were passed on, each channel counted.
    live_dropped: u64,
    /// Live frames that came too late to be shown, or not at all.
    live_skipped: u64,
    /// Live data that waits to be sent.
    live_queue_bytes: u64,
}

#[derive(Serialize, Debug)]
struct ChannelStats {
    peer_id: String,
    #[serde(flatten)]
    traffic: Traffic,
}

#[derive(Serialize, Debug)]
struct Traffic {
    frames_in: u64,
    bytes_in: u64,
    frames_out: u64,
    bytes_out: u64,
    duplicates: u64,
    repaired: u64,
    forged: u64,
}

impl From<&relay::Traffic> for Traffic {
    fn from(traffic: &relay::Traffic) -> Self {
        Self {
            frames_in: traffic.frames_in,
            bytes_in: traffic.bytes_in,
            frames_out: traffic.frames_out,
            bytes_out: traffic.bytes_out,
            duplicates: traffic.duplicates,
            repaired: traffic.repaired,
            forged: traffic.forged,
        }
    }
}

impl From<&Status> for Stats {
    fn from(status: &Status) -> Self {
        let relay = &status.relay;
        let channel = |neighbour: &Neighbour| {
            let traffic = relay.edges.get(&neighbour.edge?)?.into();
            Some(ChannelStats { peer_id: neighbour.member.to_string(), traffic })
        };
        Self {
            channels: status.neighbours.iter().filter_map(channel).collect(),
            totals: (&relay.total).into(),
            queries: status.control.queries,
            subscribes: status.control.subscribes,
            in_band_frames: relay.in_band_frames,
            in_band_refused: relay.in_band_refused,
            queue_bytes: relay.queue_bytes,
            store_bytes: relay.store_bytes,
            history_bytes: relay.history_bytes,
            held_bytes: relay.held_bytes,
            overflows: relay.overflows,
            undelivered_bytes: relay.undelivered_bytes,
            assembly_bytes: relay.assembly_bytes,
            given_up: relay.given_up,
            live_dropped: relay.live_dropped,
            live_skipped: relay.live_skipped,
            live_queue_bytes: relay.live_queue_bytes,
        }
    }
}

/// A `stats` line.
pub(super) fn stats(status: &Status) -> String {
    #[derive(Serialize)]
    struct Event {
        event: &'static str,
        #[serde(flatten)]
        stats: Stats,
    }
    as_line(&Event { event: "stats", stats: status.into() })
}

/// The same as a part of something else.
pub(super) fn stats_value(status: &Status) -> serde_json::Value {
    serde_json::to_value(Stats::from(status)).expect("numbers under string keys are JSON")
}

/// Edges as pairs of peer ids.
fn pairs(edges: &[Edge]) -> Vec<(String, String)> {
    let pair = |edge: &Edge| {
        let (a, b) = edge.ends();
        (a.to_string(), b.to_string())
    };
    edges.iter().map(pair).collect()
}

impl Channel {
    /// A channel in a state, or gone.
    pub(super) fn new(peer: MemberId, state: Option<&ChannelState>) -> Self {
        let qos = state.and_then(|state| state.qos);
        let ms = |us: u32| f64::from(us) / 1000.0;
        Self {
            peer_id: peer.to_string(),
            kind: state.map_or("none", |state| kind(state.kind)).to_owned(),
            transport: state.map(|state| transport(state.transport).to_owned()),
            delay_ms: qos.map(|qos| ms(qos.delay_us)),
            jitter_ms: qos.map(|qos| ms(qos.jitter_us)),
            loss: qos.map(|qos| f64::from(qos.loss_ppm) / 1e6),
            bandwidth_mbps: qos
                .and_then(|qos| qos.bandwidth_kbps)
                .map(|kbps| f64::from(kbps) / 1000.0),
        }
    }
}

impl From<&ChannelEvent> for Channel {
    fn from(event: &ChannelEvent) -> Self {
        Self::new(event.peer, event.state.as_ref())
    }
}

/// The word for a kind of channel.
pub(super) const fn kind(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Direct => "direct",
        ChannelKind::Relayed => "relayed",
    }
}

/// The word for what carries a channel.
pub(super) const fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
        Transport::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::protocol::{
        id::{Incarnation, ServiceId},
        qos::Qos,
    };

    use super::*;

    fn member(n: u8) -> MemberId {
        MemberId::from_bytes([n; 32])
    }

    #[test]
    fn a_message_of_text_has_text_and_others_have_base64() {
        let mut sample = Message {
            source: member(1),
            incarnation: Incarnation::from_bytes([0xab; 16]),
            seq: SeqNo(7),
            class: Class::Reliable,
            service: ServiceId(3),
            to: None,
            payload: "grüße\n".into(),
        };
        let source = member(1).to_string();
        let incarnation = "ab".repeat(16);
        assert_eq!(
            message(&sample),
            format!(
                r#"{{"event":"message","source":"{source}","incarnation":"{incarnation}","seq":7,"service":3,"bytes":8,"text":"grüße\n"}}"#
            )
        );
        sample.payload = vec![0xff, 0xfe].into();
        assert!(message(&sample).ends_with(r#""bytes":2,"data_b64":"//4="}"#));
        sample.to = Some(member(2));
        let to = format!(r#""service":3,"to":"{}","bytes":2"#, member(2));
        assert!(message(&sample).contains(&to));
        (sample.to, sample.class) = (None, Class::Live);
        assert!(message(&sample).contains(r#""service":3,"class":"live","bytes":2"#));
    }

    #[test]
    fn a_sent_line_has_the_receipt_once_it_is_known() {
        assert_eq!(taken(SeqNo(1)), r#"{"event":"sent","seq":1}"#);
        assert_eq!(delivered(1, 4), r#"{"event":"sent","seq":1,"delivered":4,"missing":[]}"#);
        let by = Peer { peer_id: "p".to_owned(), nick: "n".to_owned() };
        assert_eq!(
            missed(2, by),
            r#"{"event":"sent","seq":2,"delivered":0,"missing":[{"peer_id":"p","nick":"n"}]}"#
        );
    }

    #[test]
    fn a_channel_that_is_gone_is_of_kind_none() {
        let peer = member(2).to_string();
        let gone = as_line(&Line::Channel(Channel::new(member(2), None)));
        assert_eq!(
            gone,
            format!(
                r#"{{"event":"channel","peer_id":"{peer}","kind":"none","transport":null,"delay_ms":null,"jitter_ms":null,"loss":null,"bandwidth_mbps":null}}"#
            )
        );
        let state = ChannelState {
            kind: ChannelKind::Direct,
            transport: Transport::Quic,
            qos: Some(Qos { loss_ppm: 50_000, ..Qos::with_delay(Duration::from_micros(1500)) }),
        };
        let up = as_line(&Channel::new(member(2), Some(&state)));
        assert_eq!(
            up,
            format!(
                r#"{{"peer_id":"{peer}","kind":"direct","transport":"quic","delay_ms":1.5,"jitter_ms":0.0,"loss":0.05,"bandwidth_mbps":null}}"#
            )
        );
    }
}
