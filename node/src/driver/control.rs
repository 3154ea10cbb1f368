//! Exchanges with the coordinator, notices and pushes, to and from the engines.

use arborcast_protocol::{
    codec,
    id::SessionId,
    notice::{News, Noted, Notice},
    path,
    refusal::{Code, Refusal},
    session::{self, Contact},
};
use libp2p::{gossipsub, request_response};
use tracing::{debug, warn};

use super::{Driver, address, now};
use crate::engine::event::{Input, RequestId, Unanswered};

/// The exchanges with coordinators that a node begins. Each counts its requests by itself, so a request is named by
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Exchange {
    Session,
    Report,
    Path,
}

/// Whose request it was that is answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// An engine's.
    Engine(SessionId, RequestId),
    /// A joining that asks where its session is coordinated.
    Locate,
}

impl Driver {
    /// A path answer whose header the session's coordinator did sign.
    pub(super) fn genuine(
        &self,
        session: SessionId,
        answer: Result<path::Answer, Unanswered>,
    ) -> Result<path::Answer, Unanswered> {
        let header = match &answer {
            Ok(Ok(path::State::Tree(update))) => update.header,
            Ok(Ok(path::State::Neighbours(neighbours))) => neighbours.header,
            Ok(Ok(path::State::Unsubscribed) | Err(_)) | Err(_) => return answer,
        };
        match self.memberships.get(&session) {
            Some(membership) if header.verify(session, &[membership.coordinator()]) => answer,
            _ => Err(Unanswered("the answer is not signed by the coordinator".to_owned())),
        }
    }

    /// The outcome of a request that this node made.
    pub(super) fn answered<Req, Answer>(
        &mut self,
        exchange: Exchange,
        event: request_response::Event<Result<Req, codec::DecodeError>, Answer>,
    ) -> Option<(Asked, Result<Answer, Unanswered>)> {
        match event {
            request_response::Event::Message {
                peer,
                message: request_response::Message::Response { request_id, response },
                ..
            } => {
                self.heard.heard(&peer, now());
                Some((self.requests.remove(&(exchange, request_id))?, Ok(response)))
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let asked = self.requests.remove(&(exchange, request_id))?;
                Some((asked, Err(Unanswered(error.to_string()))))
            }
            _ => None,
        }
    }

    pub(super) fn on_session(
        &mut self,
        event: request_response::Event<
            Result<session::Request, codec::DecodeError>,
            session::Answer,
        >,
    ) {
        if let request_response::Event::Message {
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        {
            let answer = self.locate(request);
            let _ = self.swarm.behaviour_mut().session.send_response(channel, answer);
            return;
        }
        let peer = match &event {
            request_response::Event::Message { peer, .. }
            | request_response::Event::OutboundFailure { peer, .. }
            | request_response::Event::InboundFailure { peer, .. }
            | request_response::Event::ResponseSent { peer, .. } => *peer,
        };
        // Whoever does not speak the protocol never will; other failures may pass.
        let is_stranger = matches!(
            event,
            request_response::Event::OutboundFailure {
                error: request_response::OutboundFailure::UnsupportedProtocols,
                ..
            }
        );
        match self.answered(Exchange::Session, event) {
            Some((Asked::Engine(session, request), answer)) => {
                self.input(session, Input::SessionAnswer { request, answer });
            }
            Some((Asked::Locate, Err(error))) if !is_stranger => self.not_located(peer, &error),
            Some((Asked::Locate, answer)) => self.located(peer, &answer),
            None => {}
        }
    }

    /// Members tell where their sessions are coordinated, and answer nothing else.
    pub(super) fn locate(
        &self,
        request: Result<session::Request, codec::DecodeError>,
    ) -> session::Answer {
        match request {
            Ok(session::Request::Locate { session }) => {
                let membership = self.memberships.get(&session).ok_or_else(|| {
                    Refusal::new(
                        Code::NOT_COORDINATOR,
                        "this node is not in that session; ask a coordinator or a member of it",
                    )
                })?;
                Ok(session::Granted::Located {
                    coordinators: vec![Contact {
                        member: membership.coordinator(),
                        addresses: address::tell(membership.coordinator_addresses()),
                    }],
                })
            }
            Ok(_) => Err(Refusal::new(
                Code::NOT_COORDINATOR,
                "this node is a member, not a coordinator; ask it only where the session is \
                 coordinated",
            )),
            Err(error) => {
                Err(Refusal::new(Code::INVALID, format!("the request was not understood: {error}")))
            }
        }
    }

    pub(super) fn on_notice(
        &mut self,
        event: request_response::Event<Result<Notice, codec::DecodeError>, Noted>,
    ) {
        let request_response::Event::Message {
            peer,
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        else {
            return;
        };
        let _ = self.swarm.behaviour_mut().notice.send_response(channel, Noted {});
        let notice = match request {
            Ok(notice) => notice,
            Err(error) => return debug!(%peer, %error, "notice not understood"),
        };
        let Some(membership) = self.memberships.get_mut(&notice.session) else { return };
        let coordinator = membership.coordinator();
        let genuine = match &notice.news {
            News::Neighbours(neighbours) => {
                neighbours.header.verify(notice.session, &[coordinator])
            }
            News::Candidates(_) | News::Removed(_) => true,
        };
        if peer == coordinator.peer_id() && genuine {
            membership.handle(Input::Notice(Box::new(notice)));
        } else {
            warn!(%peer, "dropped a notice that is not the coordinator's");
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let pushed = self.memberships.iter().find_map(|(session, membership)| {
            let input = (membership.topic()? == message.topic)
                .then(|| membership.open_push(message.source, &message.data))?;
            Some((*session, input))
        });
        let genuine = pushed.and_then(|(session, input)| Some((session, input?)));
        let acceptance = if genuine.is_some() {
            gossipsub::MessageAcceptance::Accept
        } else {
            warn!(peer = %propagation_source, "rejected a push that the coordinator did not sign");
            gossipsub::MessageAcceptance::Reject
        };
        self.swarm.behaviour_mut().gossipsub.inner().report_message_validation_result(
            &message_id,
            &propagation_source,
            acceptance,
        );
        if let Some((session, input)) = genuine {
            self.input(session, input);
        }
    }
}
