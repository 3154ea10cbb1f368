//! Named timers in a table, one deadline out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// At most one deadline for each name. What is due comes out in order of time, then of names.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_name: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, name: K, at: Instant) {
        self.clear(name);
        self.by_name.insert(name, at);
        self.by_time.insert((at, name));
    }

    /// Sets a timer, or moves it if that makes it earlier.
    pub(crate) fn bring_forward(&mut self, name: K, at: Instant) {
        if self.by_name.get(&name).is_none_or(|set| at < *set) {
            self.set(name, at);
        }
    }

    /// Stops a timer.
    pub(crate) fn clear(&mut self, name: K) {
        if let Some(at) = self.by_name.remove(&name) {
            self.by_time.remove(&(at, name));
        }
    }

    /// When the first one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the first one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, name) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn the_first_one_due_comes_out_first_and_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set('a', at(3));
        timers.set('b', at(2));
        timers.set('c', at(1));
        timers.set('c', at(4));
        timers.bring_forward('a', at(9));
        timers.bring_forward('b', at(1));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(start), None);
        assert_eq!(timers.pop(at(3)), Some('b'));
        assert_eq!(timers.pop(at(3)), Some('a'));
        assert_eq!(timers.pop(at(3)), None);
        timers.clear('c');
        assert_eq!(timers.next(), None);
    }
}
