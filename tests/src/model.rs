//! What must come true, whatever way the engines take: who is there, what was published, what each
//! must get. Knows no tree beyond who is in it.

use std::collections::BTreeMap;

use arborcast_protocol::id::{Class, Incarnation, MemberId, SeqNo};
use bytes::Bytes;

use crate::sim::Who;

/// One run of a member as a source of messages.
pub type Run = (MemberId, Incarnation);

/// The messages of a source that are in one order: those for all, or those for one receiver alone.
pub type Lane = (Run, Option<MemberId>);

/// What became of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is there.
    Present,
    /// It left, having been told that its messages up to this one are where they should be.
    Left(SeqNo),
    /// It was killed.
    Killed,
}

/// One message as its application handed it over.
#[derive(Clone, Debug)]
pub struct Sent {
    /// How it is treated when there is no room.
    pub class: Class,
    /// The only receiver, if it is not for all.
    pub to: Option<MemberId>,
    /// What must arrive.
    pub payload: Bytes,
}

/// One source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Which node, in which life.
    pub who: Who,
    /// What became of it.
    pub fate: Fate,
    /// What it published; number 1 first.
    pub sent: Vec<Sent>,
}

impl Source {
    /// The message with this number.
    #[must_use]
    pub fn message(&self, seq: SeqNo) -> Option<&Sent> {
        self.sent.get(usize::try_from(seq.0.checked_sub(1)?).ok()?)
    }

    /// The number of the first reliable message after `seq` among those for `to` alone, or for all.
    #[must_use]
    pub fn next_reliable(&self, seq: SeqNo, to: Option<MemberId>) -> Option<SeqNo> {
        let skip = usize::try_from(seq.0).ok()?;
        (seq.0 + 1..)
            .map(SeqNo)
            .zip(self.sent.iter().skip(skip))
            .find(|(_, sent)| sent.class == Class::Reliable && sent.to == to)
            .map(|(seq, _)| seq)
    }

    /// The highest number that all must get for sure.
    #[must_use]
    pub fn promised(&self) -> SeqNo {
        match self.fate {
            Fate::Present => SeqNo(self.sent.len() as u64),
            Fate::Left(seq) => seq,
            Fate::Killed => SeqNo(0),
        }
    }
}

/// What one life of a node got of one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Got {
    /// The first reliable message; 0 if none.
    pub first: SeqNo,
    /// The last reliable one.
    pub last: SeqNo,
    /// The last live one.
    pub last_live: SeqNo,
    /// How many live ones.
    pub live: u64,
    /// It was told that everything up to here is lost.
    pub lost: SeqNo,
}

/// One life of a node as a receiver.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Which member it is.
    pub me: Option<MemberId>,
    /// It stays to the end, connected all the time.
    pub stays: bool,
    /// It was detached at some time.
    pub was_detached: bool,
    /// It said that its floors are settled.
    pub settled: bool,
    /// For each source the first message that it must get, of those for all and of those for it alone.
    pub owed: BTreeMap<Lane, SeqNo>,
    /// What it got.
    pub got: BTreeMap<Lane, Got>,
}

/// All that is known of sources and receivers.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All sources there ever were.
    pub sources: BTreeMap<Run, Source>,
    /// All receivers there ever were.
    pub readers: BTreeMap<Who, Reader>,
}

impl Model {
    /// A node starts.
    pub fn start(&mut self, who: Who, run: Run, stays: bool) {
        self.sources.insert(run, Source { who, fate: Fate::Present, sent: Vec::new() });
        self.readers.insert(who, Reader { me: Some(run.0), stays, ..Reader::default() });
    }

    /// A node's floors are settled.
    pub fn settle(&mut self, who: Who) {
        if let Some(reader) = self.readers.get_mut(&who) {
            reader.settled = true;
        }
    }

    /// A node was detached: nobody keeps for it what was sent before it is back.
    pub fn detach(&mut self, who: Who) {
        if let Some(reader) = self.readers.get_mut(&who) {
            reader.was_detached = true;
            reader.owed.clear();
        }
    }

    /// Whether a node was detached at some time: sources learn only after the coordinator that it is back.
    #[must_use]
    pub fn was_detached(&self, who: Who) -> bool {
        self.readers.get(&who).is_some_and(|reader| reader.was_detached)
    }

    /// A node is no more.
    pub fn end(&mut self, run: Run, fate: Fate) {
        if let Some(source) = self.sources.get_mut(&run) {
            source.fate = fate;
        }
    }

    /// A source published its next message while `present` (of which it is one itself) were in the
    /// tree. Gives its number.
    pub fn publish(&mut self, run: Run, sent: Sent, present: impl Fn(Who) -> bool) -> SeqNo {
        let Some(source) = self.sources.get_mut(&run) else { return SeqNo(0) };
        let (reliable, to) = (sent.class == Class::Reliable, sent.to);
        source.sent.push(sent);
        let (who, seq) = (source.who, SeqNo(source.sent.len() as u64));
        let settled = self.readers.get(&who).is_some_and(|reader| reader.settled);
        if reliable && settled && present(who) {
            for (reader, state) in &mut self.readers {
                let meant = to.is_none() || to == state.me;
                if meant && *reader != who && state.stays && state.settled && present(*reader) {
                    state.owed.entry((run, to)).or_insert(seq);
                }
            }
        }
        seq
    }

    /// What `who` got of `lane` so far.
    #[must_use]
    pub fn got(&self, who: Who, lane: Lane) -> Got {
        self.readers.get(&who).and_then(|reader| reader.got.get(&lane)).copied().unwrap_or_default()
    }

    /// What `who` got of `lane` so far, to be changed.
    pub fn got_mut(&mut self, who: Who, lane: Lane) -> &mut Got {
        self.readers.entry(who).or_default().got.entry(lane).or_default()
    }

    /// How many pairs of a source and a receiver are held to account for what is for all.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.lanes().filter(|(_, to)| to.is_none()).count()
    }

    /// The same for what is for the receiver alone.
    #[must_use]
    pub fn owed_alone(&self) -> usize {
        self.lanes().filter(|(_, to)| to.is_some()).count()
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> + '_ {
        self.readers.values().flat_map(|reader| reader.owed.keys())
    }

    /// What is still owed: receiver, source, the first number that it lacks.
    pub fn missing(&self) -> impl Iterator<Item = (Who, &Source, SeqNo)> + '_ {
        self.readers.iter().flat_map(move |(who, reader)| {
            reader.owed.iter().filter_map(move |(lane, from)| {
                let (run, to) = lane;
                let source = self.sources.get(run)?;
                let got = reader.got.get(lane).copied().unwrap_or_default();
                let last = SeqNo(got.last.0.max(from.0.saturating_sub(1)));
                let late = got.first > *from;
                let next =
                    source.next_reliable(last, *to).filter(|next| *next <= source.promised());
                if late && *from <= source.promised() {
                    Some((*who, source, *from))
                } else {
                    next.map(|next| (*who, source, next))
                }
            })
        })
    }
}
