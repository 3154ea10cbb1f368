//! What the coordinator is told of channels, their quality, and edges that carry.

use std::collections::BTreeMap;

use arborcast_protocol::{
    id::{Class, ServiceId},
    qos::Qos,
    report::{Adjacency, Channel, ChannelQos},
};
use bytes::Bytes;

use super::{data::carrying, *};
use crate::engine::event::{ChannelState, Echoed, PublishId, Spread};

fn channel(peer: MemberId) -> Channel {
    Channel { peer, kind: ChannelKind::Direct, transport: Transport::Quic }
}

/// The probes, answered as they come.
fn probes(outputs: &[Output]) -> Vec<(MemberId, u64)> {
    sent(outputs).into_iter().map(|(peer, serial, _)| (peer, serial)).collect()
}

/// The same with the bytes of their trains.
fn sent(outputs: &[Output]) -> Vec<(MemberId, u64, u32)> {
    outputs
        .iter()
        .filter_map(|output| {
            if let Output::Probe { peer, serial, train } = output {
                Some((*peer, *serial, *train))
            } else {
                None
            }
        })
        .collect()
}

const fn echo(round_trip: Duration) -> Echoed {
    Echoed { round_trip, lag: Duration::ZERO, spread: None }
}

/// Lets time pass while each probe takes `round_trip` and each report is accepted; all reports.
fn measured(bench: &mut Bench, time: Duration, round_trip: Duration) -> Vec<Report> {
    let mut reports = Vec::new();
    let end = bench.now + time;
    while bench.now < end {
        let mut outputs = bench.wait(ms(1));
        while !outputs.is_empty() {
            let mut next = Vec::new();
            for (peer, serial) in probes(&outputs) {
                let echo = Some(echo(round_trip));
                next.extend(bench.give(Input::Probed { peer, serial, echo }));
            }
            for output in &outputs {
                if let Output::ReportRequest { request, body } = output {
                    reports.push((**body).clone());
                    next.extend(bench.accept(*request));
                }
                if let Output::SessionRequest { request, .. } = output {
                    let renewed = Ok(Granted::Renewed(Box::new(nothing_new())));
                    next.extend(bench.session(*request, renewed));
                }
            }
            outputs = next;
        }
    }
    reports
}

#[test]
fn r1_channels_are_reported_together_and_then_their_changes() {
    let mut bench = Bench::member();
    bench.channel(high(1));
    bench.wait(ms(5));
    bench.channel(high(0));
    bench.wait(ms(4));
    let (request, report) = report_request(&bench.wait(ms(1)));
    let up = vec![channel(high(0)), channel(high(1))];
    assert_eq!(report.adjacency, Some(Adjacency::Change { up, down: vec![] }));
    // While the report is under way, what is new waits.
    bench.give(Input::ChannelDown { peer: high(1) });
    bench.channel(high(2));
    assert!(!bench.wait(ms(100)).iter().any(|o| matches!(o, Output::ReportRequest { .. })));
    let (_, report) = report_request(&bench.accept(request));
    let (up, down) = (vec![channel(high(2))], vec![high(1)]);
    assert_eq!(report.adjacency, Some(Adjacency::Change { up, down }));
}

#[test]
fn a_report_whose_fate_is_unknown_is_followed_by_a_full_one() {
    let mut bench = Bench::member();
    bench.channel(high(0));
    let (request, _) = report_request(&bench.wait(ms(10)));
    let answer = Err(Unanswered("silence".to_owned()));
    bench.give(Input::ReportAnswer { request, answer });
    let (request, report) = report_request(&bench.wait(ms(200)));
    assert_eq!(report.adjacency, Some(Adjacency::Full(vec![channel(high(0))])));
    // And so is one that the coordinator asks for.
    let accepted = Accepted { candidates: vec![contact(low(0))], report_full: true };
    let outputs = bench.give(Input::ReportAnswer { request, answer: Ok(Ok(accepted)) });
    assert_eq!(dialled(&outputs), [low(0)]);
    let (_, report) = report_request(&outputs);
    assert_eq!(report.adjacency, Some(Adjacency::Full(vec![channel(high(0))])));
}

