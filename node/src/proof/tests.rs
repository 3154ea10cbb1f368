#![allow(clippy::unwrap_used, reason = "a test may panic")]

use arborcast_protocol::{
    certificate::{Claim, Role},
    frame::{Content, InBand},
    id::{Class, FrameNo, Incarnation, SeqNo, ServiceId},
    keys::Secret,
    signature::BatchProof,
    testing,
    tree::{self, Edge, Member, SignedHeader, Tree},
};

use super::*;

const NOW_S: u64 = 1000;

/// One session with a source and a checker.
struct World {
    secret: Option<Secret>,
    session: SessionId,
    maker: FrameMaker,
    checker: FrameChecker,
}

fn private() -> World {
    world(Some(Secret::from_bytes([5; 32])))
}

fn open() -> World {
    world(None)
}

fn world(secret: Option<Secret>) -> World {
    let session = secret.as_ref().map_or(testing::session(1), Secret::session);
    let root = || secret.as_ref().map(Secret::payload_root);
    World {
        session,
        maker: maker(session, 1, root()),
        checker: FrameChecker::new(session, vec![testing::coordinator()], root()),
        secret,
    }
}

fn maker(session: SessionId, n: u64, root: Option<PayloadRoot>) -> FrameMaker {
    let certificate = testing::certificate(session, testing::member(n), testing::incarnation(n));
    FrameMaker::new(testing::keypair(n), &certificate, root)
}

impl World {
    fn header(&self, number: u64) -> Header {
        let header =
            testing::header(self.session, testing::member(1), testing::incarnation(1), number);
        Header { key: self.secret.as_ref().map(|_| KeyId(0)), ..header }
    }

    fn draft(&self, number: u64, payload: &[u8]) -> Draft {
        Draft { header: self.header(number), payload: Bytes::copy_from_slice(payload) }
    }

    fn drafts(&self, count: u64) -> Vec<Draft> {
        (1..=count).map(|number| self.draft(number, &number.to_be_bytes())).collect()
    }

    fn frame(&mut self, payload: &[u8]) -> Frame {
        let draft = self.draft(1, payload);
        self.maker.make(vec![draft]).pop().unwrap().0
    }

    fn check(&self, frame: &Frame) -> Result<Bytes, CheckError> {
        self.checker.check(frame, NOW_S)
    }
}

/// The frame with another proof.
fn with_proof(frame: &Frame, change: impl FnOnce(&mut Proof)) -> Frame {
    let mut proof = frame.proof().unwrap();
    change(&mut proof);
    Frame::new(frame.header().clone(), &proof, &frame.sealed()).unwrap()
}

#[test]
fn what_was_made_is_genuine_and_opens() {
    for mut world in [private(), open()] {
        for payload in [&b""[..], b"hello", &vec![7; limits::FRAME_PAYLOAD]] {
            let frame = world.frame(payload);
            let again = Frame::decode(frame.bytes().clone()).unwrap();
            assert_eq!(world.check(&again).unwrap(), payload);
        }
    }
}

#[test]
fn private_payloads_cannot_be_read_on_the_way() {
    let mut world = private();
    let frame = world.frame(b"attack at dawn");
    assert!(!frame.bytes().windows(6).any(|part| part == b"attack"));
}

#[test]
fn batches_of_any_size_are_genuine_in_order_with_their_payloads() {
    for count in [0, 1, 2, 3, 5, 255, 256, 257, 600] {
        let mut world = private();
        let made = world.maker.make(world.drafts(count));
        assert_eq!(made.len() as u64, count);
        for (number, (frame, payload)) in (1..).zip(&made) {
            assert_eq!(frame.header().number, FrameNo(number));
            assert_eq!(world.check(frame).unwrap(), payload);
            assert_eq!(payload.as_ref(), number.to_be_bytes());
        }
    }
}

#[test]
fn a_batch_has_one_signature() {
    let mut world = open();
    let made = world.maker.make(world.drafts(256));
    let signature = |frame: &Frame| frame.proof().unwrap().batch.signature;
    assert!(made.iter().all(|(frame, _)| signature(frame) == signature(&made[0].0)));
}

#[test]
fn any_changed_byte_is_found() {
    for mut world in [private(), open()] {
        let frame = world.frame(b"attack at dawn");
        for at in 0..frame.len() {
            let mut bytes = frame.bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(bad) = Frame::decode(bytes.into()) {
                // Twice, as what was checked once must not be believed then.
                assert!(world.check(&bad).is_err(), "byte {at}");
                assert!(world.check(&bad).is_err(), "byte {at}");
            }
        }
        assert!(world.check(&frame).is_ok());
    }
}

