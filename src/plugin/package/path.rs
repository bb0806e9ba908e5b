//! Paths of the entries of a zip: where each goes below the folder that the zip is unpacked in, or why it goes nowhere.
//!
//! A path is judged as it would be by any system: what a separator, a drive or a parent is somewhere is refused here. `./x`,
//! `etc/./x` and `etc//x` are `x` and `etc/x`; no part of a path begins with a dot, and none has letters that nobody sees.
//! What macOS adds to each zip (`__MACOSX`, `.DS_Store`) is no part of the plugin, and is left out.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Bytes of the path of an entry, and folders in it.
const MOST: (usize, usize) = (500, 20);
/// Bytes of one name in a path; file systems take no more.
const NAME: usize = 255;

/// The path of an entry: `None` where it is left out. The error is what is wrong with it, behind its name.
pub(super) fn judged(raw: &[u8]) -> Result<Option<PathBuf>, String> {
    let Ok(name) = std::str::from_utf8(raw) else { return Err("has a name that is no UTF-8".into()) };
    if name.len() > MOST.0 {
        return Err(format!("has too long a path: it has {} bytes, and {} are the most", name.len(), MOST.0));
    }
    if name.contains(['\n', '\r', '\u{2028}', '\u{2029}']) {
        return Err("has a line break in its name".into());
    }
    if name.contains(char::is_control) {
        return Err("has a control character in its name".into());
    }
    if let Some(mark) = name.chars().find(|letter| turns(*letter)) {
        return Err(format!("has U+{:04X} in its name, which shows it in another order than it has", u32::from(mark)));
    }
    if name.contains('\\') {
        return Err("has a backslash in its name; folders are parted by `/`".into());
    }
    if name.contains(':') {
        return Err("has a colon in its name, which names a drive of Windows".into());
    }
    if name.starts_with('/') {
        return Err("begins with `/`, so it leads out of the plugin's folder".into());
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut up = false;
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return Err("leads out of the plugin's folder".into()),
            ".." => up = true,
            part => parts.push(part),
        }
    }
    if up {
        return Err("has `..` in its path; write the path without".into());
    }
    if parts.is_empty() {
        return Err("has no name".into());
    }
    if parts[0] == "__MACOSX" || parts.contains(&".DS_Store") {
        return Ok(None);
    }
    if let Some(hidden) = parts.iter().find(|part| part.starts_with('.')) {
        return Err(format!("has a name that begins with a dot, `{hidden}`, which a plugin may not bring"));
    }
    if let Some(long) = parts.iter().find(|part| part.len() > NAME) {
        return Err(format!("has too long a name: it has {} bytes, and {NAME} are the most", long.len()));
    }
    if parts.len() > MOST.1 {
        return Err(format!("has too long a path: it is {} folders deep, and {} are the most", parts.len(), MOST.1));
    }
    Ok(Some(parts.iter().collect()))
}

