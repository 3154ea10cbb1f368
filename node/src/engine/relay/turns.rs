//! Round robin: everything that waits gets its turn.

use std::collections::{BTreeSet, VecDeque};

/// A queue in which everything is at most once, so its length is bounded by how much there is.
#[derive(Clone, Debug)]
pub(super) struct Turns<T> {
    queue: VecDeque<T>,
    waiting: BTreeSet<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), waiting: BTreeSet::new() }
    }
}

impl<T: Ord + Copy> Turns<T> {
    /// Puts `item` at the end, unless it waits already.
    pub(super) fn push(&mut self, item: T) {
        if self.waiting.insert(item) {
            self.queue.push_back(item);
        }
    }

    /// Puts `item` before all others. Takes time in the length of the queue.
    pub(super) fn push_first(&mut self, item: T) {
        if !self.waiting.insert(item) {
            self.queue.retain(|other| *other != item);
        }
        self.queue.push_front(item);
    }

    /// Takes whatever has waited longest.
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.queue.pop_front()?;
        self.waiting.remove(&item);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn everything_gets_its_turn_and_waits_only_once() {
        let mut turns = Turns::default();
        for item in [3, 1, 3, 2, 1] {
            turns.push(item);
        }
        let order: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [3, 1, 2]);
        turns.push(3);
        turns.push(4);
        turns.push_first(4);
        turns.push_first(5);
        let order: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [5, 4, 3]);
    }
}
