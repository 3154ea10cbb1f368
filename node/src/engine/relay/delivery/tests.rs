use arborcast_protocol::{
    frame::{Content, Header},
    id::{Class, Flow, FrameNo, MemberId, SeqNo},
    numbers::NumberSet,
    testing,
};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Delivery, LossReason, Lost, Room};
use crate::engine::relay::{admission::Admission, stats::Stats};

/// Of all flows together.
const BUDGET: u64 = 1_000_000;

/// Flows from low to high.
fn flow(n: u8) -> Flow {
    let (source, class) = (MemberId::from_bytes([n; 32]), Class::Reliable);
    Flow { source, incarnation: testing::incarnation(0), class, to: None }
}

/// One flow as it comes.
struct Scene {
    delivery: Delivery,
    has: NumberSet,
    stats: Stats,
    admission: Admission,
    largest: u64,
}

impl Scene {
    fn after(cursor: u64) -> Self {
        Self {
            delivery: Delivery::after(FrameNo(cursor)),
            has: NumberSet::up_to(FrameNo(cursor)),
            stats: Stats::default(),
            admission: Admission::default(),
            largest: 1_000_000,
        }
    }

    fn offer(&mut self, number: u64, seq: u64, content: Content, payload: Bytes) {
        let (session, source) = (testing::session(0), testing::member(0));
        let header = testing::header(session, source, testing::incarnation(0), number);
        let header = Header { first_seq: SeqNo(seq), content, ..header };
        self.has.insert(header.number);
        self.delivery.offer(header, payload, &mut self.stats);
    }

    fn run(&mut self, number: u64, seq: u64, messages: &[&str]) {
        let mut payload = BytesMut::new();
        for message in messages {
            payload.put_u32(u32::try_from(message.len()).expect("short"));
            payload.put_slice(message.as_bytes());
        }
        let count = u32::try_from(messages.len()).expect("few");
        self.offer(number, seq, Content::Messages { count }, payload.freeze());
    }

    fn piece(
        &mut self,
        number: u64,
        seq: u64,
        index: u32,
        of: u32,
        bytes: u64,
        text: &'static str,
    ) {
        self.offer(number, seq, Content::Piece { index, of, bytes }, text.into());
    }

    fn next(&mut self) -> Option<(u64, String)> {
        let mut room = Room {
            flow: flow(5),
            message: self.largest,
            assembly: BUDGET,
            admission: &mut self.admission,
        };
        let (seq, _, payload) = self.delivery.next(&self.has, &mut room, &mut self.stats)?;
        Some((seq.0, String::from_utf8_lossy(&payload).into_owned()))
    }

    /// All that comes, as `seq:text`.
    fn all(&mut self) -> String {
        let texts: Vec<String> =
            std::iter::from_fn(|| self.next()).map(|(seq, text)| format!("{seq}:{text}")).collect();
        texts.join(" ")
    }

    fn assert_clean(&self) {
        assert_eq!(self.stats, Stats::default(), "all memory is accounted for");
        assert_eq!(self.admission.state(), (0, 0, 0), "no room is set aside");
    }
}

fn lost(from: u64, to: u64, reason: LossReason) -> Lost {
    Lost { from: SeqNo(from), to: SeqNo(to), reason }
}

#[test]
fn messages_come_in_order_whatever_the_order_of_frames() {
    let mut scene = Scene::after(0);
    scene.run(3, 4, &["d"]);
    scene.run(2, 3, &["c"]);
    assert_eq!(scene.all(), "");
    assert_eq!(scene.delivery.delivered(), FrameNo(0));
    scene.run(1, 1, &["a", ""]);
    assert_eq!(scene.all(), "1:a 2: 3:c 4:d");
    assert_eq!(scene.delivery.delivered(), FrameNo(3));
    assert_eq!(scene.delivery.take_lost(), []);
    scene.assert_clean();
}

#[test]
fn a_frame_counts_as_delivered_with_its_last_message() {
    let mut scene = Scene::after(0);
    scene.run(1, 1, &["a", "b"]);
    assert_eq!(scene.next(), Some((1, "a".to_owned())));
    assert_eq!(scene.delivery.delivered(), FrameNo(0));
    assert!(scene.delivery.is_ready(&scene.has));
    assert_eq!(scene.next(), Some((2, "b".to_owned())));
    assert_eq!(scene.delivery.delivered(), FrameNo(1));
    assert!(!scene.delivery.is_ready(&scene.has));
}

