//! What a coordinator keeps on disk: its key and its term. Written whole or not at all.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use arborcast_protocol::id::Term;
use libp2p::identity::{Keypair, ed25519};

/// A file with an Ed25519 key, mode 0600, locked while this value lives.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    keypair: Keypair,
    /// The key was made just now.
    is_new: bool,
    /// Holds the lock.
    _lock: File,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process has it.
    #[error("{0}: another process uses this identity; stop it, or choose another with --identity")]
    InUse(PathBuf),
    /// The file is there, but is no key.
    #[error(
        "{0}: not an Arborcast identity; choose another file with --identity, or remove this one"
    )]
    NotAKey(PathBuf),
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
    /// Opens the key in `path`, or makes one there if there is no such file.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(io)?;
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
        let is_new = bytes.is_empty();
        let keypair = if is_new {
            let keypair = Keypair::from(ed25519::Keypair::generate());
            let encoded =
                keypair.to_protobuf_encoding().map_err(|error| io(io::Error::other(error)))?;
            file.write_all(&encoded).and_then(|()| file.sync_all()).map_err(io)?;
            keypair
        } else {
            let keypair = Keypair::from_protobuf_encoding(&bytes)
                .map_err(|_| IdentityError::NotAKey(path.to_owned()))?;
            if keypair.clone().try_into_ed25519().is_err() {
                return Err(IdentityError::NotAKey(path.to_owned()));
            }
            keypair
        };
        Ok(Self { path: path.to_owned(), keypair, is_new, _lock: file })
    }

    /// The key.
    #[must_use]
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// A file beside the key's. The whole name stays: `node.1` and `node.2` share nothing.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut whole = self.path.as_os_str().to_owned();
        whole.push(suffix);
        whole.into()
    }

    /// The next term of the coordinator with this identity, stored before it is used.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn next_term(&self) -> Result<Term, IdentityError> {
        let path = self.beside(".term");
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let last = match fs::read_to_string(&path) {
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
        let beside = self.beside(".term.new");
        let mut file = File::create(&beside).map_err(io)?;
        writeln!(file, "{term}").and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&beside, &path).map_err(io)?;
        Ok(term)
    }
}
