//! Inputs and events as figures, for the hash of the trace.

use arborcast::engine::event as node;
use arborcast_protocol::{
    id::MemberId,
    qos::{ChannelKind, Transport},
};

/// A name and figures that stand for an input in the hash of the trace.
pub(super) fn describe(input: &node::Input) -> (&'static str, Vec<u64>) {
    match input {
        node::Input::SessionAnswer { request, answer } => {
            ("session answer", vec![request.0, u64::from(answer.is_ok())])
        }
        node::Input::ReportAnswer { request, answer } => {
            ("report answer", vec![request.0, u64::from(answer.is_ok())])
        }
        node::Input::PathAnswer { request, answer } => {
            ("path answer", vec![request.0, u64::from(answer.is_ok())])
        }
        node::Input::Confirm { seq, .. } => ("confirm", vec![seq.0]),
        node::Input::Notice(_) => ("notice", vec![]),
        node::Input::Unopened { epoch } => ("unopened", vec![epoch.as_u64()]),
        node::Input::Pushed(update) => ("pushed", vec![update.header.header.epoch.as_u64()]),
        node::Input::CoordinatorUp => ("coordinator up", vec![]),
        node::Input::CoordinatorDown => ("coordinator down", vec![]),
        node::Input::NetworkChanged => ("network changed", vec![]),
        node::Input::Addresses(addresses) => ("addresses", vec![addresses.len() as u64]),
        node::Input::ChannelUp { peer, kind, transport } => (
            "channel up",
            vec![
                short(*peer),
                u64::from(*kind == ChannelKind::Relayed),
                u64::from(*transport == Transport::Tcp),
            ],
        ),
        node::Input::ChannelDown { peer } => ("channel down", vec![short(*peer)]),
        node::Input::DialFailed { peer } => ("dial failed", vec![short(*peer)]),
        node::Input::Allowed { peer } => ("allowed", vec![short(*peer)]),
        node::Input::Probed { peer, serial, echo } => {
            let micros =
                echo.map_or(0, |echo| u64::try_from(echo.round_trip.as_micros()).unwrap_or(0));
            ("probed", vec![short(*peer), *serial, micros])
        }
        node::Input::EdgeUp { edge, peer, epoch } => {
            ("edge up", vec![edge.0, short(*peer), epoch.as_u64()])
        }
        node::Input::EdgeFailed { peer } => ("edge failed", vec![short(*peer)]),
        node::Input::EdgeDown { edge } => ("edge down", vec![edge.0]),
        node::Input::EdgeAlive { edge } => ("edge alive", vec![edge.0]),
        node::Input::EdgeMessage { edge, message: _ } => ("edge message", vec![edge.0]),
        node::Input::Frame { edge, frame, payload } => {
            let header = frame.header();
            let len = payload.len() as u64;
            ("frame", vec![edge.0, short(header.source), header.number.0, len])
        }
        node::Input::BadFrame { edge } => ("bad frame", vec![edge.0]),
        node::Input::Made { frame, payload } => {
            ("made", vec![frame.header().number.0, payload.len() as u64])
        }
        node::Input::Publish { id, service, class: _, to: _, payload } => {
            ("publish", vec![id.0, u64::from(service.0), payload.len() as u64])
        }
        node::Input::Leave => ("leave", vec![]),
        node::Input::Tick => ("tick", vec![]),
    }
}

/// A number for an event and what it counts.
pub(super) fn kind(event: &node::Event) -> u64 {
    match event {
        node::Event::Admitted(_) => 1,
        node::Event::Recertified(_) => 2,
        node::Event::Refused(_) => 3,
        node::Event::CoordinatorLost(_) => 4,
        node::Event::CoordinatorBack => 5,
        node::Event::Joined(_) => 6,
        node::Event::Left(_) => 7,
        node::Event::Tree(tree) => 8 + (tree.epoch.as_u64() << 8),
        node::Event::Channel(_) => 9,
        node::Event::Queued { seq, .. } => 10 + (seq.0 << 8),
        node::Event::Rejected { .. } => 11,
        node::Event::Delivered { seq, .. } => 12 + (seq.0 << 8),
        node::Event::Lost { from, .. } => 13 + (from.0 << 8),
        node::Event::Warning(_) => 14,
        node::Event::Ended => 15,
        node::Event::Missed { .. } => 16,
        node::Event::Detached(_) => 18,
        node::Event::Confirmed { seq, .. } => 17 + (seq.0 << 8),
    }
}

/// A number for a member.
pub(super) fn short(member: MemberId) -> u64 {
    member.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
