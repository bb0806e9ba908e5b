//! Names of users as names of folders: different names never meet, not even on a disk that heeds no case, and no name
//! leads out of its folder.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::diag::Result;

use super::cannot;

/// A name of a file is no longer than this, in bytes; systems take 255.
const LONGEST: usize = 200;

/// The name of the folder. A long name is cut, with a digest of the whole behind.
pub(super) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (n, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            b'.' if n > 0 => out.push('.'),
            _ => {
                let _ = write!(out, "%{byte:02x}");
            }
        }
    }
    if out.is_empty() {
        // No other name has a sign that stands alone.
        out.push('%');
    }
    if out.len() > LONGEST {
        let digest = Sha256::digest(name.as_bytes());
        out.truncate(LONGEST - 2 - 2 * digest.len());
        out.push_str("%%");
        for byte in digest {
            let _ = write!(out, "{byte:02x}");
        }
    }
    out
}

/// The name that a folder stands for; `None` for one that was cut, or that is none of ours.
pub(super) fn decode(folder: &str) -> Option<String> {
    if folder == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name) == folder).then_some(name)
}

/// The names that the folders in a folder stand for, sorted.
pub(super) fn below(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("read", folder, &error)),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| decode(name.to_str()?)).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path_and_comes_back() {
        for (name, folder) in [
            ("rule-1_a.b", "rule-1_a.b"),
            ("Rule", "%52ule"),
            ("", "%"),
            ("%", "%25"),
            ("..", "%2e."),
            ("../a", "%2e.%2fa"),
            ("a/b\\c", "a%2fb%5cc"),
            ("\u{e4} \0", "%c3%a4%20%00"),
        ] {
            assert_eq!(encode(name), folder);
            assert_eq!(decode(folder).as_deref(), Some(name));
        }
        for folder in ["Rule", "%2E.", "%zz", "%4", ".", "%%", "%61"] {
            assert_eq!(decode(folder), None, "{folder}");
        }
    }

    #[test]
    fn long_names_fit_and_do_not_meet() {
        let (a, b) = ("x".repeat(400) + "a", "x".repeat(400) + "b");
        assert!(encode(&a).len() <= LONGEST && encode(&a) != encode(&b));
        let cut = encode(&"/".repeat(300));
        assert!(cut.len() <= LONGEST && decode(&cut).is_none());
        // What could be taken for a cut name is written otherwise.
        assert_ne!(encode(&cut), cut);
    }
}
