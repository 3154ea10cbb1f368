use super::*;
use crate::engine::tests::start;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn echo(round_trip: Duration) -> Echoed {
    Echoed { round_trip, lag: Duration::ZERO, spread: None }
}

impl Meter {
    /// Takes in the outcome of a probe that waits behind no other.
    fn probed(&mut self, echo: Option<Echoed>) -> Verdict {
        self.record(start(), echo, start())
    }
}

fn after(round_trips: impl IntoIterator<Item = Option<u64>>) -> Meter {
    let mut meter = Meter::default();
    for round_trip in round_trips {
        meter.probed(round_trip.map(|took| echo(ms(took))));
    }
    meter
}

fn meter(round_trips: impl IntoIterator<Item = Option<u64>>) -> Qos {
    after(round_trips).qos().expect("an echo came")
}

/// A channel of 2 ms there and back, known for long.
fn fast() -> Meter {
    after((0..128).map(|_| Some(2)))
}

#[test]
fn nothing_is_known_before_the_first_echo() {
    let mut meter = Meter::default();
    assert_eq!(meter.qos(), None);
    meter.probed(None);
    assert_eq!(meter.qos(), None);
}

#[test]
fn delay_is_half_the_lower_quartile_of_the_last_sixteen_round_trips() {
    assert_eq!(meter([Some(20)]).delay_us, 10_000);
    assert_eq!(meter([Some(20), Some(500), Some(22)]).delay_us, 10_000);
    assert_eq!(meter([Some(20), Some(500), Some(24), Some(22), Some(600)]).delay_us, 11_000);
    let steps = (0..16).map(|_| Some(20)).chain((0..16).map(|_| Some(26)));
    assert_eq!(meter(steps).delay_us, 13_000);
}

#[test]
fn r3_eight_probes_that_agree_show_a_step_and_a_hiccup_is_none() {
    let mut meter = fast();
    for _ in 0..7 {
        assert_eq!(meter.probed(Some(echo(ms(82)))), Verdict::Strange);
        assert_eq!(meter.qos().map(|qos| qos.delay_us), Some(1_000));
    }
    assert_eq!(meter.probed(Some(echo(ms(82)))), Verdict::Changed);
    let qos = meter.qos().expect("known");
    assert_eq!((qos.delay_us, qos.loss_ppm), (41_000, 0), "a longer way is no loss");
    // And back again.
    let outcomes: Vec<Verdict> = (0..8).map(|_| meter.probed(Some(echo(ms(2))))).collect();
    assert!(outcomes.contains(&Verdict::Changed), "{outcomes:?}");
    assert_eq!(meter.qos().map(|qos| qos.delay_us), Some(1_000));
    // Most of them are not enough.
    let mut meter = fast();
    for number in 0..128 {
        let took = if number % 8 < 5 { 82 } else { 2 };
        assert_ne!(meter.probed(Some(echo(ms(took)))), Verdict::Changed);
    }
    let qos = meter.qos().expect("known");
    assert_eq!((qos.delay_us, qos.loss_ppm), (1_000, 625_000));
}

#[test]
fn r1_what_a_busy_machine_adds_is_neither_loss_nor_step() {
    let mut meter = fast();
    for _ in 0..6 {
        let late = Echoed { round_trip: ms(82), lag: ms(79), spread: None };
        assert_eq!(meter.probed(Some(late)), Verdict::Same);
    }
    let qos = meter.qos().expect("known");
    assert_eq!((qos.delay_us, qos.loss_ppm), (1_000, 0));
}

#[test]
fn r1_retransmissions_show_on_slow_channels_too_and_add_no_jitter() {
    for (usual, retransmitted) in [(2, 202), (80, 280), (200, 600), (1_000, 3_000)] {
        let steps = (0..128).map(|n| Some(if n % 16 == 5 { retransmitted } else { usual }));
        let qos = meter(steps);
        assert_eq!((qos.loss_ppm, qos.jitter_us), (62_500, 0), "{usual} ms");
    }
}

#[test]
fn r1_bandwidth_is_the_median_of_three_trains_and_at_least_what_live_data_had() {
    let spread = |us| Spread { bytes: 25_000, time: Duration::from_micros(us) };
    let width = |meter: &Meter| meter.qos().and_then(|qos| qos.bandwidth_kbps);
    let mut meter = fast();
    meter.carried(5_000);
    assert_eq!(width(&meter), None, "that is no more than a lower bound");
    assert!(
        meter.record_train(spread(12_000), spread(12_000).time, 2048),
        "the first one may have been held up"
    );
    assert_eq!(width(&meter), Some(16_666));
    assert!(meter.record_train(spread(1_000), spread(1_000).time, 2048), "much wider than before");
    assert_eq!(width(&meter), Some(200_000), "what is lost makes it look narrow, and not wide");
    assert!(meter.record_train(spread(11_000), spread(11_000).time, 2048));
    assert_eq!(width(&meter), Some(18_181));
    meter.carried(30_000);
    assert_eq!(width(&meter), Some(30_000));
    // Loopback: faster than anything that can be told.
    for _ in 0..3 {
        meter.record_train(spread(0), spread(0).time, 2048);
    }
    assert_eq!(width(&meter), Some(1_000_000));
}

