//! Files that a user names or lays into a folder: read only where they are regular files, for reading a pipe or a device may
//! wait for ever, or never end. Where one leads is made plain before anything is judged: a bare name means the file in
//! the current folder, as for every other program, and not what the loader would look for.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::diag::words;

/// The whole path of a file that a user has named; links stay links. The error is a sentence without the file's name.
pub fn whole_path(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| words(&error))
}

/// Reads a regular file, or what a link leads to; the error is a sentence without the file's name.
pub fn read_regular(path: &Path) -> Result<Vec<u8>, String> {
    check_regular(path)?;
    fs::read(path).map_err(|error| words(&error))
}

/// Checks that there is a regular file; the error is as above.
pub fn check_regular(path: &Path) -> Result<(), String> {
    match kind(path).map_err(|error| words(&error))? {
        None => Ok(()),
        Some(kind) => Err(format!("it is {kind}, not a regular file")),
    }
}

/// What stands there in the place of a regular file.
fn kind(path: &Path) -> io::Result<Option<&'static str>> {
    let kind = fs::metadata(path)?.file_type();
    let other = [
        (kind.is_dir(), "a folder"),
        (kind.is_fifo(), "a named pipe (FIFO)"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
    ];
    let found = other.into_iter().find(|(is, _)| *is).map(|(_, what)| what);
    Ok(found.or((!kind.is_file()).then_some("something else")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "a").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(read_regular(&at("link")), Ok(b"a".to_vec()));
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, what) in [
            (at("pipe"), "a named pipe (FIFO)"),
            (at("socket"), "a socket"),
            (folder.path().into(), "a folder"),
            ("/dev/zero".into(), "a device"),
        ] {
            assert_eq!(read_regular(&path), Err(format!("it is {what}, not a regular file")));
        }
        assert_eq!(read_regular(&at("none")), Err("no such file or directory".into()));
    }

    #[test]
    fn a_bare_name_is_a_file_of_the_current_folder() {
        assert_eq!(whole_path(Path::new("a.so")), Ok(std::env::current_dir().unwrap().join("a.so")));
        assert!(whole_path(Path::new("")).is_err());
    }
}
