//! A real MariaDB, which the tests start: `mariadbd` and `mariadb-install-db` must be installed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::net::TcpSocket;

/// A server of its own in a temporary folder; it ends with the value.
pub struct Server {
    folder: PathBuf,
    pub port: u16,
    /// Holds the port while the server is away: as long as it is bound, nobody else is given that.
    _kept: TcpSocket,
    process: Option<Child>,
}

impl Server {
    pub fn start() -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("kuiper-mariadb-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
            .arg(format!("--datadir={}", folder.join("data").display()))
            // A server that starts clears away the temporary tables of others in the same folder.
            .env("TMPDIR", &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("this test needs `mariadb-install-db`");
        assert!(installed.success());
        let kept = TcpSocket::new_v4().unwrap();
        kept.set_reuseaddr(true).unwrap();
        kept.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = kept.local_addr().unwrap().port();
        let mut server = Server { folder, port, _kept: kept, process: None };
        server.up();
        server
    }

    pub fn up(&mut self) {
        let process = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"])
            .arg(format!("--datadir={}", self.folder.join("data").display()))
            .arg(format!("--socket={}", self.socket()))
            .arg(format!("--port={}", self.port))
            .arg("--max-allowed-packet=1M")
            .env("TMPDIR", &self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs `mariadbd`");
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn socket(&self) -> String {
        self.folder.join("socket").display().to_string()
    }

    /// Executes statements as root, and returns the rows of the last, each printed.
    pub fn sql(&self, database: &str, statements: &[&str]) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(self.port)
                .prefer_socket(false)
                .user(Some("root"))
                .db_name(Some(database).filter(|name| !name.is_empty()));
            let mut connection = Conn::new(options).await.unwrap();
            let mut printed = Vec::new();
            for statement in statements {
                let rows: Vec<mysql_async::Row> = connection.query(*statement).await.unwrap();
                let print = |row: mysql_async::Row| {
                    row.unwrap().iter().map(|value| value.as_sql(true)).collect::<Vec<_>>().join(" ")
                };
                printed = rows.into_iter().map(print).collect();
            }
            connection.disconnect().await.unwrap();
            printed
        })
    }

    pub fn database(&self, name: &str, statements: &[&str]) {
        self.sql("", &[&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")]);
        self.sql(name, statements);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The server that most tests share. It is killed when the test process has ended, by a shell that outlives it.
#[allow(clippy::zombie_processes)]
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static WATCH: OnceLock<()> = OnceLock::new();
    let server = SERVER.get_or_init(Server::start);
    WATCH.get_or_init(|| {
        // A static is not dropped, so a shell waits for this process and then cleans up.
        let pid = server.process.as_ref().unwrap().id();
        let script = format!(
            "while kill -0 {} 2>/dev/null; do sleep 0.2; done; kill -9 {pid}; rm -rf '{}'",
            std::process::id(),
            server.folder.display()
        );
        Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    });
    server
}
