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
        let lane = (run, message.to);
        let mut got = model.got(who, lane);
        let seq = message.seq;
        let Some(source) = model.sources.get(&run) else {
            return Err(format!("{who:?} gets #{seq} of {:?}, which nobody is", message.source));
        };
        if source.who == who {
            return Err(format!("{who:?} gets its own #{seq}"));
        }
        let from = source.who;
        let owed = model.readers.get(&who).and_then(|reader| reader.owed.get(&lane)).copied();
        let to = source.message(seq).and_then(|sent| sent.to);
        let me = model.readers.get(&who).and_then(|reader| reader.me);
        if to.is_some() && to != me {
            return Err(format!("{who:?} gets #{seq} of {from:?}, which is for {to:?} alone"));
        }
        if to != message.to {
            return Err(format!("{who:?} gets #{seq} of {from:?} as for {:?}", message.to));
        }
        match source.message(seq).map(|sent| sent.class) {
            None => return Err(format!("{who:?} gets #{seq} of {from:?}, which never sent it")),
            Some(Class::Live) => {
                if seq <= got.last_live {
                    let last = got.last_live;
                    return Err(format!("{who:?} gets live #{seq} of {from:?} after #{last}"));
                }
                got.last_live = seq;
                got.live += 1;
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
                    let expected = source.next_reliable(last.max(got.lost), to);
                    if Some(seq) != expected && source.next_reliable(last, to) != Some(seq) {
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
        *model.got_mut(who, lane) = got;
        Ok(())
    }
}
