//! How closely a channel is looked at: a few probes at once when it is new, when it looks strange, and
//! while it seems to get better; else one each period.

use std::time::{Duration, Instant};

use crate::engine::quality::Verdict;

/// When to probe one channel.
#[derive(Debug)]
pub(super) struct Attention {
    look: Option<Look>,
    /// What is strange is not looked at closely before.
    check_from: Instant,
    /// Neither is what seems to get better.
    confirm_from: Instant,
    /// Looks without a rest between them.
    streak: u32,
}

/// Probes one after the other.
#[derive(Clone, Copy, Debug)]
struct Look {
    why: Why,
    /// Still to be sent.
    left: u32,
    /// Probes of it that looked strange.
    strange: u32,
    began: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    New,
    Strange,
    Better,
}

impl Attention {
    /// For a channel that nobody has measured.
    pub(super) const fn new(now: Instant) -> Self {
        let look = Look { why: Why::New, left: FIRST, strange: 0, began: now };
        Self { look: Some(look), check_from: now, confirm_from: now, streak: 0 }
    }

    /// Whether it is looked at closely.
    pub(super) const fn is_close(&self) -> bool {
        self.look.is_some()
    }

    /// Whether it is new or looks strange.
    pub(super) const fn is_uncertain(&self) -> bool {
        matches!(self.look, Some(Look { why: Why::New | Why::Strange, .. }))
    }

    /// A probe is sent: how long until the next, of which there is one each `period` else.
    pub(super) fn on_sent(&mut self, period: Duration, now: Instant) -> Duration {
        let Some(look) = &mut self.look else { return period };
        look.left = look.left.saturating_sub(1);
        let gap = look.why.gap();
        if look.left > 0 {
            return gap;
        }
        self.end(now);
        period
    }

    /// What a probe has shown. True if the next one is to follow soon, after [`GAP`].
    pub(super) fn on_verdict(
        &mut self,
        verdict: Verdict,
        is_recovering: bool,
        now: Instant,
    ) -> bool {
        let is_strange = verdict == Verdict::Strange;
        if let Some(look) = &mut self.look {
            look.strange += u32::from(is_strange);
        }
        let why = self.look.map(|look| look.why);
        if why == Some(Why::Better) && (is_strange || !is_recovering) {
            // It is no better, then, or is known to be.
            self.end(now);
        }
        let why = match why {
            None | Some(Why::Better) if is_strange && now >= self.check_from => Why::Strange,
            None if is_recovering && now >= self.confirm_from => Why::Better,
            _ => return false,
        };
        self.look = Some(Look { why, left: why.probes(), strange: 0, began: now });
        true
    }

    /// The next look may come after as long as this one took: half of the time is for others. Some may
    /// follow each other at once where there was more to see than chance brings.
    fn end(&mut self, now: Instant) {
        let Some(look) = self.look.take() else { return };
        let took = now.saturating_duration_since(look.began);
        match look.why {
            Why::New => {}
            Why::Strange if look.strange >= SEVERAL && self.streak < STREAK => self.streak += 1,
            Why::Strange => {
                self.check_from = now + took;
                self.streak = 0;
            }
            Why::Better => self.confirm_from = now + took,
        }
    }
}

impl Why {
    const fn probes(self) -> u32 {
        match self {
            Self::New => FIRST,
            Self::Strange => CHECK,
            Self::Better => CONFIRM,
        }
    }

    const fn gap(self) -> Duration {
        match self {
            Self::New => FIRST_GAP,
            Self::Strange | Self::Better => GAP,
        }
    }
}

/// A new channel is measured so many times at once, so that it can soon be chosen...
const FIRST: u32 = 3;

/// ...each so long after the one before.
const FIRST_GAP: Duration = Duration::from_millis(30);

/// A channel that looks strange is looked at so many times, enough to count losses on a new one.
const CHECK: u32 = 12;

/// So many strange ones in a look are more than chance brings to a good channel.
const SEVERAL: u32 = 3;

/// Looks that follow each other at once, the first one not counted.
const STREAK: u32 = 3;

/// Probes that show that a channel is better, and that jitter is over, at most.
const CONFIRM: u32 = 64;

/// Between probes of both.
pub(super) const GAP: Duration = Duration::from_millis(100);

/// While a probe is under way the next one waits for so long at most: what is lost is repeated by then on
/// most channels.
pub(super) const APART: Duration = Duration::from_millis(250);