#[test]
fn a_channel_that_came_and_went_is_not_reported() {
    let mut bench = Bench::member();
    bench.channel(high(0));
    bench.give(Input::ChannelDown { peer: high(0) });
    assert_eq!(bench.wait(ms(4000)), []);
}

#[test]
fn a_channel_that_went_and_came_back_is_reported_again() {
    let mut bench = Bench::member();
    bench.channel(high(0));
    let (request, _) = report_request(&bench.wait(ms(10)));
    bench.give(Input::ChannelDown { peer: high(0) });
    bench.channel(high(0));
    bench.wait(ms(50));
    let (request, report) = report_request(&bench.accept(request));
    let up = vec![channel(high(0))];
    assert_eq!(report.adjacency, Some(Adjacency::Change { up, down: vec![] }));
    assert_eq!(bench.accept(request), []);
}

#[test]
fn the_coordinator_and_the_node_itself_are_no_channels() {
    let mut bench = Bench::member();
    assert_eq!(bench.channel(testing::coordinator()), []);
    assert_eq!(bench.channel(me()), []);
    assert_eq!(bench.engine.channels().count(), 0);
}

#[test]
fn r1_a_new_channel_is_measured_three_times_at_once_and_then_slowly() {
    let mut bench = Bench::member();
    let mut times = Vec::new();
    let begin = bench.now;
    let mut outputs = bench.channel(high(0));
    while times.len() < 6 {
        let mut next = Vec::new();
        for (peer, serial, train) in sent(&outputs) {
            if train == 0 {
                times.push(bench.now - begin);
            }
            let echo = Some(echo(ms(20)));
            next.extend(bench.give(Input::Probed { peer, serial, echo }));
        }
        next.extend(bench.wait(ms(1)));
        outputs = next;
    }
    assert_eq!(times[..3], [ms(0), ms(30), ms(60)]);
    // Where nothing moves twice as long each time, up to half a minute.
    for (pair, most) in times[2..].windows(2).zip([2_000, 4_000, 8_000]) {
        let gap = pair[1].saturating_sub(pair[0]);
        assert!(gap >= ms(most * 9 / 10 - 1) && gap <= ms(most + 1), "{times:?}");
    }
    let before = bench.engine.stats().control.probes;
    measured(&mut bench, Duration::from_secs(600), ms(20));
    let probes = bench.engine.stats().control.probes - before;
    assert!((18..=26).contains(&probes), "{probes} in ten idle minutes");
}

#[test]
fn r1_r3_quality_is_reported_when_measured_and_when_it_changes() {
    let mut bench = Bench::member();
    bench.channel(high(0));
    let outputs = bench.drain();
    assert_eq!(outputs, []);
    let reports = measured(&mut bench, ms(4000), ms(20));
    let figures = |reports: &[Report]| -> Vec<ChannelQos> {
        reports.iter().flat_map(|report| report.qos.clone()).collect()
    };
    let qos = Qos::with_delay(ms(10));
    // The first probe went out before `measured` looked, so it has no outcome and counts nowhere.
    assert_eq!(figures(&reports), [ChannelQos { peer: high(0), qos }]);
    // The same figures are not told again.
    let reports = measured(&mut bench, ms(12_000), ms(20));
    assert_eq!(reports, []);
    // A worse channel is.
    let reports = measured(&mut bench, ms(60_000), ms(80));
    let last = figures(&reports).last().copied().expect("reported");
    assert_eq!(last.qos.delay_us, 40_000);
    let times = figures(&reports).len();
    assert!(times < 20, "{times} reports of one change");
}

