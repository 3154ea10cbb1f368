//! `arborcast recv`: prints what arrives.

use crate::protocol::id::ServiceId;

use super::{
    failure::Failure,
    join::join,
    member::{self, Plan},
    options::{MemberArgs, SessionArgs},
    output::Output,
    screen::Style,
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
    /// Print messages of this service alone; default: of all.
    #[arg(long, value_name = "ID")]
    service: Option<u32>,
    #[command(flatten)]
    pub(super) member: MemberArgs,
}

/// Joins and prints until it is asked to end.
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
        only: args.service.map(ServiceId),
        count: args.count,
        ..Plan::new("recv", style, joined.ready(false), &args.member)
    };
    member::run(joined.seat, plan, output, signals).await
}
