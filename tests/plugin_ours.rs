//! The plugins `zmq` and `image` in rules of the real server, deployed as a user deploys them; ZeroMQ's own library, by
//! way of Python's `zmq`, is at the other ends. `mysql.rs`, `mysql_reading.rs` and `plugin_swap.rs` have `mysql`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value as Json, json};

use ::kuiper::plugin::{Kind, library_name};
use kuiper::{Kuiper, free_port, wait_for};

/// Built once: where two do so at a time, one would take what the other has just begun to write.
static ZMQ: LazyLock<PathBuf> = LazyLock::new(|| made::ours("zmq"));

/// Makes a project of one of our plugins, and deploys it as it was built here.
fn deploy(server: &Kuiper, kind: Kind, name: &str, library: &PathBuf) {
    deploy_version(server, kind, name, library, "1.0.0");
}

fn deploy_version(server: &Kuiper, kind: Kind, name: &str, library: &PathBuf, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let kuiper = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(arguments).current_dir(folder.path()).env("KUIPER_SERVER", server.url());
        let done = command.env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true").output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    kuiper(&["plugin", "new", kind.many(), name, "--from", name]);
    fs::copy(library, folder.path().join(kind.many()).join(name).join(library_name(name, version))).unwrap();
    let told = kuiper(&["plugin", "deploy", &format!("--{}", kind.one()), name]);
    assert!(told.contains(&format!("deployed {} {name} {version}: ", kind.one())), "{told}");
}

/// A program in Python, which has said that it is ready.
struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

const PUBLISHER: &str = r#"
import sys, zmq
s = zmq.Context().socket(zmq.XPUB)
s.setsockopt(zmq.SNDHWM, 0)
s.bind(sys.argv[1])
print("ready", flush=True)
print("wish " + s.recv()[1:].decode(), flush=True)
for line in sys.stdin:
    first, last = line.split()
    for n in range(int(first), int(last)):
        s.send_multipart([b"rooms/%d" % (n % 3), b'{"n": %d}' % n])
        s.send_multipart([b"other", b"nothing"])
"#;

const SUBSCRIBER: &str = r#"
import sys, zmq
s = zmq.Context().socket(zmq.SUB)
s.setsockopt(zmq.RECONNECT_IVL, 50)
s.setsockopt(zmq.RCVHWM, 0)
s.setsockopt(zmq.SUBSCRIBE, b"")
s.connect(sys.argv[1])
print("ready", flush=True)
while True:
    print(b"|".join(s.recv_multipart()).decode(), flush=True)
"#;

/// One that takes what it must, and no more.
const SLEEPER: &str = r#"
import sys, time, zmq
s = zmq.Context().socket(zmq.SUB)
s.setsockopt(zmq.RCVHWM, 1)
s.setsockopt(zmq.RECONNECT_IVL, 50)
s.setsockopt(zmq.SUBSCRIBE, b"")
s.connect(sys.argv[1])
print("ready", flush=True)
time.sleep(600)
"#;

impl Python {
    fn run(script: &str, address: &str) -> Python {
        // Debian's own, which has Debian's library.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script, address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `python3` and `python3-zmq`");
        let (input, lines) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()).lines());
        let (tell, output) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let python = Python { child, input, output };
        assert_eq!(python.line(), "ready", "this test needs `python3-zmq`");
        python
    }

    fn line(&self) -> String {
        self.output.recv_timeout(Duration::from_secs(60)).expect("a line of Python")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.input.take());
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens at.
fn free() -> String {
    format!("tcp://127.0.0.1:{}", free_port())
}

fn extra(members: &Json) -> String {
    members.to_string().replace('"', "\\\"")
}

