//! Standard output as a bounded queue with a thread behind it, so that a slow reader holds back the
//! member, but neither its network nor its answer to Ctrl-C.

use std::{io::Write as _, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes that may wait for the reader: what a test script or `less` does not take at once.
const ROOM: usize = 8 << 20;
/// Lines that may wait.
const LINES: usize = 4096;
/// How long the reader may take for the rest when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Whoever read standard output has gone.
#[derive(Debug)]
pub(super) struct ReaderGone;

/// Standard output, line by line.
#[derive(Debug)]
pub(super) struct Output {
    lines: mpsc::Sender<(String, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    /// Closes when all is written.
    written: std::sync::mpsc::Receiver<()>,
}

impl Output {
    /// Opens standard output.
    pub(super) fn standard() -> Self {
        let (lines, mut queue) = mpsc::channel::<(String, Option<OwnedSemaphorePermit>)>(LINES);
        let (done, written) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut out = std::io::stdout().lock();
            while let Some((line, room)) = queue.blocking_recv() {
                // One write and one flush for each line: whoever waits for it gets it whole.
                if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
                    break;
                }
                drop(room);
            }
            drop(queue);
            drop(done);
        });
        Self { lines, room: Arc::new(Semaphore::new(ROOM)), written }
    }

    /// Writes a line, once there is room for it.
    pub(super) async fn line(&self, line: &str) -> Result<(), ReaderGone> {
        let size = u32::try_from(line.len().min(ROOM)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(size) => room.ok(),
            () = self.lines.closed() => return Err(ReaderGone),
        };
        self.lines.send((with_end(line), room)).await.map_err(|_| ReaderGone)
    }

    /// Writes a last line, if there is room.
    pub(super) fn line_now(&self, line: &str) {
        let _ = self.lines.try_send((with_end(line), None));
    }

    /// Waits until the reader has gone.
    pub(super) async fn reader_gone(&self) {
        self.lines.closed().await;
    }

    /// Waits until all is written, or the reader takes too long.
    pub(super) fn finish(self) {
        let Self { lines, written, .. } = self;
        drop(lines);
        // Either it closes, or the time is over.
        let _ = written.recv_timeout(LAST_WORDS);
    }
}

fn with_end(line: &str) -> String {
    let mut whole = String::with_capacity(line.len() + 1);
    whole.push_str(line);
    whole.push('\n');
    whole
}
