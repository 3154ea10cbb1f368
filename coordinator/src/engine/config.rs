//! What an operator can set about sessions, leases and trees.

use arborcast_protocol::{history::History, id::MemberId, limits, session::Address};
use serde::{Deserialize, Serialize};

use super::tree::Strategy;

/// Settings of an [`super::Engine`]. Integers with their unit in the name, so that file, flags and
/// environment say the same. Figures without a source are guesses that did well in simulation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "net", derive(documented::DocumentedFields))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses that the answer to `Locate` tells for this coordinator; see
    /// [`super::Engine::set_addresses`]. Not read from files: the driver knows them.
    #[serde(skip)]
    pub addresses: Vec<Address>,
    /// Whether sessions that are a mere name are held; default true.
    pub open_sessions: bool,
    /// Most sessions at once; default 1024.
    pub sessions: usize,
    /// Most sessions that one peer may have opened; default 32.
    pub sessions_per_peer: usize,
    /// Most sessions that may have been opened from one address, or one network of IPv6; default 128.
    pub sessions_per_address: usize,
    /// Members let in from there at once after a pause; default 512, a large group behind one NAT.
    pub join_burst_per_address: u32,
    /// The same per second in the long run; default 20.
    pub joins_per_address_s: u32,
    /// Most members of one session; default and highest value 10,000.
    pub members: usize,
    /// Most challenges that wait for a join, over all peers; default 4096. The oldest gives way.
    pub challenges: usize,
    /// Most challenges that wait for a join of one peer; default 8. The oldest gives way.
    pub challenges_per_peer: usize,
    /// A challenge is void after this many milliseconds; default 30,000.
    pub challenge_life_ms: u32,
    /// Members let in per second in the long run, over all sessions; default 100. Others are told when to
    /// come again.
    pub joins_per_s: u32,
    /// Members let in at once after a pause; default 50.
    pub join_burst: u32,
    /// Requests per second that one peer may make in the long run; default 50.
    pub requests_per_s: u32,
    /// Requests that one peer may make at once after a pause; default 200.
    pub request_burst: u32,
    /// Peers whose request rate is remembered; default 65,536 (about 8 MiB). The one that has been
    /// quiet for longest is forgotten first.
    pub rated_peers: usize,
    /// A certificate is good for this many seconds; default 86,400 (a day). Renewed when less than
    /// a third is left.
    pub certificate_life_s: u64,
    /// A member that has not renewed for this many milliseconds is dropped; default 15,000. A leaf after three times as
    /// long, and it is told to renew a third as often.
    pub lease_ms: u32,
    /// Members are told to renew this often, in milliseconds; default 7,000: two fit into a lease.
    pub renew_ms: u32,
    /// Members are told to report quality this often, in milliseconds; default 5,000.
    pub report_ms: u32,
    /// Largest message of a session, in bytes; default and highest value 16 MiB.
    pub message_bytes: u64,
    /// Bytes of frames that a member keeps for others; default 32 MiB, at least 512 KiB.
    pub store_bytes: u64,
    /// What those who join later get of what was sent before, as far as members keep it: `none`, the
    /// last so many messages of each source, or `all`; default `none`.
    pub session_history: History,
    /// A member whose connection is gone and whose channels the other ends reported down is dropped
    /// after this many milliseconds; default 2,000.
    pub death_grace_ms: u32,
    /// A relay that leaves hands over for at most this many milliseconds; default 2,000.
    pub hand_over_ms: u32,
    /// A part of the tree out of reach of the rest for this many milliseconds becomes a group of
    /// its own, so that neither side waits for the other; default 30,000.
    pub partition_grace_ms: u32,
    /// A part of the tree without a settled member for this many milliseconds is given one; default
    /// 2,000.
    pub settle_ms: u32,
    /// A coordinator that was started anew publishes its first trees after this many milliseconds,
    /// so that members of before have come back by then; default 5,000, the longest pause between
    /// their attempts. 0 does not wait.
    pub resume_ms: u32,
    /// Changes that arrive within this many milliseconds make one tree; default 20.
    pub batch_ms: u32,
    /// Least milliseconds between two trees of a session; default 250...
    pub epoch_spacing_ms: u32,
    /// ...and where healthy edges give way to better ones, twice as long from one to the next, up to this, until it
    /// was quiet for twice as long; default 30,000. Edges that have become worse wait for a sixth of it at most.
    pub backoff_ms: u32,
    /// The same as `epoch_spacing_ms` for trees that repair something or attach somebody; default 50.
    pub repair_spacing_ms: u32,
    /// A member is handed candidates at most this often, in milliseconds; default 5,000.
    pub candidates_ms: u32,
    /// A channel that loses more than this is poor, in parts per million; default 50,000 (5 %). One that
    /// is in use, if it loses 100,000 more: less may be chance.
    pub poor_loss_ppm: u32,
    /// A channel narrower than this is poor, in kbit/s: the sum of what the members of a session
    /// send; one that is in use, if it is narrower than three quarters of it. Nor does a member that says what it
    /// can send have more neighbours than that is enough for. Default 0: none is poor, and all may.
    pub session_rate_kbps: u32,
    /// A member that sends most of what the session is about: its distances weigh as much as those of all others
    /// together. Not read from files: members are fresh each time.
    #[serde(skip)]
    pub main_source: Option<MemberId>,
    /// A healthy edge gives way only to a channel whose cost is lower by more than this many
    /// microseconds...; default 2,000.
    pub hysteresis_us: u32,
    /// ...and by more than this share of its own cost, in percent; default 20.
    pub hysteresis_percent: u32,
    /// A new edge that does not carry data after this many milliseconds is withdrawn if another
    /// channel can take its place; default 5,000.
    pub carry_ms: u32,
    /// A channel whose edge was withdrawn comes last for this many milliseconds; twice as long each
    /// further time, up to 64 times; default 30,000.
    pub hold_down_ms: u32,
    /// A channel whose edge gave way to a better one for a second time counts as no better than then
    /// for this many milliseconds; twice as long each further time, up to 256 times; default 5,000.
    pub flap_hold_down_ms: u32,
    /// A member that keeps the others waiting for this many milliseconds, because nothing is heard of it or
    /// its own application takes nothing, is detached; default 2,000, 0 for never. One that is heard is given
    /// five times as long: then it becomes a leaf, and after as long again it is detached. Once it is back
    /// it is a leaf for `hold_down_ms`, twice as long each further time. Who would need more than fifteen times
    /// as long for what waits keeps others waiting, too.
    pub slow_ms: u32,
    /// From so many members on a tree is computed on a thread of its own, so that requests are answered
    /// meanwhile; default 64.
    pub compute_apart: usize,
    /// How trees are computed: `routing-cost` (the default), `mst`, `spt`, `min-diameter` or `widest`.
    pub strategy: Strategy,
    /// Steps that one computation may take to keep fan-out limits; default 2,000,000 (some tens of
    /// milliseconds). Steps and not time, so that every machine comes to the same tree.
    pub tree_steps: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            open_sessions: true,
            sessions: 1024,
            sessions_per_peer: 32,
            sessions_per_address: 128,
            join_burst_per_address: 512,
            joins_per_address_s: 20,
            members: limits::MEMBERS,
            challenges: 4096,
            challenges_per_peer: 8,
            challenge_life_ms: 30_000,
            joins_per_s: 100,
            join_burst: 50,
            requests_per_s: 50,
            request_burst: 200,
            rated_peers: 65_536,
            certificate_life_s: 24 * 60 * 60,
            lease_ms: 15_000,
            renew_ms: 7_000,
            report_ms: 5_000,
            message_bytes: limits::MESSAGE as u64,
            store_bytes: 32 * 1024 * 1024,
            session_history: History::None,
            death_grace_ms: 2_000,
            hand_over_ms: 2_000,
            partition_grace_ms: 30_000,
            settle_ms: 2_000,
            resume_ms: 5_000,
            batch_ms: 20,
            epoch_spacing_ms: 250,
            backoff_ms: 30_000,
            repair_spacing_ms: 50,
            candidates_ms: 5_000,
            poor_loss_ppm: 50_000,
            session_rate_kbps: 0,
            main_source: None,
            hysteresis_us: 2_000,
            hysteresis_percent: 20,
            carry_ms: 5_000,
            hold_down_ms: 30_000,
            flap_hold_down_ms: 5_000,
            slow_ms: 2_000,
            compute_apart: 64,
            strategy: Strategy::default(),
            tree_steps: 2_000_000,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: must be {must_be}")]
