//! What a library needs of others, found as the dynamic loader would find it: each library by name, in each the versions
//! that are asked for, and in all of them together every symbol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;
use goblin::elf::sym::STB_WEAK;

use super::own_glibc;

/// Libraries that plugins often need, and the package of Debian 12 that has each. A name may go on with a version.
const PACKAGES: &[(&str, &str)] = &[
    ("libasound.so.2", "libasound2"),
    ("libatomic.so.1", "libatomic1"),
    ("libavcodec.so.59", "libavcodec59"),
    ("libavformat.so.59", "libavformat59"),
    ("libavutil.so.57", "libavutil57"),
    ("libbrotlidec.so.1", "libbrotli1"),
    ("libbz2.so.1.0", "libbz2-1.0"),
    ("libcrypto.so.1.1", "libssl1.1"),
    ("libcrypto.so.3", "libssl3"),
    ("libcurl-gnutls.so.4", "libcurl3-gnutls"),
    ("libcurl.so.4", "libcurl4"),
    ("libczmq.so.4", "libczmq4"),
    ("libdbus-1.so.3", "libdbus-1-3"),
    ("libexpat.so.1", "libexpat1"),
    ("libffi.so.8", "libffi8"),
    ("libgcc_s.so.1", "libgcc-s1"),
    ("libglib-2.0.so.0", "libglib2.0-0"),
    ("libgnutls.so.30", "libgnutls30"),
    ("libgomp.so.1", "libgomp1"),
    ("libhdf5_serial.so.103", "libhdf5-103-1"),
    ("libhiredis.so.0.14", "libhiredis0.14"),
    ("libicuuc.so.72", "libicu72"),
    ("libjpeg.so.62", "libjpeg62-turbo"),
    ("liblz4.so.1", "liblz4-1"),
    ("liblzma.so.5", "liblzma5"),
    ("libmariadb.so.3", "libmariadb3"),
    ("libmodbus.so.5", "libmodbus5"),
    ("libmosquitto.so.1", "libmosquitto1"),
    ("libodbc.so.2", "libodbc2"),
    ("libopenblas.so.0", "libopenblas0"),
    ("libpaho-mqtt3c.so.1", "libpaho-mqtt1.3"),
    ("libpng16.so.16", "libpng16-16"),
    ("libpq.so.5", "libpq5"),
    ("libprotobuf-c.so.1", "libprotobuf-c1"),
    ("libprotobuf.so.32", "libprotobuf32"),
    ("libpython3.11.so.1.0", "libpython3.11"),
    ("librabbitmq.so.4", "librabbitmq4"),
    ("librdkafka.so.1", "librdkafka1"),
    ("libresolv.so.2", "libc6"),
    ("libserialport.so.0", "libserialport0"),
    ("libsnappy.so.1", "libsnappy1v5"),
    ("libsodium.so.23", "libsodium23"),
    ("libsqlite3.so.0", "libsqlite3-0"),
    ("libssl.so.1.1", "libssl1.1"),
    ("libssl.so.3", "libssl3"),
    ("libstdc++.so.6", "libstdc++6"),
    ("libswscale.so.6", "libswscale6"),
    ("libsystemd.so.0", "libsystemd0"),
    ("libtiff.so.6", "libtiff6"),
    ("libudev.so.1", "libudev1"),
    ("libusb-1.0.so.0", "libusb-1.0-0"),
    ("libuuid.so.1", "libuuid1"),
    ("libuv.so.1", "libuv1"),
    ("libwebp.so.7", "libwebp7"),
    ("libxml2.so.2", "libxml2"),
    ("libyaml-0.so.2", "libyaml-0-2"),
    ("libz.so.1", "zlib1g"),
    ("libzmq.so.5", "libzmq5"),
    ("libzstd.so.1", "libzstd1"),
];

/// Libraries that may stand in a line of needs; more would be a circle that is not one.
const MOST: usize = 500;

/// What the loader knows when it looks for a library.
struct Loader {
    /// Libraries of this process, which are there whatever the folders say: name and path.
    loaded: BTreeMap<String, PathBuf>,
    /// Of the environment, as this process was started with it.
    before: Vec<PathBuf>,
    /// Name and path, from the loader's cache.
    cache: BTreeMap<String, Vec<PathBuf>>,
    folders: Vec<PathBuf>,
}

