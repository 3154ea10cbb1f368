//! The examples of the library as somebody would run them.

use arborcast_tests::process::{Place, Process};

fn example(place: &Place, name: &str, args: &[&str]) -> Process {
    place.process(&format!("examples/{name}"), name, args).start()
}

/// The last word of the first line that has these words, printed or told as a complaint.
fn ticket(process: &Process, words: &str) -> String {
    process.wait("a ticket", |log| {
        let lines = log.plain.iter().chain(&log.complaints);
        let line = lines.into_iter().find(|line| line.contains(words))?;
        line.rsplit(' ').next().map(str::to_owned)
    })
}

fn prints(process: &Process, line: &str) {
    process.wait(line, |log| log.plain.iter().any(|printed| printed == line).then_some(()));
}

#[test]
fn the_chat_talks_both_ways() {
    let place = Place::new();
    let host = example(&place, "chat", &[]);
    let mut guest = example(&place, "chat", &[&ticket(&host, "join with")]);
    prints(&host, "+ tester");
    host.line("hello");
    prints(&guest, "hello");
    guest.line("last words");
    guest.close();
    prints(&host, "last words");
    prints(&host, "- tester");
    assert_eq!(guest.ended().code, Some(0));
}

#[test]
fn the_pipe_has_the_same_bytes_at_all_its_ends() {
    let place = Place::new();
    let mut source = example(&place, "pipe", &["send", "2"]);
    let ticket = ticket(&source, "receive with");
    let ends = [1, 2].map(|_| {
        let mut command = place.process("examples/pipe", "end", &["recv", &ticket]).command();
        std::thread::spawn(move || command.output().expect("it runs"))
    });
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    source.raw(content.clone());
    source.close();
    for end in ends {
        let output = end.join().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, content);
    }
    let ended = source.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert!(ended.complaint().contains("all have all of it"), "{}", ended.complaint());
}

#[test]
fn sensors_tell_what_they_measure_and_alarms_are_not_lost() {
    let place = Place::new();
    let display = example(&place, "sensors", &["display"]);
    let ticket = ticket(&display, "measure with");
    let sensor = example(&place, "sensors", &["sensor", &ticket, "21.5", "99.9"]);
    let ended = sensor.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    prints(&display, "ALARM 99.9 °C");
    prints(&display, "99.9 °C");
}

#[test]
fn an_application_hosts_answers_and_ends() {
    let place = Place::new();
    let counter = example(&place, "host", &[]);
    let ticket = ticket(&counter, "ask with");
    let asker = place.start("asker", &["join", &ticket]);
    asker.wait("both in the tree", |log| log.spans(2).then_some(()));
    for number in 1..=3 {
        asker.send("how many?");
        asker.wait("an answer for it alone, and one for all", |log| {
            (log.messages.len() == 2 * number).then_some(())
        });
    }
    let ended = counter.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert!(ended.log.plain.iter().any(|line| line.starts_with("counted 3 of 2 members")));
}
