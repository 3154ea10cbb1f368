use arborcast_protocol::testing;

use super::*;
use crate::engine::tests::{ms, start};

/// A channel of the tree, of 2 ms there and back, as one end measures it.
struct Measured {
    channels: Channels,
    desk: Desk,
    peer: MemberId,
    now: Instant,
    /// Echoes under way, by when they come.
    echoes: BTreeMap<(Instant, u64), Duration>,
    chance: u64,
}

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
            channels,
            desk,
            peer,
            now,
            echoes: BTreeMap::new(),
            chance: seed.wrapping_mul(2) + 1,
        }
    }

    fn is_lost(&mut self, percent: u64) -> bool {
        // Knuth's MMIX generator; its upper bits are good enough here.
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.chance >> 33) % 100 < percent
    }

    /// Lets time pass until `is_enough` of the figures, while each way loses `percent` of what crosses
    /// it; whether that came within `at_most`.
    fn until(&mut self, at_most: Duration, percent: u64, is_enough: impl Fn(Qos) -> bool) -> bool {
        let began = self.now;
        while self.now < began + at_most {
            if self.channels.deadline().is_some_and(|at| at <= self.now) {
                let idle = Carried { came: 0, went: 0, is_full: false };
                self.channels.run(|_| Some(idle), self.now, &mut self.desk);
            }
            while let Some(output) = self.desk.take() {
                if let Output::Probe { serial, .. } = output {
                    let lost = [(); 2].map(|()| self.is_lost(percent));
                    let again = lost.into_iter().map(|lost| if lost { ms(200) } else { ms(0) });
                    let round_trip = ms(2) + again.sum::<Duration>();
                    self.echoes.insert((self.now + round_trip, serial), round_trip);
                }
            }
            while let Some(((at, serial), round_trip)) = self.echoes.pop_first() {
                if at > self.now {
                    self.echoes.insert((at, serial), round_trip);
                    break;
                }
                let echo = Echoed { round_trip, lag: ms(0), spread: None };
                self.channels.on_probed(self.peer, serial, Some(echo), self.now, &mut self.desk);
            }
            if self.channels.qos(self.peer).is_some_and(&is_enough) {
                return true;
            }
            self.now += ms(10);
        }
        false
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
            channel.until(Duration::from_secs(age), 0, |_| false);
            let lossy = channel.until(PATIENCE, 30, |qos| qos.loss_ppm > 50_000);
            unseen += u64::from(!lossy);
            channel.until(Duration::from_secs(20), 30, |_| false);
            let slow = channel.until(ms(10), 30, |qos| qos.delay_us > 50_000);
            seems_slow += u64::from(slow);
            let good = |qos: Qos| qos.loss_ppm == 0 && qos.delay_us < 2_000;
            unbelieved += u64::from(!channel.until(PATIENCE, 0, good));
        }
        // Each end measures, and the worse figure counts: what one misses in a hundredth of all cases
        // both miss in one of ten thousand.
        assert!(unseen <= SEEDS / 50, "after {age} s: {unseen} of {SEEDS} did not see the loss");
        assert!(unbelieved <= SEEDS / 50, "after {age} s: {unbelieved} still count as lossy");
        assert!(seems_slow <= SEEDS / 10, "after {age} s: {seems_slow} take loss for delay");
    }
}

#[test]
fn r3_chance_alone_does_not_make_a_channel_look_as_if_it_lost_much() {
    // Both ways count: 2 % in each are 4 % of the probes.
    for (percent, limit) in [(1, 130_000), (2, 130_000), (10, 450_000)] {
        let mut wrong = 0;
        for seed in 0..200 {
            let mut channel = Measured::new(seed);
            channel.until(Duration::from_secs(30), percent, |_| false);
            let seems_lossy = |qos: Qos| qos.loss_ppm > limit;
            wrong += u32::from(channel.until(Duration::from_secs(120), percent, seems_lossy));
        }
        assert!(wrong <= 2, "{percent} %: {wrong} of 200 channels within two minutes");
    }
}
