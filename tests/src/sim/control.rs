//! The ways to the coordinator: requests and answers, notices, pushes.

use std::time::Duration;

use arborcast::engine::event as node;
use arborcast_coordinator::engine::event as coordinator;
use arborcast_protocol::{
    id::{MemberId, SessionId},
    limits,
    notice::Notice,
    path,
    push::{Push, PushError},
    report,
    session::{self, Granted},
};
use rand::RngExt as _;

use super::{Happening, Who, World};

/// After this long a request counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request of a node.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Session(Box<session::Request>),
    Report(Box<report::Report>),
    Path(path::Request),
}

/// The kind of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Session,
    Report,
    Path,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Session(Box<session::Answer>),
    Report(Box<report::Answer>),
    Path(Box<path::Answer>),
}

/// Where a request came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Engine,
    /// The world asked in the name of an intruder, which must get nothing for it.
    Intruder,
}

impl World {
    fn reachable(&self, node: usize) -> bool {
        self.hosts[node].control && self.coordinator.is_there()
    }

    fn control_time(&mut self, node: usize) -> Duration {
        let delay = self.hosts[node].control_delay;
        delay + delay.mul_f64(self.rng.random_range(0.0..0.5))
    }

    /// A node's way to the coordinator is cut, or the node is gone.
    pub(super) fn cut(&mut self, node: usize, time: Duration) {
        self.hosts[node].control = false;
        if let Some(who) = self.hosts[node].here() {
            let later = self.between(5, 3_000);
            self.after(later, Happening::Coordinated(who, false));
        }
        let later = self.between(5, 3_000);
        self.after(later, Happening::Disconnected(node));
        self.after(time, Happening::Mend(node));
    }

    pub(super) fn mend(&mut self, node: usize) {
        self.hosts[node].control = true;
        if let Some(who) = self.hosts[node].here() {
            let later = self.between(100, 2_000);
            self.after(later, Happening::Coordinated(who, true));
        }
    }

    pub(super) fn coordinated(&mut self, who: Who, up: bool) {
        // What was seen to happen may be over by now.
        if self.there(who) && self.reachable(who.node) == up {
            self.hosts[who.node].gave_up &= !up;
            let input = if up { node::Input::CoordinatorUp } else { node::Input::CoordinatorDown };
            self.feed(who, input);
        }
    }

    pub(super) fn disconnected(&mut self, node: usize) {
        let host = &self.hosts[node];
        let connected = host.engine.is_some() && host.control && !host.gave_up;
        if !connected {
            let peer = self.hosts[node].me;
            self.feed_coordinator(coordinator::Input::Disconnected { peer });
        }
    }

    pub(super) fn ask(&mut self, who: Who, request: node::RequestId, ask: Ask) {
        let kind = match &ask {
            Ask::Session(_) => Kind::Session,
            Ask::Report(_) => Kind::Report,
            Ask::Path(_) => Kind::Path,
        };
        self.hosts[who.node].pending.insert(request, kind);
        let ask = if self.setup.members[who.node].invited { ask } else { self.pretend(ask) };
        if let Ask::Report(report) = &ask
            && report.settled
        {
            self.model.settle(who);
        }
        let (ask, bytes) = self.cross_ask(who, ask);
        self.trace.note(self.now, &format!("{who:?}"), "asks", &[request.0, bytes], || {
            format!("{ask:?}")
        });
        if self.reachable(who.node) {
            let time = self.control_time(who.node);
            self.after(time, Happening::Asked(who, request, Box::new(ask)));
            self.after(PATIENCE, Happening::Unanswered(who, request));
        } else {
            let later = self.between(10, 1_000);
            self.after(later, Happening::Unanswered(who, request));
        }
    }

    pub(super) fn asked(&mut self, who: Who, request: node::RequestId, ask: Ask) {
        if !self.reachable(who.node) {
            return;
        }
        if !self.setup.members[who.node].invited {
            self.intrude(who);
        }
        let id = self.expect(who, request, Origin::Engine);
        let from = self.hosts[who.node].me;
        self.feed_coordinator(match ask {
            Ask::Session(body) => coordinator::Input::Session { from, request: id, body: *body },
            Ask::Report(body) => coordinator::Input::Report { from, request: id, body: *body },
            Ask::Path(body) => coordinator::Input::Path { from, request: id, body },
        });
    }

    pub(super) fn expect(
        &mut self,
        who: Who,
        request: node::RequestId,
        origin: Origin,
    ) -> coordinator::RequestId {
        self.coordinator.requests += 1;
        let id = coordinator::RequestId(self.coordinator.requests);
        self.coordinator.asked.insert(id, (who, request, origin));
        id
    }

