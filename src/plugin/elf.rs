//! What the file of a library says, read before anything of it is executed.
//!
//! [`Facts`] is what stands in the file: machine, libc, what it needs, what it exports. [`Place`] is where it is to run,
//! this machine or a target that is built for. Whatever keeps a library from being loaded there is one sentence.

mod needs;
mod other;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;

use goblin::elf::Elf;
use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, ET_DYN};
use kuiper_plugin::abi::{ENTRY_SYMBOL, MAJOR, MARKER, MARKER_SYMBOL};

use super::name::{Kind, canonical, compare_versions, listed, lookup_symbol, symbol};

/// An optional text that a library exports: what its table holds, one `sink Name` a line.
const LIST_SYMBOL: &str = "KUIPER_PLUGIN_SYMBOLS";

/// What a file is that is no library, by its first bytes, with an article.
pub fn told(head: &[u8]) -> String {
    other::told(head)
}

/// Machines with a name; the number is that of the ELF header.
const MACHINES: &[(u16, &str)] = &[
    (EM_X86_64, "x86_64"),
    (EM_AARCH64, "aarch64"),
    (EM_ARM, "arm"),
    (EM_386, "x86"),
    (EM_RISCV, "riscv64"),
    (EM_PPC64, "powerpc64"),
    (EM_S390, "s390x"),
];

/// The C library that a program runs on; the two cannot be mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// Where a library is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    machine: String,
    libc: Option<Libc>,
    /// This very machine: its libraries and the version of its libc can be asked.
    here: bool,
}

impl Place {
    pub fn here() -> Place {
        let libc = match (cfg!(target_env = "gnu"), cfg!(target_env = "musl")) {
            (true, _) => Some(Libc::Glibc),
            (_, true) => Some(Libc::Musl),
            _ => None,
        };
        Place { machine: std::env::consts::ARCH.to_owned(), libc, here: true }
    }

