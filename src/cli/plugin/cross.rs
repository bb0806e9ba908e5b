//! Building for another machine: what must be installed for it, and what cargo must be told.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::client::Failure;

/// A target that is not this machine.
pub(super) struct Cross {
    target: String,
    /// For cargo: the linker, and that a musl library is linked to the musl of its machine.
    pub variables: Vec<(String, String)>,
    /// The linker that was not found.
    missing: Option<String>,
}

/// Linkers of Debian, and the package of each.
const LINKERS: &[(&str, &str)] = &[
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    ("arm-linux-gnueabi-gcc", "gcc-arm-linux-gnueabi libc6-dev-armel-cross"),
    ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
    ("i686-linux-gnu-gcc", "gcc-i686-linux-gnu libc6-dev-i386-cross"),
    ("musl-gcc", "musl-tools"),
    ("powerpc64le-linux-gnu-gcc", "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross"),
    ("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"),
    ("s390x-linux-gnu-gcc", "gcc-s390x-linux-gnu libc6-dev-s390x-cross"),
    ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
];

/// Machines of Rust, and what Debian calls them.
const DEBIAN: &[(&str, &str)] = &[
    ("aarch64-unknown-linux-gnu", "arm64"),
    ("armv7-unknown-linux-gnueabihf", "armhf"),
    ("arm-unknown-linux-gnueabi", "armel"),
    ("i686-unknown-linux-gnu", "i386"),
    ("powerpc64le-unknown-linux-gnu", "ppc64el"),
    ("s390x-unknown-linux-gnu", "s390x"),
    ("x86_64-unknown-linux-gnu", "amd64"),
];

impl Cross {
    /// Finds what there is; refused where the standard library of the target is not installed.
    pub fn new(target: &str) -> Result<Cross, Failure> {
        standard_library(target)?;
        let variable = |what: &str| format!("CARGO_TARGET_{}_{what}", target.to_uppercase().replace('-', "_"));
        let mut cross = Cross { target: target.to_owned(), variables: Vec::new(), missing: None };
        let linker = linker(target);
        if env::var_os(variable("LINKER")).is_none() {
            match on_path(&linker) {
                true => cross.variables.push((variable("LINKER"), linker)),
                // One may stand in the settings of cargo.
                false => cross.missing = Some(linker),
            }
        }
        if target.contains("-musl") && env::var_os(variable("RUSTFLAGS")).is_none() {
            cross.variables.push((variable("RUSTFLAGS"), "-C target-feature=-crt-static".to_owned()));
        }
        Ok(cross)
    }

    /// What may be missing, where the build failed.
    pub fn hint(&self) -> String {
        let Some(linker) = &self.missing else { return String::new() };
        let package = LINKERS.iter().find(|(name, _)| name == linker).map(|(_, package)| *package);
        let install = package.map_or_else(|| "install it".to_owned(), |package| format!("apt-get install {package}"));
        format!(
            " for {}; the linker `{linker}` is not on the path: {install}, or name another in .cargo/config.toml",
            self.target
        )
    }
}

/// The C compiler that links for a target.
fn linker(target: &str) -> String {
    let parts: Vec<&str> = target.split('-').collect();
    let (machine, abi) = (parts.first().copied().unwrap_or_default(), parts.last().copied().unwrap_or_default());
    let machine = match machine {
        _ if machine.starts_with("armv") || machine.starts_with("thumb") => "arm",
        "riscv64gc" => "riscv64",
        other => other,
    };
    match abi.starts_with("musl") && machine == env::consts::ARCH {
        true => "musl-gcc".to_owned(),
        false => format!("{machine}-linux-{abi}-gcc"),
    }
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Refuses a target whose standard library is not installed, and says what to install.
fn standard_library(target: &str) -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked =
        Command::new(rustc).args(["--print", "target-libdir", "--target", target]).stdin(Stdio::null()).output();
    let folder = asked.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default();
    let has = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libstd-");
    let installed = fs::read_dir(&folder).into_iter().flatten().flatten().any(has);
    // Where rustc does not say, cargo will.
    if installed || folder.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!("Rust's standard library for {target} is not installed; {}", remedy(target, &folder))))
}

/// How to install it, beside a rustc whose libraries lie in that folder.
fn remedy(target: &str, folder: &str) -> String {
    let debian = DEBIAN.iter().find(|(known, _)| *known == target).map(|(_, name)| *name);
    match (Path::new(folder).starts_with("/usr/lib"), debian) {
        (true, Some(name)) => format!(
            "dpkg --add-architecture {name} && apt-get update && apt-get install libstd-rust-dev:{name}, or use rustup"
        ),
        (true, None) => "Debian has none for it; use rustup, and then: rustup target add ".to_owned() + target,
        (false, _) => format!("rustup target add {target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linkers_of_targets() {
        for (target, expected) in [
            ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
            ("armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
            ("riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu-gcc"),
            ("mips-unknown-linux-musl", "mips-linux-musl-gcc"),
        ] {
            assert_eq!(linker(target), expected);
        }
        assert_eq!(linker(&format!("{}-unknown-linux-musl", env::consts::ARCH)), "musl-gcc");
    }

    #[test]
    fn what_to_install() {
        let arm = "aarch64-unknown-linux-gnu";
        assert_eq!(remedy(arm, "/home/a/.rustup/toolchains/x/lib"), "rustup target add aarch64-unknown-linux-gnu");
        assert!(remedy(arm, "/usr/lib/rustlib/x/lib").contains("apt-get install libstd-rust-dev:arm64"));
        assert!(remedy("x86_64-unknown-linux-musl", "/usr/lib/rustlib/x/lib").contains("Debian has none"));
    }
}