#[test]
fn the_application_hears_of_channels_and_their_first_and_changed_figures() {
    let mut bench = Bench::member();
    let outputs = bench.channel(high(0));
    let state = |qos| {
        let (kind, transport) = (ChannelKind::Direct, Transport::Quic);
        Event::Channel(ChannelEvent {
            peer: high(0),
            state: Some(ChannelState { kind, transport, qos }),
        })
    };
    assert_eq!(events(&outputs), [state(None)]);
    let probe = |bench: &mut Bench, serial, took| {
        let echo = Some(echo(took));
        events(&bench.give(Input::Probed { peer: high(0), serial, echo }))
    };
    assert_eq!(probe(&mut bench, 1, ms(20)), [state(Some(Qos::with_delay(ms(10))))]);
    bench.wait(ms(60));
    assert_eq!(probe(&mut bench, 2, ms(21)), [], "about the same");
    assert_eq!(probe(&mut bench, 2, ms(900)), [], "no such probe any more");
    assert_eq!(bench.channel(high(0)), [], "nothing new");
    let outputs = bench.give(Input::ChannelUp {
        peer: high(0),
        kind: ChannelKind::Relayed,
        transport: Transport::Tcp,
    });
    assert!(matches!(
        events(&outputs).as_slice(),
        [Event::Channel(ChannelEvent { state: Some(ChannelState { qos: None, .. }), .. })]
    ));
    let outputs = bench.give(Input::ChannelDown { peer: high(0) });
    assert_eq!(events(&outputs), [Event::Channel(ChannelEvent { peer: high(0), state: None })]);
}

#[test]
fn new_edges_that_carry_are_reported_under_the_tree_that_has_them() {
    let one = star(&[high(0)]);
    let mut bench = Bench::in_tree(&one);
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    let reports = measured(&mut bench, ms(4000), ms(20));
    assert!(reports.iter().all(|report| report.carrying.is_empty()), "no summary yet");
    bench.summary(edge);
    let (request, report) = report_request(&bench.wait(ms(10)));
    assert_eq!((report.carrying, report.held), (vec![high(0)], Some(signed(1, &one))));
    bench.accept(request);

    // Make before break: the old edge stays in use beside the new one, and is told as well.
    let two =
        tree(&[me(), high(0), high(1)], &[(me(), high(1)), (high(0), high(1))], &[(me(), high(0))]);
    bench.channel(high(1));
    bench.push(full(2, &two));
    let (edge, _) = bench.edge(high(1), epoch(2));
    bench.summary(edge);
    let reports = measured(&mut bench, ms(20), ms(20));
    let told: Vec<_> = reports.iter().flat_map(|report| report.carrying.clone()).collect();
    assert_eq!(told, [high(0), high(1)]);
    assert!(reports.iter().all(|report| report.held == Some(signed(2, &two))));

    // The same edges in a later tree are known.
    let reports = measured(&mut bench, ms(4000), ms(20));
    assert!(reports.iter().all(|report| report.carrying.is_empty()));
    // But edges that the tree changed are told again, also those that carried before.
    let three = star(&[high(0), high(1)]);
    bench.push(full(3, &three));
    let reports = measured(&mut bench, ms(20), ms(20));
    let told: Vec<_> = reports.iter().flat_map(|report| report.carrying.clone()).collect();
    assert_eq!(told, [high(0), high(1)]);
}

#[test]
fn at_most_64_channels_are_measured_and_reported() {
    let mut bench = Bench::member();
    let peers: Vec<MemberId> = (100..170).map(testing::member).collect();
    for peer in &peers {
        bench.channel(*peer);
    }
    let (request, report) = report_request(&bench.wait(ms(10)));
    let Some(Adjacency::Change { up, .. }) = report.adjacency else { panic!("no change") };
    assert_eq!(up.len(), limits::CHANNELS);
    assert!(!up.iter().any(|channel| channel.peer == peers[64]));
    bench.accept(request);
    // Another one takes the place of one that is gone.
    bench.give(Input::ChannelDown { peer: peers[0] });
    let (_, report) = report_request(&bench.wait(ms(10)));
    let (up, down) = (vec![channel(peers[64])], vec![peers[0]]);
    assert_eq!(report.adjacency, Some(Adjacency::Change { up, down }));
}

