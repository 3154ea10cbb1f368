//! Messages of one source reach an application at most once and in order (R8): nobody gets one twice,
//! joiners included, and after the first there is no gap that was not reported as lost.

use arborcast::engine::event::Message;
use arborcast_protocol::id::{Class, SeqNo};

use crate::{model::Model, sim::Who};

/// Nothing to remember: the model knows what each got.
#[derive(Debug, Default)]
pub struct Order;

impl Order {
    /// An application takes a message.
    pub fn delivered(&self, model: &mut Model, who: Who, message: &Message) -> Result<(), String> {
        let run = (message.source, message.incarnation);
        let mut got = model.got(who, run);
        let seq = message.seq;
        let Some(source) = model.sources.get(&run) else {
            return Err(format!("{who:?} gets #{seq} of {:?}, which nobody is", message.source));
        };
        if source.who == who {
            return Err(format!("{who:?} gets its own #{seq}"));
        }
        let from = source.who;
        let owed = model.readers.get(&who).and_then(|reader| reader.owed.get(&run)).copied();
        match source.message(seq).map(|sent| sent.class) {
            None => return Err(format!("{who:?} gets #{seq} of {from:?}, which never sent it")),
            Some(Class::Live) => {
                if seq <= got.last_live {
                    let last = got.last_live;
                    return Err(format!("{who:?} gets live #{seq} of {from:?} after #{last}"));
                }
                got.last_live = seq;
            }
            Some(Class::Reliable) => {
                if got.first == SeqNo(0) {
                    if let Some(owed) = owed.filter(|owed| *owed < seq) {
                        return Err(format!("{who:?} gets #{seq} of {from:?}, but never #{owed}"));
                    }
                    got.first = seq;
                } else {
                    let last = got.last;
                    if seq <= last {
                        return Err(format!("{who:?} gets #{seq} of {from:?} after #{last}"));
                    }
                    let expected = source.next_reliable(last.max(got.lost));
                    if Some(seq) != expected && source.next_reliable(last) != Some(seq) {
                        return Err(format!(
                            "{who:?} gets #{seq} of {from:?} after #{last}; {:?} of it were reported \
                             lost",
                            got.lost
                        ));
                    }
                }
                got.last = seq;
            }
        }
        *model.got_mut(who, run) = got;
        Ok(())
    }
}