#[test]
fn messages_of_one_publisher_go_through_a_rule_to_the_subscribers_of_another() {
    const PART: usize = 500;
    let server = Kuiper::start(|_| {});
    deploy(&server, Kind::Sources, "zmq", &ZMQ);
    deploy(&server, Kind::Sinks, "zmq", &ZMQ);
    let (from, to) = (free(), free());
    let mut publisher = Python::run(PUBLISHER, &from);
    let subscriber = Python::run(SUBSCRIBER, &to);
    let properties = extra(&json!({ "server": from }));
    server.stream(&format!(
        r#"CREATE STREAM demo () WITH (TYPE="zmq", DATASOURCE="rooms/", FORMAT="json", EXTRA="{properties}")"#
    ));
    let sink = json!({"zmq": {"server": to, "topic": "{{.room}}", "sendSingle": true}});
    server.rule("through", "SELECT n, meta(topic) AS room FROM demo", sink);
    assert_eq!(publisher.line(), "wish rooms/");
    // Nobody tells a publisher who is there: what is sent until one hears something counts as sent to nobody.
    let input = publisher.input.as_mut().unwrap();
    let (mut next, mut heard) = (0, None);
    while heard.is_none() {
        writeln!(input, "{next} {}", next + 1).unwrap();
        next += 1;
        heard = subscriber.output.recv_timeout(Duration::from_millis(100)).ok();
    }
    let line = |n: usize| format!("rooms/{0}|{{\"n\":{n},\"room\":\"rooms/{0}\"}}", n % 3);
    let first = (0..next).find(|n| heard.as_deref() == Some(&line(*n))).unwrap_or_else(|| panic!("{heard:?}"));
    (first + 1..next).for_each(|n| assert_eq!(subscriber.line(), line(n)));
    // As many at a time as wait for a subscriber that is slow.
    for part in 0..6 {
        let (begin, end) = (next + part * PART, next + (part + 1) * PART);
        writeln!(input, "{begin} {end}").unwrap();
        (begin..end).for_each(|n| assert_eq!(subscriber.line(), line(n)));
    }
    let all = next + 6 * PART;
    let status = server.until("through", "an account that is balanced", |status| status["ledger"]["out"] == all);
    assert_eq!((&status["ledger"]["in"], &status["ledger"]["dead"]), (&json!(all), &json!({})), "{status:#}");
    let counters = &status["sink_zmq_0_0_counters"];
    assert_eq!(counters.get("unsubscribed").and_then(Json::as_u64).unwrap_or(0), first as u64, "{status:#}");
    assert_eq!(counters.get("missed"), None, "{status:#}");
}

#[test]
fn what_no_subscriber_gets_is_seen_in_the_accounts_of_the_rule() {
    let server = Kuiper::start(|_| {});
    deploy(&server, Kind::Sinks, "zmq", &ZMQ);
    // Many at a time: a subscriber that takes nothing at all for five seconds is let go before its line is full.
    let rows = extra(&json!({"data": [{"list": vec!["x".repeat(4_000); 50]}], "interval": "1ms", "loop": true}));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#));
    let address = free();
    server.rule(
        "fast",
        "SELECT unnest(list) AS text FROM demo",
        json!({"zmq": {"server": address, "sendSingle": true}}),
    );
    let counted = |status: &Json, name: &str| status["sink_zmq_0_0_counters"][name].as_u64().unwrap_or(0);
    let status =
        server.until("fast", "messages that nobody subscribed to", |status| counted(status, "unsubscribed") > 20);
    // ZeroMQ's publishers send without asking who is there.
    assert_eq!((&status["ledger"]["dead"], counted(&status, "missed")), (&json!({}), 0), "{status:#}");
    let _sleeper = Python::run(SLEEPER, &address);
    let status = server.until("fast", "messages that are left out", |status| {
        let refused = |account: &Json| account["dead"]["refused"].as_u64().unwrap_or(0);
        // A row of fifty messages has met its end when all of them have.
        refused(&status["sinks"]["zmq_0"]) > 10 && refused(&status["ledger"]) > 0 && counted(status, "missed") > 10
    });
    let told = status["sink_zmq_0_0_last_exception"].as_str().unwrap();
    assert!(told.contains("the one subscriber that wishes it does not keep up"), "{told}");
    server.ask("POST", "/rules/fast/stop", "");
    let status = server.status("fast");
    let of = |account: &Json, term: &str| match &account[term] {
        Json::Object(reasons) => reasons.values().filter_map(Json::as_u64).sum(),
        number => number.as_u64().unwrap(),
    };
    let (ledger, sink) = (&status["ledger"], &status["sinks"]["zmq_0"]);
    assert_eq!(of(ledger, "in"), of(ledger, "out") + of(ledger, "dead") + of(ledger, "dropped"), "{ledger:#}");
    assert_eq!(of(sink, "results"), of(sink, "delivered") + of(sink, "dead") + of(sink, "dropped"), "{sink:#}");
}