pub struct ConfigError {
    /// Which.
    pub field: &'static str,
    /// What it may be.
    pub must_be: &'static str,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range, and the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_1 = [
            ("sessions", self.sessions as u64),
            ("sessions_per_peer", self.sessions_per_peer as u64),
            ("sessions_per_address", self.sessions_per_address as u64),
            ("join_burst_per_address", self.join_burst_per_address.into()),
            ("joins_per_address_s", self.joins_per_address_s.into()),
            ("challenges", self.challenges as u64),
            ("challenges_per_peer", self.challenges_per_peer as u64),
            ("challenge_life_ms", self.challenge_life_ms.into()),
            ("joins_per_s", self.joins_per_s.into()),
            ("join_burst", self.join_burst.into()),
            ("requests_per_s", self.requests_per_s.into()),
            ("request_burst", self.request_burst.into()),
            ("rated_peers", self.rated_peers as u64),
            ("certificate_life_s", self.certificate_life_s),
            ("renew_ms", self.renew_ms.into()),
            ("report_ms", self.report_ms.into()),
            ("death_grace_ms", self.death_grace_ms.into()),
            ("partition_grace_ms", self.partition_grace_ms.into()),
            ("settle_ms", self.settle_ms.into()),
            ("batch_ms", self.batch_ms.into()),
            ("repair_spacing_ms", self.repair_spacing_ms.into()),
            ("candidates_ms", self.candidates_ms.into()),
            ("carry_ms", self.carry_ms.into()),
            ("hold_down_ms", self.hold_down_ms.into()),
            ("flap_hold_down_ms", self.flap_hold_down_ms.into()),
        ];
        let check = |field, good, must_be| {
            if good { Ok(()) } else { Err(ConfigError { field, must_be }) }
        };
        for (field, value) in at_least_1 {
            check(field, value >= 1, "at least 1")?;
        }
        check(
            "members",
            (1..=limits::MEMBERS).contains(&self.members),
            "from 1 to 10000, the most that fit into one answer",
        )?;
        check("lease_ms", self.lease_ms > self.renew_ms, "more than renew_ms")?;
        check(
            "message_bytes",
            (1..=limits::MESSAGE as u64).contains(&self.message_bytes),
            "from 1 to 16777216 (16 MiB)",
        )?;
        check("store_bytes", self.store_bytes >= STORE_MIN, "at least 524288 (512 KiB)")?;
        check(
            "challenges_per_peer",
            self.challenges_per_peer <= self.challenges,
            "at most challenges",
        )?;
        check(
            "epoch_spacing_ms",
            self.epoch_spacing_ms >= self.repair_spacing_ms,
            "at least repair_spacing_ms",
        )?;
        check("poor_loss_ppm", self.poor_loss_ppm <= 1_000_000, "from 0 to 1000000")?;
        check("hysteresis_percent", self.hysteresis_percent <= 100, "from 0 to 100")
    }
}

/// Members keep no less, whatever they are told.
const STORE_MIN: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn an_error_names_the_field_and_its_range() {
        let config = Config { lease_ms: 5_000, ..Config::default() };
        let error = config.validate().map_err(|error| error.to_string());
        assert_eq!(error, Err("lease_ms: must be more than renew_ms".to_owned()));
        let config = Config { members: 20_000, ..Config::default() };
        assert_eq!(config.validate().map_err(|error| error.field), Err("members"));
        let config = Config { store_bytes: 1, ..Config::default() };
        assert_eq!(config.validate().map_err(|error| error.field), Err("store_bytes"));
        let config = Config { challenges: 7, ..Config::default() };
        assert_eq!(config.validate().map_err(|error| error.field), Err("challenges_per_peer"));
    }
}