    /// Reads a target as compilers name it: `aarch64-unknown-linux-gnu`. `None` where it is no Linux.
    pub fn target(triple: &str) -> Option<Place> {
        let mut parts = triple.split('-');
        let first = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let machine = match first {
            "i386" | "i486" | "i586" | "i686" => "x86",
            _ if first.starts_with("arm") || first.starts_with("thumb") => "arm",
            _ if first.starts_with("riscv64") => "riscv64",
            "powerpc64le" => "powerpc64",
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        if !rest.contains(&"linux") || machine.is_empty() {
            return None;
        }
        let libc = match rest.last()? {
            env if env.starts_with("musl") => Some(Libc::Musl),
            env if env.starts_with("gnu") => Some(Libc::Glibc),
            _ => return None,
        };
        Some(Place { machine: machine.to_owned(), libc, here: false })
    }

    /// Whether a library for the other runs here, as far as machine and libc go.
    pub fn takes(&self, other: &Place) -> bool {
        self.machine == other.machine && (self.libc.is_none() || self.libc == other.libc)
    }

    /// As in sentences: `x86_64 with glibc`.
    pub fn words(&self) -> String {
        match self.libc {
            Some(libc) => format!("{} with {}", self.machine, libc.name()),
            None => self.machine.clone(),
        }
    }

    fn shown(&self) -> String {
        if self.here { "this machine".to_owned() } else { "the target".to_owned() }
    }
}

/// What stands in the file of a library.
#[derive(Debug)]
struct Facts {
    machine: String,
    /// Of 64 bits.
    wide: bool,
    /// With the same end first as the machine of that name has it.
    usual: bool,
    libc: Option<Libc>,
    /// The name of the libc that it was linked with.
    libc_file: String,
    /// The newest version of glibc that it asks for; empty where it asks for none.
    glibc: String,
}

/// Checks that a library was built for this machine and for this version of the contract; the error is a sentence. `path`
/// is where it lies: what it needs may lie beside it.
pub fn check(bytes: &[u8], path: &Path) -> Result<(), String> {
    check_for(bytes, path, &Place::here())
}

/// The same for another machine.
pub fn check_for(bytes: &[u8], path: &Path, place: &Place) -> Result<(), String> {
    // What is read of a file from elsewhere may say anything of itself.
    let judged = std::panic::catch_unwind(|| judged(bytes, path, place));
    judged.unwrap_or_else(|_| Err(other::damaged("it contradicts itself"))).map_err(|wrong| other::printable(&wrong))
}

fn judged(bytes: &[u8], path: &Path, place: &Place) -> Result<(), String> {
    let elf = parsed(bytes)?;
    let facts = facts(&elf)?;
    fits(&facts, place)?;
    contract(&elf, bytes)?;
    if place.here {
        glibc(&facts)?;
        needs::check(&elf, path)?;
    }
    Ok(())
}

/// Checks that a library exports what its kind and name promise, where it lists what it exports.
pub fn check_list(bytes: &[u8], kind: Kind, plugin: &str) -> Result<(), String> {
    let Some(list) = list(bytes) else { return Ok(()) };
    let wanted = symbol(&canonical(plugin));
    let has = |what: &str| list.iter().any(|(kind, name)| kind == what && *name == wanted);
    let lookup = lookup_symbol(&wanted);
    let all = listed(list.iter().map(|(kind, name)| (kind.as_str(), name.as_str())));
    match kind {
        Kind::Sources if has("source") => Ok(()),
        Kind::Sources if list.iter().any(|(kind, name)| kind == "lookup" && *name == lookup) => Ok(()),
        Kind::Sinks if has("sink") => Ok(()),
        Kind::Functions if list.iter().any(|(kind, _)| kind == "function") => Ok(()),
        Kind::Functions => Err(format!("it exports no function; it exports {all}")),
        _ => Err(format!("it exports no {} `{wanted}`; it exports {all}", kind.one())),
    }
}

/// Checks that a library's list of what it exports is that of its table, kinds and names; one without a list is right.
pub fn check_listed<'n>(bytes: &[u8], table: impl IntoIterator<Item = (&'n str, &'n str)>) -> Result<(), String> {
    let Some(elf) = parsed(bytes).ok().filter(|elf| exported(elf, LIST_SYMBOL).is_some()) else { return Ok(()) };
    let text = list_text(&elf, bytes)
        .ok_or_else(|| format!("what it exports as `{LIST_SYMBOL}` is no text; make it with `KUIPER_SYMBOLS`"))?;
    let found: BTreeSet<(String, String)> = text.lines().filter_map(entry).collect();
    let table: BTreeSet<(String, String)> =
        table.into_iter().map(|(kind, name)| (kind.to_owned(), name.to_owned())).collect();
    let only = |one: &BTreeSet<(String, String)>, other: &BTreeSet<(String, String)>| {
        let names: Vec<&(String, String)> = one.difference(other).collect();
        let words = listed(names.iter().map(|(kind, name)| (kind.as_str(), name.as_str())));
        (!names.is_empty()).then_some(words)
    };
    let mut wrong: Vec<String> = Vec::new();
    if let Some(line) = text.lines().find(|line| !line.trim().is_empty() && entry(line).is_none()) {
        wrong.push(format!("the line `{line}` of the list is no kind and name"));
    }
    wrong.extend(only(&found, &table).map(|names| format!("only the list names {names}")));
    wrong.extend(only(&table, &found).map(|names| format!("only the table holds {names}")));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "its list of symbols (`KUIPER_SYMBOLS`) and its table disagree: {}; correct the list, or leave it out",
            wrong.join(", and ")
        )),
    }
}

/// What a library says that it exports: kinds and names. `None` where it does not say.
fn list(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let elf = parsed(bytes).ok()?;
    Some(list_text(&elf, bytes)?.lines().filter_map(entry).collect())
}

/// The list, as it stands there.
fn list_text<'b>(elf: &Elf<'_>, bytes: &'b [u8]) -> Option<&'b str> {
    let text = exported(elf, LIST_SYMBOL)?;
    let text = at(elf, bytes, text.st_value, text.st_size as usize)?;
    Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0'))
}

