//! A rule from a real mosquitto into a real MariaDB, through the plugin `mysql`, while the database is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

const MESSAGES: usize = 10_000;

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).stdin(Stdio::null());
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Scene {
    folder: tempfile::TempDir,
    broker: u16,
    database: u16,
    server: u16,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self, name: &str) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().into()
    }

    fn database(&self) -> Running {
        let started = Running::start(
            Command::new("mariadbd")
                .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
                .arg(format!("--datadir={}", self.path("database").display()))
                .arg(format!("--socket={}", self.path("socket").display()))
                .arg(format!("--pid-file={}", self.path("pid").display()))
                .arg(format!("--port={}", self.database))
                // A server that starts clears away the temporary tables of others in the same folder.
                .env("TMPDIR", self.folder.path())
                .stdout(self.log("database.log"))
                .stderr(self.log("database.log")),
        );
        wait_for("MariaDB", || self.try_sql("SELECT 1").is_some());
        started
    }

    fn try_sql(&self, statement: &str) -> Option<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-N", "-u", "root", "-S"]).arg(self.path("socket")).args(["-e", statement]);
        let output = client.output().expect("this test needs the client `mariadb`");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|| panic!("{statement} failed"))
    }

    fn kuiper(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(arguments).args(["--server", &format!("http://127.0.0.1:{}", self.server)]);
        let output = command.current_dir(self.folder.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}{}", self.server_log());
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Json {
        serde_json::from_str(&self.kuiper(&["rule", "status", "into", "--json"])).unwrap()
    }

    fn server_log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    fn publish(&self, numbers: std::ops::Range<usize>) {
        let mut client = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &self.broker.to_string(), "-q", "1", "-t", "demo", "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("this test needs `mosquitto_pub`");
        let mut lines = client.stdin.take().unwrap();
        for n in numbers {
            writeln!(lines, "{{\"n\":{n},\"kind\":\"insert\",\"unused\":true}}").unwrap();
        }
        drop(lines);
        assert!(client.wait().unwrap().success());
    }
}

#[test]
fn killing_the_database_loses_no_message_of_qos_1() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene { folder, broker: free_port(), database: free_port(), server: free_port() };
    let installed = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", scene.path("database").display()))
        .env("TMPDIR", scene.folder.path())
        .stdout(Stdio::null())
        .status()
        .expect("this test needs `mariadb-install-db`");
    assert!(installed.success());
    let mut database = scene.database();
    scene.sql("CREATE DATABASE test; CREATE TABLE test.t (n INT PRIMARY KEY)");
    // By default mosquitto itself throws away what more than a thousand messages wait for.
    let settings = format!("listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", scene.broker);
    fs::write(scene.path("mosquitto.conf"), settings).unwrap();
    let _broker = Running::start(
        Command::new("mosquitto")
            .arg("-c")
            .arg(scene.path("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    wait_for("mosquitto", || TcpStream::connect(("127.0.0.1", scene.broker)).is_ok());

    // Copied there by hand, the plugin is loaded when the server starts.
    let sinks = scene.path("data/plugins/sinks");
    fs::create_dir_all(&sinks).unwrap();
    fs::copy(made::ours("mysql"), sinks.join("Mysql@v1.0.0.so")).unwrap();
    let _server = Running::start(
        Command::new(env!("CARGO_BIN_EXE_kuiper"))
            .args(["serve", "--data", "data", "--listen", &format!("127.0.0.1:{}", scene.server)])
            .env("MQTT_SOURCE__DEFAULT__SERVER", format!("tcp://127.0.0.1:{}", scene.broker))
            .env("MQTT_SOURCE__DEFAULT__QOS", "1")
            .current_dir(scene.folder.path())
            .stdout(Stdio::null())
            .stderr(scene.log("server.log")),
    );
    wait_for("the server", || TcpStream::connect(("127.0.0.1", scene.server)).is_ok());
    assert!(scene.kuiper(&["plugin", "list", "sinks"]).contains("mysql"));
    let stream = "CREATE STREAM demo () WITH (TYPE=\"mqtt\", DATASOURCE=\"demo\", FORMAT=\"json\")";
    scene.kuiper(&["stream", "create", stream]);
    let sink = json!({
        "url": format!("root@tcp(127.0.0.1:{})/test", scene.database),
        "table": "t",
        // What is written is chosen by the sink, which needs to see the other columns too.
        "fields": ["n"],
        "keyField": "n",
        "rowKindField": "kind",
    });
    let rule = json!({"id": "into", "sql": "SELECT * FROM demo", "actions": [{"mysql": sink}], "options": {"qos": 1}});
    fs::write(scene.path("rule.json"), rule.to_string()).unwrap();
    scene.kuiper(&["rule", "create", "-f", "rule.json"]);
    wait_for("the source", || scene.status()["source_demo_0_connection_status"] == 1);

    let count = || scene.try_sql("SELECT COUNT(*) FROM test.t").map_or(0, |told| told.trim().parse::<usize>().unwrap());
    scene.publish(0..MESSAGES / 2);
    wait_for("the first rows", || count() > 100);
    drop(database);
    scene.publish(MESSAGES / 2..MESSAGES);
    wait_for("the outage to be seen", || scene.status()["sink_mysql_0_0_connection_status"] == -1);
    database = scene.database();
    wait_for("all rows", || count() == MESSAGES);
    assert_eq!(scene.sql("SELECT MIN(n), MAX(n) FROM test.t"), format!("0\t{}\n", MESSAGES - 1));
    wait_for("the ledger", || scene.status()["ledger"]["out"] == MESSAGES);
    let ledger = scene.status()["ledger"].clone();
    assert_eq!(
        (&ledger["in"], &ledger["held"], &ledger["dead"]),
        (&json!(MESSAGES), &json!(0), &json!({})),
        "{ledger}"
    );
    drop(database);
}
