use arborcast_protocol::{
    frame::Content,
    id::{Class, Flow, FrameNo, KeyId, SeqNo, ServiceId},
    limits, testing,
};
use bytes::Bytes;

use super::{Draft, OVERHEAD, Publisher};
use crate::engine::relay::stats::Stats;

struct Scene {
    publisher: Publisher,
    stats: Stats,
}

impl Scene {
    fn new() -> Self {
        let flow = Flow {
            source: testing::member(0),
            incarnation: testing::incarnation(0),
            class: Class::Reliable,
            to: None,
        };
        let publisher = Publisher::new(testing::session(0), flow, Some(KeyId(0)));
        Self { publisher, stats: Stats::default() }
    }

    fn push(&mut self, service: u32, len: usize) -> SeqNo {
        self.publisher.push(ServiceId(service), None, vec![7; len].into(), &mut self.stats)
    }

    fn draft(&mut self, window: u64) -> Option<Draft> {
        self.publisher.draft(0, window, &mut self.stats)
    }

    /// Drafts with nothing in their way: content, first message and length of each.
    fn drafts(&mut self) -> Vec<(Content, u64, usize)> {
        std::iter::from_fn(|| self.draft(u64::MAX))
            .map(|draft| (draft.header.content, draft.header.first_seq.0, draft.payload.len()))
            .collect()
    }
}

#[test]
fn one_message_makes_one_frame_and_many_share_one() {
    let mut scene = Scene::new();
    scene.push(0, 10);
    assert_eq!(scene.drafts(), [(Content::Messages { count: 1 }, 1, 14)]);
    for _ in 0..5 {
        scene.push(0, 10);
    }
    assert_eq!(scene.drafts(), [(Content::Messages { count: 5 }, 2, 70)]);
    assert_eq!(scene.stats.queue_bytes, 0);
}

#[test]
fn a_frame_holds_messages_of_one_service_within_the_limits() {
    let mut scene = Scene::new();
    scene.push(1, 1);
    scene.push(2, 1);
    scene.push(2, limits::FRAME_PAYLOAD - 9);
    scene.push(2, 1);
    for _ in 0..=limits::MESSAGES_PER_FRAME {
        scene.push(3, 0);
    }
    let most = limits::MESSAGES_PER_FRAME;
    assert_eq!(
        scene.drafts(),
        [
            (Content::Messages { count: 1 }, 1, 5),
            (Content::Messages { count: 2 }, 2, limits::FRAME_PAYLOAD),
            (Content::Messages { count: 1 }, 4, 5),
            (Content::Messages { count: most }, 5, 4 * most as usize),
            (Content::Messages { count: 1 }, 5 + u64::from(most), 4),
        ]
    );
}

#[test]
fn r7_a_large_message_is_cut_into_numbered_pieces_without_copying() {
    let mut scene = Scene::new();
    let payload = Bytes::from(vec![7; 50 * limits::FRAME_PAYLOAD]);
    scene.publisher.push(ServiceId(0), None, payload.clone(), &mut scene.stats);
    let drafts: Vec<Draft> = std::iter::from_fn(|| scene.draft(u64::MAX)).collect();
    assert_eq!(drafts.len(), 50);
    for (index, draft) in (0..).zip(&drafts) {
        let bytes = payload.len() as u64;
        assert_eq!(draft.header.content, Content::Piece { index, of: 50, bytes });
        assert_eq!(draft.header.number, FrameNo(u64::from(index) + 1));
        assert_eq!(draft.header.first_seq, SeqNo(1));
        let start = index as usize * limits::FRAME_PAYLOAD;
        assert_eq!(draft.payload.as_ptr(), payload.slice(start..).as_ptr());
    }
}

#[test]
fn every_length_fits_frames_that_decode() {
    let edge = limits::FRAME_PAYLOAD;
    for len in [0, 1, edge - 5, edge - 4, edge - 3, edge, edge + 1, 2 * edge, limits::MESSAGE] {
        let mut scene = Scene::new();
        scene.push(0, len);
        let mut bytes = 0;
        while let Some(draft) = scene.draft(u64::MAX) {
            bytes += draft.payload.len();
            let frame = testing::frame(draft.header, &draft.payload);
            assert!((frame.len() - draft.payload.len()) as u64 <= OVERHEAD);
            assert!(scene.publisher.made(frame.header()));
        }
        assert_eq!(bytes, if len <= edge - 4 { len + 4 } else { len }, "message of {len}");
    }
}

#[test]
fn the_window_counts_drafts_that_are_not_made_yet() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        scene.push(0, limits::FRAME_PAYLOAD - 4);
    }
    let frame = limits::FRAME_PAYLOAD as u64 + OVERHEAD;
    let two = 2 * frame + OVERHEAD;
    assert!(scene.draft(0).is_some(), "the first goes always");
    assert!(scene.draft(two - 1).is_none());
    assert!(scene.draft(two).is_some(), "with room for one without messages");
    assert!(scene.draft(two).is_none());
}

#[test]
fn a_message_has_arrived_with_its_last_frame() {
    let mut scene = Scene::new();
    scene.push(0, 1);
    scene.push(0, 1);
    scene.push(0, 3 * limits::FRAME_PAYLOAD);
    scene.push(0, 1);
    assert_eq!(scene.drafts().len(), 5);
    assert_eq!(scene.publisher.arrived(None, FrameNo(1)), Some(SeqNo(2)));
    assert_eq!(scene.publisher.arrived(None, FrameNo(1)), None);
    assert_eq!(scene.publisher.arrived(None, FrameNo(3)), None);
    assert_eq!(scene.publisher.arrived(None, FrameNo(5)), Some(SeqNo(4)));
}

#[test]
fn what_was_not_drafted_is_not_made() {
    let mut scene = Scene::new();
    scene.push(0, 1);
    let draft = scene.draft(u64::MAX).expect("something is queued");
    let mut other = draft.header.clone();
    other.number = FrameNo(2);
    assert!(!scene.publisher.made(&other));
    assert!(scene.publisher.made(&draft.header));
    assert!(!scene.publisher.made(&draft.header));
}