/// Kind and name of a line of the list, in the words of the table.
fn entry(line: &str) -> Option<(String, String)> {
    let (kind, name) = line.split_once(' ')?;
    let name = name.trim();
    Some(match kind {
        "pull_source" => ("source".to_owned(), name.to_owned()),
        "bytes_sink" => ("sink".to_owned(), name.to_owned()),
        "aggregate" | "list_aggregate" => ("function".to_owned(), name.to_owned()),
        // Its symbol ends so, whether its author wrote it or not.
        "lookup" => ("lookup".to_owned(), lookup_symbol(name.strip_suffix("Lookup").unwrap_or(name))),
        other => (other.to_owned(), name.to_owned()),
    })
}

/// Reads the file as ELF; the error says what it is instead.
fn parsed(bytes: &[u8]) -> Result<Elf<'_>, String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err(format!("it is no shared library (ELF): it is {}", other::told(bytes)));
    }
    other::headed(bytes)?;
    if let Some(missing) = other::truncated(bytes) {
        return Err(missing);
    }
    Elf::parse(bytes).map_err(|error| other::damaged(&error.to_string()))
}

fn facts(elf: &Elf<'_>) -> Result<Facts, String> {
    let known = MACHINES.iter().find(|(number, _)| *number == elf.header.e_machine);
    let machine = known.map_or_else(|| format!("machine {}", elf.header.e_machine), |(_, name)| (*name).to_owned());
    let big = machine == "s390x";
    let little = if machine == "powerpc64" { elf.little_endian } else { !big };
    let libc_file = elf
        .libraries
        .iter()
        .find(|name| name.starts_with("libc.musl-") || **name == "libc.so" || name.starts_with("libc.so."));
    let libc = libc_file.map(|name| if name.starts_with("libc.so.") { Libc::Glibc } else { Libc::Musl });
    // Sorted by number: `GCC_4.2.0` is none, and 2.10 comes after 2.9.
    let newest = elf
        .verneed
        .iter()
        .flat_map(|needed| needed.iter())
        .flat_map(|file| file.iter().map(|version| version.vna_name).collect::<Vec<_>>())
        .filter_map(|name| elf.dynstrtab.get_at(name)?.strip_prefix("GLIBC_"))
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .max_by(|one, two| compare_versions(one, two));
    Ok(Facts {
        wide: elf.is_64,
        usual: elf.little_endian == little,
        machine,
        libc: libc.or(newest.map(|_| Libc::Glibc)),
        libc_file: libc_file.map_or("libc", |name| name).to_owned(),
        glibc: newest.unwrap_or_default().to_owned(),
    })
}

/// Machine and libc must be those of the place.
fn fits(facts: &Facts, place: &Place) -> Result<(), String> {
    let wide = !["arm", "x86"].contains(&place.machine.as_str());
    if facts.machine != place.machine || facts.wide != wide || !facts.usual {
        let bits = if facts.wide { " with 64 bits" } else { " with 32 bits" };
        let bits = if facts.wide == wide { "" } else { bits };
        let order = if facts.usual { "" } else { " with the bytes of its numbers in the other order" };
        return Err(format!(
            "it was built for {}{bits}{order}, and {} is {}; build it with `--target`",
            facts.machine,
            place.shown(),
            place.machine
        ));
    }
    match (facts.libc, place.libc) {
        (Some(found), Some(own)) if found != own => Err(format!(
            "it was built for {} (`{}`), and {} runs on {}; build it with `--target`",
            found.name(),
            facts.libc_file,
            if place.here { "this engine".to_owned() } else { place.shown() },
            own.name()
        )),
        _ => Ok(()),
    }
}

/// It must be a library that keeps the contract, in a version that this engine knows.
fn contract(elf: &Elf<'_>, bytes: &[u8]) -> Result<(), String> {
    let marker = exported(elf, MARKER_SYMBOL);
    if marker.is_none() && other::is_go(elf) {
        return Err("it is a Go plugin, as eKuiper loads them, which only the very program that it was built for can \
                    load; plugins/README.md tells how to write it anew: begin with `kuiper plugin new`"
            .into());
    }
    if elf.header.e_type != ET_DYN || other::is_program(elf) {
        return Err("it is a program or an object file, not a shared library".into());
    }
    let Some(marker) = marker else {
        let near = if exported(elf, ENTRY_SYMBOL).is_some() {
            format!(", which says for which version of the plugin interface `{ENTRY_SYMBOL}` is")
        } else {
            String::new()
        };
        return Err(format!("it is no plugin of kuiper: it does not export `{MARKER_SYMBOL}`{near}"));
    };
    version(at(elf, bytes, marker.st_value, MARKER.len()))?;
    let Some(entry) = exported(elf, ENTRY_SYMBOL) else {
        return Err(format!("it does not export `{ENTRY_SYMBOL}`, the function that the engine asks for its table"));
    };
    // A variable of that name would be jumped into.
    if !entry.is_function() && entry.st_type() != goblin::elf::sym::STT_GNU_IFUNC {
        return Err(format!("what it exports as `{ENTRY_SYMBOL}` is no function"));
    }
    Ok(())
}

