//! What a coordinator keeps on disk: its key and its term. Written whole or not at all.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use arborcast_protocol::id::Term;
use libp2p::identity::{Keypair, ed25519};

/// A file with an Ed25519 key, mode 0600, locked while this value lives.
#[derive(Debug)]
pub struct Identity {
    term: PathBuf,
    keypair: Keypair,
    /// The key was made just now.
    is_new: bool,
    /// Holds the lock.
    _lock: File,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Another process has it.
    #[error("{0}: another process uses this identity; stop it, or choose another with --identity")]
    InUse(PathBuf),
    /// The file is there, but is no key.
    #[error(
        "{0}: not an Arborcast identity; choose another file with --identity, or remove this one"
    )]
    NotAKey(PathBuf),
    /// The file is there, but holds no whole key, though a coordinator has used it.
    #[error(
        "{path}: the key of this coordinator is damaged, perhaps by a power cut; put a copy of it there, \
         or remove it and {term} to begin anew: members will have to join with new tickets"
    )]
    Torn {
        /// The key's.
        path: PathBuf,
        /// Where its term is kept.
        term: PathBuf,
    },
    /// Others may read the secret key.
    #[error("{0}: others can read this secret key; run: chmod 600 {0}")]
    Exposed(PathBuf),
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Identity {
    /// Opens the key in `path`, or makes one there if there is no such file. A key that may only be read
    /// will do. `state` is where the coordinator's term is kept; empty: beside the key.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(path: &Path, state: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_owned(), source };
        let term = term_file(path, state);
        let (mut file, made) = match File::open(path) {
            Ok(file) => (file, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keypair = make(path).map_err(io)?;
                (File::open(path).map_err(io)?, keypair)
            }
            Err(error) => return Err(io(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
                return Err(IdentityError::Exposed(path.to_owned()));
            }
        }
        // A key file has 68 bytes; more is something else.
        let mut bytes = Vec::new();
        (&mut file).take(1024).read_to_end(&mut bytes).map_err(io)?;
        let keypair = Keypair::from_protobuf_encoding(&bytes)
            .ok()
            .filter(|keypair| keypair.clone().try_into_ed25519().is_ok());
        let Some(keypair) = keypair else {
            return Err(match term.try_exists() {
                // Members know this coordinator by its key: a new one would be somebody else to them.
                Ok(true) => IdentityError::Torn { path: path.to_owned(), term },
                Ok(false) | Err(_) => IdentityError::NotAKey(path.to_owned()),
            });
        };
        Ok(Self { term, keypair, is_new: made.is_some(), _lock: file })
    }

    /// The key.
    #[must_use]
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// The next term of the coordinator with this identity, stored before it is used.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn next_term(&self) -> Result<Term, IdentityError> {
        let path = &self.term;
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let last = match fs::read_to_string(path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io(io::Error::other(
                    "the stored term is not a number; without the file the coordinator begins \
                         anew and learns the term from the members that come back",
                ))
            })?,
            // Whose key is older may have had members before: they are waited for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => u32::from(!self.is_new),
            Err(error) => return Err(io(error)),
        };
        let term = Term(last).next();
        write_whole(path, format!("{term}\n").as_bytes()).map_err(io)?;
        Ok(term)
    }
}

/// Where the term of the coordinator with this key is kept. The key's whole name stays: `node.1` and `node.2`
/// share nothing.
fn term_file(key: &Path, state: &Path) -> PathBuf {
    let name = match key.file_name() {
        Some(name) if !state.as_os_str().is_empty() => state.join(name),
        Some(_) | None => key.to_owned(),
    };
    beside(&name, ".term")
}

/// A file beside another one, whose whole name stays.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(suffix);
    whole.into()
}

/// Makes a key there, unless somebody else does so meanwhile.
fn make(path: &Path) -> io::Result<Option<Keypair>> {
    make_folder(path)?;
    let keypair = Keypair::from(ed25519::Keypair::generate());
    let encoded = keypair.to_protobuf_encoding().map_err(io::Error::other)?;
    let new = write_new(path, &encoded)?;
    // Unlike a new name, a second one for the same file takes nobody's place.
    let linked = fs::hard_link(&new, path);
    let made = match linked {
        Ok(()) => Some(keypair),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        // Some file systems know no second names.
        Err(_) => {
            fs::rename(&new, path)?;
            sync_folder(path)?;
            return Ok(Some(keypair));
        }
    };
    fs::remove_file(&new)?;
    sync_folder(path)?;
    Ok(made)
}

/// Puts this into a file that only its owner may read, so that whatever happens meanwhile, a power cut too,
/// either this is there afterwards or what was there before.
///
/// # Errors
/// What the file system says.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    make_folder(path)?;
    let new = write_new(path, content)?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::create_dir_all(folder),
        None => Ok(()),
    }
}

/// A file beside `path` that holds all of this.
fn write_new(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let number = NEW.fetch_add(1, Ordering::Relaxed);
    let new = beside(path, &format!(".{}.{number}.new", std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(new)
}

/// Tells the new files of one process apart.
static NEW: AtomicU32 = AtomicU32::new(0);

/// Makes the names in the folder of `path` last; until then they may be what they were, after a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests;
