//! What comes in a zip: looked through before a byte of it is written, then unpacked into a folder of its own.
//!
//! A zip holds the library of a plugin at its top, or for several machines in `bin/<target>/`, or both: the one in the
//! folder of this machine's target is taken, else the one at the top.

mod path;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::diag::words;

use super::elf::{self, Place};
use super::name::{FileName, Kind, canonical, symbol};
use super::sign::{self, Asking, PublicKey};

/// Entries that a zip may have.
const ENTRIES: usize = 10_000;
/// Bytes that it may hold, unpacked.
const BYTES: u64 = 512 << 20;
/// How often larger than packed an entry may be unpacked, beyond [`SMALL`]; libraries come to four times or so.
const RATIO: u64 = 100;
/// Bytes that may be packed however well.
const SMALL: u64 = 1 << 20;
/// Bytes that a signature may have.
const SIGNATURE: u64 = 4096;
/// Letters of the name of an entry that are shown.
const SHOWN: usize = 500;

/// A zip that was looked through.
pub struct Package {
    archive: ZipArchive<File>,
    entries: Vec<Entry>,
    /// The library for this machine, and what its name says.
    pub library: (PathBuf, FileName),
    /// Targets that the zip has a library for in `bin`.
    pub targets: Vec<String>,
}

struct Entry {
    index: usize,
    path: PathBuf,
    size: u64,
    folder: bool,
}

impl Package {
    /// Opens a zip for a plugin of that name; the error is a sentence.
    pub fn open(zip: &Path, kind: Kind, name: &str) -> Result<Package, String> {
        let (archive, entries) = looked_through(zip)?;
        let (library, targets) = library(&entries, kind.one(), name, &Place::here())?;
        Ok(Package { archive, entries, library, targets })
    }

    /// Opens a zip whose plugin nobody has named: that of its libraries, which must be of one plugin.
    pub fn open_any(zip: &Path, place: &Place) -> Result<Package, String> {
        let (archive, entries) = looked_through(zip)?;
        let named = |entry: &Entry| FileName::read(entry.path.file_name()?.to_str()?).map(|file| file.plugin);
        let mut names: Vec<String> =
            entries.iter().filter(|entry| place_of(entry).is_some()).filter_map(named).collect();
        names.sort();
        names.dedup();
        let (library, targets) = match names.as_slice() {
            [] => return Err("the zip holds no library, neither at its top nor in `bin/<target>`".into()),
            [name] => library(&entries, "plugin", name, place)?,
            names => return Err(format!("the zip holds libraries of several plugins: `{}`", names.join("`, `"))),
        };
        Ok(Package { archive, entries, library, targets })
    }

