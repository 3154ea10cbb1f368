//! All that decides which channels the tree has, beside the search for it (`tree`): members measure, and decide
//! nothing of this. `cost` says what a channel is worth, `edges` keeps what becomes of each edge:
//!
//! ```text
//!                chosen          one end says so        the other one too
//!  held down ──────────▶ added ─────────────────▶ half ─────────────────▶ carrying ◀──────┐
//!      ▲                   │ late                  │ late                  │    │         │ chosen
//!      │                   └──────────┐  ┌─────────┘                silent │    │ not     │ again
//!      │                              ▼  ▼                                 │    │ chosen  │
//!      ├─────────────────────────── suspect ◀──────────────────────────────┘    └──▶ old ─┘
//!      │  not chosen                (both ends say so: carrying)                       │
//!      └───────────────────────────────────────────────────────────────────────────────┘
//!                                                        not needed, silent, channel gone
//! ```
//!
//! An end says that an edge carries once a summary has come and its own has been sent, so one end's word proves one
//! direction, and both together prove both. One end alone could lie an edge into the tree; so its word is enough
//! only where the other end cannot be heard.
//!
//! | parameter of [`crate::engine::Config`] | unit | what it is called | what it does |
//! |---|---|---|---|
//! | `hysteresis_us`, `hysteresis_percent` | µs, % | hysteresis | an edge of the tree gives way only to a channel that costs less by more than this, and by more than what may be chance ([`noise_us`]) |
//! | `poor_loss_ppm`, `session_rate_kbps` | ppm, kbit/s | thresholds | beyond them a channel is poor, and one of the tree where it is so beyond what may be chance |
//! | `carry_ms` | ms | added → suspect | time that a new edge has to come up |
//! | `hold_down_ms` | ms | hold-down | how long an edge comes last that failed; doubled each time (RFC 2439, section 4, in its simplest form: no decay, but a memory) |
//! | `flap_hold_down_ms` | ms | flap damping | how long an edge counts as no better than it was when it gave way for the second time; doubled each time |
//! | `batch_ms`, `epoch_spacing_ms` | ms | rate limit | how soon after a change, and after each other, trees are computed |
//! | `backoff_ms` | ms | back-off (RFC 8405) | how far apart trees are at most that are only to be better, while one follows the other |

use arborcast_protocol::qos::ChannelKind;

pub(crate) use cost::{Needs, is_sane, noise_us, sane};
pub(crate) use edges::{Edges, State};

use super::{topology::Merged, tree::Tier};

mod cost;
mod edges;

/// How good a channel looks: its tier, and its cost in microseconds. What is in use is proved, or soon will be.
pub(crate) fn looks(merged: Merged, state: State, needs: Needs) -> (Tier, u64) {
    let tier = match merged.kind {
        _ if merged.is_one_sided && !state.is_in_use() => Tier::OneSided,
        ChannelKind::Direct if needs.is_poor(merged.qos, state.is_chosen()) => Tier::Poor,
        ChannelKind::Direct => Tier::Good,
        ChannelKind::Relayed => Tier::Relayed,
    };
    (tier, cost::cost_us(merged.qos))
}
