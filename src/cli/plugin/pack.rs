//! `kuiper plugin pack`: the zip that a server installs. The same files give the same bytes.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::super::client::Failure;
use super::super::print::say;
use super::build::shown;
use super::cannot;
use super::project::Project;
use crate::diag::words;
use crate::plugin::{Kind, SIGNATURE, SecretKey, library_name};

/// Packs the last build, and returns where the zip is.
pub(super) fn run(project: &Project, sign: Option<&Path>) -> Result<PathBuf, Failure> {
    let key = sign.map(secret).transpose()?;
    let Some((library, version)) = project.any_build() else {
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
    // The same version for other machines; an older one has no place in the same zip.
    let file = library_name(&project.name, &version);
    let mut libraries = vec![library];
    for folder in project.folders_of_targets() {
        let other = folder.join(&file);
        match other.is_file() {
            true if libraries.contains(&other) => {}
            true => libraries.push(other),
            false => say(format!("note: {} holds no version {version}, and is left out", shown(&folder))),
        }
    }
    let bytes = packed(&project.folder, &project.name, &libraries, key.as_ref())?;
    fs::write(&zip, &bytes).map_err(|error| cannot("write", &zip, &error))?;
    say(format!("packed {} ({})", shown(&zip), HumanBytes(bytes.len() as u64)));
    Ok(zip)
}

/// The key to sign with.
fn secret(file: &Path) -> Result<SecretKey, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("cannot read `{}`: {}", file.display(), words(&error))))?;
    SecretKey::read(&text).map_err(|wrong| Failure::Usage(format!("`{}`: {wrong}", file.display())))
}

/// The libraries, and what a server takes beside them.
fn packed(folder: &Path, name: &str, libraries: &[PathBuf], key: Option<&SecretKey>) -> Result<Vec<u8>, Failure> {
    let mut files = libraries.to_vec();
    files.extend(
        [format!("{name}.json"), format!("{name}.yaml"), "install.sh".to_owned()].map(|file| folder.join(file)),
    );
    files.retain(|file| file.is_file());
    let mut folders = vec![folder.join("etc")];
    while let Some(below) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&below).map_err(|error| cannot("read", &below, &error))? {
            let entry = entry.map_err(|error| cannot("read", &below, &error))?;
            let path = entry.path();
            // No server takes it.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                say(format!("note: {} begins with a dot, and is left out", shown(&path)));
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let mut entries: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|file| (file.strip_prefix(folder).unwrap_or(&file).display().to_string(), file))
        .collect();
    entries.sort_by(|one, two| Path::new(&one.0).cmp(Path::new(&two.0)));
    let mut digests = String::new();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (entry, file) in entries {
        let content = fs::read(&file).map_err(|error| cannot("read", &file, &error))?;
        let sum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        digests += &format!("{sum}  {entry}\n");
        let options = options().unix_permissions(if entry == "install.sh" { 0o755 } else { 0o644 });
        let written = writer.start_file(entry, options).map_err(std::io::Error::other);
        written.and_then(|()| writer.write_all(&content)).map_err(|error| cannot("pack", &file, &error))?;
    }
    if let Some(key) = key {
        let signature = key.sign(digests.as_bytes(), &format!("plugin {name}"));
        let written = writer.start_file(SIGNATURE, options().unix_permissions(0o644)).map_err(std::io::Error::other);
        let written = written.and_then(|()| writer.write_all(signature.as_bytes()));
        written.map_err(|error| cannot("pack", Path::new(SIGNATURE), &error))?;
    }
    let done = writer.finish().map_err(|error| Failure::Refused(format!("cannot pack: {error}")))?;
    Ok(done.into_inner())
}

/// Neither the clock nor the owner of a file has a say in what is packed.
fn options() -> SimpleFileOptions {
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    deflated.last_modified_time(DateTime::default())
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
            packed(folder.path(), "a", &[folder.path().join("A@v1.0.0.so")], None).ok().unwrap()
        };
        let one = made(["A@v1.0.0.so", "etc/z", "etc/deep/b"]);
        assert_eq!(one, made(["etc/deep/b", "etc/z", "A@v1.0.0.so"]));
        let archive = zip::ZipArchive::new(Cursor::new(one)).unwrap();
        let names: Vec<String> =
            (0..archive.len()).map(|n| archive.name_for_index(n).unwrap().unwrap().into_owned()).collect();
        assert_eq!(names, ["A@v1.0.0.so", "a.json", "etc/deep/b", "etc/z"]);
    }
}