    /// The content of one entry that is small.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(entry) = self.entries.iter().find(|entry| !entry.folder && entry.path == Path::new(name)) else {
            return Ok(None);
        };
        if entry.size > most {
            return Err(format!("`{name}` has {} bytes, and {most} are the most", entry.size));
        }
        let mut bytes = Vec::new();
        let damaged = |error: &dyn std::fmt::Display| format!("cannot unpack `{name}`: {error}");
        let packed = self.archive.by_index(entry.index).map_err(|error| damaged(&error))?;
        packed.take(most + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        Ok(Some(bytes))
    }

    /// What a signature of the zip signs: a line for each file but `besides`, as `sha256sum` prints it, in the order of
    /// their names.
    pub fn digests(&mut self, besides: &str) -> Result<String, String> {
        let mut files: Vec<&Entry> =
            self.entries.iter().filter(|entry| !entry.folder && entry.path != Path::new(besides)).collect();
        files.sort_by(|one, two| one.path.cmp(&two.path));
        let mut text = String::new();
        for entry in files {
            let shown = entry.path.display();
            let damaged = |error: &dyn std::fmt::Display| format!("cannot unpack `{shown}`: {error}");
            let mut packed = self.archive.by_index(entry.index).map_err(|error| damaged(&error))?;
            let mut sum = Sha256::new();
            let mut piece = vec![0; 1 << 16];
            let mut left = entry.size;
            loop {
                let size = packed.read(&mut piece).map_err(|error| damaged(&error))?;
                if size == 0 {
                    break;
                }
                left = left.checked_sub(size as u64).ok_or_else(|| damaged(&"its size is not what the zip says"))?;
                sum.update(&piece[..size]);
            }
            let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{sum}  {shown}\n");
        }
        Ok(text)
    }

    /// Checks that one of the keys has signed all of it, and returns the number of that key.
    pub fn check_signature(&mut self, trusted: &[PublicKey], asking: Asking) -> Result<String, String> {
        let signature = self.read(sign::ENTRY, SIGNATURE)?;
        let signed = self.digests(sign::ENTRY)?;
        sign::check(signature.as_deref(), &signed, trusted, asking)
    }

    /// The number of the key that its signature says it is by, which is not looked into; `None` where it has none.
    pub fn claimed(&mut self) -> Result<Option<String>, String> {
        self.read(sign::ENTRY, SIGNATURE)?.map(|signature| sign::claimed(&signature)).transpose()
    }

    /// Adds to what is wrong with the library for which machines the zip has others.
    pub fn with_targets(&self, wrong: String) -> String {
        let own = self.library.0.parent();
        let others: Vec<&str> = self
            .targets
            .iter()
            .map(String::as_str)
            .filter(|target| own != Some(&Path::new(BIN).join(target)))
            .collect();
        match others.is_empty() {
            true => wrong,
            false => format!("{wrong}; the zip also has it for {}", others.join(", ")),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| !entry.folder && entry.path == Path::new(name))
    }

    /// Writes all of it below a folder.
    pub fn unpack(&mut self, folder: &Path) -> Result<(), String> {
        for entry in &self.entries {
            let target = folder.join(&entry.path);
            let written = if entry.folder {
                fs::create_dir_all(&target)
            } else {
                target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                    let mut packed = self.archive.by_index(entry.index).map_err(io::Error::other)?;
                    // What the directory of the zip says was checked; more than that is a lie.
                    let copied = io::copy(&mut (&mut packed).take(entry.size + 1), &mut File::create(&target)?)?;
                    if copied == entry.size {
                        Ok(())
                    } else {
                        Err(io::Error::other("its size is not what the zip says"))
                    }
                })
            };
            written.map_err(|error| format!("cannot unpack `{}`: {}", entry.path.display(), words(&error)))?;
        }
        Ok(())
    }
}

/// Where libraries for several machines lie.
const BIN: &str = "bin";

/// Why a file cannot be read as a zip.
fn no_zip(zip: &Path, error: &dyn std::fmt::Display) -> String {
    let mut head = Vec::new();
    let read = File::open(zip).and_then(|file| file.take(1024).read_to_end(&mut head));
    match read {
        Ok(_) if head.starts_with(b"\x7fELF") => {
            "the file is no zip: it is a library by itself; `kuiper plugin pack` makes a zip of it".into()
        }
        Ok(_) if !is_zip(&head) => format!("the file is no zip: it is {}", elf::told(&head)),
        // Its directory stands at its end.
        _ => format!("the zip is damaged, or was cut off ({error}); copy it again, or pack it again"),
    }
}

/// Whether a file that begins so is a zip, good or bad.
pub fn is_zip(head: &[u8]) -> bool {
    [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"].iter().any(|begin| head.starts_with(*begin))
}

/// Opens a zip, and refuses it where anything in it could do harm.
fn looked_through(zip: &Path) -> Result<(ZipArchive<File>, Vec<Entry>), String> {
    let file = File::open(zip).map_err(|error| format!("cannot read the zip: {}", words(&error)))?;
    let mut archive = ZipArchive::new(file).map_err(|error| no_zip(zip, &error))?;
    if archive.len() > ENTRIES {
        return Err(format!("the zip has {} entries, and {ENTRIES} are the most", archive.len()));
    }
    if archive.has_duplicate_names() {
        return Err("the zip has two entries of the same name".into());
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(archive.len());
    let mut bytes = 0u64;
    // Where the packed bytes of each entry begin and end.
    let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| format!("the zip is damaged: {error}"))?;
        let shown: String = String::from_utf8_lossy(entry.name_raw()).chars().take(SHOWN).collect();
        let shown = shown.escape_debug().to_string();
        let judged = path::judged(entry.name_raw()).map_err(|wrong| format!("entry `{shown}` {wrong}"))?;
        let Some(path) = judged else { continue };
        if entry.is_symlink() {
            return Err(format!("entry `{shown}` is a link, which a plugin may not bring"));
        }
        if entry.unix_mode().is_some_and(|mode| ![0, 0o100_000, 0o040_000].contains(&(mode & 0o170_000))) {
            return Err(format!("entry `{shown}` is neither a file nor a folder"));
        }
        if entry.encrypted() {
            return Err(format!("entry `{shown}` is encrypted; pack it without a password"));
        }
        if entry.size() > SMALL && entry.size() / RATIO > entry.compressed_size() {
            return Err(format!(
                "entry `{shown}` is packed {} times smaller than it is, and more than {RATIO} times is taken for a trap",
                entry.size() / entry.compressed_size().max(1)
            ));
        }
        bytes = bytes.saturating_add(entry.size());
        if bytes > BYTES {
            return Err(format!("the zip holds more than {} MB", BYTES >> 20));
        }
        if let Some(begin) = entry.data_start() {
            ranges.push((begin, begin.saturating_add(entry.compressed_size())));
        }
        entries.push(Entry { index, path, size: entry.size(), folder: entry.is_dir() });
    }
    ranges.sort();
    if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err("two entries of the zip share bytes, which is taken for a trap".into());
    }
    let paths: Vec<(&Path, bool)> = entries.iter().map(|entry| (entry.path.as_path(), entry.folder)).collect();
    path::fit(&paths)?;
    Ok((archive, entries))
}

