//! The command line: what is asked for, and how it ends. Every command is a thin user of the
//! library; all of them but `tree` and `status` run one [`member`].

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};

mod demo;
mod drawing;
mod end;
mod external;
mod failure;
mod feed;
mod host;
mod input;
mod join;
mod json;
mod keep;
mod local;
mod member;
mod options;
mod output;
mod receipts;
mod recv;
mod request;
mod roster;
mod rules;
mod screen;
mod send;
mod signals;
mod status;
mod terminal;
mod tree;
mod waiting;
mod words;

use failure::Failure;
use output::Output;
use signals::Signals;

/// Group messages over a peer-to-peer mesh: every message crosses every channel once.
#[derive(Parser, Debug)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object for each event on standard output, and read one from each line of
    /// standard input: `{"send":"text"}` or `{"send_b64":"…"}`, and with it, if need be, `"to":"PEER"`
    /// (for that member alone, by its peer id), `"service":7` (instead of --service) and
    /// `"class":"reliable"` (the only one yet); for demonstrations also
    /// `{"impair":"PEER:delay=40ms"}` (`PEER:none` undoes it), `{"deny":"PEER"}`, `{"allow":"PEER"}`.
    #[arg(long, global = true)]
    json: bool,
    /// What to log on standard error, e.g. `info` or `arborcast=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        env = "ARBORCAST_LOG",
        default_value = "warn",
        global = true
    )]
    log: String,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a session here and print the ticket to join it with.
    ///
    /// What you type is sent as with `join`.
    Host(host::Args),
    /// Join a session: chat on a terminal, lines in and out otherwise.
    ///
    /// What you type goes to all, and `/to NAME TEXT` to that member alone, by name or peer id. Lines
    /// that come through a pipe or from a file go to all as they stand, `/to` and all; `send --to`, or
    /// `--json` with "to", sends to one member from there.
    Join(join::Args),
    /// Send a file, or each line of standard input, and leave once every present member has it.
    ///
    /// Lines that come through a pipe or from a file go out as they stand: `/to NAME TEXT` is for
    /// those who type; `--to` sends to one member from there.
    Send(send::Args),
    /// Print what arrives, until Ctrl-C.
    Recv(recv::Args),
    /// Watch the patent's six devices on this machine: channels, tree, copies, changes.
    Demo(demo::Args),
    /// Show the relay tree of the sessions that this user's processes are in.
    Tree(tree::Args),
    /// Show the channels and counters of this user's processes.
    Status(status::Args),
}

impl Command {
    /// How the member runs, of those that run one.
    const fn member(&self) -> Option<&options::MemberArgs> {
        match self {
            Self::Host(args) => Some(&args.member),
            Self::Join(args) => Some(&args.member),
            Self::Send(args) => Some(&args.member),
            Self::Recv(args) => Some(&args.member),
            Self::Demo(_) | Self::Tree(_) | Self::Status(_) => None,
        }
    }
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line, or something that it names, is wrong.
    Usage = 2,
    /// The coordinator did not let the node in.
    NotAdmitted = 3,
    /// No coordinator was reached.
    Unreachable = 4,
}

/// How long tasks that are still running may take at the end.
const RUNTIME_END: Duration = Duration::from_millis(200);

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let json = cli.json;
    arborcast_net::command::panics::end_the_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot start: {error}");
            if json {
                print_now(&json::error("failed", &message));
            }
            complain(&message);
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    let code = runtime.block_on(Box::pin(to_its_end(cli)));
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

/// Runs a command, and tells how it ended.
async fn to_its_end(cli: Cli) -> ExitCode {
    let json = cli.json;
    let output = Output::standard();
    // `tree` and `status` are over so soon that a signal may end them as it does by itself.
    let signals = match &cli.command {
        Command::Host(_)
        | Command::Join(_)
        | Command::Send(_)
        | Command::Recv(_)
        | Command::Demo(_) => Some(Signals::listen()),
        Command::Tree(_) | Command::Status(_) => None,
    };
    let outcome = match log_to_standard_error(&cli.log) {
        Ok(()) => run(cli.command, json, &output, signals.clone()).await,
        Err(failure) => Err(failure),
    };
    let mut last = None;
    let mut exit = None;
    if let Err(failure) = outcome {
        complain(&failure.message);
        last = json.then(|| json::error(failure.code, &failure.message));
        exit = Some(failure.exit);
    }
    if let Err(error) = output.finish(last, signals).await {
        complain(&format!("cannot write to standard output: {error}"));
        exit = exit.or(Some(Exit::Failed));
    }
    exit.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8))
}

/// The command line is wrong, or asks for help.
fn not_understood(error: &clap::Error) -> ExitCode {
    let flags = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if error.use_stderr() && flags.into_iter().any(|argument| argument == "--json") {
        print_now(&json::error("usage", error.render().to_string().trim_end()));
    }
    // Fails only if nobody reads, who need not be told.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

/// Prints a line before there is an [`Output`].
fn print_now(line: &str) {
    // Standard error and the exit code tell it too.
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn run(
    mut command: Command,
    json: bool,
    output: &Output,
    signals: Option<Signals>,
) -> Result<(), Failure> {
    let signals = || signals.unwrap_or_else(Signals::listen);
    if let Command::Host(args) = &mut command {
        args.lay_over();
    }
    if let Some(member) = command.member().filter(|member| member.print_config) {
        return print_config(member, json, output).await;
    }
    match command {
        Command::Host(args) => host::run(args, json, output, signals()).await,
        Command::Join(args) => join::run(args, json, output, signals()).await,
        Command::Send(args) => send::run(args, json, output, signals()).await,
        Command::Recv(args) => recv::run(args, json, output, signals()).await,
        Command::Demo(args) => demo::run(args, json, output, signals()).await,
        Command::Tree(args) => tree::run(args, json, output).await,
        Command::Status(args) => status::run(args, json, output).await,
    }
}

/// Prints the settings that a command would run with.
async fn print_config(
    member: &options::MemberArgs,
    json: bool,
    output: &Output,
) -> Result<(), Failure> {
    let config = member.config()?;
    let text = if json {
        json::as_line(&serde_json::json!({ "event": "config", "config": config }))
    } else {
        arborcast_net::settings::to_toml(&config)?.trim_end().to_owned()
    };
    // Fails only if nobody reads, which the end of the output tells.
    let _ = output.line(&text).await;
    Ok(())
}

fn log_to_standard_error(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage("bad_filter", format!("--log {filter}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // It would be told on standard error, with a panic where that is what cannot be written.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Tells people on standard error. Where nobody reads, there is nobody to tell.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "arborcast: {}", terminal::printable(message));
}
