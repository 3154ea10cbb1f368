//! `arborcast recv`: prints what arrives, or saves it.

use std::path::{Path, PathBuf};

use crate::protocol::id::ServiceId;

use super::{
    failure::Failure,
    join::join,
    member::{self, Plan},
    options::{MemberArgs, SessionArgs},
    output::Output,
    screen::{Messages, Style},
    signals::Signals,
};

/// What `recv` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Take messages of this service alone; default: of all.
    #[arg(long, value_name = "ID")]
    service: Option<u32>,
    /// Print the bytes of messages as they are, one after another, and nothing else.
    #[arg(long)]
    raw: bool,
    /// Save the bytes of messages as they are: in FILE, one after another, or in the folder DIR, each in a new
    /// file that is called for its source and number; `-` is the same as --raw. A name that ends in `/` is
    /// a folder's, which is made if it is not there. In a folder nothing is overwritten.
    #[arg(long, value_name = "FILE|DIR|-")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) member: MemberArgs,
}

/// What is to become of messages.
fn messages_to(path: Option<&Path>, raw: bool, json: bool) -> Result<Messages, Failure> {
    let path = match path {
        Some(path) if path != Path::new("-") => path,
        None if !raw => return Ok(Messages::Shown),
        Some(_) | None if json => {
            return Err(Failure::usage(
                "usage",
                "--raw prints bytes and --json lines: give one of them, or --output FILE with --json",
            ));
        }
        Some(_) | None => return Ok(Messages::Raw),
    };
    let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let saved = if is_folder { Output::folder(path) } else { Output::file(path) };
    saved.map(Messages::Saved).map_err(|error| {
        Failure::failed("write_failed", format!("--output {}: {error}", path.display()))
    })
}

/// Joins, and takes what comes until it is asked to end.
pub(super) async fn run(
    args: Args,
    json: bool,
    output: &Output,
    signals: Signals,
) -> Result<(), Failure> {
    // Before anything else: where nothing can be saved is no reason to join.
    let Args { session, count, service, raw, output: path, member } = args;
    let opening = move || messages_to(path.as_deref(), raw, json);
    let Some(messages) = signals.unless_asked(opening).await else { return Ok(()) };
    let messages = messages?;
    let style = match messages {
        Messages::Raw => Style::Lines,
        Messages::Hidden | Messages::Shown | Messages::Saved(_) => Style::for_standard_output(json),
    };
    let joined = join(&session, &member, &signals).await?;
    let Some(joined) = joined else { return Ok(()) };
    let plan = Plan {
        messages,
        only: service.map(ServiceId),
        count,
        ..Plan::new("recv", style, joined.ready(false), &member)
    };
    member::run(joined.seat, plan, output, signals).await
}
