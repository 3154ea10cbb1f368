//! `arborcast demo`: the patent's six devices (figure 2) as real processes on this machine. Nothing is
//! staged: what is shown is what the members measured and counted.

use std::{path::PathBuf, time::Duration};

use crate::{
    HostError, hosting,
    identity::Keypair,
    protocol::{id::Term, keys::Access},
};
use arborcast_coordinator::Coordinator;
use tokio::io::AsyncReadExt as _;

use super::{failure::Failure, output::Output, signals::Signals};

mod cast;
mod figure;
mod heard;
mod play;
mod told;

/// What `demo` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// No pauses to read in, and shorter periods of measuring and reporting.
    #[arg(long)]
    fast: bool,
    /// Be the coordinator of a demonstration that another process runs.
    #[arg(long, hide = true)]
    be_coordinator: bool,
}

/// How often members report in a fast demonstration, in milliseconds.
const FAST_REPORT_MS: u32 = 1000;

/// Runs the demonstration.
pub(super) async fn run(
    args: Args,
    json: bool,
    output: &Output,
    mut signals: Signals,
) -> Result<(), Failure> {
    if args.be_coordinator {
        return coordinate(args.fast, output, signals).await;
    }
    let folder = Folder::new()?;
    let play = play::run(&folder.0, args.fast, told::Told::new(output, json));
    tokio::select! {
        outcome = play => outcome,
        // The members end with the future that holds them.
        () = signals.asked() => Ok(()),
    }
}

/// The coordinator, in a process of its own, until the end of its input.
async fn coordinate(fast: bool, output: &Output, mut signals: Signals) -> Result<(), Failure> {
    let mut config = arborcast_coordinator::Config { listen: listen(), ..Default::default() };
    if fast {
        config.engine.report_ms = FAST_REPORT_MS;
    }
    let coordinator = Coordinator::start(config, Keypair::generate_ed25519(), Term(1)).await?;
    let access = Access::Private(hosting::fresh_secret()?);
    let ticket = hosting::ticket(&access, Some("demo"), &coordinator)
        .map_err(HostError::Ticket)?
        .to_string();
    let ready = heard::Ready { event: "ready".to_owned(), ticket };
    let _ = output.line(&super::json::as_line(&ready)).await;
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    let end_of_input = async { while matches!(input.read(&mut ignored).await, Ok(1..)) {} };
    tokio::select! {
        () = end_of_input => {}
        () = signals.asked() => {}
    }
    coordinator.shutdown().await;
    Ok(())
}

/// Where everybody listens: nothing leaves this machine.
fn listen() -> Vec<crate::Multiaddr> {
    use std::net::Ipv4Addr;

    use libp2p::multiaddr::Protocol;

    let loopback = crate::Multiaddr::from(Ipv4Addr::LOCALHOST);
    vec![
        loopback.clone().with(Protocol::Tcp(0)),
        loopback.with(Protocol::Udp(0)).with(Protocol::QuicV1),
    ]
}

/// A folder of this demonstration alone, gone with it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("arborcast-demo-{}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .map_err(|error| Failure::failed("failed", format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that was killed just now may still have been making a file.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        while let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(folder = %self.0.display(), %error, "not removed");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How long anything in the demonstration may take.
const PATIENCE: Duration = Duration::from_secs(45);
