//! The keys that a session's trees are sealed under where all can hear them. After somebody has left they
//! change: the next one is made a third of a lease later, so that it serves all who leave meanwhile, is
//! handed out with the answers to renewals, and is in force after the whole lease, when every member has
//! renewed or is out. Somebody who leaves while a key is handed out may know it, and calls for another one
//! after it. So a key lasts for a lease at least, and nobody reads on for more than a third longer than
//! that.

use std::{
    mem,
    time::{Duration, Instant},
};

use arborcast_protocol::push::{PushAccess, PushKey, PushSecret};
use rand::Rng;

/// The topic, and the keys in use.
#[derive(Debug)]
pub(super) struct PushKeys {
    topic: PushSecret,
    in_force: PushKey,
    next: Next,
}

/// What follows.
#[derive(Debug)]
enum Next {
    Nothing,
    /// A key is made then.
    Due(Instant),
    /// This one is handed out, and is in force then.
    HandedOut {
        key: PushKey,
        at: Instant,
        /// Somebody has left who may know it.
        is_known: bool,
    },
}

impl PushKeys {
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        Self {
            topic: draw(rng),
            in_force: PushKey { id: 1, secret: draw(rng) },
            next: Next::Nothing,
        }
    }

    /// For one that is let in.
    pub(super) fn access(&self) -> PushAccess {
        let keys = [&self.in_force].into_iter().chain(self.handed_out());
        PushAccess { topic: self.topic.clone(), keys: keys.cloned().collect() }
    }

    /// For one that renews and holds `newest`.
    pub(super) fn newer_than(&self, newest: u32) -> Option<PushKey> {
        let key = self.handed_out().unwrap_or(&self.in_force);
        (key.id != newest).then(|| key.clone())
    }

    pub(super) const fn topic(&self) -> &PushSecret {
        &self.topic
    }

    pub(super) const fn in_force(&self) -> &PushKey {
        &self.in_force
    }

    /// Somebody is out.
    pub(super) fn on_left(&mut self, lease: Duration, now: Instant) {
        match &mut self.next {
            Next::Nothing => self.next = Next::Due(now + lease / 3),
            Next::Due(_) => {}
            Next::HandedOut { is_known, .. } => *is_known = true,
        }
    }

    /// When [`Self::turn`] has something to do.
    pub(super) const fn due(&self) -> Option<Instant> {
        match &self.next {
            Next::Nothing => None,
            Next::Due(at) | Next::HandedOut { at, .. } => Some(*at),
        }
    }

    /// Does what is due.
    pub(super) fn turn(&mut self, lease: Duration, rng: &mut impl Rng, now: Instant) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        self.next = match mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => Next::Nothing,
            Next::Due(_) => {
                let key = PushKey { id: self.in_force.id.saturating_add(1), secret: draw(rng) };
                Next::HandedOut { key, at: now + lease / 3 * 2, is_known: false }
            }
            Next::HandedOut { key, is_known, .. } => {
                self.in_force = key;
                if is_known { Next::Due(now + lease / 3) } else { Next::Nothing }
            }
        };
    }

    fn handed_out(&self) -> Option<&PushKey> {
        match &self.next {
            Next::Nothing | Next::Due(_) => None,
            Next::HandedOut { key, .. } => Some(key),
        }
    }
}

fn draw(rng: &mut impl Rng) -> PushSecret {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    PushSecret::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    /// Keys, and what turns them until a time.
    struct World {
        keys: PushKeys,
        rng: ChaCha8Rng,
        start: Instant,
    }

    impl World {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        fn new() -> Self {
            let mut rng = ChaCha8Rng::from_seed([7; 32]);
            Self { keys: PushKeys::new(&mut rng), rng, start: Instant::now() }
        }

        fn until(&mut self, s: u64) {
            let end = self.start + Duration::from_secs(s);
            while let Some(due) = self.keys.due().filter(|due| *due <= end) {
                self.keys.turn(LEASE, &mut self.rng, due);
            }
        }

        fn leaves(&mut self, s: u64) {
            self.until(s);
            self.keys.on_left(LEASE, self.start + Duration::from_secs(s));
        }

        fn in_force(&self) -> u32 {
            self.keys.in_force().id
        }
    }

    #[test]
    fn a_key_stays_while_nobody_leaves() {
        let mut world = World::new();
        world.until(10_000);
        assert_eq!((world.in_force(), world.keys.due()), (1, None));
        assert_eq!(world.keys.newer_than(1), None);
        assert_eq!(world.keys.newer_than(0).map(|key| key.id), Some(1));
    }

    #[test]
    fn a_lease_after_somebody_left_the_key_is_another_one() {
        let mut world = World::new();
        world.leaves(100);
        world.leaves(104);
        world.until(106);
        assert_eq!(world.in_force(), 1, "it is handed out first");
        assert_eq!(world.keys.newer_than(1).map(|key| key.id), Some(2));
        assert_eq!(world.keys.access().keys.len(), 2, "a joiner has both");
        world.until(115);
        assert_eq!((world.in_force(), world.keys.due()), (2, None), "once for both");
        assert_eq!(world.keys.newer_than(2), None);
    }

    #[test]
    fn whoever_leaves_with_the_next_key_calls_for_another_one() {
        let mut world = World::new();
        world.leaves(100);
        world.leaves(106);
        world.until(115);
        assert_eq!(world.in_force(), 2);
        world.until(129);
        assert_eq!(world.in_force(), 2, "a key lasts for a lease");
        world.until(130);
        assert_eq!((world.in_force(), world.keys.due()), (3, None));
    }
}
