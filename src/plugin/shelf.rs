//! The folders of plugins below the data folder, and what happens to the files in them.
//!
//! `plugins/<kind>/` holds the libraries, ours with a hash in their name and those that someone copied there by hand;
//! `plugins/mapped/` copies of the latter, for a file that can be overwritten must not be mapped; `plugins/staged/` what
//! is being installed; `<kind>/` the yaml and json that came along, and `<kind>/<plugin>/` its `etc`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::deaths;
use super::deaths::{Deaths, Died};
use super::elf;
use super::install::write;
use super::isolated::Isolation;
use super::library::Library;
use super::name::{FileName, Kind, canonical, compare_versions};
use super::regular::read_regular;
use super::uses::lock;

/// The folders.
#[derive(Clone, Debug)]
pub struct Shelf {
    data: PathBuf,
    isolation: Arc<Isolation>,
    /// The libraries that were mapped into this process, where they stay.
    here: Arc<Mutex<BTreeSet<String>>>,
    /// Of earlier servers, in calls of the libraries.
    pub deaths: Deaths,
}

/// A library on the shelf.
#[derive(Clone, Debug)]
pub struct Book {
    pub path: PathBuf,
    pub file: FileName,
}

impl Shelf {
    #[cfg(test)]
    pub fn new(data: &Path) -> Shelf {
        Shelf::isolating(data, &Isolation::default())
    }

