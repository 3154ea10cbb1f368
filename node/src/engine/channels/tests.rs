use arborcast_protocol::testing;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::engine::tests::{ms, start};

/// A channel as one end measures it.
struct Measured {
    path: Path,
    way: Way,
    channels: Channels,
    desk: Desk,
    peer: MemberId,
    now: Instant,
    /// Echoes under way, by when they come: of probes, by their numbers, and of heartbeats.
    echoes: BTreeMap<(Instant, u64), Came>,
    /// When the last one comes: none overtakes another.
    last: Instant,
    beat_at: Instant,
    sent: u64,
    chance: ChaCha8Rng,
}

enum Came {
    Probe(u64, Echoed),
    Heartbeat(Instant),
}

/// What a channel does to what crosses it.
#[derive(Clone, Copy, Debug)]
struct Path {
    /// One way.
    delay: Duration,
    /// Each way adds up to this.
    jitter: Duration,
    /// Packets lost of a thousand, each way.
    permille: u64,
}

/// How it is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// In the tree, and data moves.
    Busy,
    /// In the tree, and nothing moves.
    Idle,
    /// Not in the tree; data moves elsewhere.
    Beside,
}

const GOOD: Path = Path { delay: ms(1), jitter: ms(0), permille: 0 };
const LOSSY: Path = Path { permille: 200, ..GOOD };
const FAR: Path = Path { delay: ms(111), ..GOOD };

impl Measured {
    fn new(way: Way, path: Path, seed: u64) -> Self {
        let (me, peer) = (testing::member(0), testing::member(1));
        let mut number = [0; 32];
        number[..8].copy_from_slice(&seed.to_le_bytes());
        let mut desk =
            Desk::new(me, testing::incarnation(1), testing::session(1), testing::member(2), number);
        let mut channels = Channels::new(Duration::from_secs(2));
        let now = start();
        channels.on_up(peer, ChannelKind::Direct, Transport::Quic, now, &mut desk);
        let (kind, elsewhere) = (ChannelKind::Direct, testing::member(3));
        channels.on_up(elsewhere, kind, Transport::Quic, now, &mut desk);
        let chance = ChaCha8Rng::seed_from_u64(seed);
        let (echoes, last, beat_at) = (BTreeMap::new(), now, now);
        Self { path, way, channels, desk, peer, now, echoes, last, beat_at, sent: 0, chance }
    }

    /// How long a small packet takes one way.
    fn crosses(&mut self) -> Duration {
        let jitter = u64::try_from(self.path.jitter.as_micros()).expect("short");
        let jitter = Duration::from_micros(self.chance.random_range(0..=jitter));
        let is_lost = self.chance.random_range(0..1000) < self.path.permille;
        // It comes again after a timeout (RFC 6298 with the least one of Linux).
        let again = if is_lost { ms(200).max(self.path.delay * 2) } else { ms(0) };
        self.path.delay + jitter + again
    }

    fn comes(&mut self) -> (Instant, u64) {
        let at = self.now + self.crosses() + self.crosses();
        self.last = self.last.max(at);
        self.sent += 1;
        (self.last, self.sent)
    }

    /// Lets time pass until `is_enough` of the figures; after how long, if within `at_most`.
    fn until(&mut self, at_most: Duration, is_enough: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        let end = begin + at_most;
        while !is_enough(self) {
            let beat = (self.way != Way::Beside).then_some(self.beat_at);
            let due = self.channels.deadline().into_iter().chain(beat);
            let next = due.chain(self.echoes.keys().next().map(|(at, _)| *at)).min();
            self.now = next.filter(|at| *at <= end)?.max(self.now);
            self.step();
        }
        Some(self.now - begin)
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        self.until(time, |_| false);
        self.now = end;
    }

    fn step(&mut self) {
        let (peer, now) = (self.peer, self.now);
        while let Some(entry) = self.echoes.first_entry().filter(|entry| entry.key().0 <= now) {
            let desk = &mut self.desk;
            match entry.remove() {
                Came::Probe(serial, echo) => {
                    self.channels.on_probed(peer, serial, Some(echo), ms(0), now, desk);
                }
                Came::Heartbeat(sent) => {
                    let round_trip = RoundTrip { sent, lag: ms(0), is_full: false, crossed: 2 };
                    self.channels.on_round_trip(peer, round_trip, None, now, desk);
                    // The other end measures by what goes back to it, and asks as often if that is late.
                    if self.chance.random_range(0..1000) < self.path.permille
                        && let Some(channel) = self.channels.open.get_mut(&peer)
                        && channel.estimator.qos().is_some_and(|qos| qos.loss_ppm < POOR_PPM)
                    {
                        channel.pace.is_strange(now);
                    }
                    if let Some(often) = self.channels.heartbeat(peer) {
                        self.beat_at = self.beat_at.min(now + often);
                    }
                }
            }
        }
        let way = self.way;
        let edge = move |other: MemberId| match way {
            Way::Busy => Some(true),
            Way::Idle => Some(false),
            Way::Beside => (other != peer).then_some(true),
        };
        self.channels.run(edge, now, &mut self.desk);
        while let Some(output) = self.desk.take() {
            if let Output::Probe { peer: to, serial, .. } = output
                && to == peer
            {
                let key = self.comes();
                let echo = Echoed { round_trip: key.0 - now, lag: ms(0), spread: None };
                self.echoes.insert(key, Came::Probe(serial, echo));
            }
        }
        if self.way != Way::Beside && self.beat_at <= now {
            let period = match (self.way, self.channels.heartbeat(peer)) {
                (Way::Busy, _) => ms(100) + self.known_delay() * 8,
                (_, Some(often)) => often,
                (_, None) => ms(5_000),
            };
            self.beat_at = now + period;
            let key = self.comes();
            self.echoes.insert(key, Came::Heartbeat(now));
        }
    }

