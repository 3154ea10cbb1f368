use std::iter;

use super::*;
use crate::testing;

fn digests(count: u64, salt: u64) -> Vec<Digest> {
    let bytes =
        |n: u64| blake3::derive_key("test", &[salt.to_be_bytes(), n.to_be_bytes()].concat());
    (0..count).map(|n| Digest::from_bytes(bytes(n))).collect()
}

#[test]
fn each_frame_of_a_batch_verifies_alone() {
    for count in (1..=20).chain([255, 256]) {
        let digests = digests(count, 0);
        let proofs = sign_batch(&testing::keypair(1), &digests);
        assert_eq!(proofs.len(), digests.len());
        let depth = usize::try_from(count.next_power_of_two().ilog2()).unwrap();
        for (digest, proof) in digests.iter().zip(&proofs) {
            assert_eq!(proof.path.len(), depth);
            assert_eq!(proof.root(digest), proofs[0].root(&digests[0]));
        }
        // The signature is the same for all, so the last one stands for them.
        let (proof, digest) = (proofs.last().unwrap(), digests.last().unwrap());
        assert!(proof.verify(&testing::member(1), digest));
        assert!(!proof.verify(&testing::member(2), digest));
    }
}

#[test]
fn a_proof_fits_one_position_and_one_frame_only() {
    for count in (2..=20).chain([256]) {
        let digests = digests(count, 0);
        let proofs = sign_batch(&testing::keypair(1), &digests);
        let root = proofs[0].root(&digests[0]);
        for (at, proof) in proofs.iter().enumerate() {
            for (other, digest) in digests.iter().enumerate() {
                assert_eq!(proof.root(digest) == root, at == other, "{at} of {count} as {other}");
            }
            for index in 0..512 {
                let moved = BatchProof { index, ..proof.clone() };
                let fits = moved.root(&digests[at]) == root;
                assert_eq!(fits, usize::from(index) == at, "{at} of {count} at {index}");
            }
        }
    }
}

#[test]
fn any_change_of_a_path_is_found() {
    let digests = digests(13, 0);
    let proofs = sign_batch(&testing::keypair(1), &digests);
    let root = proofs[0].root(&digests[0]);
    for (digest, proof) in digests.iter().zip(&proofs) {
        for at in 0..proof.path.len() {
            let mut bad = proof.clone();
            bad.path[at] = Digest::from_bytes([1; 32]);
            assert_ne!(bad.root(digest), root);
            let mut bad = proof.clone();
            bad.path.remove(at);
            assert_ne!(bad.root(digest), root);
            let mut bad = proof.clone();
            bad.path.insert(at, Digest::from_bytes([0; 32]));
            assert_ne!(bad.root(digest), root);
        }
    }
}

#[test]
fn a_proof_of_another_batch_does_not_count() {
    let (ours, theirs) = (digests(8, 0), digests(8, 1));
    let proofs = sign_batch(&testing::keypair(1), &ours);
    for (digest, proof) in theirs.iter().zip(&proofs) {
        assert!(!proof.verify(&testing::member(1), digest));
    }
    let others = sign_batch(&testing::keypair(1), &theirs);
    let mixed = BatchProof { signature: others[3].signature, ..proofs[3].clone() };
    assert!(!mixed.verify(&testing::member(1), &ours[3]));
}

#[test]
fn an_inner_node_is_no_frame() {
    let digests = digests(4, 0);
    let proofs = sign_batch(&testing::keypair(1), &digests);
    let inner = node(&leaf(&digests[0]), &leaf(&digests[1]));
    let path = vec![proofs[0].path[1]];
    let forged = BatchProof { signature: proofs[0].signature, index: 0, path };
    assert!(!forged.verify(&testing::member(1), &inner));
}

#[test]
fn paths_longer_than_any_batch_are_refused() {
    let digest = digests(1, 0)[0];
    let signature = Signature::from_bytes([0; 64]);
    for (len, index, fits) in
        [(0, 0, true), (0, 1, false), (8, 255, true), (8, 256, false), (9, 0, false)]
    {
        let path = iter::repeat_n(digest, len).collect();
        assert_eq!(BatchProof { signature, index, path }.root(&digest).is_some(), fits);
    }
}

#[test]
fn no_more_is_signed_than_a_batch_holds() {
    let keypair = testing::keypair(1);
    assert!(sign_batch(&keypair, &[]).is_empty());
    assert_eq!(sign_batch(&keypair, &digests(300, 0)).len(), limits::BATCH);
}

#[test]
fn a_signature_counts_under_its_domain_only() {
    let signature = sign(&testing::keypair(1), b"one", b"message");
    assert!(verify(&testing::member(1), b"one", b"message", &signature));
    assert!(!verify(&testing::member(1), b"two", b"message", &signature));
    assert!(!verify(&testing::member(1), b"onem", b"essage", &signature));
    assert!(!verify(&testing::member(1), b"one", b"massage", &signature));
    assert!(!verify(&testing::member(2), b"one", b"message", &signature));
    assert!(!verify(&MemberId::from_bytes([2; 32]), b"one", b"message", &signature), "no key");
}
