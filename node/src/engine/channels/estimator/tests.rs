use super::*;
use crate::engine::tests::{ms, start};

/// Echoes a second apart.
#[derive(Default)]
struct Fed {
    estimator: Estimator,
    echoes: u32,
}

impl Fed {
    fn echo(&mut self, round_trip: u64) -> bool {
        self.lagging(round_trip, 0)
    }

    fn lagging(&mut self, round_trip: u64, lag: u64) -> bool {
        self.echoes += 1;
        let sent = start() + Duration::from_secs(10) * self.echoes;
        self.estimator.on_echo(Echo {
            sent,
            came: sent + ms(round_trip),
            lag: ms(lag),
            crossed: 2,
            is_full: false,
        })
    }

    fn echoes(&mut self, number: u32, round_trip: u64) {
        for _ in 0..number {
            self.echo(round_trip);
        }
    }

    /// Delay and jitter in milliseconds, loss in a thousand.
    fn figures(&self) -> (u32, u32, u32) {
        let qos = self.estimator.qos().expect("measured");
        (qos.delay_us / 1000, qos.jitter_us / 1000, qos.loss_ppm / 1000)
    }
}

#[test]
fn nothing_is_known_before_the_first_echo() {
    let mut fed = Fed::default();
    fed.estimator.on_missing();
    assert_eq!(fed.estimator.qos(), None);
    fed.echo(10);
    assert_eq!(fed.figures(), (5, 0, 15));
}

#[test]
fn delay_is_half_of_the_least_round_trip_and_jitter_what_it_is_more_on_average() {
    let mut fed = Fed::default();
    for _ in 0..50 {
        fed.echo(20);
        fed.echo(28);
    }
    assert_eq!(fed.figures(), (10, 2, 0));
}

#[test]
fn r1_a_retransmission_is_a_loss_and_adds_neither_delay_nor_jitter() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    assert!(fed.echo(210), "worth a look");
    fed.echo(10);
    assert_eq!(fed.figures(), (5, 0, 15));
}

#[test]
fn r1_what_a_busy_machine_adds_is_no_loss() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    for _ in 0..50 {
        assert!(!fed.lagging(60, 40));
    }
    assert_eq!(fed.figures().2, 0);
}

#[test]
fn r3_what_waits_behind_a_loss_is_no_other_loss() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    let sent = start() + Duration::from_secs(10_000);
    for (after, took) in [(0, 210), (100, 112), (200, 13)] {
        let sent = sent + ms(after);
        fed.estimator.on_echo(Echo {
            sent,
            came: sent + ms(took),
            lag: ms(0),
            crossed: 2,
            is_full: false,
        });
    }
    assert_eq!(fed.figures().2, 15, "one");
}

#[test]
fn r3_a_longer_way_is_known_after_some_late_echoes_and_is_no_loss() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    fed.echoes(15, 230);
    assert_eq!(fed.figures().0, 5);
    fed.echoes(1, 230);
    assert_eq!(fed.figures(), (115, 0, 0));
    // And a shorter one at once.
    assert!(fed.echo(10));
    assert_eq!(fed.figures().0, 5);
    fed.echoes(3, 10);
    assert_eq!(fed.figures(), (5, 0, 0));
}

#[test]
fn r3_a_longer_way_is_no_loss_on_a_new_channel_either() {
    for known in 3..16 {
        let mut fed = Fed::default();
        fed.echoes(known, 1);
        fed.echoes(16, 32);
        assert_eq!(fed.figures(), (16, 0, 0), "after {known}");
    }
}

#[test]
fn r3_a_longer_way_is_no_loss_where_echoes_come_in_bunches() {
    let mut fed = Fed::default();
    fed.echoes(50, 1);
    for number in 0..20 {
        let held_up = if number < 3 { 80 } else { 0 };
        fed.echo(32 + held_up);
        let last = fed.estimator.last.expect("just now");
        let sent = last.sent + ms(100);
        fed.estimator.on_echo(Echo { sent, came: sent + ms(32), ..last });
    }
    assert_eq!(fed.figures(), (16, 0, 0));
}

#[test]
fn r3_a_longer_way_is_no_loss_while_a_machine_is_busy_at_times() {
    for (busy, known) in (1..16).flat_map(|busy| [(busy, 5), (busy, 50)]) {
        let mut fed = Fed::default();
        fed.echoes(known, 1);
        for number in 0..20 {
            let is_busy = (busy..busy + 4).contains(&number);
            fed.lagging(32, if is_busy { 12 } else { 0 });
        }
        assert_eq!(fed.figures(), (16, 0, 0), "busy after {busy}, {known} known");
    }
}

#[test]
fn r3_a_longer_way_is_no_loss_on_a_new_channel_whose_first_echoes_were_held_up() {
    for held_up in 1..4 {
        let mut fed = Fed::default();
        fed.echoes(held_up, 17);
        fed.echoes(4 - held_up, 1);
        fed.echoes(20, 32);
        let (delay, jitter, lost) = fed.figures();
        assert!((delay, jitter) == (16, 0) && lost < 16, "{held_up} held up: {lost}");
    }
}

#[test]
fn r3_what_was_lost_is_forgotten_once_chance_cannot_explain_that_nothing_is_lost_any_more() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    for _ in 0..100 {
        fed.echo(10);
        fed.echo(210);
    }
    let lost = fed.figures().2;
    assert!((420..=480).contains(&lost), "{lost}");
    fed.echo(10);
    let row = (1..100).find(|_| {
        fed.echo(10);
        fed.figures().2 == 0
    });
    assert!(row.is_some_and(|row| (12..=18).contains(&row)), "{row:?}");
}

#[test]
fn r3_what_came_behind_data_that_waited_shows_delay_and_no_loss() {
    let mut fed = Fed::default();
    fed.echoes(50, 10);
    for number in 0..16 {
        let sent = start() + Duration::from_secs(1_000 + number);
        let came = sent + ms(130 + number);
        fed.estimator.on_echo(Echo { sent, came, lag: ms(0), crossed: 2, is_full: true });
    }
    assert_eq!((fed.figures().0, fed.figures().2), (65, 0));
}

#[test]
fn extreme_times_do_not_overflow() {
    let mut estimator = Estimator::default();
    let far = start() + Duration::from_secs(u32::MAX.into());
    for (sent, came) in [(start(), far), (start(), start()), (far, start())].repeat(20) {
        estimator.on_echo(Echo {
            sent,
            came,
            lag: Duration::MAX,
            crossed: u32::MAX,
            is_full: false,
        });
    }
    assert!(estimator.qos().is_some());
}
