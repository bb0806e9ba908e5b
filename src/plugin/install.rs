//! Installing and removing a plugin, each in one step: whoever looks after a crash at any moment finds the old or the new.
//!
//! What is to change is put together in a **staging** folder, `plugins/staged/<kind>-<plugin>/`, where nobody looks for
//! plugins. Then the **record** is renamed into its place beside that folder; this is the moment at which the new holds.
//! What the record says is carried out at once: files are moved to their places, then all libraries of the plugin but the
//! new one go. A process that ends meanwhile leaves the record, and the next start carries it out again, which changes
//! nothing that was done before. Without a record what is staged is thrown away.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::elf;
use super::library::Library;
use super::name::{FileName, Kind, symbol};
use super::regular::read_regular;
use super::shelf::{Shelf, hash};

/// Where the files of the zip lie below the staging folder.
const UNPACKED: &str = "unpacked";
/// Where files that are replaced lie until all are.
const REPLACED: &str = "replaced";

/// A plugin that is being put together. Dropped before it is committed, it leaves nothing.
pub struct Staging<'a> {
    shelf: &'a Shelf,
    folder: PathBuf,
    change: Change,
    /// What goes where nothing comes of it.
    kept: Option<PathBuf>,
}

/// What the record says: the plugin, the library that stays (none where it is removed), and files to move into place.
#[derive(Debug, PartialEq)]
struct Change {
    kind: Kind,
    plugin: String,
    library: Option<String>,
    /// From a path below the staging folder to one below the data folder.
    moves: Vec<(PathBuf, PathBuf)>,
}

impl Shelf {
    /// Begins to put a plugin together.
    pub fn stage(&self, kind: Kind, plugin: &str) -> io::Result<Staging<'_>> {
        let change = Change { kind, plugin: plugin.to_owned(), library: None, moves: Vec::new() };
        let folder = self.staged().join(change.name());
        self.discard(&folder);
        fs::create_dir_all(folder.join(UNPACKED))?;
        Ok(Staging { shelf: self, folder, change, kept: None })
    }

    /// Takes a plugin and its files away.
    pub fn remove(&self, kind: Kind, plugin: &str) -> io::Result<()> {
        let change = Change { kind, plugin: plugin.to_owned(), library: None, moves: Vec::new() };
        fs::create_dir_all(self.staged())?;
        let record = change.record(self)?;
        change.clear(self);
        self.discard(&record);
        self.tidy();
        Ok(())
    }

    /// Carries out what a process that ended has left behind, and throws away what it had not committed. What cannot be
    /// done is told.
    pub fn recover(&self) -> Vec<String> {
        let mut told = Vec::new();
        let entries: Vec<PathBuf> =
            fs::read_dir(self.staged()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        let is_record = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "json");
        for path in entries.iter().filter(is_record) {
            let carried = Change::read(path).and_then(|change| {
                change.carry_out(self)?;
                change.clear(self);
                fs::remove_file(path)
            });
            if let Err(error) = carried {
                let shown = path.display();
                told.push(format!("cannot complete the installation that `{shown}` tells of: {error}"));
            }
        }
        if told.is_empty() {
            self.discard(&self.staged());
        }
        told
    }
}

