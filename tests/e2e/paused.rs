//! The coordinator stands still for longer than leases last: nobody ends, nobody is dropped.

use std::time::Duration;

use arborcast_tests::{process::Place, scenario::paused};

/// More than twice a lease, and less than what closes connections; then more than that.
const PAUSES: [Duration; 2] = [Duration::from_secs(7), Duration::from_secs(16)];

#[test]
fn members_go_on_while_their_coordinator_is_stopped_and_stay_in_when_it_goes_on() {
    for pause in PAUSES {
        let _ = paused::coordinator(&Place::with_short_leases(), pause);
    }
}

#[test]
fn members_go_on_while_their_host_is_stopped_and_get_all_when_it_goes_on() {
    for pause in PAUSES {
        let _ = paused::host(&Place::with_short_leases(), pause);
    }
}