#[test]
fn r1_trains_show_the_bandwidth_seldom_and_one_at_a_time() {
    let mut bench = Bench::member();
    let peers = [high(0), high(1), high(2)];
    for peer in peers {
        bench.channel(peer);
    }
    let begin = bench.now;
    let mut trains: Vec<(Duration, MemberId)> = Vec::new();
    let mut reported = BTreeMap::new();
    let is_train = |train: u32| train > 0;
    while bench.now < begin + Duration::from_secs(60) {
        let mut outputs = bench.wait(ms(10));
        while !outputs.is_empty() {
            let mut next = Vec::new();
            let due = sent(&outputs);
            let under_way = due.iter().filter(|(.., train)| is_train(*train)).count();
            assert!(under_way <= 1, "{due:?}");
            for (peer, serial, train) in due {
                let mut echoed = echo(ms(20));
                if is_train(train) {
                    assert!(train as usize <= limits::TRAIN);
                    trains.push((bench.now - begin, peer));
                    // Nothing else goes with it.
                    let outputs = bench.wait(ms(130));
                    assert!(
                        !sent(&outputs).iter().any(|(.., train)| is_train(*train)),
                        "two at a time"
                    );
                    next.extend(outputs);
                    let spread = Some(Spread { bytes: 25_000, time: ms(10) });
                    echoed = Echoed { spread, ..echoed };
                }
                next.extend(bench.give(Input::Probed { peer, serial, echo: Some(echoed) }));
            }
            for output in &outputs {
                if let Output::ReportRequest { request, body } = output {
                    let widths = body
                        .qos
                        .iter()
                        .filter_map(|told| told.qos.bandwidth_kbps.map(|width| (told.peer, width)));
                    reported.extend(widths);
                    next.extend(bench.accept(*request));
                }
                if let Output::SessionRequest { request, .. } = output {
                    let renewed = Ok(Granted::Renewed(Box::new(nothing_new())));
                    next.extend(bench.session(*request, renewed));
                }
            }
            outputs = next;
        }
    }
    assert_eq!(reported, peers.map(|peer| (peer, 20_000)).into());
    // Two trains each, one to open the way and one to be timed, and the channels one after another.
    assert_eq!(trains.len(), 6, "{trains:?}");
    for pair in trains.chunks(2) {
        assert_eq!(pair[0].1, pair[1].1);
        assert!(pair[1].0 < pair[0].0 + ms(200), "{trains:?}");
    }
    for pair in trains.chunks(2).collect::<Vec<_>>().windows(2) {
        assert!(pair[1][0].0 >= pair[0][1].0 + ms(1_700), "{trains:?}");
    }
    // Again only when the coordinator asks.
    bench.engine.channels.measure_bandwidth(&peers[..1], bench.now);
    let mut outputs = bench.give(Input::Tick);
    outputs.extend(bench.wait(ms(3_000)));
    let is_to_first = |(peer, _, train): &(MemberId, u64, u32)| *train > 0 && *peer == peers[0];
    assert_eq!(sent(&outputs).iter().filter(|sent| is_to_first(sent)).count(), 1);
}

#[test]
fn r1_a_channel_that_takes_less_than_there_is_to_send_is_known_to_be_narrow_without_a_train() {
    let (mut bench, edge) = carrying();
    measured(&mut bench, ms(500), ms(20));
    for id in 0..30 {
        let payload = Bytes::from(vec![0; 60_000]);
        let (id, service, class) = (PublishId(id), ServiceId(0), Class::Reliable);
        bench.give(Input::Publish { id, service, class, to: None, payload });
        let draft = bench.engine.poll_draft(bench.now).expect("a draft");
        let frame = testing::frame(draft.header, &draft.payload);
        bench.give(Input::Made { frame, payload: draft.payload });
    }
    let mut widths = Vec::new();
    let begin = bench.now;
    while widths.is_empty() && bench.now < begin + Duration::from_secs(10) {
        assert!(bench.engine.poll_frame(edge, bench.now).is_some(), "there is more to send");
        let stamp = bench.now.saturating_duration_since(start() + ms(20));
        let echo_us = u64::try_from(stamp.as_micros()).ok();
        let heartbeat = Heartbeat { epoch: epoch(1), echo_us, ..Heartbeat::default() };
        bench.give(Input::EdgeMessage { edge, message: edge::Message::Heartbeat(heartbeat) });
        let reports = measured(&mut bench, ms(1000), ms(20));
        let told = reports.iter().flat_map(|report| &report.qos);
        widths.extend(told.filter_map(|told| told.qos.bandwidth_kbps));
    }
    assert_eq!(bench.engine.stats().control.trains, 0);
    // A frame of 480,000 bits each second, counted over some two seconds.
    assert!(matches!(widths.as_slice(), [350..=700, ..]), "{widths:?}");
}
