use super::*;
use bytes::BytesMut;

use crate::testing;

fn header() -> Header {
    testing::header(testing::session(1), testing::member(1), testing::incarnation(1), 7)
}

fn new(header: Header) -> Result<Frame, DecodeError> {
    Frame::new(header, &testing::proof(), b"payload")
}

fn piece(index: u32, of: u32, bytes: u64) -> Header {
    Header { content: Content::Piece { index, of, bytes }, ..header() }
}

#[test]
fn the_parts_of_a_frame_are_found_again() {
    let frame = new(header()).unwrap();
    let read = Frame::decode(frame.bytes().clone()).unwrap();
    assert_eq!(read, frame);
    assert_eq!(read.header(), &header());
    assert_eq!(read.header_bytes(), codec::encode(&header()));
    assert_eq!(read.proof(), Ok(testing::proof()));
    assert_eq!(read.sealed(), Bytes::from_static(b"payload"));
    assert_eq!(read.len(), frame.bytes().len());
    assert!(!read.is_empty());
    assert_eq!(read.header().flow().source, testing::member(1));
}

#[test]
fn headers_that_contradict_themselves_are_neither_made_nor_read() {
    let messages = |count| Header { content: Content::Messages { count }, ..header() };
    let payload = limits::FRAME_PAYLOAD as u64;
    for good in [
        messages(0),
        messages(1),
        messages(limits::MESSAGES_PER_FRAME),
        piece(0, 2, 2),
        piece(1, 2, 2 * payload),
        piece(limits::PIECES - 1, limits::PIECES, limits::MESSAGE as u64),
        Header { number: FrameNo(u64::MAX - 1), ..header() },
        Header { to: Some(testing::member(2)), ..header() },
    ] {
        assert!(new(good.clone()).is_ok(), "{good:?}");
    }
    for bad in [
        messages(limits::MESSAGES_PER_FRAME + 1),
        piece(0, 0, 0),
        piece(0, 1, 10),
        piece(2, 2, 10),
        piece(0, 2, 1),
        piece(0, 2, 2 * payload + 1),
        piece(0, limits::PIECES, limits::MESSAGE as u64 + 1),
        piece(0, limits::PIECES + 1, limits::MESSAGE as u64),
        Header { number: FrameNo(0), ..header() },
        Header { number: FrameNo(u64::MAX), ..header() },
        Header { first_seq: SeqNo(0), ..header() },
        Header { to: Some(testing::member(1)), ..header() },
    ] {
        assert!(matches!(new(bad.clone()), Err(DecodeError::Malformed(_))), "{bad:?}");
        let (head, proof) = (codec::encode(&bad), codec::encode(&testing::proof()));
        let mut bytes = BytesMut::new();
        for part in [head, proof] {
            bytes.put_u16(u16::try_from(part.len()).unwrap());
            bytes.extend(part);
        }
        assert!(Frame::decode(bytes.freeze()).is_err(), "{bad:?}");
    }
}

#[test]
fn payloads_over_the_limit_are_neither_made_nor_read() {
    let most = limits::FRAME_PAYLOAD + seal::TAG;
    let frame = |len: usize| Frame::new(header(), &testing::proof(), &vec![0; len]);
    let largest = frame(most).unwrap();
    assert!(largest.len() <= limits::FRAME);
    assert!(Frame::decode(largest.bytes().clone()).is_ok());
    assert!(matches!(frame(most + 1), Err(DecodeError::TooLarge { .. })));
    let mut bytes = BytesMut::from(largest.bytes().clone());
    bytes.put_u8(0);
    assert!(matches!(Frame::decode(bytes.freeze()), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn a_frame_cut_before_its_payload_is_refused() {
    let frame = new(header()).unwrap();
    let payload_at = frame.len() - b"payload".len();
    for len in 0..payload_at {
        assert!(Frame::decode(frame.bytes().slice(..len)).is_err(), "{len}");
    }
    for len in payload_at..frame.len() {
        assert_ne!(Frame::decode(frame.bytes().slice(..len)).unwrap().digest(), frame.digest());
    }
}

#[test]
fn lengths_of_parts_over_their_limit_are_refused() {
    let over = u16::try_from(limits::FRAME_HEADER + 1).unwrap().to_be_bytes();
    let bytes = [&over[..], &[0; 5000]].concat();
    assert!(matches!(Frame::decode(bytes.into()), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn the_digest_covers_header_and_payload_but_not_the_proof() {
    let frame = new(header()).unwrap();
    let other_proof = Proof {
        certificate: (&testing::certificate(
            header().session,
            header().source,
            header().incarnation,
        ))
            .into(),
        ..testing::proof()
    };
    let same = Frame::new(header(), &other_proof, b"payload").unwrap();
    assert_eq!(same.digest(), frame.digest());
    let other = Frame::new(header(), &testing::proof(), b"payloac").unwrap();
    assert_ne!(other.digest(), frame.digest());
    let other = new(Header { number: FrameNo(8), ..header() }).unwrap();
    assert_ne!(other.digest(), frame.digest());
    assert_ne!(digest(b"ab", b"c"), digest(b"a", b"bc"));
}

#[test]
fn a_short_certificate_becomes_whole_with_the_header() {
    let certificate = testing::certificate(header().session, header().source, header().incarnation);
    assert_eq!(ShortCertificate::from(&certificate).whole(&header()), certificate);
}