/// A library that was found.
struct Found {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Checks that everything is there that a library needs; the error is a sentence.
pub(super) fn check(elf: &Elf<'_>, path: &Path) -> Result<(), String> {
    let loader = Loader::new();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut open: VecDeque<(String, Option<String>, Vec<PathBuf>)> = VecDeque::new();
    let queue = |elf: &Elf<'_>, path: &Path, whose: Option<&str>, open: &mut VecDeque<_>| {
        let first = folders(elf, path);
        open.extend(elf.libraries.iter().map(|name| ((*name).to_owned(), whose.map(str::to_owned), first.clone())));
    };
    queue(elf, path, None, &mut open);
    let mut whole = true;
    while let Some((name, whose, first)) = open.pop_front() {
        if found.contains_key(&name) {
            continue;
        }
        if found.len() >= MOST {
            return Err(format!("it needs more than {MOST} shared libraries"));
        }
        let Some(library) = loader.find(&name, &first, elf) else { return Err(missing(&name, whose.as_deref())) };
        match Elf::parse(&library.bytes) {
            Ok(theirs) => queue(&theirs, &library.path, Some(&name), &mut open),
            Err(_) => whole = false,
        }
        found.insert(name, library);
    }
    versions(elf, &found)?;
    // What this process has loaded may offer a symbol too; what cannot be read offers what nobody knows.
    match whole {
        true => symbols(elf, found.values(), &loader),
        false => Ok(()),
    }
}

fn missing(name: &str, whose: Option<&str>) -> String {
    let package = PACKAGES.iter().find(|(library, _)| name == *library).map(|(_, package)| *package);
    let who = whose.map_or_else(|| "it needs".to_owned(), |whose| format!("it needs `{whose}`, which needs"));
    let help = match package {
        Some("libc6") => "a part of glibc that this machine does not have".to_owned(),
        Some(package) => format!("on Debian it is in the package `{package}`: apt-get install {package}"),
        None => "install it, or put it beside the library and link with `-Wl,-rpath,'$ORIGIN'`".to_owned(),
    };
    format!("{who} the shared library `{name}`, which is not on this machine; {help}")
}

/// Folders that the library itself names.
fn folders(elf: &Elf<'_>, path: &Path) -> Vec<PathBuf> {
    let origin = path.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_default();
    let origin = origin.display().to_string();
    // The newer of the two tags makes the older one void.
    let named = if elf.runpaths.is_empty() { &elf.rpaths } else { &elf.runpaths };
    let lib = if elf.is_64 { "lib64" } else { "lib" };
    let whole = |folder: &str| {
        let mut text = folder.to_owned();
        for (name, value) in [("ORIGIN", origin.as_str()), ("LIB", lib), ("PLATFORM", env::consts::ARCH)] {
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        PathBuf::from(text)
    };
    named.iter().flat_map(|list| list.split(':')).filter(|folder| !folder.is_empty()).map(whole).collect()
}

impl Loader {
    fn new() -> Loader {
        let arch = env::consts::ARCH;
        let multiarch = match arch {
            "x86" => "i386-linux-gnu".to_owned(),
            "arm" => "arm-linux-gnueabihf".to_owned(),
            "powerpc64" => "powerpc64le-linux-gnu".to_owned(),
            arch => format!("{arch}-linux-gnu"),
        };
        let mut folders: Vec<PathBuf> = Vec::new();
        for top in ["/lib", "/usr/lib"] {
            folders.extend([format!("{top}/{multiarch}"), top.to_owned(), format!("{top}64")].map(PathBuf::from));
        }
        if own_glibc().is_none() {
            let listed = fs::read_to_string(format!("/etc/ld-musl-{arch}.path")).unwrap_or_default();
            folders.extend(listed.split([':', '\n']).filter(|folder| !folder.is_empty()).map(PathBuf::from));
            folders.push("/usr/local/lib".into());
        }
        let before = env::var("LD_LIBRARY_PATH").unwrap_or_default();
        let before = before.split([':', ';']).filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
        Loader {
            loaded: loaded(),
            before,
            cache: fs::read("/etc/ld.so.cache").map(|bytes| cached(&bytes).unwrap_or_default()).unwrap_or_default(),
            folders,
        }
    }

    /// The first library of that name that is for the same machine; the loader passes over others.
    fn find(&self, name: &str, first: &[PathBuf], elf: &Elf<'_>) -> Option<Found> {
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).ok()?;
            let same = bytes.starts_with(b"\x7fELF")
                && bytes.get(4) == Some(&if elf.is_64 { 2 } else { 1 })
                && bytes.get(18..20).map(|two| u16::from_le_bytes([two[0], two[1]])) == Some(elf.header.e_machine);
            same.then_some(Found { path, bytes })
        };
        if name.contains('/') {
            return read(name.into());
        }
        let listed = self.loaded.get(name).into_iter().cloned();
        let named = first.iter().chain(&self.before).map(|folder| folder.join(name));
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let standard = self.folders.iter().map(|folder| folder.join(name));
        listed.chain(named).chain(cached).chain(standard).find_map(read)
    }
}

/// The libraries that this process has mapped.
fn loaded() -> BTreeMap<String, PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths: BTreeSet<&str> = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).collect();
    let named = |path: &str| Some((Path::new(path).file_name()?.to_str()?.to_owned(), PathBuf::from(path)));
    paths.into_iter().filter(|path| path.contains(".so")).filter_map(named).collect()
}