impl Staging<'_> {
    /// The folder for the files of the zip.
    pub fn unpacked(&self) -> PathBuf {
        self.folder.join(UNPACKED)
    }

    /// Checks a library of the zip by reading it, and returns what it read.
    pub fn check(&self, path: &Path) -> Result<Vec<u8>, String> {
        let from = self.unpacked().join(path);
        let bytes = read_regular(&from).map_err(|wrong| format!("it cannot be read: {wrong}"))?;
        elf::check(&bytes, &from)?;
        elf::check_list(&bytes, self.change.kind, &self.change.plugin)?;
        Ok(bytes)
    }

    /// Checks and maps a library of the zip, under a name that its content decides.
    pub fn library(&mut self, path: &Path, file: &FileName, isolated: Option<bool>) -> Result<Library, String> {
        let bytes = self.check(path)?;
        let (kind, plugin) = (self.change.kind, self.change.plugin.clone());
        let name = file.mapped(&hash(&bytes));
        let there = self.shelf.libraries(kind).join(&name);
        let mapped = if there.exists() {
            there
        } else {
            let kept = self.stored(&name, &bytes).map_err(|error| format!("it cannot be stored: {error}"))?;
            self.move_to(name.clone().into(), there);
            kept
        };
        self.change.library = Some(name);
        self.shelf.map(kind, &plugin, &mapped, isolated)
    }

    /// Stores a library in the staging folder, and under a path that it keeps while this process lives: a process of the
    /// plugin's own may be started from it again.
    fn stored(&mut self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let staged = self.folder.join(name);
        write(&staged, bytes)?;
        let folder = self.shelf.mapped(self.change.kind);
        let kept = folder.join(name);
        if !kept.exists() {
            fs::create_dir_all(&folder)?;
            self.kept = Some(kept.clone());
            // Not every file system has links.
            fs::hard_link(&staged, &kept).or_else(|_| write(&kept, bytes))?;
        }
        Ok(kept)
    }

    /// Finds the places of the files that came along.
    pub fn metadata(&mut self) -> io::Result<()> {
        let (kind, plugin, unpacked) = (self.change.kind, self.change.plugin.clone(), self.unpacked());
        for name in [symbol(&plugin), plugin.clone()] {
            for (file, to) in [
                (format!("{name}.yaml"), self.shelf.yaml(kind, &plugin)),
                (format!("{name}.json"), self.shelf.json(kind, &plugin)),
            ] {
                if unpacked.join(&file).is_file() {
                    self.move_to(Path::new(UNPACKED).join(file), to);
                }
            }
        }
        let etc = unpacked.join("etc");
        for file in files_below(&etc)? {
            let below = file.strip_prefix(&etc).map_err(io::Error::other)?;
            let to = self.shelf.metadata(kind).join(&plugin).join(below);
            self.move_to(Path::new(UNPACKED).join("etc").join(below), to);
        }
        Ok(())
    }

    /// Adds a file with that content.
    pub fn add(&mut self, name: &str, content: &[u8], to: PathBuf) -> io::Result<()> {
        write(&self.folder.join(name), content)?;
        self.move_to(name.into(), to);
        Ok(())
    }

    fn move_to(&mut self, from: PathBuf, to: PathBuf) {
        // The second of `Random.yaml` and `random.yaml` wins, as it is written later.
        self.change.moves.retain(|(_, known)| *known != to);
        self.change.moves.push((from, to));
    }

    /// Makes the new hold. After an error everything is as it was before.
    pub fn commit(mut self) -> io::Result<()> {
        for (from, to) in &self.change.moves {
            if to.is_dir() {
                return Err(io::Error::other(format!("`{}` is a folder", to.display())));
            }
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            sync(&self.folder.join(from))?;
        }
        sync(&self.folder)?;
        let record = self.change.record(self.shelf)?;
        let carried = self.change.carry_out(self.shelf);
        if carried.is_ok() {
            self.change.clear(self.shelf);
            self.kept = None;
        } else {
            self.change.undo(self.shelf);
        }
        self.shelf.discard(&record);
        carried
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if let Some(kept) = &self.kept {
            self.shelf.discard(kept);
        }
        self.shelf.discard(&self.folder);
        self.shelf.tidy();
    }
}

impl Change {
    /// Of the staging folder, and with `.json` of the record.
    fn name(&self) -> String {
        format!("{}-{}", self.kind.many(), self.plugin)
    }

