//! Libraries that the system's own compilers make.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder in which `make` has put the libraries of `plugins/examples/c`.
pub fn examples() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-examples-c", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        make(&folder, &[]);
        folder
    })
}

/// Has `make` put the libraries of `plugins/examples/c` into a folder; arguments may be variables of the Makefile.
pub fn make(folder: &Path, arguments: &[&str]) {
    let mut make = Command::new("make");
    make.arg("-C").arg(root().join("plugins/examples/c")).arg(format!("OUT={}", folder.display()));
    succeed(make.args(["--quiet", "all"]).args(arguments));
}

/// A library of one file, with these options of the compiler.
pub fn library(source: &Path, options: &[&str], into: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-O1", "-fPIC", "-shared", "-I"]).arg(root().join("plugins/sdk")).args(options);
    succeed(cc.arg("-o").arg(into).arg(source).args(["-lm", "-lpthread"]));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn succeed(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("this test needs {:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
