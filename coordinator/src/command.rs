//! The command `arborcast-coordinator`: a coordinator by itself.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use arborcast_net::{
    command::{file_limit, panics, signals::Signals},
    settings::{Layers, SettingsError, to_toml},
    store::Identity,
};
use clap::Parser;
use libp2p::Multiaddr;

use crate::{Config, Coordinator};

mod plan;
#[cfg(test)]
mod tests;

/// Coordinates Arborcast sessions: admits members, computes relay trees, pushes them.
///
/// It never learns a session's secret and can read no message.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Where to listen, as a multiaddr; repeatable. Default: TCP and QUIC on free ports.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<Multiaddr>,
    /// An address that others reach this machine at; repeatable.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    external: Vec<Multiaddr>,
    /// The file with the secret key; made if it is not there.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The folder to keep the term in, where the key lies on a volume that may only be read; default: beside
    /// the key.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Admit to private sessions only.
    #[arg(long)]
    no_open_sessions: bool,
    /// Settings, as TOML; default: the file that `ARBORCAST_COORDINATOR_CONFIG` names. Over them go
    /// variables of the environment, as `ARBORCAST_COORDINATOR_LISTEN` or
    /// `ARBORCAST_COORDINATOR_ENGINE__LEASE_MS`, and over those the flags.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings that file, environment and flags come to, as such a file, and end.
    #[arg(long)]
    print_config: bool,
    /// Print one JSON object for each event on standard output.
    #[arg(long)]
    json: bool,
    /// What to log on standard error, e.g. `info` or `arborcast_coordinator=debug`.
    #[arg(long, value_name = "FILTER", env = "ARBORCAST_LOG", default_value = "warn")]
    log: String,
}

/// What else the command does.
#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// Compute a tree offline from a file with a topology, and print it with its figures.
    Plan(plan::PlanArgs),
}

/// Done.
const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// The command line or a file it names is wrong.
const USAGE: u8 = 2;

/// Runs it.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    panics::end_the_process();
    let result = match &args.verb {
        Some(Verb::Plan(args)) => plan::run(args),
        None => run(&args),
    };
    ExitCode::from(match result {
        Ok(()) => DONE,
        Err((code, message)) => {
            report(&message);
            code
        }
    })
}

/// Tells people on standard error. Where nobody reads, there is nobody to tell.
fn report(message: &str) {
    let _ = writeln!(std::io::stderr(), "arborcast-coordinator: {message}");
}

/// Prints a line. A reader that has gone away is no reason to stop coordinating.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints what the program was called for.
fn print(text: &str) -> Result<(), (u8, String)> {
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever has read enough goes.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err((FAILED, format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

#[tokio::main]
async fn run(args: &Args) -> Result<(), (u8, String)> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log)
        .map_err(|error| (USAGE, format!("--log {}: {error}", args.log)))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would be told on standard error, with a panic where that is what cannot be written.
        .log_internal_errors(false)
        .init();
    let mut config = settings(args).map_err(|error| (USAGE, error.to_string()))?;
    if args.print_config {
        let text = to_toml(&config).map_err(|error| (FAILED, error.to_string()))?;
        return print(text.trim_end());
    }
    let path = if config.identity.as_os_str().is_empty() {
        default_identity().ok_or_else(|| {
            (USAGE, "no home folder for the identity; name a file with --identity".to_owned())
        })?
    } else {
        config.identity.clone()
    };
    if let Some(told) = file_limit::raise().and_then(|files| config.fit(files)) {
        report(&told);
    }
    let identity =
        Identity::open(&path, &config.state).map_err(|error| (USAGE, error.to_string()))?;
    let term = identity.next_term().map_err(|error| (FAILED, error.to_string()))?;
    let coordinator = Coordinator::start(config, identity.keypair().clone(), term)
        .await
        .map_err(|error| (FAILED, error.to_string()))?;
    let mut signals = Signals::listen();
    let addresses = coordinator.dialable();
    if args.json {
        let listen: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        say(&serde_json::json!({
            "event": "ready",
            "peer_id": coordinator.member_id().to_string(),
            "listen": listen,
        })
        .to_string());
    } else {
        say(&format!("coordinator {}", coordinator.member_id()));
        for address in addresses {
            say(&format!("  listens on {address}"));
        }
        say("Ctrl-C ends it; members' messages still flow then, but nobody new comes in.");
    }
    tokio::select! {
        () = signals.next() => coordinator.shutdown().await,
        () = coordinator.ended() => return Err((FAILED, "the coordinator ended".to_owned())),
    }
    Ok(())
}

/// What file, environment and flags come to.
fn settings(args: &Args) -> Result<Config, SettingsError> {
    let lay = |config: &mut Config| {
        if !args.listen.is_empty() {
            config.listen.clone_from(&args.listen);
        }
        if !args.external.is_empty() {
            config.external.clone_from(&args.external);
        }
        if let Some(identity) = &args.identity {
            config.identity.clone_from(identity);
        }
        if let Some(state) = &args.state {
            config.state.clone_from(state);
        }
        config.engine.open_sessions &= !args.no_open_sessions;
    };
    Layers::of_process(args.config.as_deref())?.flags(lay)?.finish()
}

/// `$XDG_STATE_HOME` or `~/.local/state`, then `arborcast/coordinator.key`.
fn default_identity() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("arborcast").join("coordinator.key"))
}
