//! Files that are no library, or not what they say: each is told in a sentence, and ends nothing.

use std::fs;
use std::path::Path;

use kuiper::plugin::{Kind, check_library};

use super::made::{Home, wish, zipped};
use super::tiny::Bench;
use super::{both_say, fine, kuiper, not_installed, refused};

#[test]
fn what_is_no_library_is_told_apart() {
    let bench = Bench::new();
    let whole = fs::read(bench.tiny("whole.so", "")).unwrap();
    let mut program = Vec::new();
    let own = fs::read("/bin/true").unwrap();
    program.extend(own);
    let length = whole.len();
    let cut = whole[..length / 2].to_vec();
    let ends = format!("it is truncated: it has {} bytes, and its head tells of ", cut.len());
    for (name, bytes, sentence) in [
        ("empty.so", &b""[..], "it is no shared library (ELF): it is empty"),
        ("text.so", b"hello", "it is no shared library (ELF): it is a text"),
        (
            "pe.so",
            b"MZ\x90\0",
            "it is no shared library (ELF): it is a library or program of Windows (PE); build it for Linux",
        ),
        (
            "mac.so",
            b"\xcf\xfa\xed\xfe",
            "it is no shared library (ELF): it is a library or program of macOS (Mach-O); build it for Linux",
        ),
        ("program.so", &program, "it is a program or an object file, not a shared library"),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        both_say(&bench.path(name), sentence);
    }
    fs::write(bench.path("cut.so"), &cut).unwrap();
    let told = refused(&bench.path("cut.so"), &[]);
    assert!(told.contains(&ends), "{told}");
    assert!(not_installed(&bench.path("cut.so")).starts_with(&ends));
    // What only begins like a zip is none, and one that was cut is damaged.
    for (name, bytes, sentence) in [
        ("PK.so", &b"PKG is a text"[..], "it is no shared library (ELF): it is a text"),
        (
            "inner.so",
            &fs::read(zipped(bench.folder.path(), &[("Tiny@v1.0.0.so", &whole)])).unwrap()[..4000],
            "the zip is damaged, or was cut off (",
        ),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        let told = refused(&bench.path(name), &[]);
        assert!(told.contains(sentence), "{told}");
    }
    let inner = fs::read(zipped(bench.folder.path(), &[("Tiny@v1.0.0.so", &whole)])).unwrap();
    let told = refused(&zipped(bench.folder.path(), &[("Tiny@v1.0.0.so", &inner)]), &[]);
    assert_eq!(
        told,
        "kuiper: `Tiny@v1.0.0.so`: it is no shared library (ELF): it is a zip; install the zip itself, with the library at its top"
    );
    let home = Home::new();
    for (file, sentence) in [
        ("whole.so", "the file is no zip: it is a library by itself; `kuiper plugin pack` makes a zip of it"),
        ("text.so", "the file is no zip: it is a text"),
        ("empty.so", "the file is no zip: it is empty"),
    ] {
        let told = home.plugins.install(Kind::Sinks, &wish("tiny"), &bench.path(file)).unwrap_err().to_string();
        assert_eq!(told, sentence);
    }
    // A zip in the place of a library is looked into.
    let zip = zipped(bench.folder.path(), &[("readme", b"")]);
    assert!(refused(&zip, &[]).ends_with("the zip holds no library, neither at its top nor in `bin/<target>`"));
}

