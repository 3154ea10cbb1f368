//! What one peer, or all from one place, may take for themselves.

use std::net::IpAddr;

use super::*;
use arborcast_protocol::origin::Origin;

impl World {
    /// `n` connects from here.
    fn connect(&mut self, n: u64, from: [u8; 4]) {
        let origin = Origin::from(IpAddr::from(from));
        self.handle(Input::Connected { peer: member(n), origin });
    }

    /// `n` asks to be let into an open session.
    fn open(&mut self, n: u64, name: &str) -> Result<(), Code> {
        let session = admission::open_session(name);
        let (answer, _) = self.ask(n, Request::Challenge { session });
        let challenge = match answer {
            Ok(Granted::Challenge { challenge }) => challenge,
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => return Err(refusal.code),
        };
        let admission = Admission::Open { name: name.to_owned(), challenge };
        let join = Join { session, admission, ..self.join_request(n, n) };
        self.try_join(n, join).0.map(drop).map_err(|refusal| refusal.code)
    }
}

const HERE: [u8; 4] = [192, 0, 2, 1];
const THERE: [u8; 4] = [192, 0, 2, 2];

#[test]
fn nobody_takes_all_sessions() {
    let config = Config { sessions_per_peer: 2, sessions_per_address: 3, ..at_once() };
    let mut world = World::with(config);
    for (n, from) in [(1, HERE), (2, HERE), (3, THERE)] {
        world.connect(n, from);
    }
    assert_eq!((world.open(1, "a"), world.open(1, "b")), (Ok(()), Ok(())));
    assert_eq!(world.open(1, "c"), Err(Code::TOO_MANY_SESSIONS), "of one peer");
    assert_eq!(world.open(2, "c"), Ok(()));
    assert_eq!(world.open(2, "d"), Err(Code::TOO_MANY_SESSIONS), "from one place");
    assert_eq!(world.open(3, "d"), Ok(()), "others have room");
    assert_eq!(world.open(2, "d"), Ok(()), "into one that is there everybody may come");
    // What is over does not count any more.
    let session = admission::open_session("a");
    let leave = Request::Leave { session, incarnation: incarnation(1) };
    assert!(world.ask(1, leave).0.is_ok());
    assert_eq!(world.open(1, "e"), Ok(()));
}

#[test]
fn a_large_group_behind_one_address_is_let_in_at_once_and_a_flood_is_not() {
    let per_s = 1_000_000;
    let config = Config {
        joins_per_s: per_s,
        join_burst: per_s,
        requests_per_s: per_s,
        request_burst: per_s,
        ..at_once()
    };
    let mut world = World::with(config);
    let ask = |world: &mut World, n| {
        world.connect(n, HERE);
        let session = session();
        world.ask(n, Request::Challenge { session }).0.map_err(|refusal| refusal.code)
    };
    for n in 1..=512 {
        assert!(ask(&mut world, n).is_ok(), "{n}");
    }
    assert_eq!(ask(&mut world, 513), Err(Code::BUSY));
    world.connect(600, THERE);
    let session = session();
    assert!(world.ask(600, Request::Challenge { session }).0.is_ok(), "others come in");
    world.until(1_000);
    assert!(ask(&mut world, 514).is_ok(), "some each second");
}

/// The place of a host that starts anew cannot be taken by whoever comes first.
#[test]
fn a_coordinator_for_one_session_opens_no_other() {
    let mut world = World::new();
    world.engine.hold_only(session());
    assert_eq!(world.open(1, "mine"), Err(Code::NOT_ADMITTED), "as a wrong proof");
    world.join(2);
    assert_eq!(world.engine.sessions().collect::<Vec<_>>(), [session()]);
}

#[test]
fn keys_of_pushes_come_with_renewals_after_somebody_left() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let key = |world: &mut World, holds| {
        let renew = Request::Renew {
            session: session(),
            incarnation: incarnation(1),
            addresses: vec![],
            settled: true,
            push_key: holds,
        };
        match world.ask(1, renew).0 {
            Ok(Granted::Renewed(renewed)) => renewed.push_key.map(|key| key.id),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((key(&mut world, 0), key(&mut world, 1)), (Some(1), None));
    let leave = Request::Leave { session: session(), incarnation: incarnation(3) };
    assert!(world.ask(3, leave).0.is_ok());
    let lease_ms = u64::from(world.engine.context.config.lease_ms);
    world.until(world.now_ms + lease_ms / 3 + 1);
    assert_eq!(key(&mut world, 1), Some(2), "handed out before it is in force");
    let joined = world.join(4).0.push.expect("access");
    assert_eq!(joined.keys.iter().map(|key| key.id).collect::<Vec<_>>(), [1, 2]);
    for _ in 0..3 {
        world.until(world.now_ms + lease_ms / 4);
        assert_eq!(key(&mut world, 2), None);
        assert!(world.renew(2, true).0.is_ok());
        assert!(world.renew(4, true).0.is_ok());
    }
    assert_eq!(key(&mut world, 1), Some(2));
    let joined = world.join(5).0.push.expect("access");
    assert_eq!(joined.keys.iter().map(|key| key.id).collect::<Vec<_>>(), [2]);
}
