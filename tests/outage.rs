//! MariaDB is killed for ten seconds while messages flow at QoS 1 through two rules of one stream: each message into a
//! row of a table without a key, and the sums of windows into another. Nothing is missing at the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use broker::Broker;
use kuiper::{Kuiper, Publisher, wait_for};

/// How long the database is away.
const AWAY: Duration = Duration::from_secs(10);
/// Messages in one go, and the pause after them.
const PACE: (i64, Duration) = (20, Duration::from_millis(100));

struct Database {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Database {
    fn start() -> Database {
        let folder = tempfile::tempdir().unwrap();
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.path().join("data").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("mariadb-server must be installed");
        assert!(installed.success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut database = Database { folder, port, child: None };
        database.again();
        database
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn again(&mut self) {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"])
            .arg(format!("--datadir={}", self.folder.path().join("data").display()))
            .arg(format!("--pid-file={}", self.folder.path().join("pid").display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--port={}", self.port))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadb-server must be installed");
        self.child = Some(child);
        wait_for("MariaDB", || TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.ask("SELECT 1").is_some());
    }

    /// As a power cut does.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn ask(&self, statement: &str) -> Option<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-N", "-u", "root", "-S"]).arg(self.socket()).args(["-e", statement]);
        let output = client.output().expect("mariadb-client must be installed");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// The numbers of a column, each with how often it is there.
    fn numbers(&self, statement: &str) -> BTreeMap<i64, usize> {
        let mut found = BTreeMap::new();
        for line in self.ask(statement).unwrap().lines() {
            *found.entry(line.parse().unwrap()).or_default() += 1;
        }
        found
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_database_that_is_away_for_ten_seconds_misses_nothing() {
    let mut database = Database::start();
    database
        .ask(
            "CREATE DATABASE d; CREATE TABLE d.rows_of (n BIGINT); CREATE TABLE d.sums (c BIGINT, s BIGINT, at BIGINT)",
        )
        .unwrap();
    let broker = Broker::start("");
    let kuiper = Kuiper::start(|data| {
        let sinks = data.join("plugins/sinks");
        fs::create_dir_all(&sinks).unwrap();
        fs::copy(made::ours("mysql"), sinks.join("Mysql@v1.0.0.so")).unwrap();
    });
    kuiper.stream(&format!(
        r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json", SHARED="true",
           EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    ));
    let url = format!("mysql://root@127.0.0.1:{}/d", database.port);
    let action = |table: &str| json!({"mysql": {"url": url, "table": table}});
    kuiper.rule("rows", "SELECT n FROM demo", action("rows_of"));
    let sql = "SELECT count(*) AS c, sum(n) AS s, window_end() AS at FROM demo GROUP BY TUMBLINGWINDOW(ss, 2)";
    kuiper.rule("sums", sql, action("sums"));
    for rule in ["rows", "sums"] {
        kuiper.until(rule, "its connections", |status| {
            status["source_demo_0_connection_status"] == 1 && status["sink_mysql_0_0_connection_status"] == 1
        });
    }

    let mut publisher = Publisher::new(broker.port, "numbers");
    let mut flow = |how_long: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < how_long {
            publisher.publish(PACE.0);
            std::thread::sleep(PACE.1);
        }
        publisher.count()
    };
    flow(Duration::from_secs(3));
    database.kill();
    flow(AWAY);
    let away = kuiper.status("rows");
    assert_eq!(away["sink_mysql_0_0_connection_status"], -1, "{away:#}");
    database.again();
    let total = flow(Duration::from_secs(3));

    for rule in ["rows", "sums"] {
        let done = kuiper.until(rule, "all rows", |status| status["ledger"]["out"] == total);
        assert_eq!(done["ledger"]["in"], total);
        assert_eq!((&done["ledger"]["dropped"], &done["ledger"]["dead"]), (&json!({}), &json!({})), "{done:#}");
    }
    let rows = database.numbers("SELECT n FROM d.rows_of");
    assert!(rows.keys().copied().eq(0..total), "{} of {total} numbers are there", rows.len());
    // A window that came twice has the same end.
    let sums = database.ask("SELECT SUM(c), SUM(s) FROM (SELECT DISTINCT c, s, at FROM d.sums) AS w").unwrap();
    assert_eq!(sums, format!("{total}\t{}\n", total * (total - 1) / 2));
    // Only a COMMIT whose answer was lost can double what it wrote.
    let doubled = rows.values().filter(|times| **times > 1).count();
    eprintln!("{total} messages, none lost, {doubled} doubled");
    assert!(doubled <= 600, "{doubled} rows are there twice");
}
