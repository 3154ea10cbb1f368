//! The command line: what is asked for, and how it ends. Every command is a thin user of the
//! library; all of them but `tree` and `status` run one [`member`].

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

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
mod recv;
mod request;
mod roster;
mod screen;
mod send;
mod signals;
mod status;
mod terminal;
mod tree;
mod words;

use failure::Failure;
use output::Output;

/// Group messages over a peer-to-peer mesh: every message crosses every channel once.
#[derive(Parser, Debug)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object for each event on standard output, and read one from each line of
    /// standard input: `{"send":"text"}` or `{"send_b64":"…"}`.
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
    Host(host::Args),
    /// Join a session: chat on a terminal, lines in and out otherwise.
    Join(join::Args),
    /// Send a file, or each line of standard input, and leave once every present member has it.
    Send(send::Args),
    /// Print what arrives, until Ctrl-C.
    Recv(recv::Args),
    /// Show the relay tree of the sessions that this user's processes are in.
    Tree(tree::Args),
    /// Show the channels and counters of this user's processes.
    Status(status::Args),
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
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let output = Output::standard();
    let outcome = log_to_standard_error(&cli.log).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed("failed", format!("cannot start: {error}")))?;
        let outcome = runtime.block_on(Box::pin(run(cli, &output)));
        runtime.shutdown_timeout(RUNTIME_END);
        outcome
    });
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                output.line_now(&json::error(failure.code, &failure.message));
            }
            complain(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    };
    output.finish();
    code
}

async fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    let json = cli.json;
    match cli.command {
        Command::Host(args) => host::run(args, json, output).await,
        Command::Join(args) => join::run(args, json, output).await,
        Command::Send(args) => send::run(args, json, output).await,
        Command::Recv(args) => recv::run(args, json, output).await,
        Command::Tree(args) => tree::run(args, json, output).await,
        Command::Status(args) => status::run(args, json, output).await,
    }
}

fn log_to_standard_error(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage("bad_filter", format!("--log {filter}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

/// Tells people on standard error.
#[expect(clippy::print_stderr, reason = "where people look for what went wrong")]
fn complain(message: &str) {
    eprintln!("arborcast: {}", terminal::printable(message));
}
