//! What a file is that is no library: told by its first bytes, as `file` does.

use goblin::elf::Elf;
use goblin::elf::dynamic::{DF_1_PIE, DT_FLAGS_1};

/// First bytes, and what they are of.
const KNOWN: &[(&[u8], &str)] = &[
    (b"MZ", "a library or program of Windows (PE); build it for Linux"),
    (b"\xfe\xed\xfa\xce", MAC),
    (b"\xfe\xed\xfa\xcf", MAC),
    (b"\xce\xfa\xed\xfe", MAC),
    (b"\xcf\xfa\xed\xfe", MAC),
    (b"\xca\xfe\xba\xbe", MAC),
    (b"PK\x03\x04", "a zip; install the zip itself, with the library at its top"),
    (b"PK\x05\x06", "an empty zip"),
    (b"!<arch>\n", "a static library (`.a`); link it as a shared one, with `-shared` or `crate-type = [\"cdylib\"]`"),
    (b"\x1f\x8b", "a gzip file; a plugin comes as a zip"),
    (b"BZh", "a bzip2 file; a plugin comes as a zip"),
    (b"\xfd7zXZ\0", "an xz file; a plugin comes as a zip"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; a plugin comes as a zip"),
    (b"\0asm", "a WebAssembly module, which kuiper does not run"),
    (b"BC\xc0\xde", "LLVM bitcode; link it as a shared library"),
    (b"#!", "a script"),
];

const MAC: &str = "a library or program of macOS (Mach-O); build it for Linux";

/// What the bytes are, with an article.
pub(super) fn told(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "empty".to_owned();
    }
    if let Some((_, what)) = KNOWN.iter().find(|(first, _)| bytes.starts_with(first)) {
        return (*what).to_owned();
    }
    if b"\x7fELF".starts_with(bytes) {
        return "the first bytes of one, and no more".to_owned();
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return "nothing but zeros".to_owned();
    }
    let head = &bytes[..bytes.len().min(1024)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        // It may have been cut within a letter.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match text.map(str::trim_start) {
        Some(text) if text.chars().any(|c| c.is_control() && !c.is_whitespace()) => "data".to_owned(),
        Some(text) if text.starts_with("<!") || text.starts_with("<html") => {
            "a page of HTML; was the address that of a page, and not of the file?".to_owned()
        }
        Some(text) if text.starts_with("version https://git-lfs") => {
            "a pointer of Git LFS; fetch the file itself with `git lfs pull`".to_owned()
        }
        Some(_) => "a text".to_owned(),
        None => "data of a kind that is not known here".to_owned(),
    }
}

/// Letters of a sentence about a file that are shown: a name in a damaged one may be as long as the file.
const SHOWN: usize = 1000;

/// What is said of a library whose parts do not fit together.
pub(super) fn damaged(how: &str) -> String {
    let how = how.strip_prefix("Malformed entity: ").unwrap_or(how);
    format!("it is a damaged library ({how}); copy it again, or build it again")
}

