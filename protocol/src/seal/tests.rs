use super::*;
use crate::{
    id::{Incarnation, MemberId},
    keys::Secret,
};

fn root(byte: u8) -> PayloadRoot {
    Secret::from_bytes([byte; 32]).payload_root()
}

fn flow() -> Flow {
    Flow {
        source: MemberId::from_bytes([1; 32]),
        incarnation: Incarnation::from_bytes([2; 16]),
        class: Class::Reliable,
        to: None,
    }
}

const NUMBER: FrameNo = FrameNo(7);
const HEADER: &[u8] = b"the header";

#[test]
fn what_was_sealed_opens() {
    let key = root(1).flow_key(&flow(), KeyId(0));
    for plain in [vec![], vec![1], vec![7; 65_536]] {
        let sealed = key.seal(NUMBER, HEADER, &plain);
        assert_eq!(sealed.len(), plain.len() + TAG);
        let again = root(1).flow_key(&flow(), KeyId(0));
        assert_eq!(again.open(NUMBER, HEADER, &sealed).unwrap(), plain);
    }
}

#[test]
fn any_flipped_bit_keeps_it_shut() {
    let key = root(1).flow_key(&flow(), KeyId(0));
    let sealed = key.seal(NUMBER, HEADER, b"attack at dawn");
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key.open(NUMBER, HEADER, &bad), Err(SealError));
    }
    for bit in 0..HEADER.len() * 8 {
        let mut bad = HEADER.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key.open(NUMBER, &bad, &sealed), Err(SealError));
    }
    for number in [0, 6, 8, 7 << 32, u64::MAX] {
        assert_eq!(key.open(FrameNo(number), HEADER, &sealed), Err(SealError));
    }
}

#[test]
fn what_is_cut_or_lengthened_keeps_shut() {
    let key = root(1).flow_key(&flow(), KeyId(0));
    let mut sealed = key.seal(NUMBER, HEADER, b"attack at dawn");
    for len in 0..sealed.len() {
        assert_eq!(key.open(NUMBER, HEADER, &sealed[..len]), Err(SealError));
    }
    sealed.push(0);
    assert_eq!(key.open(NUMBER, HEADER, &sealed), Err(SealError));
}

#[test]
fn each_flow_session_and_key_id_has_its_own_key() {
    let sealed = root(1).flow_key(&flow(), KeyId(0)).seal(NUMBER, HEADER, b"attack at dawn");
    let others = [
        root(2).flow_key(&flow(), KeyId(0)),
        root(1).flow_key(&flow(), KeyId(1)),
        root(1).flow_key(&Flow { class: Class::Live, ..flow() }, KeyId(0)),
        root(1).flow_key(&Flow { source: MemberId::from_bytes([9; 32]), ..flow() }, KeyId(0)),
        root(1)
            .flow_key(&Flow { incarnation: Incarnation::from_bytes([9; 16]), ..flow() }, KeyId(0)),
        root(1).flow_key(&Flow { to: Some(MemberId::from_bytes([9; 32])), ..flow() }, KeyId(0)),
    ];
    for other in others {
        assert_eq!(other.open(NUMBER, HEADER, &sealed), Err(SealError));
    }
}

#[test]
fn the_nonce_is_the_number_behind_four_zero_bytes() {
    let expected = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(nonce(FrameNo(0x0102_0304_0506_0708)).as_slice(), expected);
}

#[test]
fn nothing_prints_a_key() {
    let root = root(0xab);
    assert_eq!(format!("{:?}", root.flow_key(&flow(), KeyId(0))), "FlowKey(..)");
    assert_eq!(format!("{root:?}"), format!("PayloadRoot({:?}, ..)", root.session()));
}
