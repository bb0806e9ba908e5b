//! What is refused before anything is loaded: each library is judged by `kuiper plugin check` and by an installation, and
//! both must say the same sentence. `tests/plugins/tiny.c` is compiled so that something is wrong with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/damaged.rs"]
mod damaged;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "plugins/tiny.rs"]
mod tiny;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kuiper::plugin::{Install, Kind, Plugins, PublicKey, Settings};

use made::{Home, wish, zipped};
use tiny::{Bench, root};

fn kuiper(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
    command.args(arguments).current_dir(folder).env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
    command.output().unwrap()
}

/// What `kuiper plugin check` says of a file that it finds good.
fn fine(file: &Path, options: &[&str]) -> String {
    let output = kuiper(file.parent().unwrap(), &[&["plugin", "check", file.to_str().unwrap()], options].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says of one that it refuses.
fn refused(file: &Path, options: &[&str]) -> String {
    let output = kuiper(file.parent().unwrap(), &[&["plugin", "check", file.to_str().unwrap()], options].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap().trim().to_owned()
}

/// What an installation as the sink `tiny` says of a library, without its name.
fn not_installed(library: &Path) -> String {
    let home = Home::new();
    let zip = home.zip(&[("Tiny@v1.0.0.so", &fs::read(library).unwrap())]);
    let told = home.plugins.install(Kind::Sinks, &wish("tiny"), &zip).unwrap_err().to_string();
    assert!(home.files().is_empty(), "{:?}", home.files());
    told.strip_prefix("`Tiny@v1.0.0.so`: ").unwrap_or(&told).to_owned()
}

/// Both must say so, and in one line.
fn both_say(library: &Path, sentence: &str) {
    let name = library.file_name().unwrap().to_str().unwrap();
    let told = refused(library, &[]);
    assert_eq!(told, format!("kuiper: `{name}`: {sentence}"));
    assert_eq!(not_installed(library), sentence);
}

#[test]
fn a_good_library_is_told_what_it_offers() {
    let bench = Bench::new();
    assert_eq!(
        fine(&bench.tiny("Tiny@v1.0.0.so", ""), &[]),
        "sink Tiny: takes its default properties\n\
         function tinyTwice(bigint) -> bigint: its 2 examples hold\n\
         `Tiny@v1.0.0.so` can be loaded here\n"
    );
    let told = fine(&bench.tiny("needy.so", "-DNEEDY"), &[]);
    assert!(told.starts_with("sink Tiny: needs address\n"), "{told}");
    let home = Home::new();
    home.install(Kind::Sinks, "tiny", "1.0.0", &bench.path("Tiny@v1.0.0.so"));
    // A program of ours is no plugin, and a library of ours is one.
    assert!(fine(made::count(), &[]).contains("function same"), "the SDK's own example");
}

#[test]
fn a_bare_name_and_a_link_are_files_of_the_folder() {
    let bench = Bench::new();
    let here = bench.folder.path();
    fs::create_dir(bench.path("deep")).unwrap();
    let other = "-Wl,-soname,libother.so.1";
    bench.library("deep/libother.so.1", "int other(void) { return 1; }", other);
    // What it needs lies beside it, and is looked for there as well.
    let needs = format!("-DNEEDS=other -L{} -l:libother.so.1 -Wl,-rpath,$ORIGIN", bench.path("deep").display());
    bench.tiny("deep/Tiny@v1.0.0.so", &needs);
    bench.tiny("Tiny@v1.0.0.so", "");
    std::os::unix::fs::symlink("Tiny@v1.0.0.so", bench.path("Tiny@v2.0.0.so")).unwrap();
    for (folder, file) in
        [(here.into(), "Tiny@v1.0.0.so"), (here.into(), "Tiny@v2.0.0.so"), (bench.path("deep"), "Tiny@v1.0.0.so")]
    {
        let said = done(&folder, &["plugin", "check", file]);
        assert!(said.ends_with(&format!("`{file}` can be loaded here\n")), "{said}");
        let said = done(&folder, &["plugin", "test", file, "--only", "tinyTwice: its examples"]);
        assert!(said.contains(" passed, 0 failed"), "{said}");
    }
}

#[test]
fn what_is_no_regular_file_is_told_at_once() {
    let bench = Bench::new();
    assert!(Command::new("mkfifo").arg(bench.path("pipe.so")).status().unwrap().success());
    fs::create_dir(bench.path("folder.so")).unwrap();
    for (file, what) in [("pipe.so", "a named pipe (FIFO)"), ("folder.so", "a folder"), ("/dev/zero", "a device")] {
        let output = kuiper(bench.folder.path(), &["plugin", "check", file]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, format!("kuiper: cannot read `{file}`: it is {what}, not a regular file\n"));
        assert_eq!(output.status.code(), Some(2));
        let output = kuiper(bench.folder.path(), &["plugin", "test", file]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, format!("kuiper: `{file}` cannot be tested: it is {what}, not a regular file\n"));
    }
}

#[test]
fn symbols_that_are_missing_or_wrong_are_told() {
    let bench = Bench::new();
    for (name, options, sentence) in [
        (
            "marker.so",
            "-DNO_MARKER",
            "it is no plugin of kuiper: it does not export `KUIPER_PLUGIN_ABI`, which says for which version of the \
             plugin interface `kuiper_plugin_v1` is",
        ),
        (
            "other.so",
            "-DOTHER_MARKER",
            "it is no plugin of kuiper: what it exports as `KUIPER_PLUGIN_ABI` is something else",
        ),
        (
            "newer.so",
            "-DMAJOR=2",
            "it was built for version 2 of the plugin interface, and this engine has 1; use a newer engine",
        ),
        (
            "older.so",
            "-DMAJOR=0",
            "it was built for version 0 of the plugin interface, and this engine has 1; build it again",
        ),
        (
            "entry.so",
            "-DNO_ENTRY",
            "it does not export `kuiper_plugin_v1`, the function that the engine asks for its table",
        ),
        (
            "go.so",
            "-DNO_MARKER -DNO_ENTRY -DGO",
            "it is a Go plugin, as eKuiper loads them, which only the very program that it was built for can load; \
             plugins/README.md tells how to write it anew: begin with `kuiper plugin new`",
        ),
        (
            "unlinked.so",
            "-DNEEDS=nobody_has_this",
            "it needs the symbol `nobody_has_this`, which none of the libraries has that it names; link it with the one \
             that has it",
        ),
    ] {
        both_say(&bench.tiny(name, options), sentence);
    }
    let text =
        "const unsigned char KUIPER_PLUGIN_ABI[16] = {'K','U','I','P','E','R','.','P',1}; int kuiper_plugin_v1 = 1;";
    both_say(&bench.library("data.so", text, ""), "what it exports as `kuiper_plugin_v1` is no function");
}

#[test]
fn a_symbol_of_another_kind_is_read_from_the_file() {
    let bench = Bench::new();
    // It would crash if it were loaded.
    let library = bench.tiny("kinds.so", "-DCRASH -DLIST=\"source\\040Tiny\\nfunction\\040tinyTwice\\n\"");
    let sentence = "it exports no sink `Tiny`; it exports source `Tiny`, function `tinyTwice`";
    assert_eq!(not_installed(&library), sentence);
    // Rust's plugins always say.
    let home = Home::new();
    let zip = home.zip(&[("Other@v1.0.0.so", &fs::read(made::count()).unwrap())]);
    let told = home.plugins.install(Kind::Sources, &wish("other"), &zip).unwrap_err().to_string();
    assert!(told.starts_with("`Other@v1.0.0.so`: it exports no source `Other`; it exports "), "{told}");
    // One that does not say is found out when it is loaded.
    let library = bench.tiny("silent.so", "");
    let zip = home.zip(&[("Tiny@v1.0.0.so", &fs::read(&library).unwrap())]);
    let told = home.plugins.install(Kind::Sources, &wish("tiny"), &zip).unwrap_err().to_string();
    assert_eq!(
        told,
        format!("`Tiny@v1.0.0.so`: it exports no source `Tiny`; it exports sink `Tiny`, function `tinyTwice`")
    );
    let named = bench.path("Lines@v1.0.0.so");
    fs::copy(library, &named).unwrap();
    fs::write(&named, fs::read(bench.tiny("renamed.so", "")).unwrap()).unwrap();
    fine(&named, &[]);
}

#[test]
fn libraries_that_are_missing_are_named_with_their_package() {
    let bench = Bench::new();
    let other = |name: &str, soname: &str| {
        bench.library(name, "int other(void) { return 1; }", &format!("-Wl,-soname,{soname}"))
    };
    let needs = |name: &str, file: &str, more: &str| {
        bench.tiny(name, &format!("-DNEEDS=other -L{} -l:{file} {more}", bench.folder.path().display()))
    };
    other("libserialport.so.0", "libserialport.so.0");
    let packaged = needs("packaged.so", "libserialport.so.0", "");
    fs::remove_file(bench.path("libserialport.so.0")).unwrap();
    both_say(
        &packaged,
        "it needs the shared library `libserialport.so.0`, which is not on this machine; on Debian it is in the package \
         `libserialport0`: apt-get install libserialport0",
    );
    other("libmine.so.7", "libmine.so.7");
    let nowhere = needs("nowhere.so", "libmine.so.7", "");
    both_say(
        &nowhere,
        "it needs the shared library `libmine.so.7`, which is not on this machine; install it, or put it beside the library \
         and link with `-Wl,-rpath,'$ORIGIN'`",
    );
    // As the loader finds it: beside the library, by the new tag and by the old one, and by the environment.
    fine(&needs("beside.so", "libmine.so.7", "-Wl,-rpath,$ORIGIN"), &[]);
    fine(&needs("braces.so", "libmine.so.7", "-Wl,-rpath,${ORIGIN}/../x:${ORIGIN}"), &[]);
    fine(&needs("older.so", "libmine.so.7", "-Wl,-rpath,$ORIGIN -Wl,--disable-new-dtags"), &[]);
    let output = Command::new(env!("CARGO_BIN_EXE_kuiper"))
        .args(["plugin", "check", nowhere.to_str().unwrap()])
        .env("LD_LIBRARY_PATH", bench.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is for another machine is passed over.
    let beside = fs::read(bench.path("libmine.so.7")).unwrap();
    let mut foreign = beside.clone();
    foreign[18..20].copy_from_slice(&243u16.to_le_bytes());
    fs::write(bench.path("libmine.so.7"), &foreign).unwrap();
    assert!(refused(&bench.path("beside.so"), &[]).contains("it needs the shared library `libmine.so.7`"));
    fs::write(bench.path("libmine.so.7"), &beside).unwrap();
    // What is needed needs something itself.
    bench.library("libdeep.so.1", "int deep(void) { return 1; }", "-Wl,-soname,libdeep.so.1");
    let text = "int deep(void); int other(void) { return deep(); }";
    let flags = format!("-Wl,-soname,libmine.so.7 -L{} -l:libdeep.so.1", bench.folder.path().display());
    bench.library("libmine.so.7", text, &flags);
    fs::remove_file(bench.path("libdeep.so.1")).unwrap();
    let told = refused(&bench.path("beside.so"), &[]);
    assert!(
        told.contains("it needs `libmine.so.7`, which needs the shared library `libdeep.so.1`, which is not on"),
        "{told}"
    );
}

#[test]
fn versions_that_are_not_here_are_told() {
    let bench = Bench::new();
    let map = |name: &str, text: &str| fs::write(bench.path(name), text).unwrap();
    // Not the newest by its letters: 2.9 stands behind 2.120, and GCC_4.2.0 is no glibc.
    map("glibc.map", "GCC_4.2.0 { global: gcc; };\nGLIBC_2.9 { global: nine; };\nGLIBC_2.120 { global: new; };\n");
    let text = "int gcc(void) { return 1; } int nine(void) { return 1; } int new(void) { return 1; }";
    bench.library("libc.so.6", text, "-nostdlib -Wl,-soname,libc.so.6 -Wl,--version-script=glibc.map");
    let text = "int gcc(void); int nine(void); int new(void); int f(void) { return gcc() + nine() + new(); }\n\
        const unsigned char KUIPER_PLUGIN_ABI[16] = {'K','U','I','P','E','R','.','P',1};\n\
        const void *kuiper_plugin_v1(void) { return 0; }";
    let new = bench.library("new.so", text, &format!("-nostdlib -L{} -l:libc.so.6", bench.folder.path().display()));
    let told = refused(&new, &[]);
    assert!(told.contains("it needs glibc 2.120, and this machine has 2."), "{told}");
    assert!(told.ends_with("; build it on an older system"), "{told}");
    assert_eq!(format!("kuiper: `new.so`: {}", not_installed(&new)), told);

    let both = "V_1 { global: other; };\nV_2 { global: later; };\n";
    map("two.map", both);
    map("one.map", "V_1 { global: other; later; };\n");
    let text = "int other(void) { return 1; } int later(void) { return 2; }";
    let made =
        |map: &str| bench.library("libmine.so", text, &format!("-Wl,-soname,libmine.so -Wl,--version-script={map}"));
    made("two.map");
    let folder = bench.folder.path().display().to_string();
    let tiny = bench.tiny("versions.so", &format!("-DNEEDS=later -L{folder} -l:libmine.so -Wl,-rpath,$ORIGIN"));
    fine(&tiny, &[]);
    made("one.map");
    let told = refused(&tiny, &[]);
    assert!(told.contains("it needs version `V_2` of `libmine.so`, and `"), "{told}");
    assert!(
        told.contains("` has no such version; build it on an older system, or bring that library up to date"),
        "{told}"
    );
}

#[test]
fn other_machines_and_libcs_are_told_and_targets_are_judged() {
    let bench = Bench::new();
    let here = std::env::consts::ARCH;
    let (other, compiler) = match here {
        "aarch64" => ("x86_64", "x86_64-linux-gnu-gcc"),
        _ => ("aarch64", "aarch64-linux-gnu-gcc"),
    };
    let crossed = bench.tiny_with(compiler, "crossed.so", "");
    both_say(&crossed, &format!("it was built for {other}, and this machine is {here}; build it with `--target`"));
    let target = format!("{other}-unknown-linux-gnu");
    assert_eq!(fine(&crossed, &["--target", &target]), format!("`crossed.so` can be loaded on {target}\n"));
    let musl = bench.tiny_with("musl-gcc", "musl.so", "");
    both_say(&musl, "it was built for musl (`libc.so`), and this engine runs on glibc; build it with `--target`");
    fine(&musl, &["--target", &format!("{here}-unknown-linux-musl")]);
    assert!(
        refused(&musl, &["--target", &format!("{here}-unknown-linux-gnu")]).contains("and the target runs on glibc")
    );
    let told = refused(&musl, &["--target", &format!("{other}-unknown-linux-musl")]);
    assert!(told.contains(&format!("it was built for {here}, and the target is {other}")), "{told}");
    assert!(refused(&musl, &["--target", "x86_64-apple-darwin"]).contains("is no target with Linux"));

    // One zip for all of them: each takes its own.
    let gnu = bench.tiny("gnu.so", "");
    let read = |path: &Path| fs::read(path).unwrap();
    let (gnu_target, musl_target) = (format!("{here}-unknown-linux-gnu"), format!("{here}-unknown-linux-musl"));
    let name = |target: &str| format!("bin/{target}/Tiny@v1.0.0.so");
    let all = [
        (name(&target), read(&crossed)),
        (name(&gnu_target), read(&gnu)),
        (name(&musl_target), read(&musl)),
        ("Tiny@v1.0.0.so".to_owned(), read(&crossed)),
    ];
    let zip = |without: &[&str]| {
        let kept: Vec<(&str, &[u8])> = all
            .iter()
            .filter(|(name, _)| !without.iter().any(|part| name.contains(part)))
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        zipped(bench.folder.path(), &kept)
    };
    let whole = zip(&[]);
    assert!(fine(&whole, &[]).ends_with("`Tiny@v1.0.0.so` can be loaded here\n"));
    for target in [&target, &gnu_target, &musl_target] {
        fine(&whole, &["--target", target]);
    }
    let home = Home::new();
    home.plugins.install(Kind::Sinks, &wish("tiny"), &whole).unwrap();
    let told = |zip: &Path| home.plugins.update(Kind::Sinks, &wish("tiny"), zip).unwrap_err().to_string();
    let without = zip(&[&gnu_target]);
    let wrong = format!(
        "`Tiny@v1.0.0.so`: it was built for {other}, and this machine is {here}; build it with `--target`; the zip also has \
         it for {target}, {musl_target}"
    );
    assert_eq!(told(&without), wrong);
    assert_eq!(refused(&without, &[]), format!("kuiper: {wrong}"));
    // One that stands in the folder of another machine than its own.
    let zip = zipped(bench.folder.path(), &[(&name(&gnu_target), &all[0].1), (&name(&musl_target), &all[2].1)]);
    let wrong = format!(
        "`{}`: it was built for {other}, and this machine is {here}; build it with `--target`; the zip also has it for \
         {musl_target}",
        name(&gnu_target)
    );
    assert_eq!(told(&zip), wrong);
    assert_eq!(refused(&zip, &[]), format!("kuiper: {wrong}"));
    // Without the plain one there is none for this machine.
    let kept: Vec<(&str, &[u8])> = all[..1].iter().chain(&all[2..3]).map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    let without = zipped(bench.folder.path(), &kept);
    let wrong = format!("the zip holds no library for {here} with glibc; it has {target}, {musl_target}");
    assert_eq!(told(&without), wrong);
    assert!(refused(&without, &[]).ends_with(&wrong));
}

#[test]
fn what_a_library_does_wrong_is_told_by_check_and_ends_nothing() {
    let bench = Bench::new();
    let told = refused(&bench.tiny("crash.so", "-DCRASH"), &[]);
    assert_eq!(
        told,
        "kuiper: `crash.so`: loading it, or one of its examples, ended the process by a bad access to memory (SIGSEGV)"
    );
    let told = refused(&bench.tiny("hang.so", "-DHANG"), &["--limit", "1"]);
    assert_eq!(told, "kuiper: `hang.so`: loading it and its examples did not end within 1 s");
    let told = refused(&bench.tiny("example.so", "-DWRONG_EXAMPLE"), &[]);
    assert!(told.contains("function tinyTwice(bigint) -> bigint: `tinyTwice(21)` is 42, not 43"), "{told}");
    let told = refused(&bench.tiny("picky.so", "-DPICKY"), &[]);
    assert!(told.contains("sink Tiny does not take its default properties: `Tiny`: not today"), "{told}");
}

/// The project of a plugin whose library was built already.
fn project(bench: &Bench, kind: &str) -> std::path::PathBuf {
    let folder = bench.path("project");
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [package.metadata.kuiper]\nkind = \"{kind}\"\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    fs::copy(bench.tiny("tiny.so", ""), folder.join("Tiny@v1.0.0.so")).unwrap();
    folder
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = kuiper(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn several_targets_are_packed_into_one_zip() {
    let bench = Bench::new();
    let folder = project(&bench, "sink");
    let musl = format!("bin/{}-unknown-linux-musl", std::env::consts::ARCH);
    for (target, version) in [(musl.as_str(), "1.0.0"), ("bin/riscv64gc-unknown-linux-gnu", "0.9.0")] {
        fs::create_dir_all(folder.join(target)).unwrap();
        let library = bench.tiny_with("musl-gcc", "musl.so", "");
        fs::copy(library, folder.join(target).join(format!("Tiny@v{version}.so"))).unwrap();
    }
    let said = done(&folder, &["plugin", "pack"]);
    assert!(said.contains("note: bin/riscv64gc-unknown-linux-gnu holds no version 1.0.0, and is left out"), "{said}");
    let zip = folder.join("tinySink.zip");
    let archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let mut names: Vec<String> =
        (0..archive.len()).map(|at| archive.name_for_index(at).unwrap().unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["Tiny@v1.0.0.so".to_owned(), format!("{musl}/Tiny@v1.0.0.so")]);
    fine(&zip, &[]);
    fine(&zip, &["--target", &musl["bin/".len()..]]);
    let home = Home::new();
    home.plugins.install(Kind::Sinks, &wish("tiny"), &zip).unwrap();
}

fn installed(bench: &Bench, zip: &Path, keys: &[&str]) -> Result<(), String> {
    let data = tempfile::tempdir_in(bench.folder.path()).unwrap();
    let keys = keys.iter().map(|key| PublicKey::read(key).unwrap()).collect();
    let (plugins, _) = Plugins::open(Settings { trusted: keys, ..Settings::new(data.path()) });
    let installed = plugins.install(Kind::Sinks, &Install { name: "tiny".into(), ..Install::default() }, zip);
    installed.map(drop).map_err(|refused| refused.to_string())
}

#[test]
fn only_what_a_trusted_key_has_signed_is_installed() {
    let bench = Bench::new();
    let folder = project(&bench, "sink");
    let zip = folder.join("tinySink.zip");
    let said = done(&folder, &["plugin", "keys", "mine.key"]);
    assert!(said.contains("plugins.trustedKeys: [RW"), "{said}");
    assert!(said.contains("mine.key is secret: keep it out of the repository"), "{said}");
    assert_eq!(kuiper(&folder, &["plugin", "keys", "mine.key"]).status.code(), Some(1), "it is not written over");
    done(&folder, &["plugin", "keys", "other.key"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.join("mine.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let key = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (mine, other) = (key("mine.key.pub"), key("other.key.pub"));

    done(&folder, &["plugin", "pack"]);
    assert_eq!(installed(&bench, &zip, &[]), Ok(()));
    let told = installed(&bench, &zip, &[&mine]).unwrap_err();
    assert!(told.starts_with("the zip is not signed, and this server installs only what "), "{told}");
    let told = refused(&zip, &["--key", mine.lines().last().unwrap()]);
    assert!(told.contains("the zip is not signed, and `--key` asks for a signature"), "{told}");
    assert!(fine(&zip, &[]).starts_with("tinySink.zip is not signed\n"));

    done(&folder, &["plugin", "pack", "--sign", "mine.key"]);
    assert_eq!(installed(&bench, &zip, &[&other, &mine]), Ok(()));
    let number = &mine.lines().next().unwrap()["untrusted comment: minisign public key ".len()..];
    let said = fine(&zip, &["--key", "other.key.pub", "--key", "mine.key.pub"]);
    let verified = format!("tinySink.zip is signed by the key {number}, and the signature was verified\n");
    assert!(said.starts_with(&verified), "{said}");
    let said = fine(&zip, &[]);
    let told =
        format!("tinySink.zip says that it is signed by the key {number}; not verified, for no `--key` was given\n");
    assert!(said.starts_with(&told), "{said}");
    let told = refused(&zip, &["--key", "other.key.pub"]);
    assert!(told.ends_with(&format!("the zip is signed by the key {number}, which `--key` does not name")), "{told}");
    let told = installed(&bench, &zip, &[&other]).unwrap_err();
    assert!(told.contains("which is none of `plugins.trustedKeys`"), "{told}");

    // A file more, a file less, a file changed.
    let mut archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let mut read = |name: &str| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name(name).unwrap(), &mut bytes).unwrap();
        bytes
    };
    let (library, signature) = (read("Tiny@v1.0.0.so"), read("signature.minisig"));
    let mut changed = library.clone();
    *changed.last_mut().unwrap() ^= 1;
    let wrong = "the signature does not fit the files of the zip";
    for entries in [
        &[("Tiny@v1.0.0.so", &library[..]), ("signature.minisig", &signature), ("install.sh", b"true")][..],
        &[("Tiny@v1.0.0.so", &changed), ("signature.minisig", &signature)],
        &[("Tiny@v1.0.1.so", &library), ("signature.minisig", &signature)],
    ] {
        assert_eq!(installed(&bench, &zipped(bench.folder.path(), entries), &[&mine]).unwrap_err(), wrong);
    }

    // Keys and signatures are those of minisign.
    let minisign = |arguments: &[&str]| {
        let mut command = Command::new("minisign");
        let done = command.args(arguments).current_dir(&folder).output().expect("this test needs `minisign`");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs.key"]);
    done(&folder, &["plugin", "pack", "--sign", "theirs.key"]);
    assert_eq!(installed(&bench, &zip, &[&key("theirs.pub")]), Ok(()));
    let sums = Command::new("sha256sum").arg("Tiny@v1.0.0.so").current_dir(&folder).output().unwrap().stdout;
    fs::write(folder.join("sums"), &sums).unwrap();
    fs::write(folder.join("sums.minisig"), &signature).unwrap();
    minisign(&["-V", "-p", "mine.key.pub", "-m", "sums"]);
    minisign(&["-S", "-s", "theirs.key", "-m", "sums", "-x", "theirs.minisig"]);
    let theirs = fs::read(folder.join("theirs.minisig")).unwrap();
    let entries = [("Tiny@v1.0.0.so", &library[..]), ("signature.minisig", &theirs)];
    assert_eq!(installed(&bench, &zipped(bench.folder.path(), &entries), &[&key("theirs.pub")]), Ok(()));
}

#[test]
fn a_target_without_its_standard_library_is_told_what_to_install() {
    let bench = Bench::new();
    let folder = project(&bench, "sink");
    // No machine of tests has this one.
    let output = kuiper(&folder, &["plugin", "build", "--target", "s390x-unknown-linux-gnu"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("Rust's standard library for s390x-unknown-linux-gnu is not installed; "), "{told}");
    let output = kuiper(&folder, &["plugin", "build", "--target", "toaster"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(root().join("plugins/sdk").is_dir());
}

/// With Debian's own compiler, for which Debian has the libraries of other machines; where that for this one's opposite
/// could not be installed, what is told is what would install it.
#[test]
fn a_project_in_rust_is_built_for_another_machine() {
    let (other, debian) = match std::env::consts::ARCH {
        "aarch64" => ("x86_64", "amd64"),
        _ => ("aarch64", "arm64"),
    };
    let target = format!("{other}-unknown-linux-gnu");
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(arguments).current_dir(folder.path());
        command.env("CARGO", "/usr/bin/cargo").env("RUSTC", "/usr/bin/rustc").env("CARGO_NET_OFFLINE", "true");
        for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    };
    assert!(run(&["plugin", "new", "functions", "turn"]).status.success());
    let asked = Command::new("/usr/bin/rustc").args(["--print", "target-libdir", "--target", &target]).output();
    let libraries = String::from_utf8(asked.expect("this test needs Debian's `rustc`").stdout).unwrap();
    let is_std = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libstd-");
    let there = fs::read_dir(libraries.trim()).is_ok_and(|entries| entries.flatten().any(is_std));
    let built = run(&["plugin", "build", "--debug", "--function", "turn", "--target", &target]);
    let told = String::from_utf8_lossy(&built.stderr).into_owned();
    if !there {
        assert_eq!(built.status.code(), Some(1), "{told}");
        let remedy = format!(
            "Rust's standard library for {target} is not installed; dpkg --add-architecture {debian} && apt-get update \
             && apt-get install libstd-rust-dev:{debian}, or use rustup"
        );
        assert!(told.contains(&remedy), "{told}");
        return;
    }
    assert_eq!(built.status.code(), Some(0), "{told}");
    let library = folder.path().join(format!("functions/turn/bin/{target}/Turn@v1.0.0.so"));
    assert_eq!(fine(&library, &["--target", &target]), format!("`Turn@v1.0.0.so` can be loaded on {target}\n"));
    let told = refused(&library, &[]);
    assert!(told.contains(&format!("it was built for {other}, and this machine is ")), "{told}");
    // Both machines find theirs in one zip.
    assert!(run(&["plugin", "build", "--debug", "--function", "turn"]).status.success());
    assert!(run(&["plugin", "pack", "--function", "turn"]).status.success());
    let zip = folder.path().join("functions/turn/turnFunction.zip");
    fine(&zip, &["--target", &target]);
    fine(&zip, &[]);
}
