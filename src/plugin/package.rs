//! What comes in a zip: looked through before a byte of it is written, then unpacked into a folder of its own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zip::ZipArchive;

use super::name::{FileName, Kind, canonical, symbol};

/// Entries that a zip may have.
const ENTRIES: usize = 10_000;
/// Bytes that it may hold, unpacked.
const BYTES: u64 = 512 << 20;
/// Bytes of the output of `install.sh` that are kept, from its end.
const OUTPUT: usize = 4_000;

/// A zip that was looked through.
pub struct Package {
    archive: ZipArchive<File>,
    entries: Vec<Entry>,
    /// The library, and what its name says.
    pub library: (PathBuf, FileName),
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
        let file = File::open(zip).map_err(|error| format!("cannot read the zip: {error}"))?;
        let mut archive = ZipArchive::new(file).map_err(|error| format!("the file is no zip: {error}"))?;
        if archive.len() > ENTRIES {
            return Err(format!("the zip has {} entries, and {ENTRIES} are the most", archive.len()));
        }
        if archive.has_duplicate_names() {
            return Err("the zip has two entries of the same name".into());
        }
        let mut entries = Vec::with_capacity(archive.len());
        let mut bytes = 0u64;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(|error| format!("the zip is damaged: {error}"))?;
            let shown = String::from_utf8_lossy(entry.name_raw()).escape_debug().to_string();
            let path =
                inside(entry.name_raw()).ok_or_else(|| format!("entry `{shown}` leads out of the plugin's folder"))?;
            if entry.is_symlink() {
                return Err(format!("entry `{shown}` is a link, which a plugin may not bring"));
            }
            bytes = bytes.saturating_add(entry.size());
            if bytes > BYTES {
                return Err(format!("the zip holds more than {} MB", BYTES >> 20));
            }
            if entries.iter().any(|known: &Entry| known.path == path) {
                return Err(format!("the zip has two entries `{shown}`"));
            }
            entries.push(Entry { index, path, size: entry.size(), folder: entry.is_dir() });
        }
        let library = library(&entries, kind, name)?;
        Ok(Package { archive, entries, library })
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
            written.map_err(|error| format!("cannot unpack `{}`: {error}", entry.path.display()))?;
        }
        Ok(())
    }
}

/// The path of an entry; `None` where it would lead out of the folder it is unpacked in, on any system.
fn inside(raw: &[u8]) -> Option<PathBuf> {
    let name = std::str::from_utf8(raw).ok()?;
    if name.is_empty() || name.contains('\\') || name.contains(':') || name.chars().any(char::is_control) {
        return None;
    }
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.starts_with('/')).then(|| path.components().collect())
}

/// The one library at the top of the zip that the name asks for.
fn library(entries: &[Entry], kind: Kind, name: &str) -> Result<(PathBuf, FileName), String> {
    let tops: Vec<&Path> = entries
        .iter()
        .filter(|entry| !entry.folder)
        .map(|entry| entry.path.as_path())
        .filter(|path| path.components().count() == 1)
        .collect();
    let libraries: Vec<(&Path, FileName)> =
        tops.iter().filter_map(|path| Some((*path, FileName::read(path.to_str()?)?))).collect();
    let mut fitting: Vec<&(&Path, FileName)> =
        libraries.iter().filter(|(_, file)| file.plugin == canonical(name)).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some((path, file)), true) => Ok((path.to_path_buf(), file.clone())),
        (Some(_), false) => Err(format!("the zip holds several libraries of the {} `{name}`", kind.one())),
        (None, _) => {
            let expected = format!("`{}@v1.0.0.so` or `{name}.so`", symbol(name));
            Err(match libraries.first() {
                Some((path, _)) => {
                    format!("the zip holds `{}`, and the name `{name}` asks for {expected}", path.display())
                }
                None => format!("the zip holds no library {expected} at its top"),
            })
        }
    }
}

/// Runs `install.sh` in its folder; the error holds what it printed.
pub fn install_script(folder: &Path, parameters: &[String], limit: Duration) -> Result<(), String> {
    let printed = folder.join(".install-output");
    let run = || -> io::Result<Option<ExitStatus>> {
        let output = File::create(&printed)?;
        let mut command = Command::new("/bin/sh");
        command.arg("install.sh").args(parameters).current_dir(folder);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A group of its own, so that what it starts ends with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        wait(command.spawn()?, limit)
    };
    let ended = run().map_err(|error| format!("cannot run install.sh: {error}"))?;
    let text = fs::read(&printed).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(OUTPUT)..]).trim().to_owned();
    let said = if tail.is_empty() { "; it printed nothing".to_owned() } else { format!(": {tail}") };
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("install.sh failed ({status}){said}")),
        None => Err(format!("install.sh did not end within {} s and was stopped{said}", limit.as_secs_f64())),
    }
}

/// Waits for a process; one that takes too long is killed with all that it started, and `None` returned.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let group = child.id() as i32;
    let (told, ended) = mpsc::sync_channel(1);
    let waiter = thread::Builder::new().name("install.sh".into()).spawn(move || drop(told.send(child.wait())));
    waiter?;
    match ended.recv_timeout(limit) {
        Ok(status) => status.map(Some),
        Err(_) => {
            // SAFETY: it only sends a signal, to the group of the process that was started here and not yet waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            // The thread reaps it.
            drop(ended.recv());
            Ok(None)
        }
    }
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
        for name in ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:evil", "a\nb", "a/./../../b"] {
            assert!(inside(name.as_bytes()).is_none(), "{name}");
        }
        let told = refused(&[("mysql.so", ""), ("etc/../../evil", "")]);
        assert_eq!(told, "entry `etc/../../evil` leads out of the plugin's folder");
        assert_eq!(inside(b"etc/./a"), Some(PathBuf::from("etc/a")));
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
        assert!(told == "the zip holds more than 512 MB" || told.starts_with("the zip is damaged"), "{told}");
    }

    #[test]
    fn scripts_are_given_their_time_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let run = |script: &str, limit: Duration| {
            fs::write(folder.path().join("install.sh"), script).unwrap();
            install_script(folder.path(), &["one".into(), "two words".into()], limit)
        };
        let long = Duration::from_secs(60);
        assert_eq!(run("test \"$1$2\" = 'onetwo words'", long), Ok(()));
        assert_eq!(
            run("echo no; echo such package >&2; exit 3", long),
            Err("install.sh failed (exit status: 3): no\nsuch package".into())
        );
        assert_eq!(run("exit 3", long), Err("install.sh failed (exit status: 3); it printed nothing".into()));
        assert_eq!(
            run("sleep 1000 & wait", Duration::from_millis(300)),
            Err("install.sh did not end within 0.3 s and was stopped; it printed nothing".into())
        );
        assert_eq!(
            run("echo begun; sleep 1000 & wait", Duration::from_millis(300)),
            Err("install.sh did not end within 0.3 s and was stopped: begun".into())
        );
    }
}