/// A sentence with names out of a file, which may hold anything, in one line that harms no terminal.
pub(super) fn printable(text: &str) -> String {
    let harmless =
        |letter: char| !letter.is_control() && !matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown: String = String::new();
    for letter in text.chars().take(SHOWN) {
        match harmless(letter) {
            true => shown.push(letter),
            false => shown.extend(letter.escape_unicode()),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Checks the bytes of the head that say how the rest is to be read; a head that is cut is another's to tell.
pub(super) fn headed(bytes: &[u8]) -> Result<(), String> {
    let says = |at: usize, known: &[u8]| bytes.get(at).is_none_or(|byte| known.contains(byte));
    match (says(4, &[1, 2]), says(5, &[1, 2]), says(6, &[1])) {
        (false, ..) => Err(damaged("its head says neither 32 nor 64 bits")),
        (_, false, _) => Err(damaged("its head does not say in which order the bytes of its numbers are")),
        (.., false) => Err(damaged("its head is of another version of ELF")),
        _ => Ok(()),
    }
}

/// Whether an ELF file ends before what its head promises; the error says so.
pub(super) fn truncated(bytes: &[u8]) -> Option<String> {
    let short = || Some("it is truncated: it ends within its head".to_owned());
    let (Some(class), Some(order)) = (bytes.get(4), bytes.get(5)) else { return short() };
    let (wide, little) = (*class == 2, *order == 1);
    let read = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let digits = field.iter().copied();
        let add = |sum: u64, byte: u8| sum << 8 | u64::from(byte);
        Some(if little { digits.rev().fold(0, add) } else { digits.fold(0, add) })
    };
    // Offsets within the head: programs, sections, then the sizes and numbers of both.
    let (word, programs, sections, sizes) = if wide { (8, 32, 40, 54) } else { (4, 28, 32, 42) };
    let head = (read(programs, word), read(sections, word), read(sizes, 2), read(sizes + 2, 2), read(sizes + 4, 2));
    let (Some(programs), Some(sections), Some(program), Some(count), Some(section)) = head else { return short() };
    let Some(section_count) = read(sizes + 6, 2) else { return short() };
    let mut end = programs.saturating_add(program * count).max(sections.saturating_add(section * section_count));
    for number in 0..count {
        let at = usize::try_from(programs.saturating_add(number * program)).ok()?;
        let (offset, size) =
            if wide { (at.checked_add(8)?, at.checked_add(32)?) } else { (at.checked_add(4)?, at.checked_add(16)?) };
        if let (Some(offset), Some(size)) = (read(offset, word), read(size, word)) {
            end = end.max(offset.saturating_add(size));
        }
    }
    let size = bytes.len() as u64;
    (end > size).then(|| format!("it is truncated: it has {size} bytes, and its head tells of {end}"))
}

/// Whether Go has made it, as a plugin or a program: its sections say so, and where those were stripped its symbols.
pub(super) fn is_go(elf: &Elf<'_>) -> bool {
    const SECTIONS: &[&str] = &[".go.buildinfo", ".gopclntab", ".note.go.buildid", ".go.pluginname"];
    const SYMBOLS: &[&str] =
        &["plugin.unlinkable", "go:plugin.tabs", "go.plugin.tabs", "runtime.goexit", "local.pluginpath"];
    let sections = elf.section_headers.iter().filter_map(|header| elf.shdr_strtab.get_at(header.sh_name));
    let symbols = elf.dynsyms.iter().filter_map(|sym| elf.dynstrtab.get_at(sym.st_name));
    let more = elf.syms.iter().filter_map(|sym| elf.strtab.get_at(sym.st_name));
    sections.into_iter().any(|name| SECTIONS.contains(&name))
        || symbols.chain(more).any(|name| SYMBOLS.contains(&name) || name.starts_with("plugin/unnamed"))
}

/// Whether it is a program: those that can be loaded anywhere look like libraries.
pub(super) fn is_program(elf: &Elf<'_>) -> bool {
    let pie = |dynamic: &goblin::elf::Dynamic| {
        dynamic.dyns.iter().any(|entry| entry.d_tag == DT_FLAGS_1 && entry.d_val & DF_1_PIE != 0)
    };
    elf.dynamic.as_ref().is_some_and(pie)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_kinds() {
        for (bytes, what) in [
            (&b""[..], "empty"),
            (b"MZ\x90\0", "a library or program of Windows (PE); build it for Linux"),
            (b"\xcf\xfa\xed\xfe\x07\0", MAC),
            (b"PK\x03\x04\x14", "a zip; install the zip itself, with the library at its top"),
            (b"\0asm\x01\0\0\0", "a WebAssembly module, which kuiper does not run"),
            (b"#!/bin/sh\n", "a script"),
            (b"not a library", "a text"),
            ("gr\u{fc}n".as_bytes(), "a text"),
            (b"\0\0\0\0", "nothing but zeros"),
            (b"\x7fEL", "the first bytes of one, and no more"),
            (b"<!DOCTYPE html><html>", "a page of HTML; was the address that of a page, and not of the file?"),
            (b"\x93\xff\x00\x01", "data of a kind that is not known here"),
            (b"a\x01b", "data"),
        ] {
            assert_eq!(told(bytes), what);
        }
        assert!(told(b"!<arch>\nx").starts_with("a static library"));
        let long = "ä".repeat(600) + "x";
        assert_eq!(told(&long.as_bytes()[1..]), "data of a kind that is not known here");
        assert_eq!(told(format!("x{long}").as_bytes()), "a text");
    }

    #[test]
    fn what_a_file_holds_harms_no_terminal() {
        assert_eq!(printable("it needs `a\u{1b}[2J\n\u{202e}ä`"), "it needs `a\\u{1b}[2J\\u{a}\\u{202e}ä`");
        assert_eq!(printable(&"ä".repeat(SHOWN)).chars().count(), SHOWN);
        assert!(printable(&"ä".repeat(SHOWN + 1)).ends_with("ä…"));
    }

    #[test]
    fn a_library_that_was_cut_is_told_wherever_it_was() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(truncated(&own), None);
        for cut in [4, 5, 16, 63, 64, 1000, own.len() / 2, own.len() - 1] {
            let told = truncated(&own[..cut]).unwrap();
            assert!(told.starts_with("it is truncated: it "), "{cut}: {told}");
        }
    }
}
