//! What the driver pulls beside frames of edges: drafts to make and messages to hand out. The two classes
//! take turns where both have some, so neither can keep the other waiting.

use std::time::Instant;

use arborcast_protocol::id::Flow;

use super::{Output, Relay, delivery::Room};
use crate::engine::event::{Draft, Event, Message};

impl Relay {
    /// The next frame to make of what the application published. While receivers are slow there are
    /// live ones alone.
    pub fn poll_draft(&mut self, now: Instant) -> Option<Draft> {
        if self.live.drafts_first() {
            let live = self.live_draft(now);
            return live.or_else(|| self.reliable_draft());
        }
        let reliable = self.reliable_draft();
        reliable.or_else(|| self.live_draft(now))
    }

    fn reliable_draft(&mut self) -> Option<Draft> {
        if self.is_ahead() {
            return None;
        }
        let stored = self.own_bytes();
        let window = self.window();
        let draft = self.publisher.draft(stored, window, &mut self.stats)?;
        self.on_draft();
        Some(draft)
    }

    /// The next message for the application; classes and sources take turns.
    pub fn poll_delivery(&mut self, now: Instant) -> Option<Message> {
        if self.live.delivers_first() {
            let live = self.poll_live_delivery(now);
            return live.or_else(|| self.poll_reliable_delivery(now));
        }
        let reliable = self.poll_reliable_delivery(now);
        reliable.or_else(|| self.poll_live_delivery(now))
    }

    fn poll_reliable_delivery(&mut self, now: Instant) -> Option<Message> {
        while let Some(flow) = self.deliverable.pop() {
            let Some(state) = self.flows.get_mut(&flow) else { continue };
            let before = state.delivery.delivered();
            let admitted = self.admission.state();
            let message_bytes = self.config.message_bytes;
            let mut room = Room {
                flow,
                message: message_bytes,
                assembly: self.config.assembly_bytes.max(message_bytes),
                admission: &mut self.admission,
            };
            let message = state.delivery.next(&state.has, &mut room, &mut self.stats);
            for lost in state.delivery.take_lost() {
                self.outputs.push_back(Output::Event(Event::Lost {
                    flow,
                    from: lost.from,
                    to: lost.to,
                    reason: lost.reason,
                }));
            }
            if state.delivery.is_ready(&state.has) && !self.admission.is_waiting(&flow) {
                self.deliverable.push(flow);
            }
            let frames = state.delivery.delivered().0.saturating_sub(before.0);
            if frames > 0 {
                state.active_at = now;
                let bytes = frames.saturating_mul(state.store.average());
                self.slow.took(bytes);
                self.release(flow, now);
                self.report(None, flow, bytes, now);
            }
            if self.admission.state() != admitted {
                self.try_waiting();
            }
            if let Some((seq, service, payload)) = message {
                let Flow { source, incarnation, class, to } = flow;
                return Some(Message { source, incarnation, class, seq, service, to, payload });
            }
        }
        None
    }
}