    pub(super) fn answer(&mut self, to: MemberId, request: coordinator::RequestId, told: Told) {
        let Some((who, request, origin)) = self.coordinator.asked.remove(&request) else {
            self.check(Err(format!("the coordinator answers {request:?} twice or unasked")));
            return;
        };
        if to != self.hosts[who.node].me {
            self.check(Err(format!("the answer to {who:?} goes to {}", self.name(to))));
        }
        let granted = match &told {
            Told::Session(answer) => match &**answer {
                // Outsiders may ask where, and for something to sign.
                Ok(Granted::Challenge { .. } | Granted::Located { .. }) | Err(_) => false,
                Ok(
                    Granted::Joined(_)
                    | Granted::Renewed(_)
                    | Granted::Left
                    | Granted::HandingOver { .. },
                ) => true,
            },
            Told::Report(answer) => answer.is_ok(),
            Told::Path(answer) => answer.is_ok(),
        };
        if granted {
            let result = self.invariants.admission.granted(who);
            self.check(result);
        }
        if origin == Origin::Intruder {
            return;
        }
        let (told, bytes) = self.cross_told(who, told);
        self.trace.note(self.now, "coord", "answers", &[request.0, bytes], || {
            format!("{who:?} {told:?}")
        });
        if self.reachable(who.node) {
            let time = self.control_time(who.node);
            self.after(time, Happening::Told(who, request, Box::new(told)));
        }
    }

    pub(super) fn told(&mut self, who: Who, request: node::RequestId, told: Told) {
        if !self.there(who)
            || !self.reachable(who.node)
            || self.hosts[who.node].pending.remove(&request).is_none()
        {
            return;
        }
        self.feed(
            who,
            match told {
                Told::Session(answer) => {
                    node::Input::SessionAnswer { request, answer: Ok(*answer) }
                }
                Told::Report(answer) => node::Input::ReportAnswer { request, answer: Ok(*answer) },
                Told::Path(answer) => node::Input::PathAnswer { request, answer: Ok(*answer) },
            },
        );
    }

    pub(super) fn unanswered(&mut self, who: Who, request: node::RequestId) {
        if !self.there(who) {
            return;
        }
        let Some(kind) = self.hosts[who.node].pending.remove(&request) else { return };
        let why = node::Unanswered("no answer in time".to_owned());
        self.feed(
            who,
            match kind {
                Kind::Session => node::Input::SessionAnswer { request, answer: Err(why) },
                Kind::Report => node::Input::ReportAnswer { request, answer: Err(why) },
                Kind::Path => node::Input::PathAnswer { request, answer: Err(why) },
            },
        );
    }

    pub(super) fn notify(&mut self, to: MemberId, notice: Notice) {
        let Some(number) = self.numbers.get(&to).copied() else { return };
        let notice = self.cross_notice(notice);
        let time = self.control_time(number);
        self.after(time, Happening::Noticed(to, Box::new(notice)));
    }

    pub(super) fn noticed(&mut self, to: MemberId, notice: Box<Notice>) {
        let Some(number) = self.numbers.get(&to).copied() else { return };
        if let Some(who) = self.hosts[number].here().filter(|_| self.reachable(number)) {
            let result = self.invariants.admission.granted(who);
            self.check(result);
            let (session, time) = (notice.session, self.control_time(number));
            self.after(time, Happening::Noted(to, session));
            self.feed(who, node::Input::Notice(notice));
        } else {
            let session = notice.session;
            self.feed_coordinator(coordinator::Input::NoticeFailed { to, session });
        }
    }

    /// The answer to a notice; on a way that is cut it is lost.
    pub(super) fn noted(&mut self, from: MemberId, session: SessionId) {
        if self.numbers.get(&from).is_some_and(|number| self.reachable(*number)) {
            self.feed_coordinator(coordinator::Input::Noted { from, session });
        }
    }

    /// A push: each follower gets it some time, or never, or twice.
    pub(super) fn push(&mut self, topic: &str, push: &Push) {
        let push = self.carry(push.clone(), limits::GOSSIP).0;
        let gossip = self.setup.gossip;
        for number in 0..self.hosts.len() {
            let Some(who) = self.hosts[number].here() else { continue };
            let copies = match self.rng.random_range(0..1_000) {
                figure if figure < gossip.lost => 0,
                figure if figure < gossip.lost + gossip.doubled => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let time = gossip.delay.mul_f64(self.rng.random_range(0.02..=1.0));
                let follows = self.hosts[number].topic.as_deref() == Some(topic);
                if follows && self.setup.members[number].follows_pushes() {
                    self.after(time, Happening::Pushed(who, Box::new(push.clone())));
                }
            }
        }
    }

    pub(super) fn pushed(&mut self, who: Who, push: &Push) {
        if !self.there(who) {
            return;
        }
        let engine = self.hosts[who.node].engine.as_ref();
        match engine.map(|engine| engine.open(push)) {
            None => {}
            Some(Ok(update)) => self.feed(who, node::Input::Pushed(Box::new(update))),
            Some(Err(PushError::UnknownKey)) => {
                self.feed(who, node::Input::Unopened { epoch: push.epoch });
            }
            Some(Err(PushError::Malformed)) => {
                self.check(Err(format!("{who:?} cannot open the push of {}", push.epoch)));
            }
        }
    }
}
