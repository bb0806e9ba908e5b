//! `kuiper plugin pack`: the zip that a server installs. The same files give the same bytes.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::super::client::Failure;
use super::super::print::say;
use super::build::shown;
use super::cannot;
use super::project::Project;
use crate::plugin::Kind;

/// Packs the last build, and returns where the zip is.
pub(super) fn run(project: &Project) -> Result<PathBuf, Failure> {
    let Some((library, _)) = project.last_build() else {
        return Err(Failure::Refused(format!(
            "there is no build of `{}` in `{}`; make one with `kuiper plugin build`",
            project.name,
            project.folder.display()
        )));
    };
    let yaml = project.folder.join(format!("{}.yaml", project.name));
    if project.kind == Kind::Sources && !yaml.is_file() {
        say(format!("note: there is no {}, so the source has no default properties", shown(&yaml)));
    }
    let zip = project.zip();
    let bytes = packed(&project.folder, &project.name, &library)?;
    fs::write(&zip, &bytes).map_err(|error| cannot("write", &zip, &error))?;
    say(format!("packed {} ({})", shown(&zip), HumanBytes(bytes.len() as u64)));
    Ok(zip)
}

/// The library, and what a server takes beside it.
fn packed(folder: &Path, name: &str, library: &Path) -> Result<Vec<u8>, Failure> {
    let mut files = vec![library.to_path_buf()];
    files.extend(
        [format!("{name}.json"), format!("{name}.yaml"), "install.sh".to_owned()].map(|file| folder.join(file)),
    );
    files.retain(|file| file.is_file());
    let mut folders = vec![folder.join("etc")];
    while let Some(below) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&below).map_err(|error| cannot("read", &below, &error))? {
            let path = entry.map_err(|error| cannot("read", &below, &error))?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let mut entries: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|file| (file.strip_prefix(folder).unwrap_or(&file).display().to_string(), file))
        .collect();
    entries.sort();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (entry, file) in entries {
        let content = fs::read(&file).map_err(|error| cannot("read", &file, &error))?;
        // Neither the clock nor the owner of a file has a say in what is packed.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(if entry == "install.sh" { 0o755 } else { 0o644 });
        let written = writer.start_file(entry, options).map_err(std::io::Error::other);
        written.and_then(|()| writer.write_all(&content)).map_err(|error| cannot("pack", &file, &error))?;
    }
    let done = writer.finish().map_err(|error| Failure::Refused(format!("cannot pack: {error}")))?;
    Ok(done.into_inner())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let made = |order: [&str; 3]| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("etc/deep")).unwrap();
            fs::create_dir_all(folder.path().join("src")).unwrap();
            for file in order {
                fs::write(folder.path().join(file), file).unwrap();
            }
            fs::write(folder.path().join("src/lib.rs"), "left out").unwrap();
            fs::write(folder.path().join("a.json"), "{}").unwrap();
            packed(folder.path(), "a", &folder.path().join("A@v1.0.0.so")).ok().unwrap()
        };
        let one = made(["A@v1.0.0.so", "etc/z", "etc/deep/b"]);
        assert_eq!(one, made(["etc/deep/b", "etc/z", "A@v1.0.0.so"]));
        let archive = zip::ZipArchive::new(Cursor::new(one)).unwrap();
        let names: Vec<String> =
            (0..archive.len()).map(|n| archive.name_for_index(n).unwrap().unwrap().into_owned()).collect();
        assert_eq!(names, ["A@v1.0.0.so", "a.json", "etc/deep/b", "etc/z"]);
    }
}