    /// Writes the record, and returns where it is.
    fn record(&self, shelf: &Shelf) -> io::Result<PathBuf> {
        let path = shelf.staged().join(format!("{}.json", self.name()));
        let text =
            |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a path is not UTF-8"));
        let moves = self.moves.iter().map(|(from, to)| {
            let below = to.strip_prefix(shelf.data()).map_err(io::Error::other)?;
            Ok(json!([text(from)?, text(below)?]))
        });
        let record = json!({
            "kind": self.kind.many(),
            "plugin": self.plugin,
            "library": self.library,
            "moves": moves.collect::<io::Result<Vec<Json>>>()?,
        });
        write(&path, record.to_string().as_bytes())?;
        Ok(path)
    }

    /// The paths of the record are below the data folder already when this is carried out.
    fn read(path: &Path) -> io::Result<Change> {
        let record: Json = serde_json::from_slice(&fs::read(path)?)?;
        let text =
            |json: &Json| json.as_str().map(str::to_owned).ok_or_else(|| io::Error::other("the record is damaged"));
        let moves = record["moves"].as_array().into_iter().flatten();
        Ok(Change {
            kind: Kind::read(&text(&record["kind"])?).ok_or_else(|| io::Error::other("the record is damaged"))?,
            plugin: text(&record["plugin"])?,
            library: record["library"].as_str().map(str::to_owned),
            moves: moves.map(|pair| Ok((text(&pair[0])?.into(), text(&pair[1])?.into()))).collect::<io::Result<_>>()?,
        })
    }

    /// Moves what is not yet in its place.
    fn carry_out(&self, shelf: &Shelf) -> io::Result<()> {
        let folder = shelf.staged().join(self.name());
        for (number, (from, to)) in self.moves.iter().enumerate() {
            let (from, to) = (folder.join(from), shelf.data().join(to));
            if !from.exists() {
                continue;
            }
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            if to.exists() {
                fs::create_dir_all(folder.join(REPLACED))?;
                fs::rename(&to, folder.join(REPLACED).join(number.to_string()))?;
            }
            fs::rename(&from, &to)?;
            to.parent().map_or(Ok(()), sync)?;
        }
        Ok(())
    }

    /// Takes back what was carried out.
    fn undo(&self, shelf: &Shelf) {
        let folder = shelf.staged().join(self.name());
        for (number, (from, to)) in self.moves.iter().enumerate().rev() {
            let (from, to, before) =
                (folder.join(from), shelf.data().join(to), folder.join(REPLACED).join(number.to_string()));
            let mut undone = Ok(());
            if !from.exists() {
                undone = fs::rename(&to, &from);
            }
            if before.exists() {
                undone = undone.and(fs::rename(&before, &to));
            }
            if let Err(error) = undone {
                tracing::error!("cannot put `{}` back as it was: {error}", to.display());
            }
        }
    }

    /// Takes away what is not of the new.
    fn clear(&self, shelf: &Shelf) {
        let library = self.library.as_ref().map(|name| shelf.libraries(self.kind).join(name));
        shelf.clear(self.kind, &self.plugin, library.as_deref());
    }
}