#[test]
fn changed_bytes_are_found_also_when_the_genuine_frame_was_seen() {
    let mut world = private();
    let frame = world.frame(b"attack at dawn");
    assert!(world.check(&frame).is_ok());
    for at in 0..frame.len() {
        let mut bytes = frame.bytes().to_vec();
        bytes[at] ^= 1;
        if let Ok(bad) = Frame::decode(bytes.into()) {
            assert!(world.check(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_bad_signature_over_a_known_root_is_found() {
    let mut world = private();
    let frame = world.frame(b"x");
    assert!(world.check(&frame).is_ok());
    let bad = with_proof(&frame, |proof| proof.batch.signature = Signature::from_bytes([1; 64]));
    assert_eq!(world.check(&bad), Err(CheckError::BadSignature));
}

#[test]
fn frames_of_another_session_are_refused() {
    let mut other = world(Some(Secret::from_bytes([6; 32])));
    let frame = other.frame(b"x");
    assert_eq!(private().check(&frame), Err(CheckError::OtherSession));
}

#[test]
fn frames_signed_by_another_member_are_refused() {
    let world = private();
    let mut thief = maker(world.session, 2, world.secret.as_ref().map(Secret::payload_root));
    let certificate =
        testing::certificate(world.session, testing::member(1), testing::incarnation(1));
    thief.set_certificate(&certificate);
    let (frame, _) = thief.make(vec![world.draft(1, b"x")]).pop().unwrap();
    assert_eq!(world.check(&frame), Err(CheckError::BadSignature));
}

#[test]
fn a_certificate_counts_for_its_member_and_run_only() {
    let world = private();
    let mut thief = maker(world.session, 2, world.secret.as_ref().map(Secret::payload_root));
    let as_other = thief.make(vec![world.draft(1, b"x")]).pop().unwrap().0;
    let expected = CheckError::NotCertified(CertificateError::BadSignature);
    assert_eq!(world.check(&as_other), Err(expected));
    let header = Header {
        source: testing::member(2),
        incarnation: Incarnation::from_bytes([9; 16]),
        ..world.header(1)
    };
    let other_run = thief.make(vec![Draft { header, payload: Bytes::new() }]).pop().unwrap().0;
    assert_eq!(world.check(&other_run), Err(expected));
}

#[test]
fn certificates_of_strange_coordinators_are_refused() {
    let mut world = private();
    let claim = Claim {
        session: world.session,
        member: testing::member(1),
        incarnation: testing::incarnation(1),
        role: Role::Member,
        expires_s: NOW_S + 1,
    };
    world.maker.set_certificate(&Certificate::sign(claim, &testing::keypair(66)));
    let frame = world.frame(b"x");
    let expected =
        CheckError::NotCertified(CertificateError::ForeignCoordinator(testing::member(66)));
    assert_eq!(world.check(&frame), Err(expected));
}

#[test]
fn certificates_expire_also_after_they_were_seen() {
    let mut world = private();
    let claim = Claim {
        session: world.session,
        member: testing::member(1),
        incarnation: testing::incarnation(1),
        role: Role::Member,
        expires_s: NOW_S,
    };
    let coordinator = testing::keypair(testing::COORDINATOR);
    world.maker.set_certificate(&Certificate::sign(claim, &coordinator));
    let frame = world.frame(b"x");
    assert!(world.check(&frame).is_ok());
    assert_eq!(world.checker.check(&frame, NOW_S + 2), Err(CheckError::Expired(2)));
    let longer = with_proof(&frame, |proof| proof.certificate.expires_s += 10);
    let expected = CheckError::NotCertified(CertificateError::BadSignature);
    assert_eq!(world.checker.check(&longer, NOW_S + 2), Err(expected));
}

#[test]
fn sealed_and_open_are_not_mixed_up() {
    let (mut private, open) = (private(), open());
    let session = private.session;
    let mut plain = maker(session, 1, None);
    let header = Header { key: None, ..private.header(1) };
    let frame = plain.make(vec![Draft { header, payload: Bytes::new() }]).pop().unwrap().0;
    assert_eq!(private.check(&frame), Err(CheckError::NotSealed));
    let as_open = FrameChecker::new(session, vec![testing::coordinator()], None);
    assert_eq!(as_open.check(&private.frame(b"x"), NOW_S), Err(CheckError::SealedInOpenSession));
    let header = Header { key: Some(KeyId(1)), ..private.header(1) };
    let frame = private.maker.make(vec![Draft { header, payload: Bytes::new() }]).pop().unwrap().0;
    assert_eq!(private.check(&frame), Err(CheckError::UnknownKey(KeyId(1))));
    assert!(open.secret.is_none());
}

#[test]
fn without_the_right_secret_nothing_opens() {
    let mut world = private();
    let wrong = Secret::from_bytes([6; 32]).payload_root();
    let checker = FrameChecker::new(world.session, vec![testing::coordinator()], Some(wrong));
    assert_eq!(checker.check(&world.frame(b"x"), NOW_S), Err(CheckError::NotOpened));
}

#[test]
fn open_payloads_may_not_use_the_room_of_the_tag() {
    let mut world = open();
    let header = world.header(1);
    let payload = Bytes::from(vec![0; limits::FRAME_PAYLOAD + 1]);
    let frame = world.maker.make(vec![Draft { header, payload }]).pop().unwrap().0;
    assert_eq!(world.check(&frame), Err(CheckError::TooLarge));
}

#[test]
fn paths_that_fit_no_batch_are_refused() {
    let mut world = open();
    let frame = world.frame(b"x");
    let bad = with_proof(&frame, |proof| proof.batch.index = 1);
    assert_eq!(world.check(&bad), Err(CheckError::BadPath));
    let bad = with_proof(&frame, |proof| {
        let signature = proof.batch.signature;
        let path = vec![Digest::from_bytes([0; 32]); 9];
        proof.batch = BatchProof { signature, index: 0, path };
    });
    assert_eq!(world.check(&bad), Err(CheckError::BadPath));
}

#[test]
fn classes_are_sealed_apart() {
    let mut world = private();
    let live = Header { class: Class::Live, ..world.header(1) };
    let made = world.maker.make(vec![
        world.draft(1, b"same"),
        Draft { header: live, payload: Bytes::from_static(b"same") },
    ]);
    assert_ne!(made[0].0.sealed(), made[1].0.sealed());
    assert!(made.iter().all(|(frame, _)| world.check(frame).is_ok()));
}

#[test]
fn pieces_pass_too() {
    let mut world = private();
    let header = Header {
        content: Content::Piece { index: 1, of: 2, bytes: 70_000 },
        service: ServiceId(7),
        first_seq: SeqNo(3),
        ..world.header(9)
    };
    let made = world.maker.make(vec![Draft { header, payload: Bytes::from_static(b"rest") }]);
    assert_eq!(world.check(&made[0].0).unwrap().as_ref(), b"rest");
}

/// A frame with a tree, whose header this is and who signs it.
fn with_tree(world: &mut World, session: SessionId, signer: &ed25519::Keypair) -> Frame {
    let member = |n| Member {
        id: testing::member(n),
        incarnation: testing::incarnation(n),
        nick: String::new(),
        group: 0,
    };
    let edge = Edge::new(testing::member(1), testing::member(2)).unwrap();
    let tree = Tree::new([member(1), member(2)], [edge], []).unwrap();
    let epoch = arborcast_protocol::id::Epoch::default().next();
    let header = tree::Header { session, epoch, hash: tree.hash() };
    let carried = InBand::new(&SignedHeader::sign(header, signer), &tree).unwrap();
    let mut draft = world.draft(1, b"x");
    draft.header.in_band = Some(carried);
    world.maker.make(vec![draft]).pop().unwrap().0
}

#[test]
fn r13_a_tree_in_a_frame_is_genuine_if_a_coordinator_signed_it_for_this_session() {
    for mut world in [private(), open()] {
        let session = world.session;
        let coordinator = testing::keypair(testing::COORDINATOR);
        for _ in 0..2 {
            let frame = with_tree(&mut world, session, &coordinator);
            assert_eq!(world.check(&frame).unwrap(), b"x"[..]);
            for (session, signer) in [
                (testing::session(7), &coordinator),
                (session, &testing::keypair(1)),
                (session, &testing::keypair(66)),
            ] {
                let forged = with_tree(&mut world, session, signer);
                // Twice, as what was checked once must not be believed then.
                assert_eq!(world.check(&forged), Err(CheckError::ForgedTree));
                assert_eq!(world.check(&forged), Err(CheckError::ForgedTree));
            }
        }
    }
}

#[test]
fn r13_any_changed_byte_of_a_frame_with_a_tree_is_found() {
    let mut world = private();
    let session = world.session;
    let frame = with_tree(&mut world, session, &testing::keypair(testing::COORDINATOR));
    assert!(world.check(&frame).is_ok());
    for at in 0..frame.len() {
        let mut bytes = frame.bytes().to_vec();
        bytes[at] ^= 1;
        if let Ok(bad) = Frame::decode(bytes.into()) {
            assert!(world.check(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn several_readers_share_one_checker() {
    let mut world = private();
    let made = world.maker.make(world.drafts(64));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (frame, payload) in &made {
                    assert_eq!(world.check(frame).unwrap(), payload);
                }
            });
        }
    });
}

#[test]
fn memory_is_bounded_and_keeps_what_is_used() {
    let mut recent = Recent::new(10);
    recent.insert(0, ());
    for n in 1..1000 {
        recent.insert(n, ());
        assert!(recent.get(&0).is_some(), "used every time");
        assert!(recent.young.len() + recent.old.len() <= 10);
    }
    assert!(recent.get(&1).is_none());
    assert!(recent.get(&999).is_some());
}
