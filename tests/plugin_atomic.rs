//! An installation, and a removal, ended by SIGKILL at every single writing system call: whatever starts next finds the
//! old plugin or the new one whole, and nothing that is left over. strace counts the calls and kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/port.rs"]
mod port;
#[path = "plugins/tiny.rs"]
#[allow(dead_code)]
mod tiny;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kuiper::plugin::{Kind, Plugins, Settings};

use made::{wish, zipped};
use port::free_port;
use tiny::Bench;

/// What writes. What is not a call of this machine is passed over.
const WRITING: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "splice",
    "ftruncate",
    "truncate",
    "fallocate",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "fsync",
    "fdatasync",
    "chmod",
    "fchmod",
    "fchmodat",
];

const DATA: &str = "KUIPER_ATOMIC_DATA";
const ZIP: &str = "KUIPER_ATOMIC_ZIP";

/// What is killed: this test once more, which does as its environment says.
#[test]
fn changes() {
    let Some(data) = env::var_os(DATA) else { return };
    let (plugins, told) = Plugins::open(Settings::new(PathBuf::from(data)));
    assert_eq!(told, Vec::<String>::new());
    match env::var_os(ZIP) {
        Some(zip) => drop(plugins.update(Kind::Sinks, &wish("tiny"), Path::new(&zip)).unwrap()),
        None => plugins.remove(Kind::Sinks, "tiny").unwrap(),
    }
}

/// The test above under strace.
fn traced(options: &[&str], data: &Path, zip: Option<&Path>) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(env::current_exe().unwrap());
    command.args(["--exact", "changes", "--test-threads", "1"]).env(DATA, data).stdin(Stdio::null());
    match zip {
        Some(zip) => command.env(ZIP, zip),
        None => command.env_remove(ZIP),
    };
    command.output().expect("this test needs `strace`")
}

