use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::diag::{Fault, Result, words};

/// The folders of disk queues: one a rule, and in it one a sink.
#[derive(Clone, Debug)]
pub struct QueueFolders {
    folder: PathBuf,
}

impl QueueFolders {
    pub(super) fn new(folder: PathBuf) -> Self {
        QueueFolders { folder }
    }

    /// Where the queue of a sink lies. No name leads out of the folder.
    pub fn path(&self, rule: &str, sink: &str) -> PathBuf {
        self.folder.join(encoded(rule)).join(encoded(sink))
    }

    /// All queues that there are: rule and sink, sorted.
    pub fn list(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for rule in folders(&self.folder)? {
            let name = decoded(&rule);
            all.extend(folders(&self.folder.join(rule))?.iter().map(|sink| (name.clone(), decoded(sink))));
        }
        all.sort();
        Ok(all)
    }

    /// Deletes the queue of a sink, and the folder of the rule with its last.
    pub fn remove(&self, rule: &str, sink: &str) -> Result<()> {
        let path = self.path(rule, sink);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("remove", &path, &error)),
            _ => {}
        }
        let above = self.folder.join(encoded(rule));
        match fs::remove_dir(&above) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                Err(cannot("remove", &above, &error))
            }
            _ => Ok(()),
        }
    }
}

/// The names of the folders in a folder; one that is not there has none.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("read", folder, &error)),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::unreachable(format!("cannot {what} `{}`: {}", path.display(), words(error)))
}

/// Letters, digits, `-` and `_` as they are, all else as `%2F`.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decoded(name: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), name.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder_and_each_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let queues = QueueFolders::new(home.path().join("queues"));
        assert!(queues.list().unwrap().is_empty());
        let names = ["demo", "..", "../..", "a/b", "é %2F", ".", "a%b"];
        for rule in names {
            let path = queues.path(rule, "mqtt_0");
            assert_eq!(path.parent().unwrap().parent().unwrap(), home.path().join("queues"), "{rule}");
            fs::create_dir_all(path).unwrap();
        }
        let mut expected = names.map(|rule| (rule.to_owned(), "mqtt_0".to_owned()));
        expected.sort();
        assert_eq!(queues.list().unwrap(), expected);
        for rule in names {
            queues.remove(rule, "mqtt_0").unwrap();
            queues.remove(rule, "mqtt_0").unwrap();
        }
        assert!(queues.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(home.path().join("queues")).unwrap().count(), 0);
    }
}
