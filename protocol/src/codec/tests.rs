use serde::Deserialize;

use super::*;
use crate::{edge, probe::Echo, qos::Transport, session};

fn malformed(bytes: &[u8]) -> &'static str {
    match decode::<serde::de::IgnoredAny>(bytes, usize::MAX) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{bytes:02x?} gives {other:?}"),
    }
}

fn unexpected<T: DeserializeOwned>(bytes: &[u8]) -> String {
    match decode::<T>(bytes, usize::MAX) {
        Err(DecodeError::Unexpected(why)) => why,
        Err(other) => panic!("{bytes:02x?} gives {other:?}"),
        Ok(_) => panic!("{bytes:02x?} is accepted"),
    }
}

fn accepted(bytes: &[u8]) {
    assert_eq!(check(bytes), Ok(()), "{bytes:02x?}");
}

#[test]
fn the_profile_is_kept() {
    accepted(&[0x00]);
    accepted(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    accepted(&[0x18, 0x00]);
    accepted(&[0x38, 0x63]);
    accepted(&[0x82, 0xf4, 0xf5]);
    accepted(&[0xa1, 0x61, b'a', 0xf6]);
    accepted(&[0x80]);
    accepted(&[0xa0]);
    accepted(&[0x82, 0x80, 0xa1, 0x00, 0x81, 0x40]);
    for bytes in [&[0x5f, 0xff][..], &[0x7f, 0xff], &[0x9f, 0xff], &[0xbf, 0xff], &[0xff]] {
        assert_eq!(malformed(bytes), "indefinite length");
    }
    for info in 28..=30 {
        assert_eq!(malformed(&[info]), "reserved length");
    }
    assert_eq!(malformed(&[0xc2, 0x41, 0x01]), "tag");
    assert_eq!(malformed(&[0xd9, 0xd9, 0xf7, 0x00]), "tag");
    let floats = [&[0xf9, 0x7e, 0][..], &[0xfa, 0, 0, 0, 0], &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0]];
    for bytes in floats.into_iter().chain([&[0xf7][..], &[0xe0], &[0xf8, 0x20], &[0xf8, 0x14]]) {
        assert_eq!(malformed(bytes), "float or unknown simple value");
    }
    assert_eq!(malformed(&[0x61, 0xff]), "text is not UTF-8");
    for bytes in [&[][..], &[0x18], &[0x1b, 0, 0, 0], &[0x81, 0x18]] {
        assert_eq!(malformed(bytes), "ends early");
    }
    for bytes in [&[0x42, 0x00][..], &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(malformed(bytes), "string longer than the message");
    }
    for bytes in [&[0x81][..], &[0xa1, 0x00], &[0x82, 0x00]] {
        assert_eq!(malformed(bytes), "container longer than the message");
    }
    for bytes in [&[0x00, 0x00][..], &[0x80, 0x80], &[0x81, 0x00, 0x00]] {
        assert_eq!(malformed(bytes), "something follows the value");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |levels: usize| [vec![0x81; levels], vec![0x00]].concat();
    accepted(&nested(limits::CBOR_DEPTH));
    assert_eq!(malformed(&nested(limits::CBOR_DEPTH + 1)), "nested too deeply");
    assert_eq!(malformed(&nested(1_000_000)), "nested too deeply");
    let maps = |levels: usize| [[0xa1, 0x00].repeat(levels), vec![0x00]].concat();
    accepted(&maps(limits::CBOR_DEPTH));
    assert_eq!(malformed(&maps(limits::CBOR_DEPTH + 1)), "nested too deeply");
    // What was closed does not count.
    accepted(&[vec![0x98, 100], [0x81, 0x81, 0x00].repeat(100)].concat());
}

#[test]
fn unknown_fields_are_skipped() {
    #[derive(Serialize)]
    struct Later {
        added: Vec<(String, Option<u8>)>,
        serial: u64,
        train_bytes: u32,
        more: bool,
    }
    let later =
        Later { added: vec![("x".to_owned(), None)], serial: 7, train_bytes: 8, more: true };
    let bytes = encode(&later);
    assert_eq!(
        decode(&bytes, bytes.len()),
        Ok(Echo { serial: 7, train_bytes: 8, ..Echo::default() })
    );
}

#[test]
fn fields_with_a_default_may_be_missing_and_others_may_not() {
    let only_serial = [&[0xa1, 0x66][..], b"serial", &[7]].concat();
    assert_eq!(decode(&only_serial, 99), Ok(Echo { serial: 7, ..Echo::default() }));
    assert!(unexpected::<Echo>(&[0xa0]).contains("serial"));
}

#[test]
fn repeated_fields_are_refused() {
    let serial = [&[0x66][..], b"serial", &[7]].concat();
    let twice = [&[0xa2][..], &serial, &serial].concat();
    assert!(unexpected::<Echo>(&twice).contains("duplicate field"));
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    unexpected::<Echo>(&[0x00]);
    unexpected::<crate::id::Digest>(&[0x43, 1, 2, 3]);
    unexpected::<crate::id::Digest>(&[vec![0x98, 32], vec![0; 32]].concat());
    unexpected::<u8>(&[0x19, 0x01, 0x00]);
    unexpected::<u64>(&[0x20]);
    unexpected::<edge::Message>(&encode(&"summary of sorts"));
}

#[test]
fn unknown_variants_are_refused_but_where_the_type_knows_others() {
    unexpected::<session::Granted>(&encode(&"promoted"));
    assert_eq!(decode(&encode(&"carrier_pigeon"), 99), Ok(Transport::Other));
}

#[test]
fn content_of_a_variant_that_has_none_is_refused() {
    let with_content = [&[0xa1, 0x63][..], b"fin", &[0x00]].concat();
    assert!(unexpected::<edge::Message>(&with_content).contains("takes none"));
    assert_eq!(decode(&encode(&"fin"), 99), Ok(edge::Message::Fin));
}

#[test]
fn long_lists_of_little_content_are_read() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Many(Vec<u8>);
    let bytes = [vec![0x99, 0x10, 0x00], vec![0x07; 4096]].concat();
    assert_eq!(decode(&bytes, bytes.len()), Ok(Many(vec![7; 4096])));
}