/// How often each call is made, by the thread that makes it most often.
fn counted(data: &Path, zip: Option<&Path>) -> BTreeMap<&'static str, usize> {
    let log = data.with_extension("strace");
    let calls = WRITING.iter().map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    let done = traced(&["-o", log.to_str().unwrap(), "-e", &format!("trace={calls}")], data, zip);
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(
        !said.contains("Operation not permitted"),
        "strace may not trace here, so that nothing is known about crashes; allow ptrace (docker: --cap-add SYS_PTRACE): {said}"
    );
    assert!(done.status.success(), "{said}");
    let mut counts: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    let log = fs::read_to_string(log).unwrap();
    for line in log.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if let Some(name) = WRITING.iter().find(|known| **known == name) {
            *counts.entry((thread, name)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<&'static str, usize> = BTreeMap::new();
    for ((_, name), count) in counts {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copied(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Paths below a folder, and what is in them but for libraries.
fn files(folder: &Path) -> Vec<(String, String)> {
    fn below(folder: &Path, top: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => below(&path, top, found),
                false => {
                    let text = fs::read_to_string(&path).unwrap_or_else(|_| "library".to_owned());
                    found.push((path.strip_prefix(top).unwrap().display().to_string(), text));
                }
            }
        }
    }
    let mut found = Vec::new();
    below(folder, folder, &mut found);
    found.sort();
    found
}

/// A data folder with version 1.0.0 of the plugin, and a zip with version 2.0.0.
fn prepared(bench: &Bench) -> (PathBuf, PathBuf) {
    let old = fs::read(bench.tiny("old.so", "-DLIST=\"sink\\040Tiny\\n\"")).unwrap();
    let new = fs::read(bench.tiny("new.so", "")).unwrap();
    let zip = |version: &str, library: &[u8]| {
        let name = format!("Tiny@v{version}.so");
        let entries: &[(&str, &[u8])] = &[
            (&name, library),
            ("tiny.json", version.as_bytes()),
            ("etc/deep/list", version.as_bytes()),
            ("etc/other", version.as_bytes()),
            ("install.sh", b"grep -r . etc"),
        ];
        zipped(bench.folder.path(), entries)
    };
    let data = bench.path("data");
    let (plugins, _) = Plugins::open(Settings::new(&data));
    plugins.install(Kind::Sinks, &wish("tiny"), &zip("1.0.0", &old)).unwrap();
    (data, zip("2.0.0", &new))
}

/// What a start finds, and that it then is as if nothing had happened.
fn found(data: &Path) -> Vec<(String, String)> {
    let (plugins, told) = Plugins::open(Settings::new(data));
    assert_eq!(told, Vec::<String>::new());
    let version = plugins.describe(Kind::Sinks, "tiny").ok().map(|one| one.version);
    let found = files(data);
    let library = found.iter().find(|(path, _)| path.ends_with(".so"));
    match (&version, library) {
        (Some(version), Some((path, _))) => assert!(path.contains(&format!("/Tiny@v{version}+")), "{path}"),
        (None, None) => {}
        other => panic!("{other:?}"),
    }
    found
}

/// Kills the change at each of its calls; what is found must be one of the two.
fn killed_everywhere(bench: &Bench, old: &Path, zip: Option<&Path>) {
    let work = bench.path("work");
    let fresh = || {
        let _ = fs::remove_dir_all(&work);
        copied(old, &work);
    };
    let before = found(old);
    fresh();
    let calls = counted(&work, zip);
    let after = found(&work);
    assert_ne!(before, after);
    // The commit, the moves and the tidying up are among them.
    assert!(calls.len() > 4 && calls.values().sum::<usize>() > 15, "{calls:?}");
    let (mut olds, mut news) = (0, 0);
    for (call, count) in &calls {
        let mut number = 1;
        loop {
            fresh();
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let done = traced(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject], &work, zip);
            let found = found(&work);
            assert!(found == before || found == after, "{call} {number}: {found:#?}");
            if done.status.success() {
                assert!(found == after, "{call} {number}");
                break;
            }
            if found == before {
                olds += 1
            } else {
                news += 1
            }
            number += 1;
            assert!(number < count + 50, "{call} never comes to an end");
        }
        assert!(number > *count, "{call} was made {count} times, and was survived at number {number}");
    }
    assert!(olds > 0 && news > 0, "{olds} times the old was found, and {news} times the new");
}

#[test]
fn an_update_that_is_killed_at_any_call_leaves_the_old_or_the_new() {
    let bench = Bench::new();
    let (data, zip) = prepared(&bench);
    killed_everywhere(&bench, &data, Some(&zip));
}

#[test]
fn a_removal_that_is_killed_at_any_call_is_not_begun_or_complete() {
    let bench = Bench::new();
    let (data, _) = prepared(&bench);
    killed_everywhere(&bench, &data, None);
}

/// A server under strace.
struct Traced {
    child: Child,
    address: String,
}

impl Traced {
    fn start(data: &Path, options: &[&str]) -> Traced {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = match options {
            [] => Command::new(env!("CARGO_BIN_EXE_kuiper")),
            options => {
                let mut command = Command::new("strace");
                command.args(["-f", "-qq", "-o", "/dev/null"]).args(options).arg(env!("CARGO_BIN_EXE_kuiper"));
                command
            }
        };
        command.args(["serve", "--listen", &address, "--data"]).arg(data).current_dir(data.parent().unwrap());
        command.env("KUIPER__BASIC__ALLOWEXTERNALFILEACCESS", "true").stdin(Stdio::null()).stderr(Stdio::null());
        Traced { child: command.spawn().unwrap(), address }
    }

    /// False where it ended before it could be asked.
    fn answers(&mut self) -> bool {
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Status and body; `None` where the server ended meanwhile.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: k\r\ncontent-length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // What strace has started would outlive it.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-9", child]).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_is_killed_while_it_installs_starts_with_the_old_or_the_new() {
    let bench = Bench::new();
    let (data, zip) = prepared(&bench);
    let body = format!("{{\"name\": \"tiny\", \"file\": \"file://{}\"}}", zip.display());
    let work = bench.path("work");
    let mut versions = Vec::new();
    for call in ["rename", "unlink"] {
        for number in 1.. {
            let _ = fs::remove_dir_all(&work);
            copied(&data, &work);
            let inject = format!("inject=?{call},?{call}at:signal=KILL:when={number}");
            let mut server = Traced::start(&work, &["-e", &format!("trace=?{call},?{call}at"), "-e", &inject]);
            let answer = if server.answers() { server.ask("PUT", "/plugins/sinks/tiny", &body) } else { None };
            drop(server);
            let mut next = Traced::start(&work, &[]);
            assert!(next.answers(), "{call} {number}");
            let (status, told) = next.ask("GET", "/plugins/sinks/tiny", "").unwrap();
            assert_eq!(status, 200, "{call} {number}: {told}");
            let version = if told.contains("\"version\":\"2.0.0\"") { "2.0.0" } else { "1.0.0" };
            for file in ["sinks/tiny.json", "sinks/tiny/deep/list", "sinks/tiny/other"] {
                assert_eq!(fs::read_to_string(work.join(file)).unwrap(), version, "{call} {number} {file}");
            }
            versions.push(version);
            if let Some((status, told)) = answer {
                assert_eq!((status, version), (200, "2.0.0"), "{call} {number}: {told}");
                break;
            }
            assert!(number < 100, "{call} never comes to an end");
        }
    }
    assert!(versions.contains(&"1.0.0") && versions.len() > 5, "{versions:?}");
}
