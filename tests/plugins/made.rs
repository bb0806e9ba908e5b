//! Libraries and zips that the tests are made of.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kuiper::clock::{Clock, Time};
use kuiper::codec::FormatOptions;
use kuiper::data::Value;
use kuiper::diag::Fault;
use kuiper::func::{Body, Ctx, RuleInfo};
use kuiper::io::{Bus, Env, LookupSpec, SinkSpec, SourceSpec};
use kuiper::plugin::{Install, Isolation, Kind, Plugins, Settings};
use serde_json::Value as Json;
use zip::write::SimpleFileOptions;

/// The library `plugins/sdk/examples/count.rs`, built once.
pub fn count() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "kuiper-plugin", "--example", "count"], "examples/libcount.so"))
}

/// The library `plugins/sdk/examples/kinds.rs`, built once.
#[allow(dead_code)]
pub fn kinds() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "kuiper-plugin", "--example", "kinds"], "examples/libkinds.so"))
}

/// The library `plugins/sdk/examples/crash.rs`.
#[allow(dead_code)]
pub fn crash() -> PathBuf {
    built(&["-p", "kuiper-plugin", "--example", "crash"], "examples/libcrash.so")
}

/// The library of one of our plugins. They are built as their own tests are, so that what they need is there already.
pub fn ours(name: &str) -> PathBuf {
    built(&["--workspace", "--exclude", "kuiper", "--lib"], &format!("libkuiper_{name}.so"))
}

fn built(what: &[&str], file: &str) -> PathBuf {
    // The folder for temporary files stands in that of the build.
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary.parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--offline", "--locked", "--quiet"]).args(what).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells this program about itself would have the build scripts of others run again, here and in the build after
    // this one, and all that needs them be compiled again.
    let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| own.iter().any(|own| name.to_string_lossy().starts_with(own)))
    {
        command.env_remove(name);
    }
    assert!(command.env("CARGO_TARGET_DIR", target).status().unwrap().success());
    // What is for debuggers only costs time here.
    // Tests that run side by side have one each.
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let stripped = temporary.join(format!("{}-{number}-{}", std::process::id(), file.replace('/', "-")));
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(target.join("debug").join(file)).status();
    assert!(strip.expect("this test needs `strip`").success());
    stripped
}

/// A zip of files and their contents.
pub fn zipped(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = folder.join(format!("{number}.zip"));
    let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, content) in entries {
        // Packing takes a program that is built for tests longer than all else.
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file(*name, stored).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// An empty data folder, and the plugins in it.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub plugins: Plugins,
}

impl Home {
    pub fn new() -> Home {
        Home::with(Isolation::default())
    }

    /// One whose plugins run in processes of their own.
    #[allow(dead_code)]
    pub fn isolated() -> Home {
        Home::with(Isolation { all: true, program: env!("CARGO_BIN_EXE_kuiper").into(), ..Isolation::default() })
    }

    pub fn with(isolation: Isolation) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let (plugins, told) = Plugins::open(Settings { isolation, ..Settings::new(folder.path().join("data")) });
        assert_eq!(told, Vec::<String>::new());
        Home { folder, plugins }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The same folder after a restart.
    pub fn reopened(self) -> (Home, Vec<String>) {
        let (plugins, told) = Plugins::open(Settings::new(self.data()));
        (Home { folder: self.folder, plugins }, told)
    }

    /// Installs a library under a name and a version.
    pub fn install(&self, kind: Kind, name: &str, version: &str, library: &Path) {
        let zip = self.zip(&[(&kuiper::plugin::library_name(name, version), &fs::read(library).unwrap())]);
        self.plugins.install(kind, &wish(name), &zip).unwrap();
    }

    pub fn zip(&self, entries: &[(&str, &[u8])]) -> PathBuf {
        zipped(self.folder.path(), entries)
    }

    /// All files below the data folder, with their contents.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }
}

pub fn wish(name: &str) -> Install {
    Install { name: name.to_owned(), ..Install::default() }
}

pub fn env(owner: &str) -> Env {
    Env {
        clock: Clock::stopped_at(Time(1_000)),
        root: PathBuf::new(),
        owner: owner.to_owned(),
        instance: "test".into(),
        bus: Bus::default(),
        private_net: true,
    }
}

pub fn sink_spec(owner: &str, props: Json) -> SinkSpec {
    SinkSpec { props: object(props), format: FormatOptions::default(), durable: false, env: env(owner) }
}

#[allow(dead_code)]
pub fn lookup_spec(props: Json) -> LookupSpec {
    let format = FormatOptions { format: "json".into(), ..FormatOptions::default() };
    LookupSpec { props: object(props), format, env: env("table") }
}

pub fn source_spec(props: Json) -> SourceSpec {
    let (props, stream) = (object(props), String::new());
    SourceSpec { props, wants_meta: true, wants_acks: false, stream, env: env("rule") }
}

fn object(json: Json) -> serde_json::Map<String, Json> {
    match json {
        Json::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

/// Calls a scalar function as one call in a statement does.
pub fn call(home: &Home, name: &str, rule: &str) -> impl Fn(&[&[Value]]) -> Vec<Result<Value, Fault>> {
    let func = home.plugins.catalogue().find(name).unwrap_or_else(|| panic!("there is no `{name}`"));
    let Body::Guest(start) = func.body else { panic!("`{name}` is no scalar of a plugin") };
    let guest = start(0);
    let info = RuleInfo { id: rule.into(), ..RuleInfo::nowhere() };
    move |rows| {
        let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
        let args: Vec<&Value> = rows.iter().copied().flatten().collect();
        guest.call(&args, rows.len(), &ctx)
    }
}