/// Whether a character changes the direction in which text is shown, and is not seen itself.
fn turns(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks that no path is there twice, and that none goes through what is a file; `true` stands for a folder. The error is
/// a sentence.
pub(super) fn fit(paths: &[(&Path, bool)]) -> Result<(), String> {
    let mut known = HashMap::with_capacity(paths.len());
    for (path, folder) in paths {
        if known.insert(*path, *folder).is_some() {
            return Err(format!("the zip has two entries `{}`", path.display()));
        }
    }
    // Of each path only what has not been looked at: paths that share their folders cost no more than one.
    let mut seen = HashSet::new();
    for (path, _) in paths {
        for above in path.ancestors().skip(1).take_while(|above| seen.insert(*above)) {
            if known.get(above) == Some(&false) {
                let (path, above) = (path.display(), above.display());
                return Err(format!("entry `{above}` is a file, and `{path}` needs a folder there"));
            }
        }
    }
    match known.get(Path::new("etc")) {
        Some(false) => Err("entry `etc` is a file, and it is the folder of a plugin's files".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_refused_for_what_is_wrong_with_it() {
        let out = "leads out of the plugin's folder";
        for (name, wrong) in [
            ("", "has no name"),
            ("./", "has no name"),
            ("../evil", out),
            ("a/../../evil", out),
            ("a/./../../b", out),
            ("a/../b", "has `..` in its path; write the path without"),
            ("/etc/evil", "begins with `/`, so it leads out of the plugin's folder"),
            ("//evil", "begins with `/`, so it leads out of the plugin's folder"),
            ("..\\evil", "has a backslash in its name; folders are parted by `/`"),
            ("C:evil", "has a colon in its name, which names a drive of Windows"),
            ("a\nb", "has a line break in its name"),
            ("a\u{2028}b", "has a line break in its name"),
            ("a\u{7}b", "has a control character in its name"),
            ("a\0b", "has a control character in its name"),
            ("a\u{85}b", "has a control character in its name"),
            (".hidden", "has a name that begins with a dot, `.hidden`, which a plugin may not bring"),
            ("./.hidden", "has a name that begins with a dot, `.hidden`, which a plugin may not bring"),
            ("etc/.hid/a", "has a name that begins with a dot, `.hid`, which a plugin may not bring"),
            ("etc/...", "has a name that begins with a dot, `...`, which a plugin may not bring"),
            ("__MACOSX/../../a", out),
        ] {
            assert_eq!(judged(name.as_bytes()), Err(wrong.to_owned()), "{name:?}");
        }
        assert_eq!(judged(b"a\xff"), Err("has a name that is no UTF-8".into()));
        for mark in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            let told = judged(format!("etc/a{mark}b").as_bytes()).unwrap_err();
            let code = format!("has U+{:04X} in its name", u32::from(mark));
            assert!(told.starts_with(&code), "{told}");
        }
    }

    #[test]
    fn what_is_too_long_is_told_with_its_length() {
        let name = |length| format!("etc/{}", "a".repeat(length));
        assert_eq!(judged(name(255).as_bytes()), Ok(Some(name(255).into())));
        let told = judged(name(256).as_bytes());
        assert_eq!(told, Err("has too long a name: it has 256 bytes, and 255 are the most".into()));
        // A letter may have several bytes.
        assert!(judged(format!("etc/{}", "ä".repeat(128)).as_bytes()).unwrap_err().contains("it has 256 bytes"));
        let told = judged(format!("{}/{}", name(255), "a".repeat(241)).as_bytes());
        assert_eq!(told, Err("has too long a path: it has 501 bytes, and 500 are the most".into()));
        assert!(judged("a/".repeat(20).as_bytes()).is_ok());
        let told = judged("a/".repeat(21).as_bytes());
        assert_eq!(told, Err("has too long a path: it is 21 folders deep, and 20 are the most".into()));
    }

    #[test]
    fn one_path_may_be_written_in_several_ways() {
        for name in ["etc/a", "./etc/a", "etc/./a", "etc//a", "etc/a/", "etc/a/."] {
            assert_eq!(judged(name.as_bytes()), Ok(Some(PathBuf::from("etc/a"))), "{name}");
        }
        for name in ["__MACOSX/", "__MACOSX/._a.so", ".DS_Store", "etc/.DS_Store"] {
            assert_eq!(judged(name.as_bytes()), Ok(None), "{name}");
        }
        assert_eq!(judged(b"etc/__MACOSX"), Ok(Some(PathBuf::from("etc/__MACOSX"))));
    }

    #[test]
    fn a_file_is_no_folder() {
        let told = |paths: &[(&str, bool)]| {
            let paths: Vec<(&Path, bool)> = paths.iter().map(|(path, folder)| (Path::new(*path), *folder)).collect();
            fit(&paths)
        };
        assert_eq!(told(&[("etc", true), ("etc/a", true), ("etc/a/b", false), ("etc/a/c/d", false)]), Ok(()));
        let wrong = Err("entry `etc/a` is a file, and `etc/a/b` needs a folder there".into());
        assert_eq!(told(&[("etc/a", false), ("etc/a/b", false)]), wrong);
        assert_eq!(told(&[("etc/a/b", false), ("etc/a", false)]), wrong);
        assert!(told(&[("etc/b", false), ("etc/a/c", false), ("etc/a", false)]).is_err());
        assert_eq!(told(&[("etc/a", false), ("etc/a", true)]), Err("the zip has two entries `etc/a`".into()));
        assert!(told(&[("etc", false)]).unwrap_err().starts_with("entry `etc` is a file"));
    }
}
