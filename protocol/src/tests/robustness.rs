//! Hostile bytes: every decoder refuses them or makes a sound value of them, and takes no memory
//! that the bytes do not justify.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde::{Serialize, de::DeserializeOwned};

use super::{strategies, vectors};
use crate::{
    admission::Admission,
    certificate::Certificate,
    codec::{self, DecodeError},
    edge,
    frame::{self, Frame},
    limits, notice,
    numbers::NumberSet,
    path, probe, report, session,
    ticket::Ticket,
    tree,
};

type Decoder = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// Reads and, if that worked, writes again.
fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    codec::decode::<T>(bytes, limits::CONTROL_ANSWER).map(|value| codec::encode(&value))
}

const DECODERS: [Decoder; 21] = [
    again::<session::Request>,
    again::<session::Answer>,
    again::<report::Report>,
    again::<report::Answer>,
    again::<path::Request>,
    again::<path::Answer>,
    again::<notice::Notice>,
    again::<notice::Noted>,
    again::<probe::Probe>,
    again::<probe::Echo>,
    again::<tree::Update>,
    again::<tree::AdjacencyList>,
    again::<tree::AdjacencyMatrix>,
    again::<edge::Hello>,
    again::<edge::DataHello>,
    again::<edge::Message>,
    again::<frame::Header>,
    again::<frame::Proof>,
    again::<Certificate>,
    again::<Admission>,
    again::<NumberSet>,
];

/// All decoders on the same bytes; what one accepts it accepts again as it writes it.
fn feed(bytes: &[u8]) {
    for decoder in DECODERS {
        if let Ok(written) = decoder(bytes) {
            assert_eq!(decoder(&written).as_ref(), Ok(&written));
        }
    }
    if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(bytes)) {
        let _ = (frame.proof(), frame.digest(), frame.sealed(), frame.header_bytes());
        assert_eq!(frame.bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Ticket>();
    }
}

/// CBOR of the strict profile or nearly so, of any shape.
fn any_cbor() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|value| codec::encode(&value)),
        any::<i64>().prop_map(|value| codec::encode(&value)),
        "[a-z_]{0,11}".prop_map(|value| codec::encode(&value)),
        vec(any::<u8>(), 0..70).prop_map(|value| codec::encode(&serde_bytes::ByteBuf::from(value))),
        prop_oneof![Just(0xf4), Just(0xf5), Just(0xf6), Just(0xf7), Just(0xff)]
            .prop_map(|byte: u8| vec![byte]),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(|items| {
                let mut bytes = vec![0x80 | u8::try_from(items.len()).unwrap()];
                bytes.extend(items.concat());
                bytes
            }),
            vec(("[a-z_]{1,11}", inner), 0..8).prop_map(|fields| {
                let mut bytes = vec![0xa0 | u8::try_from(fields.len()).unwrap()];
                for (key, value) in fields {
                    bytes.extend(codec::encode(&key));
                    bytes.extend(value);
                }
                bytes
            }),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        feed(&bytes);
    }

    #[test]
    fn arbitrary_cbor_does_no_harm(bytes in any_cbor()) {
        feed(&bytes);
    }

    #[test]
    fn changed_messages_do_no_harm(
        which in 0..vectors::count(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = vectors::bytes(which);
        for (at, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        feed(&bytes);
    }

    #[test]
    fn a_frame_of_any_parts_does_no_harm(
        header in strategies::frame_header(),
        lens in any::<[u16; 2]>(),
        rest in vec(any::<u8>(), 0..100),
    ) {
        let head = codec::encode(&header);
        for len in [u16::try_from(head.len()).unwrap(), lens[0]] {
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.extend(&head);
            bytes.extend(lens[1].to_be_bytes());
            bytes.extend(&rest);
            feed(&bytes);
        }
    }
}

#[test]
fn each_vector_cut_anywhere_is_refused_or_sound() {
    for which in 0..vectors::count() {
        let bytes = vectors::bytes(which);
        for len in 0..bytes.len() {
            feed(&bytes[..len]);
        }
    }
}

#[test]
fn huge_declared_lengths_are_refused_at_once() {
    for major in [0x40_u8, 0x60, 0x80, 0xa0] {
        for (info, len) in [
            (24, vec![0xff]),
            (25, vec![0xff; 2]),
            (26, vec![0xff; 4]),
            (27, vec![0xff; 8]),
            (27, vec![0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (27, vec![0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut bytes = vec![major | info];
            bytes.extend(len);
            bytes.extend([0; 32]);
            for decoder in DECODERS {
                assert!(matches!(decoder(&bytes), Err(DecodeError::Malformed(_))));
            }
            // Inside a map of one entry, too.
            let mut inner = vec![0xa1, 0x61, b'x'];
            inner.extend(&bytes);
            for decoder in DECODERS {
                assert!(matches!(decoder(&inner), Err(DecodeError::Malformed(_))));
            }
        }
    }
}

#[test]
fn messages_over_their_limit_are_refused_unread() {
    let error = codec::decode::<session::Request>(&[0xff; 100], 99);
    assert_eq!(error, Err(DecodeError::TooLarge { len: 100, limit: 99 }));
    let frame = Frame::decode(vec![0; limits::FRAME + 1].into());
    assert!(matches!(frame, Err(DecodeError::TooLarge { .. })));
}