#[test]
fn r7_pieces_are_put_together_and_count_as_delivered_one_by_one() {
    let mut scene = Scene::after(0);
    scene.piece(1, 1, 0, 3, 7, "lar");
    scene.piece(2, 1, 1, 3, 7, "ge");
    assert_eq!(scene.next(), None);
    assert_eq!(scene.delivery.delivered(), FrameNo(2));
    assert_eq!((scene.stats.assembly_bytes, scene.stats.undelivered_bytes), (5, 0));
    scene.piece(3, 1, 2, 3, 7, "st");
    scene.run(4, 2, &["x"]);
    assert_eq!(scene.all(), "1:largest 2:x");
    scene.assert_clean();
}

#[test]
fn a_given_up_gap_is_lost_up_to_the_next_whole_message() {
    let mut scene = Scene::after(0);
    scene.run(1, 1, &["a"]);
    scene.piece(2, 2, 0, 2, 4, "bb");
    assert_eq!(scene.all(), "1:a");
    // 3 was the rest of message 2, 4 the beginning of message 3.
    scene.piece(5, 3, 1, 2, 4, "cc");
    assert_eq!(scene.all(), "");
    scene.has.insert_range(FrameNo(3), FrameNo(4));
    assert_eq!(scene.all(), "");
    assert_eq!(scene.delivery.take_lost(), [], "not known yet");
    scene.run(6, 4, &["d"]);
    assert_eq!(scene.all(), "4:d");
    assert_eq!(scene.delivery.take_lost(), [lost(2, 3, LossReason::NotKept)]);
    scene.assert_clean();
}

#[test]
fn a_gap_at_the_end_is_passed_over() {
    let mut scene = Scene::after(0);
    scene.has.insert_range(FrameNo(1), FrameNo(9));
    assert_eq!(scene.all(), "");
    assert_eq!(scene.delivery.delivered(), FrameNo(9));
    scene.run(10, 5, &["e"]);
    assert_eq!(scene.all(), "5:e");
    assert_eq!(scene.delivery.take_lost(), [lost(1, 4, LossReason::NotKept)]);
}

#[test]
fn who_comes_in_later_misses_what_was_before_in_silence() {
    let mut scene = Scene::after(5);
    scene.run(4, 3, &["old"]);
    scene.piece(6, 7, 1, 2, 4, "gh");
    scene.run(7, 8, &["i"]);
    scene.run(8, 10, &["k"]);
    assert_eq!(scene.all(), "8:i 10:k");
    assert_eq!(scene.delivery.take_lost(), [], "9 was for somebody else");
    scene.assert_clean();
}

#[test]
fn r9_numbers_of_messages_for_others_are_no_losses() {
    let mut scene = Scene::after(0);
    scene.run(1, 3, &["c"]);
    scene.piece(2, 7, 0, 2, 4, "gg");
    scene.piece(3, 7, 1, 2, 4, "gg");
    scene.run(4, 20, &["t"]);
    assert_eq!(scene.all(), "3:c 7:gggg 20:t");
    assert_eq!(scene.delivery.take_lost(), []);
    // The rest of a message without its beginning is the source's fault.
    scene.piece(5, 22, 1, 2, 4, "vv");
    scene.run(6, 23, &["w"]);
    assert_eq!(scene.all(), "23:w");
    assert_eq!(scene.delivery.take_lost(), [lost(21, 22, LossReason::LeftOut)]);
    scene.assert_clean();
}

#[test]
fn what_was_missed_although_it_was_owed_is_told() {
    let mut scene = Scene::after(5);
    scene.delivery = Delivery::after_lost(FrameNo(5));
    scene.run(6, 8, &["h"]);
    assert_eq!(scene.all(), "8:h");
    assert_eq!(scene.delivery.take_lost(), [lost(1, 7, LossReason::NotKept)]);
}

#[test]
fn who_comes_in_late_is_told_of_gaps_after_its_first_message_alone() {
    let mut scene = Scene::after(2);
    scene.delivery = Delivery::joining(FrameNo(2), FrameNo(9));
    scene.has.insert_range(FrameNo(3), FrameNo(4));
    scene.run(5, 7, &["g"]);
    assert_eq!(scene.all(), "7:g");
    assert_eq!(scene.delivery.take_lost(), []);
    scene.has.insert_range(FrameNo(6), FrameNo(6));
    scene.run(7, 10, &["j"]);
    assert_eq!(scene.all(), "10:j");
    assert_eq!(scene.delivery.take_lost(), [lost(8, 9, LossReason::NotKept)]);
}

#[test]
fn inconsistent_pieces_lose_their_message_and_no_other() {
    // Another total length; another number of pieces; a piece too few; too many bytes; an empty one.
    let second: [(u32, u32, u64, &str); 5] =
        [(1, 2, 5, "bb"), (1, 3, 4, "bb"), (1, 2, 4, "b"), (1, 2, 4, "bbb"), (1, 2, 4, "")];
    for (index, of, bytes, text) in second {
        let mut scene = Scene::after(0);
        scene.piece(1, 1, 0, 2, 4, "aa");
        scene.piece(2, 1, index, of, bytes, text);
        scene.run(3, 2, &["c"]);
        assert_eq!(scene.all(), "2:c");
        assert_eq!(scene.delivery.take_lost(), [lost(1, 1, LossReason::Inconsistent)]);
        scene.assert_clean();
    }
}

