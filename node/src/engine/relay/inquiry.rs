//! Who has a message and who has not: asked along the tree when a sender's patience is about to end,
//! for receipts say how far everybody is, and not who holds them back.
//!
//! A question goes from edge to edge, and the answers come back joined, one on each edge (the echo
//! algorithm; Chang, Echo Algorithms, 1982). Like receipts an answer claims that each member in it was
//! given everything up to a number. Deliveries are never undone, so all of it is true for ever, however
//! late; whoever is not in it did not answer in time, or lacks something. What receipts show already is
//! not asked for.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::{Have, Inquire, Message as EdgeMessage},
    id::{Flow, FrameNo, MemberId, SeqNo},
};

use super::{Output, Relay, config::QUESTIONS, publish::Place};
use crate::engine::{
    config::LONGEST,
    event::{ConfirmId, EdgeId, Event},
};

/// Questions under way at one node.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    /// At most [`OPEN`].
    open: Vec<Open>,
    /// What the application wants to know. At most [`ASKED`].
    asked: VecDeque<Asked>,
}

/// A question that waits for answers.
#[derive(Debug)]
struct Open {
    /// Who asked; `None`: this node.
    asker: Option<EdgeId>,
    flow: Flow,
    number: FrameNo,
    /// Members of the roster that have it, as far as is known.
    have: Vec<u8>,
    waiting: BTreeSet<EdgeId>,
    /// It is answered then, whoever has not answered.
    by: Instant,
}

/// What the application wants to know of one of its messages.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: ConfirmId,
    seq: SeqNo,
    to: Option<MemberId>,
    /// When to ask who has it; `None` once that was done.
    ask_at: Option<Instant>,
    by: Instant,
}

impl Inquiries {
    /// When to look.
    pub(super) fn due(&self) -> Option<Instant> {
        let open = self.open.iter().map(|open| open.by);
        let asked = self.asked.iter().map(|asked| asked.ask_at.unwrap_or(asked.by));
        open.chain(asked).min()
    }
}

impl Relay {
    /// The application wants to know, within some time, whether all have a message of this node: an
    /// [`Event::Confirmed`] tells as soon as they have, or at the end of it who has not.
    pub fn confirm(
        &mut self,
        id: ConfirmId,
        to: Option<MemberId>,
        seq: SeqNo,
        within: Duration,
        now: Instant,
    ) {
        let within = within.min(LONGEST);
        let (ask_at, by) = (now + within.saturating_sub(ROUND).max(within / 2), now + within);
        let asked = Asked { id, seq, to, ask_at: Some(ask_at), by };
        if self.publisher.place(to, seq) == Place::Arrived {
            self.answer(&asked, Some(Vec::new()));
        } else if self.inquiries.asked.len() >= ASKED {
            let missing = self.missing(&asked);
            self.answer(&asked, missing);
        } else {
            self.inquiries.asked.push_back(asked);
        }
    }

    /// All messages for `to` up to this one have arrived.
    pub(super) fn on_confirmed(&mut self, to: Option<MemberId>, seq: SeqNo) {
        let is_over = |asked: &Asked| asked.to == to && asked.seq <= seq;
        let over: Vec<Asked> = self.inquiries.asked.iter().copied().filter(is_over).collect();
        self.inquiries.asked.retain(|asked| !is_over(asked));
        for asked in over {
            self.answer(&asked, Some(Vec::new()));
        }
    }

    /// `missing`: who lacks it, `None` if that is not known.
    fn answer(&mut self, asked: &Asked, missing: Option<Vec<MemberId>>) {
        let others = self.roster.map_or(0, |roster| roster.len.saturating_sub(1));
        let all = asked.to.map_or(others, |_| 1);
        let complete = missing.as_ref().is_some_and(Vec::is_empty);
        let missing = missing.unwrap_or_default();
        let members = if complete {
            all
        } else {
            all.saturating_sub(u32::try_from(missing.len()).unwrap_or(u32::MAX).max(1))
        };
        let Asked { id, seq, .. } = *asked;
        let confirmed = Event::Confirmed { id, seq, members, complete, missing };
        self.outputs.push_back(Output::Event(confirmed));
    }

