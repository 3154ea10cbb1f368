//! What is printed or saved, as a bounded queue with a thread behind it, so that a slow reader holds back the
//! member, but neither its network nor its answer to Ctrl-C.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::signals::Signals;

mod folder;

use folder::Folder;

/// Bytes that may wait for the reader: what a test script or `less` does not take at once.
const ROOM: usize = 8 << 20;
/// Lines that may wait.
const LINES: usize = 4096;
/// How long the reader may take for the rest once the process is asked to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Whoever read standard output has gone, or it cannot be written.
#[derive(Debug)]
pub(super) struct ReaderGone;

/// What is written at once.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// What it is called, where each piece has a file of its own.
    name: Option<String>,
    /// Its share of the room, given back when it is written.
    _room: Option<OwnedSemaphorePermit>,
}

/// Standard output, or where else messages go.
#[derive(Debug)]
pub(super) struct Output {
    pieces: mpsc::Sender<Piece>,
    room: Arc<Semaphore>,
    /// Comes when all is written, or nothing more can be.
    written: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Opens standard output.
    pub(super) fn standard() -> Self {
        Self::to(io::stdout)
    }

    /// A file, empty at first.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self::to(move || file))
    }

    /// A folder, made if it is not there, in which each piece becomes a new file.
    pub(super) fn folder(path: &Path) -> io::Result<Self> {
        let folder = Folder::open(path)?;
        Ok(Self::by(move || {
            move |piece: &Piece| folder.add(piece.name.as_deref().unwrap_or("-"), &piece.bytes)
        }))
    }

    /// Something to write to, made in the thread that writes.
    fn to<W: Write>(open: impl FnOnce() -> W + Send + 'static) -> Self {
        Self::by(move || {
            let mut out = open();
            // One write and one flush for each piece: whoever waits for it gets it whole.
            move |piece: &Piece| out.write_all(&piece.bytes).and_then(|()| out.flush())
        })
    }

    /// Something that writes, made in the thread in which it does.
    fn by<W>(open: impl FnOnce() -> W + Send + 'static) -> Self
    where
        W: FnMut(&Piece) -> io::Result<()>,
    {
        let (pieces, mut queue) = mpsc::channel::<Piece>(LINES);
        let (done, written) = oneshot::channel();
        std::thread::spawn(move || {
            let mut write = open();
            let mut outcome = Ok(());
            while let Some(piece) = queue.blocking_recv() {
                outcome = write(&piece);
                if outcome.is_err() {
                    break;
                }
            }
            let _ = done.send(outcome);
            drop(queue);
        });
        Self { pieces, room: Arc::new(Semaphore::new(ROOM)), written }
    }

    /// Writes a line, once there is room for it.
    pub(super) async fn line(&self, line: &str) -> Result<(), ReaderGone> {
        self.piece(with_end(line), None).await
    }

    /// Writes bytes as they are, once there is room for them. In a folder they have this name.
    pub(super) async fn bytes(&self, bytes: &[u8], name: String) -> Result<(), ReaderGone> {
        self.piece(bytes.to_vec(), Some(name)).await
    }

    async fn piece(&self, bytes: Vec<u8>, name: Option<String>) -> Result<(), ReaderGone> {
        let size = u32::try_from(bytes.len().min(ROOM)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(size) => room.ok(),
            () = self.pieces.closed() => return Err(ReaderGone),
        };
        let piece = Piece { bytes, name, _room: room };
        self.pieces.send(piece).await.map_err(|_| ReaderGone)
    }

    /// Waits until the reader has gone.
    pub(super) async fn reader_gone(&self) {
        self.pieces.closed().await;
    }

    /// Writes a last line, if there is one, and waits until all is written: as long as the reader
    /// takes, unless the process is asked to end.
    ///
    /// # Errors
    /// What cannot be written. That nobody reads is no error.
    pub(super) async fn finish(
        self,
        last: Option<String>,
        signals: Option<Signals>,
    ) -> io::Result<()> {
        let rest = async {
            if let Some(last) = last {
                let _ = self.line(&last).await;
            }
            let Self { pieces, written, .. } = self;
            drop(pieces);
            written.await.unwrap_or(Ok(()))
        };
        let hurry = async {
            match signals {
                Some(signals) => signals.long_ago(LAST_WORDS).await,
                // Nobody listens for signals: they end the process by themselves.
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = rest => outcome,
            () = hurry => Ok(()),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

fn with_end(line: &str) -> Vec<u8> {
    let mut whole = Vec::with_capacity(line.len() + 1);
    whole.extend_from_slice(line.as_bytes());
    whole.push(b'\n');
    whole
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Fails with what it is made of.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
        let outcome = async |kind| {
            Output::to(move || Broken(kind)).finish(Some("text".to_owned()), None).await
        };
        assert!(outcome(io::ErrorKind::StorageFull).await.is_err());
        assert!(outcome(io::ErrorKind::BrokenPipe).await.is_ok());
    }

    /// Takes a line only when it is allowed to.
    struct Slow(std::sync::mpsc::Receiver<()>, std::sync::mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_all_at_the_end() {
        let (allow, allowed) = std::sync::mpsc::sync_channel(8);
        let (take, taken) = std::sync::mpsc::sync_channel(8);
        let output = Output::to(move || Slow(allowed, take));
        for line in ["one", "two"] {
            assert!(output.line(line).await.is_ok());
        }
        let finish = output.finish(None, None);
        tokio::pin!(finish);
        assert!((&mut finish).now_or_never().is_none());
        drop(allow);
        assert!(finish.await.is_ok());
        assert_eq!(taken.iter().collect::<Vec<_>>(), [b"one\n".to_vec(), b"two\n".to_vec()]);
    }
}
