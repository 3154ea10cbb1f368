use arborcast_protocol::testing;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::engine::{
    event::Spread,
    tests::{ms, start},
};

/// A channel of 2 ms there and back, as one end measures it.
struct Measured {
    path: Path,
    is_in_tree: bool,
    channels: Channels,
    desk: Desk,
    peer: MemberId,
    now: Instant,
    /// Echoes under way, by when they come.
    echoes: BTreeMap<(Instant, u64), Echoed>,
    /// When the last one comes: none overtakes another.
    last: Instant,
    chance: ChaCha8Rng,
}

/// What it does to what crosses it.
#[derive(Clone, Copy)]
struct Path {
    kbps: u64,
    /// Each way adds up to this.
    jitter: Duration,
    /// Lost packets in a hundred, each way.
    percent: u64,
}

const GOOD_KBPS: u32 = 100_000;
const GOOD: Path = Path { kbps: GOOD_KBPS as u64, jitter: ms(0), percent: 0 };

impl Measured {
    fn new(seed: u64) -> Self {
        let (me, peer) = (testing::member(0), testing::member(1));
        let mut number = [0; 32];
        number[..8].copy_from_slice(&seed.to_le_bytes());
        let mut desk =
            Desk::new(me, testing::incarnation(1), testing::session(1), testing::member(2), number);
        let mut channels = Channels::new(PROBE);
        let now = start();
        channels.on_up(peer, ChannelKind::Direct, Transport::Quic, now, &mut desk);
        Self {
            path: GOOD,
            is_in_tree: true,
            channels,
            desk,
            peer,
            now,
            echoes: BTreeMap::new(),
            last: now,
            chance: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.chance.random_range(0..end)
    }

    /// How long some packets take one way.
    fn crosses(&mut self, bytes: u32) -> Duration {
        let packets = u64::from(bytes) / 1200 + 1;
        // What is lost comes again a round trip later if three more packets show that it is missing
        // (RFC 9002, section 6.1), else after a timeout.
        let lost = (0..packets).filter(|_| self.below(100) < self.path.percent).max();
        let again = lost.map_or(ms(0), |lost| if lost + 3 < packets { ms(2) } else { ms(200) });
        let micros = u64::from(bytes) * 8000 / self.path.kbps;
        let jitter = u64::try_from(self.path.jitter.as_micros()).expect("short");
        ms(1) + again + Duration::from_micros(micros + self.below(jitter + 1))
    }

    /// Lets time pass until `is_enough` of the figures; whether that came within `at_most`.
    fn until(&mut self, at_most: Duration, is_enough: impl Fn(Qos) -> bool) -> bool {
        let began = self.now;
        while self.now < began + at_most {
            if self.channels.deadline().is_some_and(|at| at <= self.now) {
                let idle = Carried { came: 0, went: 0, is_full: false };
                let carried = self.is_in_tree.then_some(idle);
                self.channels.run(|_| carried, self.now, &mut self.desk);
            }
            while let Some(output) = self.desk.take() {
                if let Output::Probe { serial, train, .. } = output {
                    let went = self.crosses(train);
                    let round_trip = went + self.crosses(0);
                    self.last = self.last.max(self.now + round_trip);
                    let round_trip = self.last.duration_since(self.now);
                    let time = went.saturating_sub(ms(1)) * 4 / 5;
                    let spread = (train > 0).then_some(Spread { bytes: train / 5 * 4, time });
                    let echo = Echoed { round_trip, lag: ms(0), spread };
                    self.echoes.insert((self.now + round_trip, serial), echo);
                }
            }
            while let Some(((at, serial), echo)) = self.echoes.pop_first() {
                if at > self.now {
                    self.echoes.insert((at, serial), echo);
                    break;
                }
                self.channels.on_probed(self.peer, serial, Some(echo), self.now, &mut self.desk);
            }
            if self.channels.qos(self.peer).is_some_and(&is_enough) {
                return true;
            }
            self.now += ms(10);
        }
        false
    }

    /// Lets so much time pass.
    fn wait(&mut self, time: Duration) {
        self.until(time, |_| false);
    }
}

/// What two report periods of the coordinator's default leave for measuring.
const PATIENCE: Duration = Duration::from_millis(8_500);
const PROBE: Duration = Duration::from_secs(2);

#[test]
fn r3_loss_is_seen_within_two_report_periods_on_channels_of_any_age_and_so_is_its_end() {
    const SEEDS: u64 = 200;
    for age in [1, 5, 20, 60, 300] {
        let (mut unseen, mut seems_slow, mut unbelieved) = (0, 0, 0);
        for seed in 0..SEEDS {
            let mut channel = Measured::new(seed);
            channel.wait(Duration::from_secs(age));
            channel.path.percent = 30;
            unseen += u64::from(!channel.until(PATIENCE, |qos| qos.loss_ppm > 50_000));
            channel.wait(Duration::from_secs(20));
            seems_slow += u64::from(channel.until(ms(10), |qos| qos.delay_us > 50_000));
            channel.path = GOOD;
            let good = |qos: Qos| qos.loss_ppm == 0 && qos.delay_us < 2_000;
            unbelieved += u64::from(!channel.until(PATIENCE, good));
        }
        // Each end measures, and the worse figure counts: what one misses in a hundredth of all cases
        // both miss in one of ten thousand.
        assert!(unseen <= SEEDS / 50, "after {age} s: {unseen} of {SEEDS} did not see the loss");
        assert!(unbelieved <= SEEDS / 50, "after {age} s: {unbelieved} still count as lossy");
        assert!(seems_slow <= SEEDS / 10, "after {age} s: {seems_slow} take loss for delay");
    }
}

/// Above this share a channel of the tree is left, by the coordinator's default.
const LEFT_ABOVE_PPM: u32 = 150_000;

#[test]
fn r3_a_channel_that_begins_to_lose_packets_soon_looks_as_if_it_did() {
    const SEEDS: usize = 200;
    // What is lost of the packets each way, and the longest time to see it at the median, in nine of ten
    // and in 39 of 40 channels.
    for (percent, limits) in [(30, [4, 6, 7]), (20, [5, 7, 8]), (10, [12, 20, 30])] {
        for age in [20, 60, 300] {
            let seen = |seed: usize| {
                let mut channel = Measured::new(seed as u64);
                channel.wait(Duration::from_secs(age));
                channel.path.percent = percent;
                let began = channel.now;
                channel.until(Duration::from_secs(60), |qos| qos.loss_ppm > LEFT_ABOVE_PPM);
                channel.now.duration_since(began)
            };
            if percent == 30 {
                let mut one_end: Vec<Duration> = (0..SEEDS).map(seen).collect();
                one_end.sort_unstable();
                let figures = [one_end[SEEDS / 2], one_end[SEEDS * 9 / 10]];
                assert!(figures[0] < Duration::from_secs(6), "one end after {age} s: {figures:?}");
                assert!(figures[1] < Duration::from_secs(12), "one end after {age} s: {figures:?}");
            }
            // Each end measures, and the worse figure counts.
            let first = |seed| seen(2 * seed).min(seen(2 * seed + 1));
            let mut took: Vec<Duration> = (0..SEEDS).map(first).collect();
            took.sort_unstable();
            let figures = [took[SEEDS / 2], took[SEEDS * 9 / 10], took[SEEDS * 39 / 40]];
            let is_soon = |(took, limit): (&Duration, u64)| *took < Duration::from_secs(limit);
            let are_soon = figures.iter().zip(limits).all(is_soon);
            assert!(are_soon, "{percent} % after {age} s: {figures:?}");
        }
    }
}

#[test]
fn r3_a_channel_that_lost_packets_for_some_seconds_alone_soon_looks_good_again() {
    const SEEDS: u64 = 200;
    for percent in [10, 20, 30] {
        for (age, worn_for) in [(20, 3), (70, 3), (70, 6), (300, 2), (300, 4), (300, 8)] {
            let late = (0..SEEDS).filter(|seed| {
                let mut channel = Measured::new(*seed);
                channel.wait(Duration::from_secs(age));
                channel.path.percent = percent;
                channel.wait(Duration::from_secs(worn_for));
                // The other end has had enough, and the tree leaves it; then it is as it was.
                channel.is_in_tree = false;
                channel.wait(Duration::from_secs(1));
                channel.path.percent = 0;
                !channel.until(PATIENCE, |qos| qos.loss_ppm <= 50_000)
            });
            let late = late.count();
            assert!(late <= 4, "{percent} % for {worn_for} s after {age} s: {late} of {SEEDS}");
        }
    }
}

#[test]
fn r3_chance_alone_does_not_make_a_channel_look_as_if_it_lost_much() {
    // Both ways count: 2 % in each are 4 % of the probes.
    for (percent, limit) in [(1, 130_000), (2, 150_000), (10, 450_000)] {
        let mut wrong = 0;
        for seed in 0..200 {
            let mut channel = Measured::new(seed);
            channel.path.percent = percent;
            let seems_lossy = |qos: Qos| qos.loss_ppm > limit;
            wrong += u32::from(channel.until(Duration::from_secs(120), seems_lossy));
        }
        assert!(wrong <= 2, "{percent} %: {wrong} of 200 channels within two minutes");
    }
}

#[test]
fn r3_narrowness_is_seen_within_two_report_periods_though_nothing_moves_and_so_is_its_end() {
    const SEEDS: u64 = 200;
    let worn = Path { jitter: ms(1), percent: 1, ..GOOD };
    for (kbps, path) in [(2_000, GOOD), (2_000, worn), (200, GOOD), (200, worn)] {
        for age in [1, 5, 20, 60, 300] {
            let (mut unseen, mut unbelieved) = (0, 0);
            for seed in 0..SEEDS {
                let mut channel = Measured::new(seed);
                channel.path = path;
                channel.wait(Duration::from_secs(age));
                channel.path.kbps = kbps;
                // Heavy probes do not tell 4 Mbit/s from more.
                let at_most = u32::try_from(2 * kbps).expect("narrow").max(4_096);
                let is_seen = |qos: Qos| qos.bandwidth_kbps.is_some_and(|known| known <= at_most);
                unseen += u64::from(!channel.until(PATIENCE, is_seen));
                channel.wait(Duration::from_secs(20));
                channel.path = path;
                let is_over = |qos: Qos| qos.bandwidth_kbps.is_some_and(|known| known >= 4_000);
                unbelieved += u64::from(!channel.until(PATIENCE, is_over));
            }
            let channel = format!("{kbps} kbit/s, {} %, after {age} s", path.percent);
            assert!(unseen <= SEEDS / 50, "{channel}: {unseen} of {SEEDS} were not seen");
            assert!(unbelieved <= SEEDS / 50, "{channel}: {unbelieved} still count as narrow");
        }
    }
}

#[test]
fn r3_how_wide_a_channel_is_that_was_narrow_is_known_within_two_report_periods() {
    const SEEDS: u64 = 200;
    for kbps in [1_000, 2_000] {
        for (age, narrow_for) in [(12, 12), (15, 15), (65, 20), (300, 60)] {
            let late = (0..SEEDS).filter(|seed| {
                let mut channel = Measured::new(*seed);
                channel.wait(Duration::from_secs(age));
                channel.path.kbps = kbps;
                // The tree leaves it.
                channel.wait(Duration::from_secs(4));
                channel.is_in_tree = false;
                channel.wait(Duration::from_secs(narrow_for - 4));
                channel.path = GOOD;
                let is_wide =
                    |qos: Qos| qos.bandwidth_kbps.is_some_and(|known| known >= GOOD_KBPS / 2);
                !channel.until(PATIENCE, is_wide)
            });
            let late = late.count();
            assert!(late <= 4, "{kbps} kbit/s for {narrow_for} s after {age} s: {late} of {SEEDS}");
        }
    }
}

#[test]
fn r3_what_is_narrow_and_loses_much_from_the_first_is_known_for_it_until_it_gets_better() {
    const SEEDS: u64 = 200;
    let bad = Path { kbps: 2_000, percent: 8, ..GOOD };
    for (used_s, unused_s) in [(10, 0), (60, 0), (0, 60), (5, 5), (10, 10), (10, 60)] {
        let (mut unseen, mut unbelieved) = (0, 0);
        for seed in 0..SEEDS {
            let mut channel = Measured::new(seed);
            channel.path = bad;
            channel.wait(Duration::from_secs(used_s));
            channel.is_in_tree = unused_s == 0;
            channel.wait(Duration::from_secs(unused_s));
            let is_seen = |qos: Qos| {
                qos.loss_ppm > 200_000 || qos.bandwidth_kbps.is_some_and(|kbps| kbps <= 4_096)
            };
            unseen += u64::from(!channel.until(PATIENCE, is_seen));
            channel.path = GOOD;
            let is_over =
                |qos: Qos| qos.loss_ppm == 0 && qos.bandwidth_kbps.is_some_and(|kbps| kbps > 4_096);
            unbelieved += u64::from(!channel.until(Duration::from_secs(150), is_over));
        }
        let channel = format!("{used_s} s in use, {unused_s} s not");
        assert!(unseen <= SEEDS / 50, "{channel}: {unseen} of {SEEDS} were not seen");
        assert!(unbelieved <= SEEDS / 100, "{channel}: {unbelieved} still count as bad");
    }
}

#[test]
fn r3_chance_alone_does_not_make_a_channel_look_narrow() {
    for (jitter, percent) in [(ms(0), 2), (ms(5), 2), (ms(20), 0)] {
        let mut wrong = 0;
        for seed in 0..200 {
            let mut channel = Measured::new(seed);
            channel.path = Path { jitter, percent, ..GOOD };
            let is_narrow = |qos: Qos| qos.bandwidth_kbps.is_some_and(|known| known < 4_000);
            wrong += u32::from(channel.until(Duration::from_secs(120), is_narrow));
        }
        let channel = format!("{jitter:?}, {percent} %");
        assert!(wrong <= 2, "{channel}: {wrong} of 200 channels look narrow within two minutes");
    }
}
