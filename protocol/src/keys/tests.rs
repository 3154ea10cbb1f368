use super::*;
use crate::id::{Challenge, Incarnation};

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

fn statement(session: SessionId) -> Statement {
    Statement {
        session,
        coordinator: MemberId::from_bytes([1; 32]),
        member: MemberId::from_bytes([2; 32]),
        incarnation: Incarnation::from_bytes([3; 16]),
        challenge: Challenge::from_bytes([4; 32]),
    }
}

#[test]
fn one_secret_gives_one_session_and_another_secret_another() {
    assert_eq!(secret(1).session(), secret(1).session());
    assert_ne!(secret(1).session(), secret(2).session());
}

#[test]
fn admission_key_and_payload_root_are_not_the_secret_nor_each_other() {
    let secret = secret(9);
    let admission = secret.admission_key().secret();
    let payload = secret.derive(&[b"arborcast/1 payload root", secret.session().as_bytes()]);
    assert_ne!(admission.as_ref(), secret.as_bytes());
    assert_ne!(admission.as_ref(), payload.as_slice());
    assert_ne!(secret.as_bytes(), &*payload);
}

#[test]
fn private_access_is_admitted() {
    let access = Access::Private(secret(7));
    let statement = statement(access.session());
    let admission = access.admission(&statement);
    assert!(!admission.is_open());
    assert_eq!(admission.verify(&statement), Ok(()));
}

#[test]
fn open_access_is_admitted_by_its_name() {
    let access = Access::Open { name: "lobby".to_owned() };
    let statement = statement(access.session());
    let admission = access.admission(&statement);
    assert!(admission.is_open() && access.is_open());
    assert_eq!(admission.verify(&statement), Ok(()));
    assert!(access.payload_root().is_none());
}

#[test]
fn passphrase_and_name_both_count() {
    let secret = |name, passphrase| Secret::from_passphrase(name, passphrase).unwrap();
    let one = secret("lobby", "correct horse");
    assert_eq!(one, secret("lobby", "correct horse"));
    assert_ne!(one, secret("lobby", "correct house"));
    assert_ne!(one, secret("hobby", "correct horse"));
    assert_ne!(one.session(), admission::open_session("lobby"));
}

#[test]
fn passphrases_that_cannot_be_used_are_refused() {
    fn error(name: &str, passphrase: &str) -> PassphraseError {
        Secret::from_passphrase(name, passphrase).unwrap_err()
    }
    assert_eq!(error("lobby", ""), PassphraseError::Empty);
    assert_eq!(error("", "x"), PassphraseError::NameEmpty);
    assert_eq!(error(&"n".repeat(129), "x"), PassphraseError::NameTooLong);
    assert_eq!(error("lobby", &"x".repeat(1025)), PassphraseError::TooLong);
}

#[test]
fn nothing_prints_the_secret() {
    let secret = secret(0xab);
    let access = Access::Private(secret.clone());
    let root = secret.payload_root();
    for text in [
        format!("{secret:?}"),
        format!("{access:?}"),
        access.label(),
        format!("{root:?}"),
        format!("{:?}", secret.admission_key().secret()),
    ] {
        let text = text.to_lowercase();
        assert!(!text.contains("abab") && !text.contains("171, 171"), "{text}");
    }
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    assert_eq!(format!("{access:?}"), "Private(..)");
}
