//! Everything that goes into the coordinator's engine and comes out of it.

use arborcast_protocol::origin::Origin;
use arborcast_protocol::{
    id::{MemberId, SessionId},
    notice::Notice,
    path,
    push::{PushKey, PushSecret},
    report, session,
    tree::Update,
};

pub use super::session::recompute::{Computed, Job};

/// Names a request, so that its answer finds back. Chosen by the driver, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What happened outside. `from` is the peer as the connection authenticated it.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "an input lives for one call")]
pub enum Input {
    /// A request on `/arborcast/session/1`.
    Session {
        /// Who asks.
        from: MemberId,
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: session::Request,
    },
    /// A request on `/arborcast/report/1`.
    Report {
        /// Who reports.
        from: MemberId,
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: report::Report,
    },
    /// A request on `/arborcast/path/1`.
    Path {
        /// Who asks.
        from: MemberId,
        /// Repeated in the answer.
        request: RequestId,
        /// What.
        body: path::Request,
    },
    /// This peer has answered a notice.
    Noted {
        /// Whom it was for.
        from: MemberId,
        /// Of which session.
        session: SessionId,
    },
    /// A notice to this peer could not be delivered.
    NoticeFailed {
        /// Whom it was for.
        to: MemberId,
        /// Of which session.
        session: SessionId,
    },
    /// A [`Job`] is done.
    Computed {
        /// Of which session.
        session: SessionId,
        /// Which.
        job: u64,
        /// What came of it; `None` if it failed.
        computed: Option<Computed>,
    },
    /// This peer has connected, from there.
    Connected {
        /// Which peer.
        peer: MemberId,
        /// Where from.
        origin: Origin,
    },
    /// The last connection with this peer is gone.
    Disconnected {
        /// Which peer.
        peer: MemberId,
    },
    /// Time has passed, and all that had arrived by now is handed in; see
    /// [`super::Engine::poll_timeout`].
    Tick,
    /// Time has passed, though more has arrived that is not handed in yet: it may hold renewals, so no
    /// lease ends for now.
    Overdue,
}

/// What is to be done outside.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Answer to a request on `/arborcast/session/1`.
    SessionAnswer {
        /// Whom.
        to: MemberId,
        /// Which request.
        request: RequestId,
        /// With what.
        answer: session::Answer,
    },
    /// Answer to a request on `/arborcast/report/1`.
    ReportAnswer {
        /// Whom.
        to: MemberId,
        /// Which request.
        request: RequestId,
        /// With what.
        answer: report::Answer,
    },
    /// Answer to a request on `/arborcast/path/1`.
    PathAnswer {
        /// Whom.
        to: MemberId,
        /// Which request.
        request: RequestId,
        /// With what.
        answer: path::Answer,
    },
    /// A session has its first member.
    Opened {
        /// Which.
        session: SessionId,
    },
    /// A session has no member any more.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// A peer has come into its first session here, or is in none any more.
    Membership {
        /// Who.
        peer: MemberId,
        /// Whether it is in a session.
        is_member: bool,
    },
    /// Run this where it keeps nobody waiting, and hand in what comes of it as [`Input::Computed`].
    Compute {
        /// For which session.
        session: SessionId,
        /// What.
        job: Box<Job>,
    },
    /// Push a tree on the session's topic (R6, scope `tree`).
    Publish {
        /// Of which session.
        session: SessionId,
        /// What the topic is made from.
        topic: PushSecret,
        /// What it is to be sealed under.
        key: PushKey,
        /// What.
        update: Box<Update>,
    },
    /// Send a notice to one member (R6, scope `neighbours`).
    Notify {
        /// Whom.
        to: MemberId,
        /// What.
        notice: Box<Notice>,
    },
}
