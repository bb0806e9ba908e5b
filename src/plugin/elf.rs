//! What the file of a library says, read before anything of it is executed.

use std::cmp::Ordering;

use goblin::elf::Elf;
use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, ET_DYN};
use kuiper_plugin::abi::{ENTRY_SYMBOL, MAJOR, MARKER, MARKER_SYMBOL};

use super::name::compare_versions;

/// Machines with a name; the number is that of the ELF header.
const MACHINES: &[(u16, &str)] =
    &[(EM_X86_64, "x86_64"), (EM_AARCH64, "aarch64"), (EM_ARM, "arm"), (EM_386, "x86"), (EM_RISCV, "riscv64")];

/// Checks that a library was built for this machine and for this version of the contract; the error is a sentence.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("it is no shared library (ELF) at all".into());
    }
    let elf = Elf::parse(bytes).map_err(|error| format!("it is a damaged library: {error}"))?;
    machine(&elf)?;
    if elf.header.e_type != ET_DYN {
        return Err("it is a program or an object file, not a shared library".into());
    }
    let exported = |name: &str| {
        elf.dynsyms.iter().find(|sym| sym.st_shndx != 0 && elf.dynstrtab.get_at(sym.st_name) == Some(name))
    };
    let Some(marker) = exported(MARKER_SYMBOL) else {
        let go =
            elf.section_headers.iter().any(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(".go.buildinfo"));
        return Err(if go {
            "it is a Go plugin of eKuiper; `kuiper plugin new` makes a project to rewrite it in".into()
        } else {
            format!("it is no plugin of kuiper: it does not export `{MARKER_SYMBOL}`")
        });
    };
    version(&elf, bytes, marker.st_value)?;
    if exported(ENTRY_SYMBOL).is_none() {
        return Err(format!("it does not export `{ENTRY_SYMBOL}`"));
    }
    libraries(&elf)
}

fn machine(elf: &Elf<'_>) -> Result<(), String> {
    let name = |machine: u16| {
        MACHINES
            .iter()
            .find(|(number, _)| *number == machine)
            .map_or_else(|| format!("machine {machine}"), |(_, name)| (*name).into())
    };
    let built_for = name(elf.header.e_machine);
    let here = std::env::consts::ARCH;
    let same_width =
        elf.is_64 == cfg!(target_pointer_width = "64") && elf.little_endian == cfg!(target_endian = "little");
    if built_for == here && same_width {
        return Ok(());
    }
    Err(format!("it was built for {built_for}, and this machine is {here}; build it with `--target`"))
}

/// The marker holds eight letters, then major and minor.
fn version(elf: &Elf<'_>, bytes: &[u8], address: u64) -> Result<(), String> {
    let place = elf.program_headers.iter().find_map(|header| {
        let within =
            header.p_type == goblin::elf::program_header::PT_LOAD && header.vm_range().contains(&(address as usize));
        within.then(|| address - header.p_vaddr + header.p_offset)
    });
    let marker = place.and_then(|place| bytes.get(place as usize..place as usize + MARKER.len()));
    let Some(marker) = marker.filter(|marker| marker.starts_with(&MARKER[..8])) else {
        return Err(format!("it is no plugin of kuiper: what it exports as `{MARKER_SYMBOL}` is something else"));
    };
    let major = u16::from_le_bytes([marker[8], marker[9]]);
    match major.cmp(&MAJOR) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(format!(
            "it was built for version {major} of the plugin interface, and this engine has {MAJOR}; use a newer engine"
        )),
        Ordering::Less => Err(format!(
            "it was built for version {major} of the plugin interface, and this engine has {MAJOR}; build it again"
        )),
    }
}

/// The libc it was linked with must be ours, and not newer.
fn libraries(elf: &Elf<'_>) -> Result<(), String> {
    let musl = |name: &&&str| name.starts_with("libc.musl-") || **name == "libc.so";
    let found = elf.libraries.iter().find(musl);
    match (found, own_glibc()) {
        (Some(name), Some(_)) => {
            return Err(format!("it was built for musl (`{name}`), and this engine runs on glibc"));
        }
        (_, None) => return Ok(()),
        (None, Some(_)) => {}
    }
    let newest = elf
        .verneed
        .iter()
        .flat_map(|needed| needed.iter())
        .flat_map(|file| file.iter().map(|version| version.vna_name).collect::<Vec<_>>())
        .filter_map(|name| elf.dynstrtab.get_at(name)?.strip_prefix("GLIBC_"))
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .max_by(|one, two| compare_versions(one, two));
    match (newest, own_glibc()) {
        (Some(newest), Some(own)) if compare_versions(newest, &own).is_gt() => {
            Err(format!("it needs glibc {newest}, and this machine has {own}; build it on an older system"))
        }
        _ => Ok(()),
    }
}

/// `None` where the engine does not run on glibc.
#[cfg(target_env = "gnu")]
fn own_glibc() -> Option<String> {
    // SAFETY: the function returns a text that is never freed.
    let text = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Some(text.to_string_lossy().into_owned())
}

#[cfg(not(target_env = "gnu"))]
fn own_glibc() -> Option<String> {
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_is_told() {
        assert_eq!(check(b"#!/bin/sh"), Err("it is no shared library (ELF) at all".into()));
        let damaged = check(b"\x7fELF\x02\x01\x01").unwrap_err();
        assert!(damaged.starts_with("it is a damaged library: "), "{damaged}");
        // The test program itself: an ELF file of this machine that exports no marker.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check(&own), Err("it is no plugin of kuiper: it does not export `KUIPER_PLUGIN_ABI`".into()));
    }

    #[test]
    fn another_machine_is_told() {
        let mut own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let other = if cfg!(target_arch = "aarch64") { EM_X86_64 } else { EM_AARCH64 };
        own[18..20].copy_from_slice(&other.to_le_bytes());
        let told = check(&own).unwrap_err();
        assert!(told.starts_with("it was built for ") && told.contains(std::env::consts::ARCH), "{told}");
    }
}
