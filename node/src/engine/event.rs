//! Everything that goes into a node's engine and comes out of it. One engine serves one session.

use std::{sync::Arc, time::Duration};

use arborcast_protocol::{
    edge,
    frame::{Frame, Header},
    id::{Class, Epoch, Flow, Incarnation, MemberId, SeqNo, ServiceId},
    notice::Notice,
    path,
    qos::{ChannelKind, Qos, Transport},
    refusal::Refusal,
    report,
    session::{self, Address, Contact},
    tree::{Edge, Tree, Update},
};
use bytes::Bytes;

pub use super::reason::{LossReason, MissReason, Rejection, SilenceReason, Warning};

/// Names a request to the coordinator, so that its answer finds back. Never reused by an engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Names one life of an edge: its two substreams. Chosen by the driver, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EdgeId(pub u64);

/// Names a message that the application publishes, until its [`SeqNo`] is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PublishId(pub u64);

/// Names what the application wants to know of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConfirmId(pub u64);

/// A request that was not answered: no connection, no answer in time, an answer that was none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// Answer to [`Output::SessionRequest`].
    SessionAnswer {
        /// Which request.
        request: RequestId,
        /// The answer.
        answer: Result<session::Answer, Unanswered>,
    },
    /// Answer to [`Output::ReportRequest`].
    ReportAnswer {
        /// Which request.
        request: RequestId,
        /// The answer.
        answer: Result<report::Answer, Unanswered>,
    },
    /// Answer to [`Output::PathRequest`].
    PathAnswer {
        /// Which request.
        request: RequestId,
        /// The answer; the driver has checked the signature of its header.
        answer: Result<path::Answer, Unanswered>,
    },
    /// A notice by the coordinator itself; the driver has checked who sent it.
    Notice(Box<Notice>),
    /// A tree from gossipsub; the driver has checked the signature of its header.
    Pushed(Box<Update>),
    /// A tree from gossipsub that the coordinator has sent, but [`Engine::open`] knows no key for.
    ///
    /// [`Engine::open`]: super::Engine::open
    Unopened {
        /// The tree's.
        epoch: Epoch,
    },
    /// There is a connection to the coordinator now.
    CoordinatorUp,
    /// The last connection to the coordinator is gone.
    CoordinatorDown,
    /// An address of this machine appeared or went: whoever could not be reached may be now.
    NetworkChanged,
    /// The addresses this node can be dialled at, whenever they change.
    Addresses(Vec<Address>),
    /// A channel with a peer came up, or changed what it runs over. The peer need not be a member.
    ChannelUp {
        /// The other end.
        peer: MemberId,
        /// Direct or over a circuit.
        kind: ChannelKind,
        /// What carries it.
        transport: Transport,
    },
    /// The last connection with a peer is gone; its edges, if any, were reported down before.
    ChannelDown {
        /// The other end.
        peer: MemberId,
    },
    /// A dial that [`Output::Dial`] asked for failed.
    DialFailed {
        /// Whom.
        peer: MemberId,
    },
    /// The user lets a member be dialled again that was denied.
    Allowed {
        /// Whom.
        peer: MemberId,
    },
    /// What came of [`Output::Probe`]; `None` when no echo came in time.
    Probed {
        /// The other end.
        peer: MemberId,
        /// Which probe.
        serial: u64,
        /// The echo.
        echo: Option<Echoed>,
    },
    /// Both substreams of an edge are open, both hellos exchanged, the peer's certificate is good.
    EdgeUp {
        /// The edge's name from now on.
        edge: EdgeId,
        /// The other end.
        peer: MemberId,
        /// The newest tree of the peer as of its hello.
        epoch: Epoch,
    },
    /// [`Output::OpenEdge`] came to nothing.
    EdgeFailed {
        /// The other end.
        peer: MemberId,
    },
    /// An edge is gone, for whatever reason, also because this engine had asked for it.
    EdgeDown {
        /// Which.
        edge: EdgeId,
    },
    /// A message on an edge's control substream.
    EdgeMessage {
        /// Which edge.
        edge: EdgeId,
        /// The message.
        message: edge::Message,
    },
    /// A frame on an edge's data substream that proved genuine.
    Frame {
        /// Which edge.
        edge: EdgeId,
        /// The frame.
        frame: Frame,
        /// Its payload, opened.
        payload: Bytes,
    },
    /// A part of a frame came.
    EdgeAlive {
        /// On which edge.
        edge: EdgeId,
    },
    /// A frame that was dropped by the driver: forged, without certificate, not to be opened.
    BadFrame {
        /// Which edge.
        edge: EdgeId,
    },
    /// A draft from [`super::Engine::poll_draft`] was sealed and signed. They come back in order.
    Made {
        /// The frame.
        frame: Frame,
        /// Its payload as in the draft.
        payload: Bytes,
    },
    /// The application sends. Only while [`super::Engine::may_publish`]; of class live while
    /// [`super::Engine::may_publish_live`].
    Publish {
        /// Repeated in the outcome.
        id: PublishId,
        /// What kind of data.
        service: ServiceId,
        /// How it is treated when there is no room.
        class: Class,
        /// The only receiver; `None` for all.
        to: Option<MemberId>,
        /// The message.
        payload: Bytes,
    },
    /// The application wants to know whether all who should have a message of this node do; answered by
    /// [`Event::Confirmed`] once they do, or when the time is over.
    Confirm {
        /// Repeated in the answer.
        id: ConfirmId,
        /// Its only receiver; `None` for all.
        to: Option<MemberId>,
        /// Which message.
        seq: SeqNo,
        /// How long to wait, at most a day.
        within: Duration,
    },
    /// The application leaves: tell the coordinator, then [`Event::Ended`].
    Leave,
    /// Time has passed; see [`super::Engine::poll_timeout`].
    Tick,
}

