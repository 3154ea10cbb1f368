//! One life of an edge: two pipes each way, reliable and in order, as substreams are.

use std::{collections::VecDeque, time::Duration};

use arborcast::engine::event::EdgeId;
use arborcast_protocol::{edge::Message, frame::Frame};

use super::Who;

/// Frames that a writer takes before the reader took one: little, so that what waits, waits in the
/// engine, where it is counted.
pub(super) const FRAMES_IN_FLIGHT: usize = 4;

/// Control messages that a writer takes before the reader took one.
pub(super) const MESSAGES_IN_FLIGHT: usize = 16;

/// Which side of a link or edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Side {
    /// That of the lower node.
    A,
    /// That of the higher node.
    B,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// How far one end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Being opened.
    Pending,
    /// Its engine was told that it is up.
    Up,
    /// Its engine was told that it is gone, or never of it.
    Down,
}

/// What is under way towards one end.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    waiting: VecDeque<(Duration, T)>,
    last: Duration,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), last: Duration::ZERO }
    }
}

impl<T> Pipe<T> {
    /// Puts `item` in, to arrive at `at` or after what is before it. Gives when it will.
    pub(super) fn push(&mut self, at: Duration, item: T) -> Duration {
        let at = at.max(self.last + Duration::from_nanos(1));
        self.last = at;
        self.waiting.push_back((at, item));
        at
    }

    /// Nothing arrives before this.
    pub(super) fn not_before(&mut self, at: Duration) {
        self.last = self.last.max(at);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the last one arrives.
    pub(super) const fn last(&self) -> Duration {
        self.last
    }

    /// Whether one has arrived by `now`.
    pub(super) fn ripe(&self, now: Duration) -> bool {
        self.waiting.front().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes the first if it has arrived by `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<T> {
        if self.ripe(now) { self.waiting.pop_front().map(|(_, item)| item) } else { None }
    }

    fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// One end of an edge.
#[derive(Debug)]
pub(super) struct End {
    /// Whose.
    pub(super) who: Who,
    pub(super) state: State,
    /// What comes to it on the control substream.
    pub(super) control: Pipe<Message>,
    /// What comes to it on the data substream.
    pub(super) data: Pipe<Frame>,
}

impl End {
    fn new(who: Who) -> Self {
        Self { who, state: State::Pending, control: Pipe::default(), data: Pipe::default() }
    }
}

/// One life of an edge.
#[derive(Debug)]
pub(super) struct Edge {
    /// On which link.
    pub(super) link: usize,
    /// On which channel of that link.
    pub(super) channel: u64,
    /// Who asked for it.
    pub(super) opener: Side,
    /// The channel is gone: nothing arrives any more.
    pub(super) broken: bool,
    ends: [End; 2],
}

impl Edge {
    pub(super) fn new(link: usize, channel: u64, opener: Side, ends: [Who; 2]) -> Self {
        Self { link, channel, opener, broken: false, ends: ends.map(End::new) }
    }

    pub(super) const fn end(&self, side: Side) -> &End {
        let [a, b] = &self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        let [a, b] = &mut self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// One end is gone, and with it all that was under way to it.
    pub(super) fn down(&mut self, side: Side) {
        let end = self.end_mut(side);
        end.state = State::Down;
        end.control.clear();
        end.data.clear();
    }

    /// Neither end knows of it any more.
    pub(super) fn over(&self) -> bool {
        self.ends.iter().all(|end| end.state == State::Down)
    }
}

/// The name of one end of the n-th edge: each end has its own.
pub(super) const fn name(edge: u64, side: Side) -> EdgeId {
    EdgeId(edge * 2 + side.index() as u64)
}

/// Which edge and end a name stands for.
pub(super) const fn named(id: EdgeId) -> (u64, Side) {
    (id.0 / 2, if id.0.is_multiple_of(2) { Side::A } else { Side::B })
}
