//! A folder in which each message becomes a file of its own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Files that may have had a name already: one for each time that a source has begun to count anew.
const SAME_NAME: u32 = 10_000;

/// Writes files, and overwrites none.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Uses a folder, which is made if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) | Ok(()) if path.is_dir() => Ok(Self(path.to_owned())),
            Err(_) | Ok(()) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Writes a new file, under this name or, if there is one, with `-2`, `-3`... after it. One that cannot be
    /// written whole is not left behind.
    pub(super) fn add(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, mut file) = self.create(name)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written.map_err(|error| with_path(&path, &error))
    }

    fn create(&self, name: &str) -> io::Result<(PathBuf, File)> {
        for number in 1..=SAME_NAME {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let path = self.0.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(with_path(&path, &error)),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{}: there are {SAME_NAME} of this name", self.0.join(name).display()),
        ))
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
