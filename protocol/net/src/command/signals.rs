//! The signals that ask a process to end: Ctrl-C, TERM, and HUP where the process does not ignore it (as
//! under `nohup`).

/// Listens from when it is made, so that none of them ends the process by itself from then on.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    others: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Starts to listen. Needs a runtime.
    #[must_use]
    pub fn listen() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let hangup = (!ignores_hangup()).then(SignalKind::hangup);
            let others = [Some(SignalKind::terminate()), hangup];
            // Where one cannot be listened for, the others can.
            Self {
                others: others.into_iter().flatten().filter_map(|kind| signal(kind).ok()).collect(),
            }
        }
        #[cfg(not(unix))]
        Self {}
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        {
            let others = std::future::poll_fn(|cx| {
                let came = self.others.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
                if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            tokio::select! {
                () = others => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
    }
}

/// Whether the process was started with HUP ignored. Linux tells; where nobody does, HUP is left to the
/// system.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // HUP is signal 1, the lowest bit.
    ignored.is_none_or(|mask| mask & 1 != 0)
}