    /// Who is not known to have a message, by what was answered so far; `None` if this node does not
    /// know who is there.
    fn missing(&self, asked: &Asked) -> Option<Vec<MemberId>> {
        if let Some(to) = asked.to {
            return Some(vec![to]);
        }
        let members = self
            .routes
            .roster()
            .or_else(|| Some(self.members.as_ref()?.keys().copied().collect()))
            .filter(|members| {
                self.roster.is_some_and(|roster| roster.len as usize == members.len())
            })?;
        let have = match self.publisher.place(None, asked.seq) {
            Place::Arrived => return Some(Vec::new()),
            Place::Waiting => None,
            Place::At(number) => self
                .inquiries
                .open
                .iter()
                .find(|open| open.asker.is_none() && open.number == number)
                .map(|open| &open.have),
        };
        let has = |index: usize| {
            have.and_then(|have| have.get(index / 8))
                .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
        };
        let lacks =
            |(index, member): &(usize, MemberId)| *member != self.own.source && !has(*index);
        Some(members.into_iter().enumerate().filter(lacks).map(|(_, member)| member).collect())
    }

    pub(super) fn on_inquire(&mut self, id: EdgeId, inquire: &Inquire, now: Instant) {
        let Inquire { flow, number, wait_ms } = *inquire;
        let is_repeated =
            |open: &Open| (open.asker, open.flow, open.number) == (Some(id), flow, number);
        let Some(edge) = self.edges.get_mut(&id) else { return };
        if !edge.questions.take(QUESTIONS, now)
            || !self.has_heard_of(&flow, number)
            || self.inquiries.open.iter().any(is_repeated)
        {
            return self.stats.count(id, |traffic| traffic.over_rate += 1);
        }
        let wait = Duration::from_millis(wait_ms.into()).clamp(HOP, ROUND);
        self.inquire(Some(id), flow, number, wait, now);
    }

    /// Whether there is such a frame, as far as is known. Nobody behind this node has one that it never
    /// heard of.
    fn has_heard_of(&self, flow: &Flow, number: FrameNo) -> bool {
        let top = self.flows.get(flow).map(|state| state.top);
        top.or_else(|| self.tombstones.floor(flow)).is_some_and(|top| number <= top)
    }

    /// Finds out who has everything of a flow up to `number`.
    fn inquire(
        &mut self,
        asker: Option<EdgeId>,
        flow: Flow,
        number: FrameNo,
        wait: Duration,
        now: Instant,
    ) {
        let open = &mut self.inquiries.open;
        // Whoever asks again does not wait for the first answer any more.
        open.retain(|open| asker.is_none() || (open.asker, open.flow) != (asker, flow));
        let (is_asked, is_full) = (
            // Around a cycle the question has come back.
            open.iter().any(|open| (open.flow, open.number) == (flow, number)),
            open.len() >= OPEN,
        );
        let is_source = |id: &EdgeId| Some(*id) != asker && self.is_source_of(*id);
        let (have, rest) = self.known_to_have(&flow, number, is_source);
        let mut inquiry =
            Open { asker, flow, number, have, waiting: BTreeSet::new(), by: now + wait };
        if !is_asked && !is_full {
            // Each hop leaves the next one less time, so that answers are back before anybody gives up.
            let wait_ms = u32::try_from((wait * 7 / 8).as_millis()).unwrap_or(u32::MAX);
            for id in rest {
                let Some(edge) = self.edges.get_mut(&id) else { continue };
                let question = EdgeMessage::Inquire(Inquire { flow, number, wait_ms });
                if edge.say(question) {
                    inquiry.waiting.insert(id);
                }
            }
        }
        if inquiry.waiting.is_empty() && asker.is_some() {
            self.tell(&inquiry);
        } else if !is_full {
            self.inquiries.open.push(inquiry);
        }
    }

