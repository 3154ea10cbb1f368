//! Tasks of a node. A fault in any of them, which is a bug, ends the node with its words, instead of leaving
//! something undone in silence.

use std::{any::Any, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use tokio::{sync::mpsc, task::AbortHandle};

/// Starts tasks, and hears of their faults.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    faults: mpsc::Sender<String>,
}

impl Tasks {
    /// Also gives where the first fault comes.
    pub(crate) fn new() -> (Self, mpsc::Receiver<String>) {
        let (faults, fault) = mpsc::channel(1);
        (Self { faults }, fault)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let faults = self.faults.clone();
        let task = async move {
            if let Err(fault) = caught(task).await {
                // The first one is enough.
                let _ = faults.try_send(fault);
            }
        };
        tokio::spawn(task).abort_handle()
    }
}

/// The words of a panic in `task`, if it ends with one.
pub(crate) async fn caught<T>(task: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(task).catch_unwind().await.map_err(|panic| words(panic.as_ref()))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug has ended this node: {}", text.unwrap_or("it says nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_fault_is_told_in_its_words() {
        let (tasks, mut faults) = Tasks::new();
        tasks.spawn(async {});
        tasks.spawn(async { panic!("number {}", 7) });
        let fault = faults.recv().await;
        assert!(fault.as_ref().is_some_and(|fault| fault.ends_with(": number 7")), "{fault:?}");
    }
}