/// Writes beside the file and then moves into place, so that it is never seen half-written.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    fs::write(&beside, bytes)?;
    sync(&beside)?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Brings a file, or what a folder lists, to the disk.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                // A script may have left links behind; they are not followed.
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// A shelf that holds version 1 of `random`, and version 2 of it staged.
    fn staged(data: &Path) -> (Shelf, PathBuf) {
        let shelf = Shelf::new(data);
        shelf.prepare().unwrap();
        fs::write(shelf.libraries(Kind::Sources).join("Random@v1.so"), "one").unwrap();
        fs::create_dir_all(shelf.metadata(Kind::Sources)).unwrap();
        fs::write(shelf.yaml(Kind::Sources, "random"), "old").unwrap();
        let mut staging = shelf.stage(Kind::Sources, "random").unwrap();
        fs::create_dir_all(staging.unpacked().join("etc/deep")).unwrap();
        fs::write(staging.unpacked().join("Random.yaml"), "new").unwrap();
        fs::write(staging.unpacked().join("etc/deep/a"), "a").unwrap();
        let name = "Random@v2+0123456789abcdef.so";
        let to = shelf.libraries(Kind::Sources).join(name);
        staging.add(name, b"two", to.clone()).unwrap();
        staging.change.library = Some(name.to_owned());
        staging.metadata().unwrap();
        let folder = staging.folder.clone();
        staging.change.record(&shelf).unwrap();
        // As a process that ends here.
        std::mem::forget(staging);
        (shelf, folder)
    }

    fn shown(shelf: &Shelf) -> Vec<(String, String)> {
        let files = files_below(shelf.data()).unwrap();
        let shown = |path: &PathBuf| path.strip_prefix(shelf.data()).unwrap().display().to_string();
        files.iter().map(|path| (shown(path), fs::read_to_string(path).unwrap())).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(one, two)| (one.to_string(), two.to_string())).collect()
    }

    #[test]
    fn what_was_committed_is_carried_out_by_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let (shelf, folder) = staged(data.path());
        // It had come so far already.
        fs::create_dir_all(shelf.metadata(Kind::Sources).join("random/deep")).unwrap();
        let etc = shelf.metadata(Kind::Sources).join("random/deep/a");
        fs::rename(folder.join("unpacked/etc/deep/a"), &etc).unwrap();
        let new = pairs(&[
            ("plugins/sources/Random@v2+0123456789abcdef.so", "two"),
            ("sources/random/deep/a", "a"),
            ("sources/random.yaml", "new"),
        ]);
        assert_eq!(shelf.recover(), Vec::<String>::new());
        assert_eq!(shown(&shelf), new);
        assert_eq!(shelf.recover(), Vec::<String>::new());
        assert_eq!(shown(&shelf), new);
    }

    #[test]
    fn what_was_not_committed_is_thrown_away() {
        let data = tempfile::tempdir().unwrap();
        let (shelf, folder) = staged(data.path());
        fs::remove_file(folder.with_extension("json")).unwrap();
        assert_eq!(shelf.recover(), Vec::<String>::new());
        assert_eq!(shown(&shelf), pairs(&[("plugins/sources/Random@v1.so", "one"), ("sources/random.yaml", "old")]));
    }

    #[test]
    fn what_was_carried_out_can_be_taken_back() {
        let data = tempfile::tempdir().unwrap();
        let (shelf, folder) = staged(data.path());
        let record = folder.with_extension("json");
        let change = Change::read(&record).unwrap();
        change.carry_out(&shelf).unwrap();
        assert_eq!(fs::read_to_string(shelf.yaml(Kind::Sources, "random")).unwrap(), "new");
        change.undo(&shelf);
        fs::remove_file(record).unwrap();
        fs::remove_dir_all(shelf.staged()).unwrap();
        assert_eq!(shown(&shelf), pairs(&[("plugins/sources/Random@v1.so", "one"), ("sources/random.yaml", "old")]));
    }

    #[test]
    fn a_removal_that_was_begun_is_finished() {
        let data = tempfile::tempdir().unwrap();
        let (shelf, folder) = staged(data.path());
        fs::remove_file(folder.with_extension("json")).unwrap();
        let change = Change { kind: Kind::Sources, plugin: "random".into(), library: None, moves: Vec::new() };
        change.record(&shelf).unwrap();
        assert_eq!(shelf.recover(), Vec::<String>::new());
        assert_eq!(shown(&shelf), []);
    }

    #[test]
    fn a_damaged_record_is_told_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let (shelf, folder) = staged(data.path());
        fs::write(folder.with_extension("json"), "{}").unwrap();
        let told = shelf.recover();
        assert!(told.len() == 1 && told[0].ends_with("the record is damaged"), "{told:?}");
        assert!(folder.with_extension("json").exists());
    }
}
