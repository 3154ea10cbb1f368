use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn meter(round_trips: impl IntoIterator<Item = Option<u64>>) -> Qos {
    let mut meter = Meter::default();
    for round_trip in round_trips {
        meter.record(round_trip.map(ms));
    }
    meter.qos().expect("an echo came")
}

#[test]
fn nothing_is_known_before_the_first_echo() {
    let mut meter = Meter::default();
    assert_eq!(meter.qos(), None);
    meter.record(None);
    assert_eq!(meter.qos(), None);
}

#[test]
fn delay_is_half_the_median_round_trip_of_the_last_sixteen() {
    assert_eq!(meter([Some(20)]).delay_us, 10_000);
    assert_eq!(meter([Some(20), Some(500), Some(22)]).delay_us, 11_000);
    let steps = (0..16).map(|_| Some(20)).chain((0..16).map(|_| Some(60)));
    assert_eq!(meter(steps).delay_us, 30_000);
}

#[test]
fn r3_a_step_shows_after_three_round_trips_and_is_no_loss() {
    let before = || (0..64).map(|_| Some(2));
    let after = |n: usize| before().chain((0..n).map(|_| Some(80)));
    assert_eq!(meter(after(2)).delay_us, 1_000);
    assert_eq!((meter(after(3)).delay_us, meter(after(3)).loss_ppm), (40_000, 0));
    let back = after(3).chain((0..3).map(|_| Some(2)));
    assert_eq!(meter(back).delay_us, 1_000);
    // Outliers, also two in a row, and a lost echo between them are none.
    let outliers =
        before().chain([Some(80), Some(80), Some(2), Some(80), None, Some(80), Some(80)]);
    assert_eq!(meter(outliers).delay_us, 1_000);
    let apart = before().chain([Some(30), Some(300), Some(3_000)]);
    assert_eq!(meter(apart).delay_us, 1_000);
}

#[test]
fn jitter_is_smoothed_as_in_rfc_3550() {
    assert_eq!(meter((0..50).map(|_| Some(20))).jitter_us, 0);
    // One-way times alternate by 10 ms, so the jitter tends to that.
    let jitter = meter((0..200).map(|n| Some(20 + 20 * (n % 2)))).jitter_us;
    assert!((9_900..=10_000).contains(&jitter), "{jitter}");
    let first = meter([Some(20), Some(40)]).jitter_us;
    assert_eq!(first, 10_000 / 16);
}

#[test]
fn loss_counts_missing_and_late_echoes_once_there_are_enough() {
    let one_in_eight = |of: u64| (0..of).map(|n| if n % 8 == 3 { None } else { Some(20) });
    assert_eq!(meter(one_in_eight(15)).loss_ppm, 0, "too few to tell");
    assert_eq!(meter(one_in_eight(64)).loss_ppm, 125_000);
    let late = |n: u64| if n % 8 == 3 { Some(200) } else { Some(20) };
    assert_eq!(meter((0..64).map(late)).loss_ppm, 125_000);
    assert_eq!(meter((0..64).map(|n| Some(20 + n % 40))).loss_ppm, 0, "not late by four times");
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
        meter.record(Some(round_trip));
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
}