/// What is to be done outside. Bulk data is not here: it is pulled.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Ask the coordinator on `/arborcast/session/1`.
    SessionRequest {
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: session::Request,
    },
    /// Report to the coordinator on `/arborcast/report/1`.
    ReportRequest {
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: Box<report::Report>,
    },
    /// Ask the coordinator on `/arborcast/path/1`.
    PathRequest {
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: path::Request,
    },
    /// Connect to a member; comes back as [`Input::ChannelUp`] or [`Input::DialFailed`].
    Dial(Contact),
    /// Measure a channel; comes back as [`Input::Probed`].
    Probe {
        /// The other end.
        peer: MemberId,
        /// Repeated in the outcome.
        serial: u64,
        /// Bytes of the train, at most [`arborcast_protocol::limits::TRAIN`]; 0 for a mere echo.
        train: u32,
    },
    /// Open both substreams of an edge; comes back as [`Input::EdgeUp`] or [`Input::EdgeFailed`].
    OpenEdge {
        /// The other end.
        peer: MemberId,
    },
    /// Close an edge; comes back as [`Input::EdgeDown`].
    CloseEdge {
        /// Which.
        edge: EdgeId,
    },
    /// Tell the application.
    Event(Event),
}

/// The echo of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echoed {
    /// From when the probe was written until its echo was read.
    pub round_trip: Duration,
    /// How late the other end is at times, as it says.
    pub lag: Duration,
    /// How the train arrived, if there was one and the peer says so.
    pub spread: Option<Spread>,
}

/// How a train arrived at the other end, its beginning left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread {
    /// So much...
    pub bytes: u32,
    /// ...over this time.
    pub time: Duration,
}

/// A frame to be sealed and signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Complete, number and all.
    pub header: Header,
    /// At most [`arborcast_protocol::limits::FRAME_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// A message for the application, in order per source and class. Those for this member alone are in