/// A symbol that it exports.
fn exported(elf: &Elf<'_>, name: &str) -> Option<goblin::elf::Sym> {
    elf.dynsyms.iter().find(|sym| sym.st_shndx != 0 && elf.dynstrtab.get_at(sym.st_name) == Some(name))
}

/// Bytes of the file that will be mapped at an address.
fn at<'a>(elf: &Elf<'_>, bytes: &'a [u8], address: u64, size: usize) -> Option<&'a [u8]> {
    let segment = elf.program_headers.iter().find(|header| {
        header.p_type == goblin::elf::program_header::PT_LOAD
            && address >= header.p_vaddr
            && address - header.p_vaddr < header.p_filesz
    })?;
    let begin = usize::try_from((address - segment.p_vaddr).checked_add(segment.p_offset)?).ok()?;
    bytes.get(begin..begin.checked_add(size)?)
}

/// The marker holds eight letters, then major and minor.
fn version(marker: Option<&[u8]>) -> Result<(), String> {
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

/// The libc that it was linked with must not be newer than ours.
fn glibc(facts: &Facts) -> Result<(), String> {
    match own_glibc() {
        Some(own) if compare_versions(&facts.glibc, &own).is_gt() => {
            Err(format!("it needs glibc {}, and this machine has {own}; build it on an older system", facts.glibc))
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

    fn refused(bytes: &[u8]) -> String {
        check(bytes, Path::new("x.so")).unwrap_err()
    }

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn what_is_no_plugin_is_told() {
        assert_eq!(refused(b"#!/bin/sh"), "it is no shared library (ELF): it is a script");
        assert_eq!(refused(b"\x7fELF\x02\x01\x01"), "it is truncated: it ends within its head");
        // The test program itself: an ELF file of this machine that exports no marker.
        assert_eq!(refused(&own()), "it is a program or an object file, not a shared library");
    }

    #[test]
    fn another_machine_is_told() {
        let mut own = own();
        let other = if cfg!(target_arch = "aarch64") { EM_X86_64 } else { EM_AARCH64 };
        own[18..20].copy_from_slice(&other.to_le_bytes());
        let told = refused(&own);
        assert!(told.starts_with("it was built for ") && told.contains(std::env::consts::ARCH), "{told}");
    }

    #[test]
    fn targets() {
        let here = Place { machine: "aarch64".into(), libc: Some(Libc::Glibc), here: true };
        for (triple, takes) in [
            ("aarch64-unknown-linux-gnu", true),
            ("aarch64-linux-gnu", true),
            ("aarch64-unknown-linux-musl", false),
            ("x86_64-unknown-linux-gnu", false),
        ] {
            assert_eq!(here.takes(&Place::target(triple).unwrap()), takes, "{triple}");
        }
        assert_eq!(Place::target("armv7-unknown-linux-gnueabihf").unwrap().machine, "arm");
        for triple in ["aarch64-apple-darwin", "x86_64-pc-windows-msvc", "x86_64", "", "../linux-x"] {
            assert_eq!(Place::target(triple), None, "{triple}");
        }
    }

    #[test]
    fn versions_of_the_contract() {
        let mut marker = MARKER;
        assert_eq!(version(Some(&marker)), Ok(()));
        marker[8] = MAJOR as u8 + 1;
        assert!(version(Some(&marker)).unwrap_err().ends_with("use a newer engine"));
        marker[8] = 0;
        assert!(version(Some(&marker)).unwrap_err().ends_with("build it again"));
        assert!(version(Some(b"something else..")).is_err());
        assert!(version(None).is_err());
    }
}
