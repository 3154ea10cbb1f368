use super::*;
use crate::testing;

fn good() -> Certificate {
    testing::certificate(testing::session(1), testing::member(1), testing::incarnation(1))
}

fn verify(certificate: &Certificate) -> Result<(), CertificateError> {
    certificate.verify(testing::session(1), testing::member(1), &[testing::coordinator()])
}

#[test]
fn a_good_one_counts() {
    assert_eq!(verify(&good()), Ok(()));
}

#[test]
fn it_is_bound_to_each_field() {
    let error = |change: fn(&mut Certificate)| {
        let mut bad = good();
        change(&mut bad);
        verify(&bad).unwrap_err()
    };
    let wrong = CertificateError::BadSignature;
    assert_eq!(error(|bad| bad.claim.incarnation = testing::incarnation(2)), wrong);
    assert_eq!(error(|bad| bad.claim.expires_s += 1), wrong);
    assert_eq!(error(|bad| bad.signature = Signature::from_bytes([0; 64])), wrong);
    let other = |bad: &mut Certificate| bad.claim.session = testing::session(2);
    assert_eq!(error(other), CertificateError::OtherSession);
    let other = |bad: &mut Certificate| bad.claim.member = testing::member(2);
    assert_eq!(error(other), CertificateError::OtherMember);
    let other = |bad: &mut Certificate| bad.coordinator = testing::member(3);
    assert_eq!(error(other), CertificateError::ForeignCoordinator(testing::member(3)));
}

#[test]
fn changed_session_and_member_are_found_also_where_they_are_asked_for() {
    let mut bad = good();
    bad.claim.session = testing::session(2);
    let checked = bad.verify(testing::session(2), testing::member(1), &[testing::coordinator()]);
    assert_eq!(checked, Err(CertificateError::BadSignature));
    let mut bad = good();
    bad.claim.member = testing::member(2);
    let checked = bad.verify(testing::session(1), testing::member(2), &[testing::coordinator()]);
    assert_eq!(checked, Err(CertificateError::BadSignature));
}

#[test]
fn one_coordinator_cannot_sign_for_another() {
    let claim = good().claim;
    let mut forged = Certificate::sign(claim, &testing::keypair(3));
    forged.coordinator = testing::coordinator();
    assert_eq!(verify(&forged), Err(CertificateError::BadSignature));
}

#[test]
fn its_last_second_still_counts() {
    let certificate = good();
    let last = certificate.claim.expires_s;
    assert_eq!(certificate.in_time(0), Ok(()));
    assert_eq!(certificate.in_time(last), Ok(()));
    assert_eq!(certificate.in_time(last + 1), Err(CertificateError::Expired(1)));
    assert!(certificate.in_time(u64::MAX).is_err());
}
