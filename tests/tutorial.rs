//! The session of the README, text for text, against a real mosquitto and a real MariaDB on their usual ports.
//!
//! So that the usual ports are free, everything runs in a network of its own, which has no way out: crates are fetched
//! before. The test calls itself in there; what it starts dies with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says that the test is inside, and where its folder is.
const INSIDE: &str = "KUIPER_TUTORIAL_FOLDER";
/// Building the plugin takes longest.
const PATIENCE: Duration = Duration::from_secs(25 * 60);

#[test]
fn the_session_of_the_readme_puts_a_row_into_the_database() {
    match std::env::var_os(INSIDE) {
        Some(folder) => inside(Path::new(&folder)),
        None => outside(),
    }
}

/// The block of the README that makes the plugin.
fn session() -> String {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("plugin new sinks mysql")).collect::<Vec<_>>().concat()
}

#[test]
fn the_session_is_short() {
    let lines = session().lines().count();
    assert!((1..=25).contains(&lines), "{lines} lines");
}

fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kuiper"))
}

/// Fetches what the build needs, and goes inside.
fn outside() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let new = ["plugin", "new", "sinks", "mysql", "--from", "mysql"];
    succeed("kuiper plugin new", Command::new(binary()).args(new).current_dir(&scratch));
    let project = scratch.join("sinks/mysql");
    succeed("cargo fetch", Command::new("cargo").arg("fetch").current_dir(&project));

    let mut unshare = Command::new("unshare");
    // A user of its own gives the rights that the others need, where the test has none.
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["the_session_of_the_readme_puts_a_row_into_the_database", "--exact", "--nocapture"])
        .env(INSIDE, folder.path())
        .env("CARGO_NET_OFFLINE", "true");
    let mut child = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // Whoever counts results is told once, by the test outside.
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if !line.starts_with("test result:") {
            println!("{line}");
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "the session in a network of its own failed: {status}");
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn succeed(what: &str, command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(status.success(), "{what} failed: {status}");
}

fn inside(folder: &Path) {
    succeed("loopback", Command::new("ip").args(["link", "set", "lo", "up"]).env("PATH", path_with_sbin()));
    let socket = folder.join("mariadb.sock");
    let _broker = broker(folder);
    let _database = database(folder, &socket);
    wait_for("mosquitto", || TcpStream::connect("127.0.0.1:1883").is_ok());
    wait_for("MariaDB", || socket.exists() && TcpStream::connect("127.0.0.1:3306").is_ok());

    // The session begins in a folder whose `target/release` holds the binary.
    let start = folder.join("repository");
    fs::create_dir_all(start.join("target")).unwrap();
    symlink(binary().parent().unwrap(), start.join("target/release")).unwrap();
    let script = folder.join("session");
    // It stops at the first command that fails, as a person would.
    fs::write(&script, format!("set -e\n{}", session())).unwrap();
    let begun = Instant::now();
    let mut shell = Command::new("bash")
        .arg(&script)
        .current_dir(&start)
        .env("TMPDIR", folder)
        .envs(home(folder, &socket))
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let status = loop {
        if let Some(status) = shell.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "the session takes too long");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(status.success(), "the session failed: {status}\n{}", server_log(folder));

    let rows = || {
        let query = ["-N", "-u", "root", "-e", "SELECT id, name, temperature FROM `database`.test"];
        let output = Command::new("mariadb").args(query).envs(home(folder, &socket)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    wait_for("the row in the table", || !rows().is_empty());
    assert_eq!(rows(), "2\tattic\t36.5\n", "{}", server_log(folder));
}

/// A home in which the database's clients find its socket, and Rust what it has elsewhere.
fn home(folder: &Path, socket: &Path) -> Vec<(&'static str, PathBuf)> {
    fs::write(folder.join(".my.cnf"), format!("[client]\nsocket={}\n", socket.display())).unwrap();
    let old = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let elsewhere = |name: &str, usual: &str| std::env::var_os(name).map_or_else(|| old.join(usual), PathBuf::from);
    vec![
        ("CARGO_HOME", elsewhere("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", elsewhere("RUSTUP_HOME", ".rustup")),
        ("HOME", folder.to_path_buf()),
    ]
}

/// What the server wrote, to be shown when something went wrong.
fn server_log(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap();
    let logs = entries.map(|entry| entry.unwrap().path().join("server.log"));
    logs.filter_map(|log| fs::read_to_string(log).ok()).collect()
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn broker(folder: &Path) -> Running {
    let log = fs::File::create(folder.join("mosquitto.log")).unwrap();
    let mut command = Command::new("mosquitto");
    // Without a configuration it listens on this machine only, on the usual port.
    command.env("PATH", path_with_sbin()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

fn database(folder: &Path, socket: &Path) -> Running {
    let data = folder.join("mariadb");
    let user = "--user=root";
    let mut install = Command::new("mariadb-install-db");
    install
        .args(["--no-defaults", user, "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", data.display()))
        // A server that starts clears away the temporary tables of others in the same folder.
        .env("TMPDIR", folder)
        .stdout(Stdio::null());
    succeed("mariadb-install-db", &mut install);
    let log = fs::File::create(folder.join("mariadb.log")).unwrap();
    let mut command = Command::new("mariadbd");
    command
        .args(["--no-defaults", user, "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", folder.join("mariadb.pid").display()))
        .env("PATH", path_with_sbin())
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Running(command.spawn().unwrap())
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
