//! `arborcast send`: a file as one message, or each line of standard input as one, and then away.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::protocol::limits;
use tokio::sync::mpsc;

use super::{
    failure::Failure,
    feed::{Format, Receiver},
    input::{Body, Line},
    join::{join, lines_of_standard_input},
    member::{self, Plan},
    options::{MemberArgs, SendArgs, SessionArgs},
    output::Output,
    screen::{Messages, Style},
    signals::Signals,
    terminal,
};

/// What `send` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// The file that is sent whole, as one message. `-` or nothing: each line of standard input is a
    /// message, as it stands.
    #[arg(value_name = "FILE|-")]
    file: Option<PathBuf>,
    /// Send to this member alone, by its name if no other one has the same, or by its peer id; others
    /// neither get nor are asked to confirm it.
    #[arg(long, value_name = "NAME|PEER")]
    to: Option<Receiver>,
    /// Seconds after the end of the input in which all must have it. Then the command fails and says
    /// who has not. Default: until nothing has moved for 20 seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    within: Option<Duration>,
    #[command(flatten)]
    send: SendArgs,
    #[command(flatten)]
    pub(super) member: MemberArgs,
}

/// Sends, and leaves once every present member has it.
pub(super) async fn run(
    args: Args,
    json: bool,
    output: &Output,
    signals: Signals,
) -> Result<(), Failure> {
    let style = if json { Style::Json } else { Style::Lines };
    // Read before anything else: a file that cannot be sent is no reason to join.
    let file = match args.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let path = path.to_owned();
            let Some(content) = signals.unless_asked(move || read(&path)).await else {
                return Err(interrupted());
            };
            Some(content?)
        }
        Some(_) | None => None,
    };
    let joined = join(&args.session, &args.member, &signals).await?;
    let Some(joined) = joined else { return Err(interrupted()) };
    let input = match file {
        Some(content) => (one_line(content), Format::File),
        None => lines_of_standard_input(json),
    };
    let plan = Plan {
        messages: Messages::Hidden,
        input: Some(input),
        service: args.send.service(),
        class: args.send.class,
        to: args.to,
        must_deliver: true,
        within: args.within,
        ..Plan::new("send", style, joined.ready(false), &args.member)
    };
    member::run(joined.seat, plan, output, signals).await
}

fn interrupted() -> Failure {
    Failure::failed("interrupted", "interrupted before the session was joined")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "from 0.1 to 86400 seconds".to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Failure::failed("unreadable", format!("{}: {error}", path.display()));
    let too_large = |bytes: u64, at_least: &str| {
        Failure::failed(
            "message_too_large",
            format!(
                "{}: message is {at_least}{}, the limit is {}: cut the file into pieces",
                path.display(),
                terminal::size(bytes),
                terminal::size(limits::MESSAGE as u64)
            ),
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    let known = file.metadata().map_err(unreadable)?;
    if known.is_file() && known.len() > limits::MESSAGE as u64 {
        return Err(too_large(known.len(), ""));
    }
    // What is no plain file tells its size only at its end.
    let mut content = Vec::new();
    file.take(limits::MESSAGE as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() > limits::MESSAGE {
        return Err(too_large(content.len() as u64, "at least "));
    }
    Ok(content)
}

/// Something as the only line of an input.
fn one_line(content: Vec<u8>) -> mpsc::Receiver<Line> {
    let (lines, input) = mpsc::channel(1);
    let line = Line { number: 1, body: Body::Bytes(content), room: None };
    lines.try_send(line).expect("a new channel has room");
    input
}
