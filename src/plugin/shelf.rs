//! The folders of plugins below the data folder, and what happens to the files in them.
//!
//! `plugins/<kind>/` holds the libraries, ours with a hash in their name and those that someone copied there by hand;
//! `plugins/mapped/` copies of the latter, for a file that can be overwritten must not be mapped; `<kind>/` the yaml and
//! json that came along, and `<kind>/<plugin>/` its `etc`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::elf;
use super::isolated::Isolation;
use super::library::Library;
use super::name::{FileName, Kind, canonical, compare_versions, symbol};

/// The folders.
#[derive(Clone, Debug)]
pub struct Shelf {
    data: PathBuf,
    isolation: Arc<Isolation>,
}

/// A library on the shelf.
#[derive(Clone, Debug)]
pub struct Book {
    pub path: PathBuf,
    pub file: FileName,
}

/// A file that was replaced, and what it held before.
pub struct Replaced {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Shelf {
    #[cfg(test)]
    pub fn new(data: &Path) -> Shelf {
        Shelf::isolating(data, &Isolation::default())
    }

    pub fn isolating(data: &Path, isolation: &Isolation) -> Shelf {
        Shelf { data: data.to_path_buf(), isolation: Arc::new(isolation.clone()) }
    }

    /// Makes the folders, and clears those that hold nothing of lasting worth.
    pub fn prepare(&self) -> io::Result<()> {
        for passing in [self.mapped(), self.temporary()] {
            match fs::remove_dir_all(&passing) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Kind::ALL.iter().try_for_each(|kind| fs::create_dir_all(self.libraries(*kind)))
    }

    pub fn libraries(&self, kind: Kind) -> PathBuf {
        self.data.join("plugins").join(kind.many())
    }

    fn mapped(&self) -> PathBuf {
        self.data.join("plugins").join("mapped")
    }

    pub fn temporary(&self) -> PathBuf {
        self.data.join("plugins").join("temp")
    }

    fn metadata(&self, kind: Kind) -> PathBuf {
        self.data.join(kind.many())
    }

    /// A plugin's own folder: what came in its `etc`, and what it writes itself. It goes with the plugin.
    pub fn own(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.metadata(kind).join(plugin)
    }

    pub fn yaml(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.metadata(kind).join(format!("{plugin}.yaml"))
    }

    pub fn json(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.metadata(kind).join(format!("{plugin}.json"))
    }

    /// The list of functions that a plugin was declared with.
    fn declared(&self, plugin: &str) -> PathBuf {
        self.libraries(Kind::Functions).join(format!("{plugin}.functions"))
    }

    pub fn read_declared(&self, plugin: &str) -> Option<Vec<String>> {
        serde_json::from_slice(&fs::read(self.declared(plugin)).ok()?).ok()
    }

    pub fn write_declared(&self, plugin: &str, functions: &[String]) -> io::Result<Replaced> {
        let text = serde_json::to_vec(functions).map_err(io::Error::other)?;
        self.replace(self.declared(plugin), &text)
    }

    /// What a plugin was installed with: `process`, or `none`.
    fn isolated(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.libraries(kind).join(format!("{plugin}.isolation"))
    }

    pub fn write_isolated(&self, kind: Kind, plugin: &str, isolated: bool) -> io::Result<Replaced> {
        self.replace(self.isolated(kind, plugin), if isolated { b"process" } else { b"none" })
    }

    /// Maps a library here, or in a process of its own: as it is wished, else as was stored, else as the settings say.
    fn map(&self, kind: Kind, plugin: &str, path: &Path, wish: Option<bool>) -> Result<Library, String> {
        let stored = || match fs::read_to_string(self.isolated(kind, plugin)).ok()?.trim() {
            "process" => Some(true),
            "none" => Some(false),
            _ => None,
        };
        let settings = || self.isolation.all || self.isolation.plugins.iter().any(|name| canonical(name) == plugin);
        if wish.or_else(stored).unwrap_or_else(settings) {
            Library::isolated(plugin, path, &self.isolation)
        } else {
            Library::load(path)
        }
    }

    /// All libraries of a kind: for each plugin those with the highest version first; of two with the same version the
    /// one that was copied there by hand, for that was done later.
    pub fn books(&self, kind: Kind) -> Vec<Book> {
        let Ok(entries) = fs::read_dir(self.libraries(kind)) else { return Vec::new() };
        let book = |entry: fs::DirEntry| {
            let file = FileName::read(entry.file_name().to_str()?)?;
            Some(Book { path: entry.path(), file })
        };
        let mut books: Vec<Book> = entries.flatten().filter_map(book).collect();
        books.sort_by(|one, two| {
            let plugins = one.file.plugin.cmp(&two.file.plugin);
            let versions = compare_versions(&two.file.version, &one.file.version);
            let by_hand = one.file.hash.is_some().cmp(&two.file.hash.is_some());
            plugins.then(versions).then(by_hand).then(one.path.cmp(&two.path))
        });
        books
    }

    /// Checks and maps a library that lies on the shelf.
    pub fn load(&self, kind: Kind, book: &Book) -> Result<Library, String> {
        let bytes = fs::read(&book.path).map_err(|error| format!("it cannot be read: {error}"))?;
        elf::check(&bytes)?;
        let hash = hash(&bytes);
        if book.file.hash.as_deref() == Some(&hash) {
            return self.map(kind, &book.file.plugin, &book.path, None);
        }
        let copy = self.mapped().join(book.file.mapped(&hash));
        if !copy.exists() {
            let copied = fs::create_dir_all(self.mapped()).and_then(|()| write(&copy, &bytes));
            copied.map_err(|error| format!("it cannot be copied: {error}"))?;
        }
        self.map(kind, &book.file.plugin, &copy, None)
    }

    /// Checks by reading it whether a library can be loaded here.
    pub fn check(&self, library: &Path) -> Result<(), String> {
        let bytes = fs::read(library).map_err(|error| format!("it cannot be read: {error}"))?;
        elf::check(&bytes)
    }

    /// Puts a library on the shelf under a name that its content decides, and maps it. Returns whether it is new there.
    pub fn put(
        &self,
        kind: Kind,
        from: &Path,
        file: &FileName,
        isolated: Option<bool>,
    ) -> Result<(Book, bool, Library), String> {
        let bytes = fs::read(from).map_err(|error| format!("it cannot be read: {error}"))?;
        elf::check(&bytes)?;
        let hash = hash(&bytes);
        let path = self.libraries(kind).join(file.mapped(&hash));
        let book = Book { path, file: FileName { hash: Some(hash), ..file.clone() } };
        let new = !book.path.exists();
        if new {
            write(&book.path, &bytes).map_err(|error| format!("it cannot be stored: {error}"))?;
        }
        match self.map(kind, &file.plugin, &book.path, isolated) {
            Ok(library) => Ok((book, new, library)),
            Err(wrong) => {
                if new {
                    self.discard(&book.path);
                }
                Err(wrong)
            }
        }
    }

    /// Puts the files that came along into their places; `done` says what was there before, also where it then fails.
    pub fn put_metadata(&self, kind: Kind, plugin: &str, unpacked: &Path, done: &mut Vec<Replaced>) -> io::Result<()> {
        let etc = unpacked.join("etc");
        let mut moves: Vec<(PathBuf, PathBuf)> = Vec::new();
        for name in [symbol(plugin), plugin.to_owned()] {
            moves.push((unpacked.join(format!("{name}.yaml")), self.yaml(kind, plugin)));
            moves.push((unpacked.join(format!("{name}.json")), self.json(kind, plugin)));
        }
        for file in files_below(&etc)? {
            let below = file.strip_prefix(&etc).map_err(io::Error::other)?.to_path_buf();
            moves.push((file, self.metadata(kind).join(plugin).join(below)));
        }
        for (from, to) in moves {
            match fs::read(&from) {
                Ok(bytes) => done.push(self.replace(to, &bytes)?),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn replace(&self, path: PathBuf, bytes: &[u8]) -> io::Result<Replaced> {
        let before = match fs::read(&path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        write(&path, bytes)?;
        Ok(Replaced { path, before })
    }

    /// Takes all files of a plugin away, but for one library.
    pub fn clear(&self, kind: Kind, plugin: &str, but: Option<&Path>) {
        for book in self.books(kind) {
            if book.file.plugin == plugin && Some(book.path.as_path()) != but {
                self.discard(&book.path);
            }
        }
        if but.is_none() {
            self.discard(&self.yaml(kind, plugin));
            self.discard(&self.json(kind, plugin));
            self.discard(&self.declared(plugin));
            self.discard(&self.isolated(kind, plugin));
            self.discard(&self.metadata(kind).join(plugin));
        }
    }

    /// Takes the folder for passing files away when nothing is in it.
    pub fn tidy(&self) {
        // One that is in use, or not there, is left as it is.
        let _ = fs::remove_dir(self.temporary());
    }

    /// Removes a file or a folder; what cannot be removed is told.
    pub fn discard(&self, path: &Path) {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!("cannot remove `{}`: {error}", path.display());
            }
            _ => {}
        }
    }
}

impl Replaced {
    /// Puts back what was there before.
    pub fn undo(self) {
        let undone = match &self.before {
            Some(before) => write(&self.path, before),
            None => fs::remove_file(&self.path),
        };
        if let Err(error) = undone {
            tracing::error!("cannot put `{}` back as it was: {error}", self.path.display());
        }
    }
}

/// Writes beside the file and then moves into place, so that it is never seen half-written.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("part");
    fs::write(&beside, bytes)?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)
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

/// Sixteen hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first_and_by_hand_before_ours() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(data.path());
        shelf.prepare().unwrap();
        let names = [
            "Mysql@v1.0.9.so",
            "Mysql@v1.0.10+0123456789abcdef.so",
            "Mysql@v1.0.10.so",
            "mysql.so",
            "Amqp@v3.0.0.so",
            "notes.txt",
        ];
        for name in names {
            fs::write(shelf.libraries(Kind::Sinks).join(name), "").unwrap();
        }
        let order: Vec<String> = shelf
            .books(Kind::Sinks)
            .iter()
            .map(|book| book.path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(order, [names[4], names[2], names[1], names[0], names[3]]);
    }

    #[test]
    fn what_was_replaced_can_be_put_back() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(&data.path().join("data"));
        let unpacked = data.path().join("unpacked");
        fs::create_dir_all(unpacked.join("etc/deep")).unwrap();
        fs::create_dir_all(shelf.metadata(Kind::Sources)).unwrap();
        fs::write(shelf.yaml(Kind::Sources, "random"), "old").unwrap();
        fs::write(unpacked.join("Random.yaml"), "new").unwrap();
        fs::write(unpacked.join("etc/deep/a"), "a").unwrap();
        let mut done = Vec::new();
        shelf.put_metadata(Kind::Sources, "random", &unpacked, &mut done).unwrap();
        assert_eq!(fs::read_to_string(shelf.yaml(Kind::Sources, "random")).unwrap(), "new");
        let etc = shelf.metadata(Kind::Sources).join("random/deep/a");
        assert!(etc.exists());
        done.into_iter().rev().for_each(Replaced::undo);
        assert_eq!(fs::read_to_string(shelf.yaml(Kind::Sources, "random")).unwrap(), "old");
        assert!(!etc.exists());
    }
}
