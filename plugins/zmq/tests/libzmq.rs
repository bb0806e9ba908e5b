//! Source and sink against ZeroMQ's own library, by way of Python's `zmq`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

use kuiper_plugin::testing::{json, Host, SourceTest};
use kuiper_plugin::Record;

/// A Python process that publishes lines of its input, or prints what it hears.
struct Python {
    child: Child,
    input: Option<ChildStdin>,
    /// Lines of its output.
    output: Receiver<String>,
}

/// Frames are told apart by `|`, bytes are hexadecimal where they are no text.
const PUBLISHER: &str = r#"
import sys, zmq
s = zmq.Context().socket(zmq.XPUB)
s.setsockopt(zmq.LINGER, 10000)
s.setsockopt(zmq.SNDHWM, 0)
s.setsockopt(zmq.XPUB_VERBOSE, 1)
s.bind(sys.argv[1])
print("bound", flush=True)
for line in sys.stdin:
    word, _, rest = line.rstrip("\n").partition(" ")
    if word == "wait":
        print("wish " + s.recv().hex(), flush=True)
    elif word == "many":
        for n in range(int(rest)):
            s.send(b"%d" % n)
        print("sent", flush=True)
    else:
        s.send_multipart([f.encode() for f in rest.split("|")])
        print("sent", flush=True)
"#;

const SUBSCRIBER: &str = r#"
import sys, zmq
s = zmq.Context().socket(zmq.SUB)
s.setsockopt(zmq.RECONNECT_IVL, 50)
for topic in sys.argv[2].split(","):
    s.setsockopt(zmq.SUBSCRIBE, topic.encode())
s.connect(sys.argv[1])
print("ready", flush=True)
while True:
    print("|".join(f.decode() if len(f) < 100 else "%d bytes" % len(f) for f in s.recv_multipart()), flush=True)
"#;

impl Python {
    fn run(script: &str, arguments: &[&str]) -> Python {
        // Debian's own, which has Debian's library.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `python3` and `python3-zmq`");
        let (input, lines) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()).lines());
        let (tell, output) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut python = Python { child, input, output };
        let first = python.line();
        assert!(first == "bound" || first == "ready", "this test needs `python3-zmq`: {first}");
        python
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        self.within(Duration::from_secs(30)).expect("a line of Python")
    }

    fn within(&self, time: Duration) -> Option<String> {
        self.output.recv_timeout(time).ok()
    }

    /// Lets it end by itself, so that all is sent.
    fn end(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens at, and that no connection is given by chance.
fn free() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 15_000 + (std::process::id() as u16 % 100) * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("tcp://127.0.0.1:{port}");
        }
    }
}

#[test]
fn the_source_gets_what_its_topic_begins_with_and_comes_back() {
    let (address, host) = (free(), Host::load(kuiper_zmq::kuiper_plugin_v1));
    let source = host.source("Zmq").unwrap();
    source.provision(json(&format!("{{'server': '{address}', 'datasource': 'rooms/'}}"))).unwrap();
    source.connect().unwrap();
    // The publisher comes late, goes, and comes again.
    let publish = {
        let address = address.clone();
        std::thread::spawn(move || {
            for round in 0..2 {
                let mut python = Python::run(PUBLISHER, &[&address]);
                assert_eq!(python.say("wait"), format!("wish 01{}", hex("rooms/")));
                for frames in ["other|x", &format!("rooms/{round}|{{\"n\":|{round}}}")] {
                    assert_eq!(python.say(&format!("send {frames}")), "sent");
                }
                python.end();
            }
        })
    };
    assert!(source.subscribe(2, Duration::from_secs(60)).unwrap());
    publish.join().unwrap();
    assert_eq!(texts(&source), ["{\"n\":0}", "{\"n\":1}"]);
    let statuses = host.statuses();
    assert_eq!(statuses.iter().filter(|(status, _)| *status == 2).count(), 2, "{statuses:?}");
    assert!(statuses.iter().any(|(_, why)| *why == format!("{address}: Connection refused")), "{statuses:?}");
    source.close().unwrap();
}

#[test]
fn without_a_topic_all_frames_are_the_message_and_their_order_is_kept() {
    const MANY: usize = 20_000;
    let folder = std::env::temp_dir().join(format!("kuiper-zmq-{}", std::process::id()));
    let (address, host) = (format!("ipc://{}", folder.display()), Host::load(kuiper_zmq::kuiper_plugin_v1));
    let source = host.source("Zmq").unwrap();
    source.provision(json(&format!("{{'server': '{address}'}}"))).unwrap();
    let reached = Python::run(PUBLISHER, &[&address]);
    source.ping().unwrap();
    reached.end();
    assert!(source.ping().unwrap_err().is_later());
    source.connect().unwrap();
    let publish = std::thread::spawn(move || {
        let mut python = Python::run(PUBLISHER, &[&address]);
        assert_eq!(python.say("wait"), "wish 01");
        python.say("send a|b||c");
        python.say(&format!("many {MANY}"));
        python.end();
    });
    assert!(source.subscribe(1 + MANY, Duration::from_secs(60)).unwrap());
    publish.join().unwrap();
    let (texts, numbers) = (texts(&source), (0..MANY).map(|n| n.to_string()));
    assert_eq!(texts[0], "abc");
    assert!(texts[1..].iter().cloned().eq(numbers), "{:?}", &texts[..10]);
    source.close().unwrap();
}