#[test]
fn a_new_version_of_the_sink_takes_over_the_port_of_the_old_one() {
    let server = Kuiper::start(|_| {});
    deploy(&server, Kind::Sinks, "zmq", &ZMQ);
    let rows = extra(&json!({"data": [{"n": 1}], "interval": "5ms", "loop": true}));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#));
    let address = free();
    server.rule("on", "SELECT n FROM demo", json!({"zmq": {"server": address, "sendSingle": true}}));
    let subscriber = Python::run(SUBSCRIBER, &address);
    assert_eq!(subscriber.line(), "{\"n\":1}");
    deploy_version(&server, Kind::Sinks, "zmq", &ZMQ, "1.1.0");
    // It comes back by itself, and hears the new one.
    let heard = subscriber.output.try_iter().count();
    (0..heard + 100).for_each(|_| assert_eq!(subscriber.line(), "{\"n\":1}"));
    let described: Json = serde_json::from_str(&server.ask("GET", "/plugins/sinks/zmq", "")).unwrap();
    assert_eq!((&described["version"], &described["rules"]), (&json!("1.1.0"), &json!(["on"])), "{described:#}");
    assert_eq!(server.status("on")["ledger"]["dead"], json!({}));
}

#[test]
fn pictures_are_made_smaller_in_a_rule() {
    // Two by two: red, green, blue, white; and eight by four of one colour.
    const CORNERS: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEklEQVR42mP4z8DAAMIM/4EAAB/uBfvxq7p3AAAAAElFTkSuQmCC";
    const PLAIN: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAECAIAAAA8r+mnAAAAEUlEQVR42mM4kWKEFTFQTwIAnxwrwaoNNpEAAAAASUVORK5CYII=";
    let server = Kuiper::start(|_| {});
    deploy(&server, Kind::Functions, "image", &made::ours("image"));
    let rows = json!([{"id": 1, "p": CORNERS}, {"id": 2, "p": PLAIN}, {"id": 3, "p": "bm8gcGljdHVyZQ=="}, {"id": 4}]);
    let rows = extra(&json!({"data": rows, "interval": "10ms", "loop": false}));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#));
    let sql = r#"SELECT id, thumbnail(decode(p, "base64"), 4, 4) AS small,
        resize(thumbnail(decode(p, "base64"), 4, 4), 0, 0, true) AS colours,
        resize(decode(p, "base64"), 2, 0, true) AS two FROM demo"#;
    server.rule("small", sql, json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}));
    let status = server.until("small", "all rows", |status| {
        status["ledger"]["out"].as_u64().unwrap() + status["ledger"]["dead"]["eval"].as_u64().unwrap_or(0) == 4
    });
    assert_eq!((&status["ledger"]["out"], &status["ledger"]["dead"]["eval"]), (&json!(3), &json!(1)), "{status:#}");
    let told = status.to_string();
    assert!(told.contains("the picture is neither JPEG nor PNG nor GIF"), "{told}");
    let path = server.folder.path().join("seen");
    let lines = || fs::read_to_string(&path).unwrap_or_default();
    wait_for("the rows", || lines().lines().count() == 3);
    let rows: Vec<Json> = lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Red, green and blue of each pixel: one that is small already stays as it is.
    let corners = "/wAAAP8AAAD/////";
    assert_eq!((&rows[0]["id"], &rows[0]["colours"], &rows[0]["two"]), (&json!(1), &json!(corners), &json!(corners)));
    // Four by two, and two by one.
    let of = |pixels: usize| "yGQy".repeat(pixels);
    assert_eq!((&rows[1]["colours"], &rows[1]["two"]), (&json!(of(8)), &json!(of(2))), "{}", rows[1]);
    let small = rows[1]["small"].as_str().unwrap();
    // The head of a PNG, and its size: 4, 2.
    assert!(small.starts_with("iVBORw0KGgoAAAANSUhEUgAAAAQAAAAC"), "{small}");
    assert_eq!((&rows[2]["id"], &rows[2]["small"]), (&json!(4), &Json::Null));
}
