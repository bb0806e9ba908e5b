//! `tests/plugins/tiny.c`, compiled so that something of it is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder for libraries.
pub struct Bench {
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        Bench { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compiles the plugin with the machine's own compiler; options are separated by spaces.
    pub fn tiny(&self, name: &str, options: &str) -> PathBuf {
        self.tiny_with("cc", name, options)
    }

    pub fn tiny_with(&self, compiler: &str, name: &str, options: &str) -> PathBuf {
        let source = root().join("tests/plugins/tiny.c");
        self.compiled(compiler, name, &source, &format!("-I{} -s {options}", root().join("plugins/sdk").display()))
    }

    /// Compiles a library out of the text of a program.
    pub fn library(&self, name: &str, text: &str, options: &str) -> PathBuf {
        let source = self.path(&format!("{name}.c"));
        std::fs::write(&source, text).unwrap();
        self.compiled("cc", name, &source, options)
    }

    fn compiled(&self, compiler: &str, name: &str, source: &Path, options: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-o"]).arg(&path).arg(source);
        // What is linked to stands behind what needs it.
        command.args(options.split_whitespace()).current_dir(self.folder.path());
        let done = command.output().unwrap_or_else(|error| panic!("this test needs `{compiler}`: {error}"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        path
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