#[test]
fn a_message_that_ends_early_is_lost() {
    let mut scene = Scene::after(0);
    scene.piece(1, 1, 0, 3, 6, "aa");
    scene.run(2, 2, &["b"]);
    assert_eq!(scene.all(), "2:b");
    assert_eq!(scene.delivery.take_lost(), [lost(1, 1, LossReason::Inconsistent)]);
    scene.assert_clean();
}

#[test]
fn a_run_that_is_not_what_its_header_says_is_lost_whole() {
    let payloads: [&[u8]; 4] =
        [b"", b"\0\0\0\x01a", b"\0\0\0\x01a\0\0\0\x01b!", b"\0\0\0\x01a\xff\xff\xff\xffb"];
    for payload in payloads {
        let mut scene = Scene::after(0);
        scene.offer(1, 1, Content::Messages { count: 2 }, payload.into());
        scene.run(2, 3, &["c"]);
        assert_eq!(scene.all(), "3:c");
        let found = scene.delivery.take_lost();
        assert_eq!(found.iter().map(|lost| (lost.from.0, lost.to.0)).collect::<Vec<_>>(), [(1, 2)]);
        scene.assert_clean();
    }
}

#[test]
fn a_source_that_counts_backwards_is_not_heard_twice() {
    let mut scene = Scene::after(0);
    scene.run(1, 1, &["a", "b"]);
    scene.run(2, 2, &["again"]);
    scene.piece(3, 1, 0, 2, 4, "no");
    scene.run(4, 3, &["c"]);
    assert_eq!(scene.all(), "1:a 2:b 3:c");
    assert_eq!(scene.delivery.take_lost(), []);
    scene.assert_clean();
}

#[test]
fn a_message_that_is_too_large_is_lost() {
    let mut scene = Scene::after(0);
    scene.largest = 10;
    scene.piece(1, 1, 0, 2, 11, "too large");
    scene.piece(2, 1, 1, 2, 11, "!!");
    scene.run(3, 2, &["b"]);
    assert_eq!(scene.all(), "2:b");
    assert_eq!(scene.delivery.take_lost(), [lost(1, 1, LossReason::TooLarge)]);
    scene.assert_clean();
}

#[test]
fn a_message_for_which_there_is_no_room_waits_and_the_messages_before_it_do_not() {
    let mut scene = Scene::after(0);
    assert!(scene.admission.begin(flow(0), BUDGET, BUDGET));
    scene.run(1, 1, &["a"]);
    scene.piece(2, 2, 0, 2, 4, "bb");
    scene.piece(3, 2, 1, 2, 4, "bb");
    assert_eq!(scene.all(), "1:a");
    assert_eq!(scene.delivery.delivered(), FrameNo(1));
    assert_eq!((scene.stats.assembly_bytes, scene.stats.undelivered_bytes), (0, 4));
    assert!(scene.admission.is_waiting(&flow(5)));
    scene.admission.end(&flow(0));
    assert_eq!(scene.all(), "2:bbbb");
    assert_eq!(scene.delivery.take_lost(), []);
    scene.assert_clean();
}

#[test]
fn a_message_that_was_cut_off_holds_no_room_while_the_next_one_waits() {
    let mut scene = Scene::after(0);
    scene.piece(1, 1, 0, 2, 4, "aa");
    assert_eq!(scene.all(), "");
    assert_eq!(scene.admission.state(), (1, 4, 0));
    assert!(scene.admission.begin(flow(0), BUDGET, BUDGET));
    scene.piece(2, 2, 0, 2, 4, "bb");
    assert_eq!(scene.all(), "");
    assert_eq!(scene.delivery.take_lost(), [lost(1, 1, LossReason::Inconsistent)]);
    assert_eq!(scene.admission.state(), (1, BUDGET, 1));
    scene.admission.end(&flow(0));
    scene.piece(3, 2, 1, 2, 4, "bb");
    assert_eq!(scene.all(), "2:bbbb");
    scene.assert_clean();
}

#[test]
fn a_forgotten_flow_gives_its_memory_back() {
    let mut scene = Scene::after(0);
    scene.run(1, 1, &["a", "b"]);
    scene.piece(3, 3, 0, 2, 4, "cc");
    scene.run(5, 5, &["e", "f"]);
    assert!(scene.next().is_some());
    assert_eq!(scene.delivery.abandon(&mut scene.stats), Some((SeqNo(3), SeqNo(6))));
    scene.assert_clean();
}