/// order among themselves, as are those for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who sent it.
    pub source: MemberId,
    /// In which run.
    pub incarnation: Incarnation,
    /// How it was sent. One of class live may come although some before it did not, and no loss is told.
    pub class: Class,
    /// Its number among the source's messages, from 1.
    pub seq: SeqNo,
    /// What kind of data.
    pub service: ServiceId,
    /// This member, if the message is for it alone; `None` for group data.
    pub to: Option<MemberId>,
    /// The message.
    pub payload: Bytes,
}

/// A member and its nickname.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nicked {
    /// Who.
    pub member: MemberId,
    /// How people call it; may be empty.
    pub nick: String,
}

/// What the application is told beside messages.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The coordinator let the node in. The certificate for hellos and frames.
    Admitted(Box<session::Joined>),
    /// The coordinator renewed the certificate.
    Recertified(Box<arborcast_protocol::certificate::Certificate>),
    /// The coordinator refused, or ended the membership; the engine does nothing more.
    Refused(Refusal),
    /// The coordinator has detached this member, which kept the others waiting. The engine joins again by
    /// itself once it can take what comes.
    Detached(Refusal),
    /// The coordinator does not answer; the engine goes on trying.
    CoordinatorLost(SilenceReason),
    /// The coordinator answers again.
    CoordinatorBack,
    /// Somebody came into the tree.
    Joined(Nicked),
    /// Somebody left it.
    Left(Nicked),
    /// A new tree is being taken up.
    Tree(TreeEvent),
    /// A channel came up, went down or changed.
    Channel(ChannelEvent),
    /// A message has its number; frames will be made of it.
    Queued {
        /// Which.
        id: PublishId,
        /// Its number.
        seq: SeqNo,
    },
    /// A message cannot be sent at all.
    Rejected {
        /// Which.
        id: PublishId,
        /// Why, and what to do.
        why: Rejection,
    },
    /// At all present members, all messages for all up to this one were handed to the application, or
    /// reported lost there; or the same of the messages for one member alone.
    Delivered {
        /// The highest such message of this node.
        seq: SeqNo,
        /// How many members that are, this node not counted.
        members: u32,
        /// The only receiver of those messages; `None` for messages for all.
        to: Option<MemberId>,
    },
    /// The answer to [`Input::Confirm`].
    Confirmed {
        /// Which question.
        id: ConfirmId,
        /// Which message.
        seq: SeqNo,
        /// How many members are known to have it, this node not counted.
        members: u32,
        /// All who should have it do.
        complete: bool,
        /// Who is not known to have it, as far as this node knows who is there.
        missing: Vec<MemberId>,
    },
    /// Messages of this node for one member alone that it is not known to have, and never will get.
    Missed {
        /// The receiver.
        to: MemberId,
        /// The first of them. Messages for others may lie between.
        from: SeqNo,
        /// The last of them.
        last: SeqNo,
        /// Why.
        reason: MissReason,
    },
    /// Messages that will never come.
    Lost {
        /// Of which flow.
        flow: Flow,
        /// The first lost message.
        from: SeqNo,
        /// The last lost message; equal to the number before the next delivered one of the flow.
        /// Messages that were not for this member may lie between.
        to: SeqNo,
        /// Why.
        reason: LossReason,
    },
    /// Something went wrong that the application can tell people.
    Warning(Warning),
    /// The last event: [`Input::Leave`] is done.
    Ended,
}

/// A new tree.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeEvent {
    /// Which.
    pub epoch: Epoch,
    /// The whole tree, if the node follows it in scope `tree`.
    pub tree: Option<Arc<Tree>>,
    /// This node's neighbours in it.
    pub neighbours: Vec<MemberId>,
    /// This node's edges of the tree before that stay in use for the moment.
    pub overlap: Vec<Edge>,
}

/// A change of a channel.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelEvent {
    /// The other end.
    pub peer: MemberId,
    /// How it is now; `None` when it is gone.
    pub state: Option<ChannelState>,
}

/// How a channel is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChannelState {
    /// Direct or over a circuit.
    pub kind: ChannelKind,
    /// What carries it.
    pub transport: Transport,
    /// As measured by this end; `None` before the first probe.
    pub qos: Option<Qos>,
}
