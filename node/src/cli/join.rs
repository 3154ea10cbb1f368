//! `arborcast join`: chat on a terminal, lines in and out otherwise. And what all who join share.

use std::{io::IsTerminal as _, time::Duration};

use crate::Node;
use tokio::{sync::mpsc::Receiver, time::Instant};

use super::{
    Exit,
    failure::Failure,
    feed::Format,
    input,
    member::{self, Plan, Seat},
    options::{MemberArgs, SendArgs, SessionArgs, Target},
    output::Output,
    screen::{Ready, Style},
    signals::Signals,
    terminal, words,
};

/// What `join` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    send: SendArgs,
    #[command(flatten)]
    pub(super) member: MemberArgs,
}

/// Joins and stays until the end of input.
pub(super) async fn run(
    args: Args,
    json: bool,
    output: &Output,
    signals: Signals,
) -> Result<(), Failure> {
    let style = Style::for_standard_output(json);
    let joined = join(&args.session, &args.member, &signals).await?;
    let Some(joined) = joined else { return Ok(()) };
    let plan = Plan {
        input: standard_input(json),
        service: args.send.service(),
        class: args.send.class,
        ..Plan::new("join", style, joined.ready(false), &args.member)
    };
    member::run(joined.seat, plan, output, signals).await
}

/// Standard input, and what its lines are. `None` where it is the null device: a service has nothing to say
/// from the start, which is not the same as having said all.
pub(super) fn standard_input(json: bool) -> Option<(Receiver<input::Line>, Format)> {
    (!has_no_input()).then(|| lines_of_standard_input(json))
}

/// Standard input, whatever it is.
pub(super) fn lines_of_standard_input(json: bool) -> (Receiver<input::Line>, Format) {
    let format = match (json, std::io::stdin().is_terminal()) {
        (true, _) => Format::Json,
        (false, true) => Format::Typed,
        (false, false) => Format::Raw,
    };
    let limit = match format {
        Format::Json => input::LINE,
        Format::File | Format::Raw | Format::Typed => crate::protocol::limits::MESSAGE,
    };
    (input::lines(limit), format)
}

/// Whether standard input is the null device.
#[cfg(unix)]
fn has_no_input() -> bool {
    use std::os::{fd::AsFd as _, unix::fs::MetadataExt as _};
    let null = std::fs::metadata("/dev/null");
    let own = std::io::stdin().as_fd().try_clone_to_owned();
    let own = own.and_then(|own| std::fs::File::from(own).metadata());
    matches!((own, null), (Ok(own), Ok(null)) if own.rdev() == null.rdev() && own.ino() == null.ino())
}

/// Whether standard input is the null device.
#[cfg(not(unix))]
const fn has_no_input() -> bool {
    false
}

/// A member that was let in.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) seat: Seat,
    took: Duration,
}

/// Joins; `None` if the process was asked to end before.
pub(super) async fn join(
    session: &SessionArgs,
    member: &MemberArgs,
    signals: &Signals,
) -> Result<Option<Joined>, Failure> {
    let (of_session, of_member) = (session.clone(), member.clone());
    let reading = move || Ok::<_, Failure>((of_member.config()?, of_session.target()?));
    let Some(read) = signals.unless_asked(reading).await else { return Ok(None) };
    let (config, Target { invitation, name, by_passphrase }) = read?;
    let nick = config.nick.clone();
    let began = Instant::now();
    let name = name.unwrap_or_else(|| words::name_of(invitation.session()));
    let open = invitation.is_open();
    let entering = Box::pin(async {
        let node = Node::builder().config(config).spawn().await?;
        member.rules.apply(&node).await?;
        let (session, events) = node.join(invitation).await?;
        Ok::<_, Failure>((node, session, events))
    });
    let Some(entered) = unless_asked(entering, signals).await else { return Ok(None) };
    let (node, session, events) = entered
        .map_err(|failure| if by_passphrase { about_passphrase(failure) } else { failure })?;
    let seat = Seat { node, session, events, coordinator: None, name, nick, open };
    Ok(Some(Joined { seat, took: began.elapsed() }))
}

/// The outcome, or `None` once the process is asked to end.
pub(super) async fn unless_asked<T>(work: impl Future<Output = T>, signals: &Signals) -> Option<T> {
    let mut signals = signals.clone();
    tokio::select! {
        biased;
        () = signals.asked() => None,
        outcome = work => Some(outcome),
    }
}

/// A wrong passphrase leads to another session, of which a coordinator knows nothing.
fn about_passphrase(mut failure: Failure) -> Failure {
    let unknown = failure.exit == Exit::NotAdmitted || failure.code == "not_located";
    if unknown {
        failure.message.push_str(" (name and passphrase make the session: are both right?)");
    }
    failure
}

impl Joined {
    /// What is shown of it.
    pub(super) fn ready(&self, text_is_result: bool) -> Ready {
        let Seat { node, session, name, nick, open, .. } = &self.seat;
        let mut text = vec![format!(
            "  joined {} as {:?} in {:.2} s",
            terminal::name(name),
            nick,
            self.took.as_secs_f64()
        )];
        if *open {
            text.push(OPEN.to_owned());
        }
        Ready {
            peer_id: node.member_id().to_string(),
            listen: node.listen_addresses(),
            session: session.id().to_string(),
            ticket: None,
            text,
            text_is_result,
        }
    }
}

/// What everybody in an open session is told.
pub(super) const OPEN: &str = "  open: anybody who knows the name can read; nothing is encrypted";
