use super::*;
use crate::testing;

#[test]
fn a_member_and_its_peer_id_are_the_same() {
    for n in 0..5 {
        let keypair = libp2p_identity::Keypair::from(testing::keypair(n));
        let member = testing::member(n);
        assert_eq!(member.peer_id(), keypair.public().to_peer_id());
        assert_eq!(MemberId::try_from(member.peer_id()), Ok(member));
        assert_eq!(MemberId::try_from(&keypair.public()), Ok(member));
        assert_eq!(member.to_string().parse(), Ok(member));
        assert!(member.to_string().starts_with("12D3KooW"));
    }
}

#[test]
fn peers_without_an_ed25519_key_are_no_members() {
    let hashed = PeerId::random();
    let result = MemberId::try_from(hashed);
    // A random peer id is a hash, not a key.
    assert_eq!(result, Err(NotEd25519(hashed)));
    assert!("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<MemberId>().is_err());
    assert!("lobby".parse::<MemberId>().is_err());
}

#[test]
fn bytes_that_are_no_key_verify_nothing() {
    let no_key = (0..=u8::MAX)
        .map(|byte| MemberId::from_bytes([byte; 32]))
        .find(|id| ed25519::PublicKey::try_from_bytes(id.as_bytes()).is_err())
        .unwrap();
    assert!(!no_key.verify(b"message", &Signature::from_bytes([0; 64])));
    assert!(no_key.to_string().starts_with("12D3KooW"), "still printable");
}

#[test]
fn epochs_compare_by_term_first() {
    let epoch = |term, counter| Epoch { term: Term(term), counter };
    let rising = [epoch(0, 0), epoch(0, 9), epoch(1, 0), epoch(1, 1), epoch(2, 0)];
    assert!(rising.is_sorted());
    assert!(rising.map(Epoch::as_u64).is_sorted());
    assert_eq!(epoch(3, 4).to_string(), "3.4");
    assert_eq!(epoch(1, u32::MAX).next(), epoch(1, u32::MAX), "never falls");
}

#[test]
fn counters_stop_at_their_last() {
    assert_eq!(SeqNo(1).next(), SeqNo(2));
    assert_eq!(FrameNo(u64::MAX).next(), FrameNo(u64::MAX));
    assert_eq!(Term(u32::MAX).next(), Term(u32::MAX));
}