#[test]
fn r3_heavy_probes_tell_that_a_channel_is_wide_again_and_one_train_how_wide() {
    let heavy = |meter: &mut Meter, took: u64| meter.record_heavy(2048, ms(2), ms(2 + took));
    let width = |meter: &Meter| meter.qos().and_then(|qos| qos.bandwidth_kbps);
    let mut meter = fast();
    let verdicts: Vec<Verdict> = (0..8).map(|_| heavy(&mut meter, 16)).collect();
    assert_eq!(verdicts.last(), Some(&Verdict::Changed), "{verdicts:?}");
    assert_eq!(width(&meter), Some(1_024));
    while heavy(&mut meter, 0) != Verdict::Changed {}
    assert_eq!(width(&meter), Some(4_096), "no more than these can tell");
    for _ in 0..32 {
        assert_eq!(heavy(&mut meter, 0), Verdict::Same, "this was told");
    }
    let spread = Spread { bytes: 32 * 1024, time: Duration::from_micros(300) };
    meter.record_train(spread, spread.time, 2048);
    assert_eq!(width(&meter), Some(873_813));
}

#[test]
fn r3_a_train_that_took_long_makes_no_narrow_channel_unless_heavy_probes_do() {
    let width = |meter: &Meter| meter.qos().and_then(|qos| qos.bandwidth_kbps);
    let held_up = Spread { bytes: 25_000, time: ms(200) };
    let mut meter = fast();
    assert!(!meter.record_train(held_up, held_up.time, 2048));
    assert!(meter.is_suspect());
    assert_eq!(width(&meter), None);
    for _ in 0..7 {
        assert_eq!(meter.record_heavy(2048, ms(2), ms(2)), Verdict::Same);
    }
    assert_eq!(meter.record_heavy(2048, ms(2), ms(2)), Verdict::Changed, "worth another train");
    assert!(!meter.is_suspect());
    meter.record_train(held_up, held_up.time, 2048);
    for _ in 0..8 {
        meter.record_heavy(2048, ms(2), ms(18));
    }
    assert_eq!(width(&meter), Some(1_024));
    assert!(!meter.is_suspect());
}

#[test]
fn jitter_is_smoothed_as_in_rfc_3550_once_it_is_known() {
    assert_eq!(meter((0..50).map(|_| Some(20))).jitter_us, 0);
    // One-way times alternate by 10 ms, so the jitter tends to that.
    let jitter = meter((0..200).map(|n| Some(20 + 20 * (n % 2)))).jitter_us;
    assert!((9_900..=10_000).contains(&jitter), "{jitter}");
    let first = meter([Some(20), Some(40)]).jitter_us;
    assert_eq!(first, 10_000, "the first difference weighs as much as those to come");
}

#[test]
fn loss_counts_missing_and_late_echoes_once_there_are_enough() {
    let one_in_eight = |of: u64| (0..of).map(|n| if n % 8 == 3 { None } else { Some(20) });
    assert_eq!(meter(one_in_eight(15)).loss_ppm, 0, "too few to tell");
    assert_eq!(meter(one_in_eight(128)).loss_ppm, 125_000);
    let late = |n: u64| if n % 8 == 3 { Some(200) } else { Some(20) };
    assert_eq!(meter((0..128).map(late)).loss_ppm, 125_000);
    assert_eq!(meter((0..64).map(|n| Some(20 + n % 40))).loss_ppm, 0, "not late by four times");
}

#[test]
fn r3_what_waits_behind_a_loss_is_no_other_loss() {
    let mut meter = fast();
    let late = |meter: &mut Meter, sent_ms: u64, came_ms: u64| {
        let (sent, came) = (start() + ms(sent_ms), start() + ms(came_ms));
        meter.record(sent, Some(echo(came.duration_since(sent))), came)
    };
    let share = |meter: &Meter| meter.qos().map(|qos| qos.loss_ppm);
    assert_eq!(late(&mut meter, 0, 202), Verdict::Strange);
    assert_eq!(share(&meter), Some(1_000_000 / 128));
    late(&mut meter, 100, 203);
    assert_eq!(share(&meter), Some(1_000_000 / 128));
    late(&mut meter, 300, 502);
    assert_eq!(share(&meter), Some(2_000_000 / 128));
}

