use super::*;
use crate::testing;

fn key() -> ed25519::Keypair {
    testing::keypair(50)
}

fn statement() -> Statement {
    Statement {
        session: private_session(&MemberId::from(&key())),
        coordinator: testing::member(1),
        member: testing::member(2),
        incarnation: testing::incarnation(2),
        challenge: Challenge::from_bytes([3; 32]),
    }
}

#[test]
fn whoever_holds_the_key_is_admitted() {
    assert_eq!(statement().sign(&key()).verify(&statement()), Ok(()));
}

#[test]
fn a_proof_is_bound_to_each_field() {
    let admission = statement().sign(&key());
    let error = |change: fn(&mut Statement)| {
        let mut other = statement();
        change(&mut other);
        admission.verify(&other).unwrap_err()
    };
    assert_eq!(error(|other| other.session = testing::session(1)), AdmissionError::OtherSession);
    assert_eq!(error(|other| other.coordinator = testing::member(9)), AdmissionError::BadProof);
    assert_eq!(error(|other| other.member = testing::member(9)), AdmissionError::BadProof);
    assert_eq!(
        error(|other| other.incarnation = testing::incarnation(9)),
        AdmissionError::BadProof
    );
    assert_eq!(
        error(|other| other.challenge = Challenge::from_bytes([4; 32])),
        AdmissionError::StaleChallenge
    );
}

#[test]
fn a_challenge_swapped_in_the_admission_does_not_help() {
    let Admission::Private { key, proof, .. } = statement().sign(&key()) else {
        panic!("a private admission");
    };
    let challenge = Challenge::from_bytes([4; 32]);
    let swapped = Admission::Private { key, challenge, proof };
    let asked = Statement { challenge, ..statement() };
    assert_eq!(swapped.verify(&asked), Err(AdmissionError::BadProof));
}

#[test]
fn another_key_opens_another_session_only() {
    let thief = testing::keypair(51);
    let admission = statement().sign(&thief);
    assert_eq!(admission.verify(&statement()), Err(AdmissionError::OtherSession));
    let Admission::Private { challenge, proof, .. } = admission else {
        panic!("a private admission");
    };
    let claimed = Admission::Private { key: MemberId::from(&key()), challenge, proof };
    assert_eq!(claimed.verify(&statement()), Err(AdmissionError::BadProof));
}

#[test]
fn an_open_session_opens_by_its_name() {
    let challenge = Challenge::from_bytes([3; 32]);
    let asked = Statement { session: open_session("lobby"), ..statement() };
    let with = |name: &str| Admission::Open { name: name.to_owned(), challenge }.verify(&asked);
    assert_eq!(with("lobby"), Ok(()));
    assert_eq!(with("hobby"), Err(AdmissionError::OtherSession));
    assert_eq!(with(&"n".repeat(129)), Err(AdmissionError::NameTooLong));
    let stale = Statement { challenge: Challenge::from_bytes([4; 32]), ..asked };
    let admission = Admission::Open { name: "lobby".to_owned(), challenge };
    assert_eq!(admission.verify(&stale), Err(AdmissionError::StaleChallenge));
}

#[test]
fn no_name_opens_a_private_session() {
    let admission = Admission::Open { name: "lobby".to_owned(), challenge: statement().challenge };
    assert_eq!(admission.verify(&statement()), Err(AdmissionError::OtherSession));
    let key = MemberId::from(&key());
    let text: String = key.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    assert_ne!(open_session(&text), private_session(&key));
}
