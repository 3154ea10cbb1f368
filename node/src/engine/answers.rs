//! What the coordinator says, and which parts it is passed on to.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{Epoch, MemberId},
    notice::{News, Notice},
    path::{self, Scope, State},
    refusal::{Code, Refusal},
    report,
    session::{Contact, Joined, Renewed},
};

use super::{
    Engine, Phase,
    event::{Event, RequestId, Unanswered},
    membership::{self, Outcome, Verdict},
    next_hops::{Hint, Kind},
    view::Taken,
};

impl Engine {
    pub(super) fn on_outcome(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::None => {}
            Outcome::Joined(joined) => self.on_joined(joined, now),
            Outcome::Renewed(renewed) => {
                let Renewed { certificate, settled, candidates, epoch, measure, .. } = *renewed;
                if let Some(certificate) = certificate {
                    self.desk.event(Event::Recertified(Box::new(certificate)));
                }
                if settled {
                    self.relay.set_settled(now);
                }
                self.channels.measure_bandwidth(&measure, now);
                self.on_candidates(candidates, now);
                if let Some(epoch) = epoch {
                    self.on_peer_epoch(epoch, now);
                }
            }
            Outcome::Forgotten => self.rejoin(now),
            Outcome::Detached(refusal) => self.detached(refusal, now),
            Outcome::Refused(refusal) => self.refuse(refusal),
            Outcome::Left => {
                self.end();
                self.tell_ended();
            }
        }
    }

    fn on_joined(&mut self, joined: Box<Joined>, now: Instant) {
        let terms = joined.terms;
        self.relay.set_terms(terms.store_bytes, terms.message_bytes);
        self.relay.ask_who_is_slow(Duration::from_millis(terms.slow_ms.into()));
        if self.membership.is_detached() {
            self.membership.on_returned();
            self.relay.returns(now);
        }
        // Certificates are renewed when a third of their life is left.
        let life_s = joined.certificate.claim.expires_s.saturating_sub(terms.now_s);
        self.relay.set_history(terms.history, Duration::from_secs(life_s / 3));
        if joined.settled {
            self.relay.set_settled(now);
        }
        self.path.start(now, &mut self.desk);
        self.reporter.on_joined(membership::period(terms.report_ms), now, &mut self.desk);
        let candidates = joined.candidates.clone();
        self.desk.event(Event::Admitted(joined));
        self.on_candidates(candidates, now);
    }

    fn on_candidates(&mut self, candidates: Vec<Contact>, now: Instant) {
        let channels = &self.channels;
        self.candidates.on_named(candidates, |peer| channels.has(peer), now, &self.desk);
    }

    pub(super) fn on_notice(&mut self, notice: Notice, now: Instant) {
        if notice.session != self.desk.session {
            return;
        }
        match notice.news {
            News::Neighbours(told) => {
                // What comes before this run was let in is meant for the one before it.
                if self.path.follows().is_some() && self.membership.terms().is_some() {
                    let taken = self.view.take_neighbours(*told);
                    self.on_taken(taken, now);
                }
            }
            News::Candidates(candidates) => self.on_candidates(candidates, now),
            News::Removed(refusal) => match (self.phase(), membership::verdict(refusal.code)) {
                // Whatever a later version ends a membership for is for good as far as is known here.
                (_, Verdict::Final | Verdict::Later) => self.refuse(refusal),
                (Phase::Leaving, Verdict::Rejoin) => {
                    self.end();
                    self.tell_ended();
                }
                (_, Verdict::Rejoin) => self.drop_out(refusal, now),
            },
        }
    }

    pub(super) fn on_path_answer(
        &mut self,
        request: RequestId,
        answer: Result<path::Answer, Unanswered>,
        now: Instant,
    ) {
        let Some(kind) = self.path.finish(request) else { return };
        match answer {
            Err(why) => {
                self.membership.on_silence(&why, &mut self.desk);
                self.path.on_failure(kind, now, &mut self.desk);
            }
            Ok(Err(refusal)) => {
                self.membership.on_contact(&mut self.desk);
                let waits = refusal.code == Code::NO_TREE;
                if waits || !self.is_over(refusal, now) {
                    self.path.on_failure(kind, now, &mut self.desk);
                }
            }
            Ok(Ok(state)) => {
                self.membership.on_contact(&mut self.desk);
                match state {
                    State::Tree(update) => {
                        let taken = self.view.take_update(*update);
                        self.on_taken(taken, now);
                    }
                    State::Neighbours(told) => {
                        let taken = self.view.take_neighbours(*told);
                        self.on_taken(taken, now);
                    }
                    State::Unsubscribed => {}
                }
                self.path.on_state(kind, self.view.epoch(), now, &mut self.desk);
            }
        }
        // By what came, or by what is known if nothing did.
        match kind {
            Kind::Query => self.relay.pass_on_held(),
            Kind::Subscribe => {}
        }
    }

    pub(super) fn on_report_answer(
        &mut self,
        request: RequestId,
        answer: Result<report::Answer, Unanswered>,
        now: Instant,
    ) {
        if !self.reporter.awaits(request) {
            return;
        }
        match answer {
            Err(why) => {
                self.membership.on_silence(&why, &mut self.desk);
                self.reporter.on_failure(request, now, &mut self.desk);
            }
            Ok(Err(refusal)) => {
                self.membership.on_contact(&mut self.desk);
                if !self.is_over(refusal, now) {
                    self.reporter.on_failure(request, now, &mut self.desk);
                }
            }
            Ok(Ok(accepted)) => {
                self.membership.on_contact(&mut self.desk);
                self.reporter.on_accepted(request, accepted.report_full, now);
                self.on_candidates(accepted.candidates, now);
            }
        }
    }

    /// A request as a member was refused. True if the membership is over, for good or for now.
    fn is_over(&mut self, refusal: Refusal, now: Instant) -> bool {
        match membership::verdict(refusal.code) {
            Verdict::Later => return false,
            Verdict::Rejoin => self.drop_out(refusal, now),
            Verdict::Final => self.refuse(refusal),
        }
        true
    }

    /// The coordinator counts this member no more, for now.
    fn drop_out(&mut self, refusal: Refusal, now: Instant) {
        if refusal.code == Code::DETACHED {
            self.detached(refusal, now);
        } else {
            self.rejoin(now);
        }
    }

    /// This member kept the others waiting. What the relay holds stays.
    fn detached(&mut self, refusal: Refusal, now: Instant) {
        if self.phase() == Phase::Member {
            self.pause();
            self.membership.on_detached(now, &mut self.desk);
            self.desk.event(Event::Detached(refusal));
        }
    }

    /// The coordinator has forgotten this member. What the relay holds stays.
    fn rejoin(&mut self, now: Instant) {
        if self.phase() == Phase::Member {
            self.pause();
            self.membership.rejoin(now, &mut self.desk);
        }
    }

    /// A tree came; `taken` is what became of it.
    pub(super) fn on_taken(&mut self, taken: Taken, now: Instant) {
        let news = match taken {
            Taken::New(news) => *news,
            Taken::Stale => {
                self.desk.stats.stale_updates += 1;
                return;
            }
            Taken::Unusable(epoch) => {
                self.desk.stats.unusable_updates += 1;
                self.path.want(epoch, Hint::Update, now, &mut self.desk);
                return;
            }
        };
        let epoch = news.tree.epoch;
        self.desk.stats.epochs += 1;
        self.path.on_tree(epoch, news.roster.is_some());
        if let Some(members) = &news.members {
            self.relay.set_members(members, now);
        }
        self.relay.set_tree(self.view.shared_tree(), now);
        if let Some(held) = self.view.held() {
            let place = news.roster.map(|_| news.tree.neighbours.iter().copied().collect());
            self.relay.note_tree(&held, self.view.shared_tree().as_ref(), place);
        }
        self.relay.set_roster(news.roster, now);
        self.relay.set_epoch(epoch, now);
        let peers: BTreeSet<MemberId> = news.tree.neighbours.iter().copied().collect();
        self.aside = self.new_on_cycles(&news.cyclic);
        self.edges.on_tree(&peers, epoch, now, &mut self.desk);
        self.act(now);
        self.set_aside(now);
        self.candidates.on_wanted(&peers, now);
        if news.rewired {
            self.reporter.on_rewired(now);
        }
        for nicked in news.left {
            self.desk.event(Event::Left(nicked));
        }
        for nicked in news.joined {
            self.desk.event(Event::Joined(nicked));
        }
        self.desk.event(Event::Tree(news.tree));
    }

    /// A tree of this epoch was pushed under a key that is not known here yet.
    pub(super) fn on_unopened(&mut self, epoch: Epoch, now: Instant) {
        if self.path.follows() == Some(Scope::Tree) && epoch > self.view.epoch() {
            self.desk.stats.unopened_pushes += 1;
            self.membership.on_unknown_key(now);
            self.path.want(epoch, Hint::Update, now, &mut self.desk);
        }
    }

    /// Somebody has a tree of this epoch.
    pub(super) fn on_peer_epoch(&mut self, epoch: Epoch, now: Instant) {
        if epoch > self.view.epoch() {
            self.path.want(epoch, Hint::Peer, now, &mut self.desk);
        }
    }
}