#[test]
fn a_peer_of_another_kind_is_named() {
    const REPLIES: &str = r#"
import sys, time, zmq
s = zmq.Context().socket(zmq.REP)
s.bind(sys.argv[1])
print("bound", flush=True)
time.sleep(60)
"#;
    let (address, host) = (free(), Host::load(kuiper_zmq::kuiper_plugin_v1));
    let _python = Python::run(REPLIES, &[&address]);
    let told = |address: &str| {
        let source = host.source("Zmq").unwrap();
        source.provision(json(&format!("{{'server': '{address}'}}"))).unwrap();
        source.ping().unwrap_err().to_string()
    };
    // ZeroMQ itself closes the connection of a socket that does not fit.
    let refused = told(&address);
    assert!(
        refused.ends_with("the peer is a `REP` socket, and PUB is needed") || refused.contains("closed the connection"),
        "{refused}"
    );
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", web.local_addr().unwrap());
    std::thread::spawn(move || web.accept().unwrap().0.write_all(&[b'x'; 64]).unwrap());
    assert_eq!(told(&address), format!("{address}: the peer does not speak ZeroMQ"));
}

#[test]
fn subscribers_get_what_they_wish_and_come_back() {
    let (address, host) = (free(), Host::load(kuiper_zmq::kuiper_plugin_v1));
    let mut all = Python::run(SUBSCRIBER, &[&address, ""]);
    let mut some = Python::run(SUBSCRIBER, &[&address, "b,c/"]);
    for round in 0..2 {
        let sink = host.sink("Zmq").unwrap();
        sink.provision(json(&format!("{{'server': '{address}', 'topic': 'b'}}"))).unwrap();
        sink.connect().unwrap();
        let second = host.sink("Zmq").unwrap();
        second.provision(json(&format!("{{'server': '{address}'}}"))).unwrap();
        let taken = second.connect().unwrap_err();
        assert!(taken.is_later() && taken.to_string().starts_with(&address), "{taken}");
        // Nobody tells a publisher who is there.
        let topic = |name: &str| Record::new().with("topic", name);
        for (python, marker) in [(&all, "first"), (&some, "second")] {
            let begun = Instant::now();
            let mut heard = String::new();
            while !heard.ends_with(marker) {
                assert!(begun.elapsed() < Duration::from_secs(30), "{marker} subscriber is missing");
                sink.collect_bytes(&[marker.as_bytes()]).unwrap();
                heard = python.within(Duration::from_millis(50)).unwrap_or(heard);
            }
        }
        let long = vec![b'x'; 100_000];
        sink.collect_bytes_with(&[b"1", b"2"], &[topic("a"), topic("c/d")]).unwrap();
        sink.collect_bytes(&[b"{}", &long, format!("end {round}").as_bytes()]).unwrap();
        let end = format!("b|end {round}");
        let rest = |python: &mut Python| {
            let mut lines = Vec::new();
            while lines.last() != Some(&end) {
                let line = python.line();
                if !line.ends_with("first") && !line.ends_with("second") {
                    lines.push(line);
                }
            }
            lines
        };
        assert_eq!(rest(&mut all), ["a|1", "c/d|2", "b|{}", "b|100000 bytes", &end]);
        assert_eq!(rest(&mut some), ["c/d|2", "b|{}", "b|100000 bytes", &end]);
        sink.close().unwrap();
    }
}

#[test]
fn a_subscriber_that_does_not_keep_up_holds_up_nobody_and_is_counted() {
    const SLEEPS: &str = r#"
import sys, time, zmq
s = zmq.Context().socket(zmq.SUB)
s.setsockopt(zmq.RCVHWM, 1)
s.setsockopt(zmq.SUBSCRIBE, b"")
s.connect(sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"#;
    let (address, host) = (free(), Host::load(kuiper_zmq::kuiper_plugin_v1));
    let sink = host.sink("Zmq").unwrap();
    sink.provision(json(&format!("{{'server': '{address}'}}"))).unwrap();
    sink.connect().unwrap();
    let _sleeps = Python::run(SLEEPS, &[&address]);
    let (message, begun) = (vec![b'x'; 10_000], Instant::now());
    // What the only one who wishes it does not get was got by nobody.
    let refused = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was left out");
        if let Err(refused) = sink.collect_bytes(&vec![message.as_slice(); 500]) {
            break refused;
        }
    };
    assert!(!refused.is_later(), "{refused}");
    assert_eq!(refused.to_string(), "the one subscriber that wishes it does not keep up");
    assert!(host.log()[0].ends_with(" messages were left out for subscribers that do not keep up"), "{:?}", host.log());
    // What another one gets was not in vain.
    let awake = Python::run(SUBSCRIBER, &[&address, "here"]);
    let mut heard = None;
    while heard.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the other subscriber is missing");
        sink.collect_bytes(&[b"here"]).map_or_else(|refused| assert!(!refused.is_later()), drop);
        heard = awake.within(Duration::from_millis(50));
    }
    sink.collect_bytes(&[b"here too"]).unwrap();
    while heard.as_deref() != Some("here too") {
        heard = awake.within(Duration::from_secs(30));
        assert!(heard.is_some(), "it heard nothing");
    }
}

fn texts(source: &SourceTest<'_>) -> Vec<String> {
    source.messages().iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
