//! Relays are taken away while all talk.

use arborcast_tests::{
    process::Place,
    scenario::failover::{End, take_away},
};

#[test]
fn relays_that_leave_stop_and_die_are_replaced_and_nothing_is_lost() {
    for silence in take_away(&Place::new(), &[End::Left, End::Stopped, End::Killed]) {
        println!("{:?}: longest silence {} ms", silence.end, silence.longest.as_millis());
    }
}

#[test]
fn a_relay_that_is_killed_is_replaced_with_the_periods_of_the_default() {
    let _ = take_away(&Place::with_default_periods(), &[End::Killed]);
}
