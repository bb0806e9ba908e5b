//! A MariaDB of its own on a free port, which can be killed and started again.

#[path = "port.rs"]
// Each helper that gives ports to servers has it.
#[allow(clippy::duplicate_mod)]
mod port;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use port::free_port;

/// How long it may take to start; it may have to mend what a kill left behind.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Mariadb {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mariadb {
    /// Starts one with an empty database `test`; anyone may do anything as `root`.
    pub fn start() -> Mariadb {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.path().join("database").display()))
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("this test needs `mariadb-install-db`");
        assert!(installed.success());
        let mut server = Mariadb { folder, port, child: None };
        server.again();
        server.sql("CREATE DATABASE test");
        server
    }

    /// Starts it again on the same port, with what it held.
    pub fn again(&mut self) {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
            .arg(format!("--datadir={}", self.path("database").display()))
            .arg(format!("--socket={}", self.path("socket").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .arg(format!("--port={}", self.port))
            // A server that starts clears away the temporary tables of others in the same folder.
            .env("TMPDIR", self.folder.path())
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("this test needs `mariadbd`");
        self.child = Some(child);
        let begun = Instant::now();
        while self.try_sql("SELECT 1").is_none() {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(!ended && begun.elapsed() < PATIENCE, "MariaDB does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The database `test` as the sink `mysql` takes it.
    pub fn url(&self) -> String {
        format!("root@tcp(127.0.0.1:{})/test", self.port)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a statement gives; `None` while the server is away.
    pub fn try_sql(&self, statement: &str) -> Option<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-N", "-u", "root", "-S"]).arg(self.path("socket")).args(["-e", statement]);
        let output = client.output().expect("this test needs the client `mariadb`");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|| panic!("{statement} failed"))
    }

    /// The one number that a statement gives; `None` while the server is away.
    pub fn number(&self, statement: &str) -> Option<i64> {
        self.try_sql(statement)?.trim().parse().ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.kill();
    }
}