    pub fn isolating(data: &Path, isolation: &Isolation) -> Shelf {
        Shelf {
            data: data.to_path_buf(),
            isolation: Arc::new(isolation.clone()),
            here: Arc::default(),
            deaths: Deaths::default(),
        }
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Makes the folders, and clears those that hold nothing of lasting worth.
    pub fn prepare(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.data.join("plugins").join("mapped")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for kind in Kind::ALL {
            fs::create_dir_all(self.libraries(kind))?;
            // A process that ended while it wrote has left them.
            let entries = fs::read_dir(self.libraries(kind))?.flatten().map(|entry| entry.path());
            entries
                .filter(|path| path.extension().is_some_and(|end| end == "part"))
                .for_each(|path| self.discard(&path));
        }
        Ok(())
    }

    pub fn libraries(&self, kind: Kind) -> PathBuf {
        self.data.join("plugins").join(kind.many())
    }

    /// What is mapped here and is to have the same path until this process ends; see [`Shelf::prepare`].
    pub fn mapped(&self, kind: Kind) -> PathBuf {
        self.data.join("plugins").join("mapped").join(kind.many())
    }

    /// Where plugins are put together; see `install.rs`.
    pub fn staged(&self) -> PathBuf {
        self.data.join("plugins").join("staged")
    }

    /// What `install.sh` of a plugin has printed.
    pub fn script_log(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.libraries(kind).join(format!("{plugin}.install.log"))
    }

    pub fn metadata(&self, kind: Kind) -> PathBuf {
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
    pub fn declared(&self, plugin: &str) -> PathBuf {
        self.libraries(Kind::Functions).join(format!("{plugin}.functions"))
    }

    pub fn read_declared(&self, plugin: &str) -> Option<Vec<String>> {
        serde_json::from_slice(&fs::read(self.declared(plugin)).ok()?).ok()
    }

    pub fn write_declared(&self, plugin: &str, functions: &[String]) -> io::Result<()> {
        write(&self.declared(plugin), &serde_json::to_vec(functions)?)
    }

    /// What a plugin was installed with: `process`, or `none`.
    pub fn isolated(&self, kind: Kind, plugin: &str) -> PathBuf {
        self.libraries(kind).join(format!("{plugin}.isolation"))
    }

    /// Maps a library here, or in a process of its own: as it is wished, else as was stored, else as the settings say.
    pub fn map(&self, kind: Kind, plugin: &str, path: &Path, wish: Option<bool>) -> Result<Library, String> {
        let stored = || match fs::read_to_string(self.isolated(kind, plugin)).ok()?.trim() {
            "process" => Some(true),
            "none" => Some(false),
            _ => None,
        };
        let settings = || self.isolation.all || self.isolation.plugins.iter().any(|name| canonical(name) == plugin);
        if wish.or_else(stored).unwrap_or_else(settings) {
            Library::isolated(plugin, path, &self.isolation)
        } else {
            let library = deaths::library(path);
            lock(&self.here).insert(library.clone());
            match self.deaths.of_library(&library).filter(Died::holds) {
                Some(died) => {
                    Err(format!("{}; deploy it again to try once more, or with `isolation: process`", died.told()))
                }
                None => Library::load(path),
            }
        }
    }

    /// Has the deaths of this process noted, and reads those of earlier ones.
    pub fn note_deaths(&mut self) -> (Vec<String>, Option<String>) {
        let (deaths, told, outside) = Deaths::open(&self.data.join("plugins").join("deaths"));
        self.deaths = deaths;
        (told, outside)
    }

    /// Forgets deaths in files that are not mapped into this process, for another version stands there.
    pub fn forget_deaths_of_others(&self) {
        self.deaths.forget_others(|library| lock(&self.here).contains(library));
    }

    /// Removes the copies of a plugin's libraries that no process is started from any more. One that was mapped into this
    /// process is left: installed again, the same file is not mapped a second time.
    pub fn sweep(&self, kind: Kind, plugin: &str, needed: &[PathBuf]) {
        for entry in fs::read_dir(self.mapped(kind)).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_of_it = name.to_str().and_then(FileName::read).is_some_and(|file| file.plugin == plugin);
            if is_of_it && !needed.contains(&path) && !lock(&self.here).contains(&deaths::library(&path)) {
                self.discard(&path);
            }
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
        let bytes = read_regular(&book.path).map_err(|wrong| format!("it cannot be read: {wrong}"))?;
        elf::check(&bytes, &book.path)?;
        let hash = hash(&bytes);
        if book.file.hash.as_deref() == Some(&hash) {
            return self.map(kind, &book.file.plugin, &book.path, None);
        }
        let copy = self.mapped(kind).join(book.file.mapped(&hash));
        if !copy.exists() {
            let copied = fs::create_dir_all(self.mapped(kind)).and_then(|()| write(&copy, &bytes));
            copied.map_err(|error| format!("it cannot be copied: {error}"))?;
        }
        self.map(kind, &book.file.plugin, &copy, None)
    }

    /// Takes all files of a plugin away, but for one library.
    pub fn clear(&self, kind: Kind, plugin: &str, but: Option<&Path>) {
        for book in self.books(kind) {
            if book.file.plugin == plugin && Some(book.path.as_path()) != but {
                self.discard(&book.path);
            }
        }
        if but.is_none() {
            for entry in fs::read_dir(self.mapped(kind)).into_iter().flatten().flatten() {
                let file = entry.file_name().to_str().and_then(FileName::read);
                if file.is_some_and(|file| file.plugin == plugin) {
                    self.discard(&entry.path());
                }
            }
            self.discard(&self.yaml(kind, plugin));
            self.discard(&self.json(kind, plugin));
            self.discard(&self.script_log(kind, plugin));
            if kind == Kind::Functions {
                self.discard(&self.declared(plugin));
            }
            self.discard(&self.isolated(kind, plugin));
            self.discard(&self.metadata(kind).join(plugin));
        }
    }

    /// Takes the folder for passing files away when nothing is in it.
    pub fn tidy(&self) {
        // One that is in use, or not there, is left as it is.
        let _ = fs::remove_dir(self.staged());
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

/// How a wish to isolate is stored.
pub fn isolation(isolated: bool) -> &'static [u8] {
    if isolated { b"process" } else { b"none" }
}

/// Sixteen hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
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
    fn copies_go_that_no_process_is_started_from_and_that_were_never_mapped_here() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(data.path());
        let folder = shelf.mapped(Kind::Sinks);
        fs::create_dir_all(&folder).unwrap();
        let [over, runs, here, other] =
            ["Lines@v1.so", "Lines@v2.so", "Lines@v3.so", "Mysql@v1.so"].map(|name| folder.join(name));
        for path in [&over, &runs, &here, &other] {
            fs::write(path, "no library").unwrap();
        }
        assert!(shelf.map(Kind::Sinks, "lines", &here, Some(false)).is_err());
        shelf.sweep(Kind::Sinks, "lines", std::slice::from_ref(&runs));
        assert_eq!([&over, &runs, &here, &other].map(|path| path.exists()), [false, true, true, true]);
    }
}
