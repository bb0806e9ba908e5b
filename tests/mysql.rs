//! A rule from a real mosquitto into a real MariaDB, through the plugin `mysql`, while the database is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod mariadb;
#[path = "served/port.rs"]
// Each helper that gives ports to servers has it.
#[allow(clippy::duplicate_mod)]
mod port;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use mariadb::Mariadb;
use port::free_port;

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
    server: u16,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self, name: &str) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().into()
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
    let scene = Scene { folder, broker: free_port(), server: free_port() };
    let mut database = Mariadb::start();
    database.sql("CREATE TABLE test.t (n INT PRIMARY KEY)");
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
        "url": database.url(),
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

    const COUNT: &str = "SELECT COUNT(*) FROM test.t";
    scene.publish(0..MESSAGES / 2);
    wait_for("the first rows", || database.number(COUNT) > Some(100));
    database.kill();
    scene.publish(MESSAGES / 2..MESSAGES);
    wait_for("the outage to be seen", || scene.status()["sink_mysql_0_0_connection_status"] == -1);
    database.again();
    wait_for("all rows", || database.number(COUNT) == Some(MESSAGES as i64));
    assert_eq!(database.sql("SELECT MIN(n), MAX(n) FROM test.t"), format!("0\t{}\n", MESSAGES - 1));
    wait_for("the ledger", || scene.status()["ledger"]["out"] == MESSAGES);
    let ledger = scene.status()["ledger"].clone();
    assert_eq!(
        (&ledger["in"], &ledger["held"], &ledger["dead"]),
        (&json!(MESSAGES), &json!(0), &json!({})),
        "{ledger}"
    );
}