#[test]
fn r3_a_share_of_few_probes_counts_for_less() {
    let share = |probes: usize, bad: usize| {
        let mut meter = fast();
        let outcome = |at| if at < bad { Outcome::Late } else { Outcome::Good };
        meter.outcomes = (0..probes).map(outcome).collect();
        meter.qos().expect("known").loss_ppm
    };
    assert_eq!(share(128, 16), 125_000);
    assert!(share(32, 4) < 80_000, "{}", share(32, 4));
    assert!(share(16, 3) < 50_000, "{}", share(16, 3));
    assert!(share(16, 7) < 200_000, "{}", share(16, 7));
    assert!(share(16, 8) > 240_000, "{}", share(16, 8));
}

#[test]
fn a_hiccup_on_a_fast_channel_is_no_loss() {
    assert_eq!(meter((0..64).map(|n| Some(if n % 8 == 3 { 15 } else { 1 }))).loss_ppm, 0);
}

#[test]
fn old_losses_are_forgotten() {
    let steps = (0..20).map(|_| None).chain((0..64).map(|_| Some(20)));
    assert_eq!(meter(steps).loss_ppm, 0);
}

#[test]
fn extreme_times_do_not_overflow() {
    let mut meter = Meter::default();
    for round_trip in [Duration::MAX, Duration::ZERO, Duration::MAX, Duration::MAX] {
        meter.probed(Some(echo(round_trip)));
    }
    assert_eq!(meter.qos().map(|qos| qos.delay_us), Some(0));
    for _ in 0..16 {
        meter.probed(Some(echo(Duration::MAX)));
    }
    assert_eq!(meter.qos().map(|qos| qos.delay_us), Some(u32::MAX));
}

#[test]
fn figures_differ_by_share_and_by_more_than_noise() {
    let qos = |delay: u64| Some(Qos::with_delay(ms(delay)));
    assert!(differ(None, qos(10), 10) && !differ(None, None, 10));
    assert!(differ(qos(100), qos(111), 10) && !differ(qos(100), qos(110), 10));
    let slightly = Some(Qos { delay_us: 2_999, ..Qos::default() });
    assert!(!differ(qos(2), slightly, 10), "less than a millisecond");
    let lossy = Some(Qos { loss_ppm: 20_000, ..Qos::with_delay(ms(10)) });
    assert!(differ(qos(10), lossy, 10));
    let wide = |kbps| Some(Qos { bandwidth_kbps: Some(kbps), ..Qos::with_delay(ms(10)) });
    assert!(differ(qos(10), wide(500), 10) && differ(wide(500), wide(249), 10));
    assert!(!differ(wide(500), wide(900), 10), "trains are rough");
}

#[test]
fn r3_a_channel_that_has_got_better_is_worth_a_closer_look_and_counts_as_good_when_chance_is_out() {
    // One in four was lost, one in two.
    for (in_all, probes) in [(4, 28_u32), (2, 14)] {
        let mut meter = after((0..60).map(|number| (number % in_all < in_all - 1).then_some(10)));
        assert!(meter.qos().is_some_and(|qos| qos.loss_ppm > 200_000));
        let needed = (1_u32..=64).find(|_| {
            assert!(meter.qos().is_some_and(|qos| qos.loss_ppm > 0));
            meter.probed(Some(echo(ms(10))));
            meter.qos().is_some_and(|qos| qos.loss_ppm == 0)
        });
        assert!(needed.is_some_and(|needed| needed.abs_diff(probes) <= 2), "{needed:?}");
        assert!(!meter.is_recovering());
    }
    // One in twenty: such a row comes by chance.
    let mut meter = after((0..60).map(|number| (number % 20 > 0).then_some(10)));
    for _ in 0..20 {
        meter.probed(Some(echo(ms(10))));
        assert!(meter.qos().is_some_and(|qos| qos.loss_ppm > 0) && !meter.is_recovering());
    }
}

#[test]
fn r3_jitter_that_is_over_is_found_to_be_so() {
    let mut meter = after((0..40).map(|number| Some(if number % 2 == 0 { 10 } else { 35 })));
    assert!(!meter.is_recovering(), "it still jitters");
    let mut probes = 0;
    loop {
        probes += 1;
        meter.probed(Some(echo(ms(10))));
        if probes > 8 && !meter.is_recovering() {
            break;
        }
    }
    assert!((30..=64).contains(&probes), "{probes}");
    assert!(meter.qos().is_some_and(|qos| qos.jitter_us <= 1000));
}
