//! Epochs only rise: at the coordinator, across its restarts, and at every member. Two that say the
//! same epoch mean the same tree.

use std::collections::{BTreeMap, BTreeSet};

use arborcast::engine::event::TreeEvent;
use arborcast_protocol::{
    id::{Epoch, MemberId},
    tree::Tree,
};

use crate::sim::Who;

/// The newest of each.
#[derive(Debug, Default)]
pub struct Epochs {
    made: Option<Epoch>,
    taken: BTreeMap<Who, Epoch>,
    /// Trees made.
    pub count: u64,
}

impl Epochs {
    /// The coordinator has a new tree.
    pub fn made(&mut self, epoch: Epoch) -> Result<(), String> {
        self.count += 1;
        match self.made.replace(epoch) {
            Some(before) if before >= epoch => {
                Err(format!("the coordinator makes epoch {epoch} after {before}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A member takes a tree up.
    pub fn taken(&mut self, who: Who, epoch: Epoch) -> Result<(), String> {
        if self.made.is_none_or(|made| epoch > made) {
            return Err(format!("{who:?} takes up epoch {epoch}, which nobody made"));
        }
        match self.taken.insert(who, epoch) {
            Some(before) if before >= epoch => {
                Err(format!("{who:?} takes up epoch {epoch} after {before}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether what a member takes up is what the coordinator made under that epoch.
pub fn same(who: Who, me: MemberId, taken: &TreeEvent, made: Option<&Tree>) -> Result<(), String> {
    let epoch = taken.epoch;
    let Some(made) = made else {
        return Err(format!("{who:?} takes up epoch {epoch}, which nobody made"));
    };
    if taken.tree.as_ref().is_some_and(|tree| **tree != *made) {
        return Err(format!("{who:?} takes up another tree than the coordinator made as {epoch}"));
    }
    let own = made.edges().filter_map(|edge| edge.other(me));
    let (plain, all) = (own.collect::<BTreeSet<_>>(), made.neighbours(me).collect::<BTreeSet<_>>());
    let said: BTreeSet<MemberId> = taken.neighbours.iter().copied().collect();
    if said != plain && said != all {
        return Err(format!(
            "{who:?} takes up epoch {epoch} with neighbours {said:?}, but has {plain:?} there"
        ));
    }
    Ok(())
}
