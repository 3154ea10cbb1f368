//! The socket as a Unix domain socket.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::Session;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{About, Answer, Failure, Place, Question, Snapshot, answer};

/// The longest question, in bytes.
const QUESTION: u64 = 4 << 10;
/// The longest answer, in bytes: a tree of the most members fits several times.
const ANSWER: u64 = 64 << 20;
/// Questions that are answered at a time.
const ASKERS: usize = 8;
/// How long one question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How a socket's name ends.
const SUFFIX: &str = "sock";

/// A member's socket; gone when dropped.
#[derive(Debug)]
pub(in super::super) struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the socket of this process. Without one the member runs all the same, unless the user named
/// the place.
pub(in super::super) fn serve(
    place: &Place,
    about: About,
    session: Session,
) -> Result<Option<Server>, Failure> {
    let (path, listener) = match place {
        Place::At(path) => match bind(path, false) {
            Ok(listener) => (path.clone(), listener),
            Err(error) => {
                let words = format!("--socket {}: {error}", path.display());
                return Err(Failure::usage("socket", words));
            }
        },
        Place::OfProcess => match bind_of_process() {
            Ok(bound) => bound,
            Err(errors) => {
                tracing::warn!(
                    "`arborcast tree` and `status` will not find this process: {errors}"
                );
                return Ok(None);
            }
        },
    };
    let task = tokio::spawn(accept(listener, about, session));
    Ok(Some(Server { path, task }))
}

/// The socket of this process in the first folder that can have it; or why none can.
fn bind_of_process() -> Result<(PathBuf, UnixListener), String> {
    let mut errors = Vec::new();
    for folder in folders() {
        let path = folder.join(format!("{}.{SUFFIX}", std::process::id()));
        match make(&folder).and_then(|()| bind(&path, true)) {
            Ok(listener) => return Ok((path, listener)),
            Err(error) => errors.push(format!("{}: {error}", folder.display())),
        }
    }
    Err(errors.join("; "))
}

fn bind(path: &Path, own: bool) -> io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // Our own number: whoever had it before us is gone. Elsewhere somebody may still answer.
        if !own && std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, about: About, session: Session) {
    let about = Arc::new(about);
    let askers = Arc::new(Semaphore::new(ASKERS));
    loop {
        let Ok(turn) = Arc::clone(&askers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, most likely: not for ever, and not worth a busy loop.
                tracing::debug!(%error, "local socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (about, session) = (Arc::clone(&about), session.clone());
        tokio::spawn(async move {
            let served = tokio::time::timeout(PATIENCE, serve_one(stream, &about, &session)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "local socket");
            }
            drop(turn);
        });
    }
}

async fn serve_one(mut stream: UnixStream, about: &About, session: &Session) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut question = Vec::new();
    BufReader::new(read.take(QUESTION)).read_until(b'\n', &mut question).await?;
    let mut line = super::json::as_line(&answer(&question, about, session).await);
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    write.shutdown().await
}

/// Asks all running members of this user, or the one at a place. Tells where it looked, too.
pub(in super::super) async fn ask(place: &Place) -> Result<(Vec<Snapshot>, String), Failure> {
    if let Place::At(path) = place {
        let snapshot = ask_one(path)
            .await
            .map_err(|error| Failure::failed("socket", format!("{}: {error}", path.display())))?;
        return Ok((vec![snapshot], path.display().to_string()));
    }
    let mut sockets: Vec<(u32, PathBuf)> = Vec::new();
    let mut looked = Vec::new();
    for folder in folders() {
        match check(&folder).and_then(|()| fs::read_dir(&folder)) {
            Ok(entries) => {
                looked.push(folder.display().to_string());
                sockets.extend(entries.filter_map(|entry| {
                    let path = entry.ok()?.path();
                    let number = path.file_stem()?.to_str()?.parse().ok()?;
                    (path.extension()? == SUFFIX).then_some((number, path))
                }));
            }
            Err(error) => looked.push(format!("{} ({error})", folder.display())),
        }
    }
    sockets.sort();
    let mut snapshots = Vec::new();
    for (_, path) in sockets {
        match ask_one(&path).await {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Left behind by a process that was killed.
                let _ = fs::remove_file(&path);
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "no answer"),
        }
    }
    Ok((snapshots, looked.join(" and ")))
}

async fn ask_one(path: &Path) -> io::Result<Snapshot> {
    let asking = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut line = super::json::as_line(&Question::Snapshot);
        line.push('\n');
        stream.write_all(line.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).await?;
        match serde_json::from_slice(&answer)? {
            Answer::Snapshot(snapshot) => Ok(*snapshot),
            Answer::Error(error) => Err(io::Error::other(error)),
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Where this user's sockets may be, the best place first: in `$XDG_RUNTIME_DIR`, or where there is none, it is
/// somebody else's (as after `su`) or its name is too long for a socket, in `$TMPDIR` or `/tmp`.
fn folders() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = runtime.filter(|path| path.is_absolute()).map(|path| path.join("arborcast"));
    own.into_iter().chain([std::env::temp_dir().join(format!("arborcast-{user}"))]).collect()
}

/// Makes a folder if need be.
fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(()) => check(path),
    }
}

/// Whether a folder is this user's alone: where it lies others may have been first.
fn check(path: &Path) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "not a folder that only its owner can enter; remove it, or chmod 700 it",
        ));
    }
    Ok(())
}