#[test]
fn however_a_library_is_damaged_it_is_told_in_a_sentence() {
    let bench = Bench::new();
    let whole = fs::read(bench.tiny("whole.so", "-DLIST=\"sink\\040Tiny\\nfunction\\040tinyTwice\"")).unwrap();
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // A panic is caught, and would be a sentence of its own.
    let judged = |bytes: &[u8], target: Option<&str>, what: &dyn std::fmt::Display| {
        let told = check_library(bytes, Path::new("/x/Tiny@v1.0.0.so"), target).err();
        if let Some(told) = &told {
            let plain = !told.contains(char::is_control) && told.len() < 4000;
            assert!(
                (told.starts_with("it ") || told.starts_with("what it "))
                    && plain
                    && !told.contains("contradicts itself"),
                "{what}: {told:?}"
            );
        }
        told
    };
    assert_eq!(judged(&whole, None, &"whole"), None);
    // Every byte with DAMAGE_STEP=1, which takes minutes.
    let step: usize = std::env::var("DAMAGE_STEP").map_or(29, |step| step.parse().unwrap());
    for cut in (0..200).chain((200..whole.len()).step_by(step)) {
        let told = judged(&whole[..cut], Some(&here), &cut);
        let expected = if cut < 4 { "it is no shared library (ELF): it is " } else { "it is truncated: it " };
        assert!(told.is_some_and(|told| told.starts_with(expected)), "{cut}");
    }
    let mut refused = 0;
    // The head, the parts that it tells of, and then all the rest now and again.
    for at in (0..64 + 56 * 9).step_by(step.min(3)).chain((64 + 56 * 9..whole.len()).step_by(step)) {
        for with in [0xff, 0x01, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= with;
            refused += usize::from(judged(&changed, Some(&here), &at).is_some());
        }
    }
    assert!(refused > 100, "{refused}");
    // Several bytes at once, and here, where what it needs is looked for.
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for round in 0..200 {
        let mut changed = whole.clone();
        for _ in 0..=next(16) {
            let at = if next(2) == 0 { next(64 + 56 * 9) } else { next(changed.len()) };
            changed[at] = next(256) as u8;
        }
        judged(&changed, if round % 8 == 0 { None } else { Some(&here) }, &format!("round {round}"));
    }
    // What a head can say of itself.
    for (at, byte, sentence) in [
        (4, 3, "it is a damaged library (its head says neither 32 nor 64 bits); copy it again, or build it again"),
        (5, 0, "it is a damaged library (its head does not say in which order the bytes of its numbers are); copy"),
        (6, 9, "it is a damaged library (its head is of another version of ELF); copy it again, or build it again"),
    ] {
        let mut changed = whole.clone();
        changed[at] = byte;
        let told = judged(&changed, None, &at).unwrap_or_default();
        assert!(told.contains(sentence), "{at}: {told}");
    }
    // A head and no more, of 32 bits: of a machine that has so many, and of this one.
    let here = std::env::consts::ARCH;
    let (own, own_words) = (if here == "aarch64" { 183 } else { 62 }, format!("{here} with 32 bits"));
    for (machine, words) in [(40u16, "arm with 32 bits"), (3, "x86 with 32 bits"), (own, own_words.as_str())] {
        let mut narrow = b"\x7fELF\x01\x01\x01".to_vec();
        narrow.resize(52, 0);
        narrow[16] = 3;
        narrow[18..20].copy_from_slice(&machine.to_le_bytes());
        for (at, byte) in [(20, 1), (40, 52), (42, 32), (46, 40)] {
            narrow[at] = byte;
        }
        let told = judged(&narrow, None, &words).unwrap();
        assert_eq!(told, format!("it was built for {words}, and this machine is {here}; build it with `--target`"));
    }
}

#[test]
fn a_list_of_symbols_that_is_not_that_of_the_table_is_told() {
    let bench = Bench::new();
    let listed = |name: &str, list: &str| bench.tiny(name, &format!("-DLIST=\"{}\"", list.replace(' ', "\\040")));
    fine(&listed("right.so", "sink Tiny\\nfunction tinyTwice"), &[]);
    let begin = "its list of symbols (`KUIPER_SYMBOLS`) and its table disagree: ";
    let end = "; correct the list, or leave it out";
    for (list, what) in [
        ("sink Tiny", "only the table holds function `tinyTwice`"),
        ("sink Tiny\\nfunction tinyTwice\\nsource Tiny", "only the list names source `Tiny`"),
        (
            "sink Tiny\\naggregate tinyThrice\\n",
            "only the list names function `tinyThrice`, and only the table holds function `tinyTwice`",
        ),
        ("sink Tiny\\nfunction tinyTwice\\ntwice", "the line `twice` of the list is no kind and name"),
    ] {
        let library = listed("wrong.so", list);
        let told = refused(&library, &[]);
        assert!(told.contains(&format!("{begin}{what}{end}\n")), "{told}");
        assert!(told.ends_with("kuiper: `wrong.so`: not all of it holds"), "{told}");
        let output = kuiper(bench.folder.path(), &["plugin", "test", "wrong.so"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.contains(&format!("{begin}{what}{end}"))), (Some(1), true), "{told}");
    }
}
