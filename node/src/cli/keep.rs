//! What a named session keeps from one start of its host to the next: the coordinator's key (see
//! [`arborcast_net::store`]) and, beside it, the secret that is in its tickets.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use arborcast_net::store::write_whole;

use crate::{
    Multiaddr,
    hosting::fresh_secret,
    protocol::{id::SessionId, keys::Secret},
};
use zeroize::Zeroizing;

use super::failure::Failure;

/// The file with the key of the coordinator of a named session: in `$XDG_STATE_HOME` or
/// `~/.local/state`, folder `arborcast`. `session` is the open session of that name.
pub(super) fn host_identity(name: &str, session: SessionId) -> Result<PathBuf, Failure> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME")?);
            home.is_absolute().then(|| home.join(".local").join("state"))
        })
        .ok_or_else(|| {
            Failure::usage(
                "usage",
                "no home folder for the host's key; name a file with --identity",
            )
        })?;
    Ok(state.join("arborcast").join(format!("host-{}.key", file_name(name, session))))
}

/// A name as part of a file's: itself where that is safe, else what is safe of it and a part of the
/// session's id, so that no two names share a file.
fn file_name(name: &str, session: SessionId) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=64).contains(&name.len()) && name.chars().all(is_safe) {
        return name.to_owned();
    }
    let safe: String = name.chars().filter(|c| is_safe(*c)).take(40).collect();
    let id: String = session.to_string().chars().take(16).collect();
    format!("{safe}~{id}")
}

/// A file beside an identity. The whole name stays: `node.1` and `node.2` share nothing.
fn beside(identity: &Path, suffix: &str) -> PathBuf {
    let mut whole = identity.as_os_str().to_owned();
    whole.push(suffix);
    whole.into()
}

/// The secret of a session beside an identity, made if it is not there. Sessions of different names
/// have different ones. `session` is the open session of that name. The caller holds the identity's
/// lock.
pub(super) fn secret(identity: &Path, name: &str, session: SessionId) -> Result<Secret, Failure> {
    let path = beside(identity, &format!(".{}.secret", file_name(name, session)));
    match read(&path) {
        Ok(secret) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = fresh_secret()?;
            write_whole(&path, secret.as_bytes()).map_err(|error| {
                Failure::failed("bad_identity", format!("{}: {error}", path.display()))
            })?;
            Ok(secret)
        }
        Err(error) => Err(Failure::usage("bad_identity", format!("{}: {error}", path.display()))),
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("others can read this secret; run chmod 600 on it"));
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(Secret::LEN as u64 + 1).read_to_end(&mut bytes)?;
    <[u8; Secret::LEN]>::try_from(bytes.as_slice()).map(Secret::from_bytes).map_err(|_| {
        io::Error::other("not the secret of a session; remove the file to make a new one")
    })
}

/// Where the coordinator with this identity listened last. Empty if that is not known.
pub(super) fn listen(identity: &Path) -> Vec<Multiaddr> {
    let mut text = String::new();
    let read = File::open(beside(identity, LISTEN))
        .and_then(|file| file.take(LISTEN_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => text.lines().take(LISTEN_LINES).filter_map(|line| line.parse().ok()).collect(),
        Err(_) => Vec::new(),
    }
}

/// Keeps where the coordinator listens. Without it a session still runs, but its tickets do not
/// survive it, which is no reason to stop.
pub(super) fn keep_listen(identity: &Path, addresses: &[Multiaddr]) {
    let path = beside(identity, LISTEN);
    let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    if let Err(error) = write_whole(&path, text.as_bytes()) {
        tracing::warn!(
            path = %path.display(), %error,
            "cannot keep the ports: tickets will not be good after a restart"
        );
    }
}

/// Ends the name of the file with the addresses.
const LISTEN: &str = ".listen";
/// The most that is read of it...
const LISTEN_BYTES: u64 = 4096;
/// ...and taken from it: two transports over two families of addresses, and as many to spare.
const LISTEN_LINES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder_and_no_two_share_a_file() {
        let session = |n| SessionId::from_bytes([n; 32]);
        assert_eq!(file_name("lobby-1", session(0)), "lobby-1");
        for name in ["../../etc/passwd", "a/b", ".", "", "ü", "a b", "a.key", &"x".repeat(65)] {
            let file = file_name(name, session(1));
            assert!(file.ends_with("~0101010101010101"), "{file}");
            assert!(!file.contains(['/', '.', ' ']) && file.len() < 100, "{file}");
        }
        assert_ne!(file_name("a b", session(1)), file_name("ab", session(2)));
    }

    #[test]
    fn what_lies_beside_an_identity_is_its_own() {
        let secret = |identity: &str| beside(Path::new(identity), ".secret");
        assert_eq!(secret("keys/node.1"), Path::new("keys/node.1.secret"));
        assert_ne!(secret("node.1"), secret("node.2"));
    }
}
