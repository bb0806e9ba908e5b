//! `kuiper plugin keys`: a key pair to sign zips with, in the files of minisign.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::super::client::Failure;
use super::super::print::say;
use super::cannot;
use crate::plugin::SecretKey;

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let key = SecretKey::new().map_err(Failure::Refused)?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    for (path, text, mode) in [(file, key.file(), 0o600), (&public, key.public().file(), 0o644)] {
        // A key that is lost cannot be had again.
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Failure::Refused(format!("`{}` is there already; choose another name", path.display()))
            }
            _ => cannot("write", path, &error),
        })?;
    }
    say(format!("made {} and {}", file.display(), public.display()));
    say(format!("{} is secret: keep it out of the repository, as the line `*.key` in .gitignore does", file.display()));
    say(format!("sign with: kuiper plugin pack --sign {}", file.display()));
    say(format!("trust it with: plugins.trustedKeys: [{}]", key.public()));
    Ok(())
}