/// Where a library lies, if it lies where libraries do: at the top, or for a target.
fn place_of(entry: &Entry) -> Option<Option<&str>> {
    let parts: Vec<&str> = entry.path.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        [file] if file.ends_with(".so") && !entry.folder => Some(None),
        [BIN, target, file] if file.ends_with(".so") && !entry.folder => Some(Some(target)),
        _ => None,
    }
}

/// A library's path in the zip, and what its name says; and the targets that the zip has libraries for.
type Chosen = ((PathBuf, FileName), Vec<String>);

/// The one library that the name asks for: the place's own, else the one at the top.
fn library(entries: &[Entry], what: &str, name: &str, place: &Place) -> Result<Chosen, String> {
    let mut fitting: Vec<(Option<&str>, &Path, FileName)> = Vec::new();
    let mut other = None;
    for entry in entries {
        let Some(target) = place_of(entry) else { continue };
        let file = entry.path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        match FileName::parse(file) {
            Ok(file) if file.plugin == canonical(name) => fitting.push((target, &entry.path, file)),
            Ok(_) => other = other.or(Some(entry.path.as_path())),
            Err(wrong) if target.is_none() => return Err(wrong),
            Err(_) => {}
        }
    }
    let mut targets: Vec<String> = fitting.iter().filter_map(|(target, ..)| target.map(str::to_owned)).collect();
    targets.dedup();
    let own = |target: &Option<&str>| target.and_then(Place::target).is_some_and(|target| place.takes(&target));
    for at_top in [false, true] {
        let mut chosen = fitting.iter().filter(|(target, ..)| if at_top { target.is_none() } else { own(target) });
        match (chosen.next(), chosen.next()) {
            (None, _) => {}
            (Some((_, path, file)), None) => return Ok(((path.to_path_buf(), file.clone()), targets)),
            (Some(_), Some(_)) => return Err(format!("the zip holds several libraries of the {what} `{name}`")),
        }
    }
    let expected = format!("`{}@v1.0.0.so` or `{name}.so`", symbol(name));
    Err(match (targets.is_empty(), other) {
        (false, _) => format!("the zip holds no library for {}; it has {}", place.words(), targets.join(", ")),
        (true, Some(path)) => format!("the zip holds `{}`, and the name `{name}` asks for {expected}", path.display()),
        (true, None) => format!("the zip holds no library {expected} at its top"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn zipped(entries: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, text) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        (folder, path)
    }

    fn refused(entries: &[(&str, &str)]) -> String {
        let (_folder, path) = zipped(entries);
        Package::open(&path, Kind::Sinks, "mysql").err().unwrap()
    }

    #[test]
    fn entries_that_lead_out_are_refused() {
        let told = refused(&[("mysql.so", ""), ("etc/../../evil", "")]);
        assert_eq!(told, "entry `etc/../../evil` leads out of the plugin's folder");
        let told = refused(&[("mysql.so", ""), ("etc/\u{202e}gpj.sh", "")]);
        assert!(told.starts_with("entry `etc/\\u{202e}gpj.sh` has U+202E in its name"), "{told}");
        let told = refused(&[("mysql.so", ""), ("etc/a", ""), ("etc/a/b", "")]);
        assert_eq!(told, "entry `etc/a` is a file, and `etc/a/b` needs a folder there");
    }

    #[test]
    fn what_macos_adds_is_left_out() {
        let entries = [("mysql.so", "b"), (".DS_Store", "x"), ("__MACOSX/._mysql.so", "x"), ("./etc//a", "a")];
        let (folder, path) = zipped(&entries);
        let mut package = Package::open(&path, Kind::Sinks, "mysql").ok().unwrap();
        assert_eq!(package.digests("signature").unwrap().lines().count(), 2);
        let unpacked = folder.path().join("unpacked");
        package.unpack(&unpacked).unwrap();
        assert_eq!(fs::read(unpacked.join("etc/a")).unwrap(), b"a");
        assert_eq!(fs::read_dir(unpacked).unwrap().count(), 2);
    }

    #[test]
    fn the_name_asks_for_its_library() {
        assert_eq!(refused(&[("readme", "")]), "the zip holds no library `Mysql@v1.0.0.so` or `mysql.so` at its top");
        assert_eq!(
            refused(&[("Other@v2.so", "")]),
            "the zip holds `Other@v2.so`, and the name `mysql` asks for `Mysql@v1.0.0.so` or `mysql.so`"
        );
        assert_eq!(
            refused(&[("bin/mysql.so", "")]),
            "the zip holds no library `Mysql@v1.0.0.so` or `mysql.so` at its top"
        );
        assert_eq!(
            refused(&[("mysql.so", ""), ("Mysql@v1.so", "")]),
            "the zip holds several libraries of the sink `mysql`"
        );
        for name in ["mysql.so", "Mysql.so", "mysql@v1.0.0.so", "Mysql@v1.0.0.so"] {
            let (_folder, path) = zipped(&[(name, "")]);
            assert_eq!(Package::open(&path, Kind::Sinks, "mysql").ok().unwrap().library.0, Path::new(name));
        }
    }

    #[test]
    fn absurd_sizes_are_refused_before_anything_is_unpacked() {
        let (_folder, path) = zipped(&[("mysql.so", "short")]);
        // The directory at the end says how large the entry is; let it say 4 GB.
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        bytes[at + 24..at + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let told = Package::open(&path, Kind::Sinks, "mysql").err().unwrap();
        assert!(told.ends_with("and more than 100 times is taken for a trap"), "{told}");
        // Packed to a thousandth, as only what is the same all over can be.
        let zeros = "0".repeat(2 << 20);
        let told = refused(&[("mysql.so", ""), ("etc/zeros", &zeros)]);
        assert!(told.starts_with("entry `etc/zeros` is packed ") && told.ends_with("for a trap"), "{told}");
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let deep = "a/".repeat(20) + "b";
        assert!(refused(&[("mysql.so", ""), (&deep, "")]).contains("` has too long a path: it is 21 folders deep"));
        let long = "a".repeat(501);
        assert!(refused(&[("mysql.so", ""), (&long, "")]).contains("` has too long a path: it has 501 bytes"));
        let many: Vec<String> = (0..ENTRIES).map(|n| n.to_string()).collect();
        let mut entries: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        entries.push(("mysql.so", ""));
        assert_eq!(refused(&entries), "the zip has 10001 entries, and 10000 are the most");
    }

    /// The zip with some bytes of it replaced, all of the same length.
    fn changed(entries: &[(&str, &str)], from: &[u8], to: &[u8]) -> String {
        let (_folder, path) = zipped(entries);
        let mut bytes = fs::read(&path).unwrap();
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
            bytes[at + found..at + found + to.len()].copy_from_slice(to);
            at += found + to.len();
        }
        fs::write(&path, bytes).unwrap();
        Package::open(&path, Kind::Sinks, "mysql").err().unwrap()
    }

    #[test]
    fn two_entries_of_one_name_are_refused() {
        let told = changed(&[("mysql.so", ""), ("aaaa", "1"), ("aaab", "2")], b"aaab", b"aaaa");
        assert!(told.starts_with("the zip has two entries"), "{told}");
        let told = refused(&[("mysql.so", ""), ("etc/a", ""), ("etc//a", "")]);
        assert!(told.starts_with("the zip has two entries"), "{told}");
        assert_eq!(
            changed(&[("mysql.so", ""), ("aaaa", "")], b"aaaa", b"../a"),
            "entry `../a` leads out of the plugin's folder"
        );
        assert_eq!(
            changed(&[("mysql.so", ""), ("aaaa", "")], b"aaaa", b"/aaa"),
            "entry `/aaa` begins with `/`, so it leads out of the plugin's folder"
        );
    }

    #[test]
    fn links_and_devices_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        writer.add_symlink("mysql.so", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        let told = Package::open(&path, Kind::Sinks, "mysql").err().unwrap();
        assert_eq!(told, "entry `mysql.so` is a link, which a plugin may not bring");
        // The mode stands in the upper half of the last attribute of the entry in the directory.
        let (_folder, path) = zipped(&[("mysql.so", "")]);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        bytes[at + 38..at + 42].copy_from_slice(&(0o020_644u32 << 16).to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let told = Package::open(&path, Kind::Sinks, "mysql").err().unwrap();
        assert_eq!(told, "entry `mysql.so` is neither a file nor a folder");
    }

    #[test]
    fn entries_that_share_bytes_are_refused() {
        let (_folder, path) = zipped(&[("mysql.so", "abcdefgh"), ("b", "ijklmnop")]);
        let mut bytes = fs::read(&path).unwrap();
        // The second entry of the directory is let begin where the first does.
        let at = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        bytes[at + 42..at + 46].copy_from_slice(&0u32.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let told = Package::open(&path, Kind::Sinks, "mysql").err().unwrap();
        assert!(
            told == "two entries of the zip share bytes, which is taken for a trap"
                || told.starts_with("the zip is damaged"),
            "{told}"
        );
    }

    #[test]
    fn the_library_of_the_place_is_taken() {
        let place = |triple: &str| Place::target(triple).unwrap();
        let open = |entries: &[(&str, &str)], target: &str| {
            let (_folder, path) = zipped(entries);
            Package::open_any(&path, &place(target)).map(|package| package.library.0.display().to_string())
        };
        let (arm, gnu, musl) = ("aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl");
        let both = &[
            ("Mysql@v1.0.0.so", ""),
            ("bin/aarch64-unknown-linux-gnu/Mysql@v1.0.0.so", ""),
            ("bin/x86_64-unknown-linux-musl/Mysql@v1.0.0.so", ""),
        ];
        assert_eq!(open(both, arm).ok().unwrap(), both[1].0);
        assert_eq!(open(both, musl).ok().unwrap(), both[2].0);
        // What stands at the top is for whom there is nothing else.
        assert_eq!(open(both, gnu).ok().unwrap(), both[0].0);
        assert_eq!(
            open(&both[1..], gnu).err().unwrap(),
            "the zip holds no library for x86_64 with glibc; it has aarch64-unknown-linux-gnu, x86_64-unknown-linux-musl"
        );
        assert_eq!(
            open(&[("a.so", ""), ("B@v1.so", "")], gnu).err().unwrap(),
            "the zip holds libraries of several plugins: `a`, `b`"
        );
        assert_eq!(
            open(&[("a", "")], gnu).err().unwrap(),
            "the zip holds no library, neither at its top nor in `bin/<target>`"
        );
    }

    #[test]
    fn a_version_that_is_none_is_told() {
        let told = refused(&[("Mysql@v1..0.so", "")]);
        assert!(told.starts_with("`Mysql@v1..0.so` is no name of a library: `1..0` is no version: "), "{told}");
    }

    #[test]
    fn what_is_signed_is_the_digest_of_each_file() {
        let (_folder, path) = zipped(&[("mysql.so", "b"), ("etc/a", "a"), ("signature", "x")]);
        let mut package = Package::open(&path, Kind::Sinks, "mysql").ok().unwrap();
        assert_eq!(
            package.digests("signature").unwrap(),
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  etc/a\n\
             3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  mysql.so\n"
        );
        assert_eq!(package.read("etc/a", 1), Ok(Some(b"a".to_vec())));
        assert_eq!(package.read("etc/b", 1), Ok(None));
        assert_eq!(package.read("signature", 0), Err("`signature` has 1 bytes, and 0 are the most".into()));
    }
}
