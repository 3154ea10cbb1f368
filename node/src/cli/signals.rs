//! Ctrl-C, TERM and HUP: the first one leaves, the second one ends at once.

use std::time::Duration;

use tokio::sync::watch;

/// Whether the process was asked to end. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Signals(watch::Receiver<bool>);

impl Signals {
    /// Starts to listen. Needs a runtime.
    pub(super) fn listen() -> Self {
        let (asked, signals) = watch::channel(false);
        let mut source = arborcast_net::command::signals::Signals::listen();
        tokio::spawn(async move {
            source.next().await;
            let _ = asked.send(true);
            source.next().await;
            // Whoever asks twice does not want to wait for anybody.
            std::process::exit(super::Exit::Failed as i32);
        });
        Self(signals)
    }

    /// Waits until the process is asked to end.
    pub(super) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does work that blocks, as reading a file that may be a pipe; `None` if the process is asked to end before.
    pub(super) async fn unless_asked<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mut signals = self.clone();
        tokio::select! {
            biased;
            () = signals.asked() => None,
            // It fails only by a panic, which ends the process.
            done = tokio::task::spawn_blocking(work) => done.ok(),
        }
    }

    /// Waits until the process is asked to end, and then so long.
    pub(super) async fn long_ago(mut self, grace: Duration) {
        self.asked().await;
        tokio::time::sleep(grace).await;
    }

    /// Does some work to its end, or for `grace` once the process is asked to end; `None` if that was
    /// not enough.
    pub(super) async fn or_soon<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = self.clone().long_ago(grace) => None,
        }
    }
}