    fn qos(&self) -> Qos {
        self.channels.qos(self.peer).expect("measured")
    }

    fn lost(&self) -> u32 {
        self.qos().loss_ppm
    }

    fn known_delay(&self) -> Duration {
        self.channels.qos(self.peer).map_or(ms(0), |_| self.delay())
    }

    fn delay(&self) -> Duration {
        Duration::from_micros(self.qos().delay_us.into())
    }
}

/// What a coordinator takes for a poor channel in use; see its `policy`.
const POOR_PPM: u32 = 150_000;

/// Of these times: the median, the one of a hundred that only one exceeds, and how many there are.
fn spread(mut times: Vec<Duration>) -> (f32, f32, usize) {
    times.sort_unstable();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, Duration::as_secs_f32);
    (at(50), at(99), times.len())
}

/// The figures of 1,000 channels: how far they are from the truth, how often they raise a false alarm, and how
/// soon a true one. Printed as a table; the bounds are those that users are promised.
#[test]
#[expect(clippy::print_stdout, reason = "prints what it measured")]
fn r3_a_thousand_random_channels() {
    let mut chance = ChaCha8Rng::seed_from_u64(1);
    let (mut alarms, mut hours) = (0, 0.0_f64);
    let mut errors: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for seed in 0..1_000 {
        let delay = chance.random_range(1..=300);
        let jitter = chance.random_range(0..=delay / 2);
        let permille = chance.random_range(0..=300);
        let path = Path { delay: ms(delay), jitter: ms(jitter), permille };
        let mut measured = Measured::new(Way::Busy, path, seed);
        measured.wait(Duration::from_secs(120));
        let truth =
            1.0 - (1.0 - f64::from(u32::try_from(permille).expect("small")) / 1000.0).powi(2);
        let kind = match permille {
            0..=20 => "loss to 2 %",
            21..=100 => "loss to 10 %",
            _ => "loss to 30 %",
        };
        let mean = ms(delay) + ms(jitter) / 2;
        let estimate = measured.delay() + Duration::from_micros(measured.qos().jitter_us.into());
        let apart = (estimate.as_secs_f64() - mean.as_secs_f64()) / mean.as_secs_f64();
        let lost = f64::from(measured.lost()) / 1e6;
        errors.entry(kind).or_default().push((apart, lost - truth));
        if permille <= 20 {
            for _ in 0..10 {
                let began = measured.now;
                let is_poor = |measured: &Measured| {
                    measured.lost() > POOR_PPM || measured.delay() > (mean + ms(jitter)) * 2
                };
                if measured.until(Duration::from_secs(360), is_poor).is_some() {
                    alarms += 1;
                    measured.wait(Duration::from_secs(60));
                }
                hours += (measured.now - began).as_secs_f64() / 3600.0;
            }
        }
    }
    for (kind, errors) in &errors {
        let most = |of: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = errors.iter().map(|error| of(error).abs()).collect();
            all.sort_unstable_by(f64::total_cmp);
            (100.0 * all[all.len() / 2], 100.0 * all[all.len() * 95 / 100])
        };
        let (delay, loss) = (most(|error| error.0), most(|error| error.1));
        println!(
            "{kind:13} {:4} channels: delay off by {:.1} % (median) and {:.1} % (95 of 100), share late by {:.1} and {:.1} points",
            errors.len(),
            delay.0,
            delay.1,
            loss.0,
            loss.1,
        );
        assert!(delay.0 < 10.0 && loss.0 < 8.0, "{kind}");
    }
    println!("false alarms: {alarms} in {hours:.1} hours of a channel");
    assert!(f64::from(alarms) < hours / 4.0, "{alarms} in {hours} hours");
    for way in [Way::Busy, Way::Idle, Way::Beside] {
        for (what, path) in [
            ("110 ms more", FAR),
            ("10 % lost", Path { permille: 100, ..GOOD }),
            ("20 % lost", LOSSY),
            ("30 % lost", Path { permille: 300, ..GOOD }),
        ] {
            let is_far = path.delay > ms(100);
            let is_known = |measured: &Measured| {
                if is_far { measured.delay() > ms(100) } else { measured.lost() > POOR_PPM }
            };
            let is_good = |measured: &Measured| {
                if is_far { measured.delay() < ms(10) } else { measured.lost() < 50_000 }
            };
            let (mut known, mut good) = (Vec::new(), Vec::new());
            for seed in 0..200 {
                let mut measured = Measured::new(way, GOOD, seed);
                measured.wait(Duration::from_secs(100));
                measured.path = path;
                known.extend(measured.until(Duration::from_secs(300), is_known));
                measured.wait(Duration::from_secs(30));
                measured.path = GOOD;
                good.extend(measured.until(Duration::from_secs(300), is_good));
            }
            let (known, good) = (spread(known), spread(good));
            println!(
                "{way:?}: {what}: known after {:.1} s ({:.1} s in 99 of 100; {} of 200), over after {:.1} s ({:.1} s; {})",
                known.0, known.1, known.2, good.0, good.1, good.2,
            );
            let most = match (way, path.permille) {
                (_, 100) => continue,
                (Way::Busy | Way::Beside, 0) | (Way::Busy, _) => 10.0,
                (Way::Idle, 0) => 30.0,
                (Way::Idle | Way::Beside, _) => 60.0,
            };
            assert!(known.2 == 200 && known.1 <= most, "{way:?}: {what}: {known:?}");
            // While nothing moves nobody waits for a channel that has got better.
            let most = if way == Way::Idle { 90.0 } else { 60.0 };
            assert!(good.2 == 200 && good.1 <= most, "{way:?}: {what}, over: {good:?}");
        }
    }
}
