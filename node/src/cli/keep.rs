//! What a named session keeps from one start of its host to the next: the coordinator's key (see
//! [`arborcast_coordinator::driver::store`]) and, beside it, the secret that is in its tickets.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use arborcast::protocol::{id::SessionId, keys::Secret};
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

/// The secret beside an identity, made if it is not there. The caller holds the identity's lock.
pub(super) fn secret(identity: &Path) -> Result<Secret, Failure> {
    let path = identity.with_extension("secret");
    match read(&path) {
        Ok(secret) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = fresh()?;
            write(&path, &secret).map_err(|error| {
                Failure::failed("bad_identity", format!("{}: {error}", path.display()))
            })?;
            Ok(secret)
        }
        Err(error) => Err(Failure::usage("bad_identity", format!("{}: {error}", path.display()))),
    }
}

/// A secret that nobody has seen.
pub(super) fn fresh() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; Secret::LEN]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::failed("failed", format!("no random numbers: {error}")))?;
    Ok(Secret::from_bytes(*bytes))
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

/// Whole or not at all.
fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    let beside = path.with_extension("secret.new");
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

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
}
