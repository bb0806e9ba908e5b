use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::diag::{Fault, Result};

use super::cannot;

/// Bytes of a name, and of a part of it.
const LONGEST: usize = 500;
const LONGEST_PART: usize = 200;

/// What the names of files begin with that are on their way in.
const PART: &str = ".upload-";

/// The folder of files that a user sent.
#[derive(Clone, Debug)]
pub struct Uploads {
    folder: PathBuf,
}

impl Uploads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Uploads { folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the file of that name lies. A name that leads out of the folder is refused, and one that hides its file.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        let shown = || name.chars().take(LONGEST).collect::<String>().escape_debug().to_string();
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside || name.contains('\0') || name.contains('\\') {
            return Err(Fault::setup(format!("the file name `{}` leads out of the folder of uploads", shown())));
        }
        let parts = || relative.iter().map(|part| part.to_string_lossy());
        if name.len() > LONGEST || parts().any(|part| part.len() > LONGEST_PART) {
            return Err(Fault::setup(format!("the file name `{}…` is too long", shown())));
        }
        if name.chars().any(char::is_control) || parts().any(|part| part.starts_with('.')) {
            let text = format!("the file name `{}` begins with a dot, or has control characters in it", shown());
            return Err(Fault::setup(text));
        }
        let path = self.folder.join(relative);
        // A link that someone made there by hand leads where it leads; nobody follows it from outside.
        let mut above = path.parent();
        while let Some(folder) = above.filter(|folder| *folder != self.folder) {
            if folder.exists() && !self.holds(folder) {
                return Err(Fault::setup(format!("the file name `{}` leads out of the folder of uploads", shown())));
            }
            above = folder.parent();
        }
        Ok(path)
    }

    /// Removes what was on its way in when a process ended.
    pub(super) fn sweep(&self) {
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let part = entry.file_name().to_string_lossy().starts_with(PART);
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(kind) if kind.is_file() && part => {
                        // What cannot be removed is seen by nobody.
                        let _ = fs::remove_file(entry.path());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether a path, links resolved, lies in the folder.
    pub fn holds(&self, path: &Path) -> bool {
        match (path.canonicalize(), self.folder.canonicalize()) {
            (Ok(path), Ok(folder)) => path.starts_with(folder),
            _ => false,
        }
    }

    /// A file to write piece by piece; nothing is seen of it before [`Upload::finish`].
    pub fn begin(&self, name: &str) -> Result<Upload> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let target = self.path(name)?;
        let parent = target.parent().unwrap_or(&self.folder);
        if target.is_dir() {
            return Err(Fault::setup(format!("`{name}` is a folder of uploads; choose another name for the file")));
        }
        fs::create_dir_all(parent).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                Fault::setup(format!("`{name}` would lie below a file; choose another name, or remove that file"))
            }
            _ => cannot("make", parent, &error),
        })?;
        let part = parent.join(format!("{PART}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&part).map_err(|error| cannot("write", &part, &error))?;
        Ok(Upload { file, part, target, finished: false })
    }

    /// Writes a whole file and returns its path.
    pub fn save(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let mut upload = self.begin(name)?;
        upload.write(content)?;
        upload.finish()
    }

    /// The paths of all entries of the folder, sorted; those of folders below it are not looked into.
    pub fn list(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &self.folder, &error)),
        };
        let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PART));
        let mut paths: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| !hidden(path)).collect();
        paths.sort();
        Ok(paths)
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        // A folder stands in the list too, and goes when nothing is in it.
        let removed = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Fault::setup(format!("there is no uploaded file `{name}`"))
            }
            ErrorKind::DirectoryNotEmpty => {
                Fault::setup(format!("`{name}` is a folder with files in it, and only an empty one can be removed"))
            }
            _ => cannot("remove", &path, &error),
        })
    }
}

/// A file on its way in. Dropped unfinished, it leaves nothing.
pub struct Upload {
    file: File,
    part: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Upload {
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|error| cannot("write", &self.part, &error))
    }

    /// Where the file lies until it is finished.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Puts the file in its place, over an older one, and returns its path.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.file.sync_all().map_err(|error| cannot("write", &self.part, &error))?;
        fs::rename(&self.part, &self.target).map_err(|error| cannot("write", &self.target, &error))?;
        self.finished = true;
        Ok(self.target.clone())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        let long = "a".repeat(LONGEST_PART + 1);
        for name in
            ["../a", "/etc/passwd", "a/../../b", "", ".", "a/./../..", "..\\a", ".hidden", "a/.b", "a\nb", "a\0", &long]
        {
            assert!(uploads.save(name, b"x").is_err(), "{name}");
        }
        let path = uploads.save("deep/er/a.txt", b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
        assert!(uploads.holds(&path));
        assert!(!uploads.holds(home.path()));
    }

    #[test]
    fn no_link_is_followed_out() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        uploads.save("a", b"x").unwrap();
        std::os::unix::fs::symlink(home.path(), uploads.folder().join("out")).unwrap();
        for name in ["out/b", "out/deep/b"] {
            assert!(uploads.save(name, b"x").unwrap_err().to_string().contains("leads out"), "{name}");
        }
        fs::write(home.path().join("b"), "x").unwrap();
        assert!(uploads.remove("out/b").is_err());
        assert!(home.path().join("b").exists() && !home.path().join("deep").exists());
    }

    #[test]
    fn what_a_process_left_half_sent_is_swept_away() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        uploads.save("deep/a", b"x").unwrap();
        let mut upload = uploads.begin("deep/b").unwrap();
        upload.write(b"half").unwrap();
        std::mem::forget(upload);
        uploads.sweep();
        let left: Vec<_> = fs::read_dir(uploads.folder().join("deep")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn an_unfinished_upload_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        uploads.begin("a.zip").unwrap().write(b"half").unwrap();
        assert!(uploads.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(uploads.folder()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        uploads.save("a.txt", b"x").unwrap();
        uploads.remove("a.txt").unwrap();
        assert!(uploads.remove("a.txt").unwrap_err().to_string().contains("`a.txt`"));
    }

    #[test]
    fn folders_and_files_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(home.path().join("uploads"));
        uploads.save("deep/a.txt", b"x").unwrap();
        let told = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            told(uploads.save("deep", b"x").map(drop)),
            "`deep` is a folder of uploads; choose another name for the file"
        );
        assert_eq!(
            told(uploads.save("deep/a.txt/b", b"x").map(drop)),
            "`deep/a.txt/b` would lie below a file; choose another name, or remove that file"
        );
        assert_eq!(
            told(uploads.remove("deep")),
            "`deep` is a folder with files in it, and only an empty one can be removed"
        );
        assert_eq!(told(uploads.remove("deep/a.txt/b")), "there is no uploaded file `deep/a.txt/b`");
        uploads.remove("deep/a.txt").unwrap();
        uploads.remove("deep").unwrap();
        assert!(uploads.list().unwrap().is_empty());
    }
}