/// Reads the cache of glibc's loader: names and paths.
fn cached(bytes: &[u8]) -> Option<BTreeMap<String, Vec<PathBuf>>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    // An older form may stand before.
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &bytes[start..];
    let number = |at: usize| Some(u32::from_ne_bytes(cache.get(at..at + 4)?.try_into().ok()?) as usize);
    let text = |at: usize| {
        let rest = cache.get(at..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
    };
    let mut all: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in 0..number(MAGIC.len())? {
        // A head of 48 bytes, then entries of 24: flags, key, value, and two that do not matter here.
        let at = 48 + entry * 24;
        let (key, value) = (text(number(at + 4)?)?, text(number(at + 8)?)?);
        all.entry(key.to_owned()).or_default().push(value.into());
    }
    Some(all)
}

/// Each version that is asked of a library must be one that it has.
fn versions(elf: &Elf<'_>, found: &BTreeMap<String, Found>) -> Result<(), String> {
    const WEAK: u16 = 2;
    for needed in elf.verneed.iter().flat_map(|needed| needed.iter()) {
        let Some(file) = elf.dynstrtab.get_at(needed.vn_file) else { continue };
        let Some(library) = found.get(file) else { continue };
        let Ok(theirs) = Elf::parse(&library.bytes) else { continue };
        let Some(defined) = &theirs.verdef else { continue };
        let names: BTreeSet<&str> = defined
            .iter()
            .flat_map(|one| one.iter().map(|aux| aux.vda_name).collect::<Vec<_>>())
            .filter_map(|name| theirs.dynstrtab.get_at(name))
            .collect();
        for version in needed.iter().filter(|version| version.vna_flags & WEAK == 0) {
            let Some(name) = elf.dynstrtab.get_at(version.vna_name) else { continue };
            if !names.contains(name) {
                return Err(format!(
                    "it needs version `{name}` of `{file}`, and `{}` has no such version; build it on an older system, or \
                     bring that library up to date",
                    library.path.display()
                ));
            }
        }
    }
    Ok(())
}

/// Each symbol that is asked for must be in one of the libraries.
fn symbols<'a>(elf: &Elf<'_>, found: impl Iterator<Item = &'a Found>, loader: &Loader) -> Result<(), String> {
    let mut open: BTreeSet<&str> = elf
        .dynsyms
        .iter()
        .filter(|sym| sym.st_shndx == 0 && sym.st_bind() != STB_WEAK)
        .filter_map(|sym| elf.dynstrtab.get_at(sym.st_name))
        .filter(|name| !name.is_empty())
        .collect();
    let mut close = |bytes: &[u8]| {
        if let Ok(theirs) = Elf::parse(bytes) {
            let offered = theirs.dynsyms.iter().filter(|sym| sym.st_shndx != 0);
            for name in offered.filter_map(|sym| theirs.dynstrtab.get_at(sym.st_name)) {
                open.remove(name);
            }
        }
        open.is_empty()
    };
    let mut found = found;
    let closed = found.any(|library| close(&library.bytes))
        || loader.loaded.values().filter_map(|path| fs::read(path).ok()).any(|bytes| close(&bytes));
    match open.first() {
        Some(name) if !closed => Err(format!(
            "it needs the symbol `{name}`, which none of the libraries has that it names; link it with the one that has it"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_in_order_and_named_once() {
        assert!(PACKAGES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_cache_of_the_loader_is_read() {
        let cache = fs::read("/etc/ld.so.cache").expect("this test needs the loader's cache, which `ldconfig` makes");
        let all = cached(&cache).unwrap();
        let libc = all.get("libc.so.6").expect("a system on glibc lists it");
        assert!(libc.iter().any(|path| path.exists()), "{libc:?}");
        // Cut anywhere it is read as far as it goes, or not at all.
        for cut in (0..cache.len().min(5_000)).step_by(7) {
            let _ = cached(&cache[..cut]);
        }
    }

    #[test]
    fn what_is_missing_is_told_with_its_package() {
        assert_eq!(
            missing("libzmq.so.5", None),
            "it needs the shared library `libzmq.so.5`, which is not on this machine; on Debian it is in the package \
             `libzmq5`: apt-get install libzmq5"
        );
        let told = missing("libnone.so.1", Some("libsome.so"));
        assert!(told.starts_with("it needs `libsome.so`, which needs the shared library `libnone.so.1`"), "{told}");
    }

    #[test]
    fn what_this_process_runs_on_has_all_that_it_needs() {
        let own = env::current_exe().unwrap();
        let bytes = fs::read(&own).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert_eq!(check(&elf, &own), Ok(()));
        assert!(loaded().contains_key("libc.so.6"));
    }
}
