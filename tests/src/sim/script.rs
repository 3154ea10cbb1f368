//! What the script does to the world.

use super::{World, setup::Act};
use crate::model::Fate;

impl World {
    pub(super) fn act(&mut self, act: Act) {
        self.trace.note(self.now, "", "act", &[], || format!("{act:?}"));
        match act {
            Act::Start(node) => self.start_node(node),
            Act::Leave(node) => self.leave(node),
            Act::Kill(node) => self.stop_node(node, Fate::Killed),
            Act::Break(link, time) => self.break_link(link, time),
            Act::Delay(link, delay) => self.links[link].delay = delay,
            Act::Sleep(node, time) => self.sleep(node, time),
            Act::Stall(node, time) => self.stall(node, time),
            Act::Pause(time) => self.pause(time),
            Act::Dead(link) => self.go_dead(link),
            Act::Mute(link) => self.links[link].mute = true,
            Act::Cut(node, time) => self.cut(node, time),
            Act::Restart(time) => self.stop_coordinator(time),
            Act::Tell { node, to, bytes } => self.tell(node, to, bytes),
            Act::Publish { node, count, bytes, class } => self.publish(node, count, bytes, class),
        }
    }
}
