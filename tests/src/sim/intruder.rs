//! What somebody who was not invited tries.

use arborcast::engine::event as node;
use arborcast_coordinator::engine::event as coordinator;
use arborcast_protocol::{
    path::{self, Scope},
    qos::{ChannelKind, Transport},
    report, session,
};

use super::{
    Who, World,
    control::{Ask, Origin},
};

impl World {
    /// An intruder has another secret and so another session id: it asks for the real session.
    pub(super) fn pretend(&self, ask: Ask) -> Ask {
        match ask {
            Ask::Session(mut request) => {
                match &mut *request {
                    session::Request::Locate { session }
                    | session::Request::Challenge { session }
                    | session::Request::Renew { session, .. }
                    | session::Request::Leave { session, .. } => *session = self.session,
                    session::Request::Join(join) => join.session = self.session,
                }
                Ask::Session(request)
            }
            Ask::Report(mut report) => {
                report.session = self.session;
                Ask::Report(report)
            }
            Ask::Path(request) => Ask::Path(match request {
                path::Request::Query { scope, .. } => {
                    path::Request::Query { session: self.session, scope }
                }
                path::Request::Subscribe { scope, .. } => {
                    path::Request::Subscribe { session: self.session, scope }
                }
                path::Request::Unsubscribe { .. } => {
                    path::Request::Unsubscribe { session: self.session }
                }
            }),
        }
    }

    /// All that somebody who is not a member can try.
    pub(super) fn intrude(&mut self, who: Who) {
        let (from, session) = (self.hosts[who.node].me, self.session);
        let incarnation = self.hosts[who.node].incarnation;
        for body in [
            path::Request::Query { session, scope: Scope::Tree },
            path::Request::Subscribe { session, scope: Scope::Tree },
            path::Request::Subscribe { session, scope: Scope::Neighbours },
        ] {
            let request = self.expect(who, node::RequestId(0), Origin::Intruder);
            self.feed_coordinator(coordinator::Input::Path { from, request, body });
        }
        let request = self.expect(who, node::RequestId(0), Origin::Intruder);
        let body = session::Request::Renew {
            session,
            incarnation,
            addresses: Vec::new(),
            settled: true,
            push_key: 0,
        };
        self.feed_coordinator(coordinator::Input::Session { from, request, body });
        let request = self.expect(who, node::RequestId(0), Origin::Intruder);
        let up = self
            .hosts
            .iter()
            .filter(|host| host.me != from)
            .map(|host| report::Channel {
                peer: host.me,
                kind: ChannelKind::Direct,
                transport: Transport::Quic,
            })
            .collect();
        let body = report::Report {
            session,
            incarnation,
            adjacency: Some(report::Adjacency::Full(up)),
            qos: Vec::new(),
            held: None,
            carrying: Vec::new(),
            settled: true,
            silent: vec![],
            slow: vec![],
        };
        self.feed_coordinator(coordinator::Input::Report { from, request, body });
    }
}