    /// The members that have everything of a flow up to `number` by what this node and the receipts of
    /// some edges say, and those of the edges that do not show it.
    fn known_to_have(
        &self,
        flow: &Flow,
        number: FrameNo,
        is_used: impl Fn(&EdgeId) -> bool,
    ) -> (Vec<u8>, Vec<EdgeId>) {
        let Some(roster) = self.roster else { return (Vec::new(), Vec::new()) };
        let mut have = vec![0_u8; (roster.len as usize).div_ceil(8)];
        let own = self.flows.get(flow).map(|state| state.delivery.delivered());
        let over = self.tombstones.floor(flow);
        if own.or(over).is_some_and(|delivered| delivered >= number)
            && let Some(byte) = have.get_mut(roster.index as usize / 8)
        {
            *byte |= 1 << (roster.index % 8);
        }
        let mut rest = Vec::new();
        for (id, edge) in self.edges.iter().filter(|(id, _)| is_used(id)) {
            match &edge.covered {
                Some((_, covered)) if edge.delivered(flow) >= number => join(&mut have, covered),
                _ => rest.push(*id),
            }
        }
        (have, rest)
    }

    /// Other members, or others in their places: what was answered so far does not fit any more.
    pub(super) fn ask_anew(&mut self, now: Instant) {
        self.inquiries.open.clear();
        for asked in &mut self.inquiries.asked {
            asked.ask_at.get_or_insert(now);
        }
    }

    pub(super) fn on_have(&mut self, id: EdgeId, answer: &Have) {
        if self.roster.is_none_or(|roster| roster.hash != answer.roster) {
            return;
        }
        for open in &mut self.inquiries.open {
            if (open.flow, open.number) == (answer.flow, answer.number) && open.waiting.remove(&id)
            {
                join(&mut open.have, &answer.members);
            }
        }
        self.tell_complete();
    }

    /// No answer comes from an edge any more.
    pub(super) fn forget_inquiries(&mut self, id: EdgeId) {
        self.inquiries.open.retain(|open| open.asker != Some(id));
        for open in &mut self.inquiries.open {
            open.waiting.remove(&id);
        }
        self.tell_complete();
    }

    /// Answers others as soon as nothing more can come.
    fn tell_complete(&mut self) {
        let is_over = |open: &mut Open| open.asker.is_some() && open.waiting.is_empty();
        let over: Vec<Open> = self.inquiries.open.extract_if(.., is_over).collect();
        for open in over {
            self.tell(&open);
        }
    }

    fn tell(&mut self, open: &Open) {
        let Some(roster) = self.roster else { return };
        let Some(edge) = open.asker.and_then(|id| self.edges.get_mut(&id)) else { return };
        let Open { flow, number, .. } = *open;
        let answer = Have { flow, number, roster: roster.hash, members: open.have.clone() };
        edge.say(EdgeMessage::Have(answer));
    }

    pub(super) fn on_inquiries_due(&mut self, now: Instant) {
        let over: Vec<Open> = self
            .inquiries
            .open
            .extract_if(.., |open| open.asker.is_some() && open.by <= now)
            .collect();
        for open in over {
            self.tell(&open);
        }
        let mut ask = BTreeSet::new();
        for asked in &mut self.inquiries.asked {
            if asked.ask_at.take_if(|at| *at <= now).is_some()
                && asked.to.is_none()
                && let Place::At(number) = self.publisher.place(None, asked.seq)
            {
                ask.insert((number, asked.by));
            }
        }
        for (number, by) in ask {
            self.inquire(None, self.own, number, by.saturating_duration_since(now), now);
        }
        let late: Vec<Asked> =
            self.inquiries.asked.iter().copied().filter(|asked| asked.by <= now).collect();
        self.inquiries.asked.retain(|asked| asked.by > now);
        for asked in late {
            let missing = self.missing(&asked);
            self.answer(&asked, missing);
        }
        self.inquiries.open.retain(|open| open.by > now);
    }
}

/// Adds the members of one set to another.
fn join(all: &mut [u8], more: &[u8]) {
    all.iter_mut().zip(more).for_each(|(all, more)| *all |= more);
}

/// Questions under way at one node, of its own and of others.
const OPEN: usize = 256;

/// Messages of which the application wants to know at a time; of more it is told at once what is known.
const ASKED: usize = 1024;

/// The least time that a question is given: for a hop and back.
const HOP: Duration = Duration::from_millis(10);

/// How long before the end of a sender's patience it is asked who has the message, at most.
const ROUND: Duration = Duration::from_secs(1);
