//! The mqtt connector against mosquitto: versions, QoS, TLS, refusals, lost connections, acknowledgements, full pipelines.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use kuiper::data::{SourceAck, Value};
use kuiper::io::{Env, Link, Report, Sink};

use super::broker::{Broker, Cut, PATIENCE};
use super::contract::{Running, env, is_later, numbers, parcel, sink, source, text};

fn here(owner: &str) -> Env {
    env(owner, ".")
}

async fn publisher(props: Json, env: &Env) -> Box<dyn Sink> {
    let mut sink = sink("mqtt", props, env);
    sink.connect(Report::new().0).await.unwrap();
    sink
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_at_every_version_and_qos() {
    let broker = Broker::start("");
    let here = here("pass");
    for version in ["3.1", "3.1.1", "5"] {
        for qos in 0..=2 {
            let topic = format!("t/{version}/{qos}");
            let common = |more: Json| {
                let mut props = json!({"server": broker.url(), "protocolVersion": version, "qos": qos});
                props.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                props
            };
            for wants_acks in [true, false] {
                let mut reader =
                    Running::connected(source("mqtt", common(json!({"datasource": topic})), &here, wants_acks)).await;
                let mut writer = publisher(common(json!({"topic": topic})), &here).await;
                let first = numbers(0..1_500);
                let (seen, sent) = tokio::join!(reader.texts(3_000), async {
                    writer.deliver(&first).await?;
                    writer.deliver(&numbers(1_500..3_000)).await
                });
                sent.unwrap();
                assert_eq!(seen, texts(0..3_000), "{topic}");
                writer.close().await.unwrap();
                reader.stop().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_say_topic_qos_and_properties() {
    let broker = Broker::start("");
    let here = here("meta");
    let props = json!({"server": broker.url(), "datasource": "a/+, b/#", "qos": 1, "protocolVersion": "5"});
    let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
    let props = json!({
        "server": broker.url(), "topic": "{{.topic}}", "qos": 1, "protocolVersion": "5",
        "properties": {"unit": "C", "device": "{{.device}}"}
    });
    let mut writer = publisher(props, &here).await;
    let mut all: Vec<_> = ["a/x", "c", "a/x/y", "b", "b/1/2"].map(parcel).into();
    for parcel in &mut all {
        let kuiper::io::Content::Bytes(topic) = &parcel.content else { unreachable!() };
        let topic = String::from_utf8_lossy(topic).into_owned();
        parcel.props = vec![("topic".into(), topic), ("properties.device".into(), "d7".into())];
    }
    writer.deliver(&all).await.unwrap();
    for (topic, id) in [("a/x", 1), ("b", 2), ("b/1/2", 3)] {
        let message = reader.next().await;
        assert_eq!(text(&message), topic);
        let meta = message.meta.as_ref().unwrap();
        let Some(Value::Object(properties)) = meta.get("properties") else { panic!("{meta:?}") };
        let said = [
            meta.get("topic"),
            meta.get("qos"),
            meta.get("messageId"),
            properties.get("unit"),
            properties.get("device"),
        ];
        let text = |text: &str| Value::Text(text.into());
        let wanted = [text(topic), Value::Int(1), Value::Int(id), text("C"), text("d7")];
        assert_eq!(said, wanted.each_ref().map(Some), "{meta:?}");
    }
    let stopped = {
        all[1].props[0].1 = "a/#".into();
        writer.deliver(&all[..2]).await.unwrap_err()
    };
    assert_eq!((stopped.delivered, stopped.fault.reason()), (1, "refused"));
    assert_eq!(text(&reader.next().await), "a/x");
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_and_the_end_of_a_stream() {
    let broker = Broker::start("");
    let here = here("retained");
    let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1, "retained": true}), &here).await;
    writer.deliver(&[parcel("last")]).await.unwrap();
    let props = json!({"server": broker.url(), "datasource": "t", "qos": 1, "eofMessage": "ZW5k"});
    let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
    assert_eq!(reader.texts(1).await, ["last"]);
    writer.deliver(&[parcel("one"), parcel("end"), parcel("two")]).await.unwrap();
    assert_eq!(reader.texts(1).await, ["one"]);
    let ended = timeout(PATIENCE, reader.task).await.unwrap().unwrap().1;
    assert_eq!(ended, Ok(kuiper::io::End::Finished));
}

/// An authority, and what it has signed: files in the broker's folder.
fn certificates(folder: &std::path::Path, name: &str) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {name}"));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let write = |file: String, text: String| std::fs::write(folder.join(file), text).unwrap();
    write(format!("{name}-ca.pem"), authority.pem());
    for (role, host) in [("server", "localhost"), ("client", "kuiper")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, host);
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(format!("{name}-{role}.pem"), certificate.pem());
        write(format!("{name}-{role}.key"), key.serialize_pem());
    }
}

fn tls_broker(require_certificate: bool) -> Broker {
    Broker::with(|folder| {
        certificates(folder, "ours");
        certificates(folder, "other");
        let at = |name: &str| folder.join(name).display().to_string();
        format!(
            "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {require_certificate}",
            at("ours-ca.pem"),
            at("ours-server.pem"),
            at("ours-server.key")
        )
    })
}

fn with(base: &Json, more: Json) -> Json {
    let mut props = base.clone();
    props.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    props
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_own_authority() {
    let broker = tls_broker(false);
    let here = env("tls", broker.folder.path());
    let server = format!("ssl://localhost:{}", broker.port);
    let raw = {
        use base64::Engine as _;
        let pem = std::fs::read(broker.file("ours-ca.pem")).unwrap();
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    for (version, trust) in [
        ("3.1.1", json!({"rootCaPath": "ours-ca.pem"})),
        ("5", json!({"rootCARaw": raw, "tlsMinVersion": "tls1.3"})),
        ("5", json!({"insecureSkipVerify": true})),
    ] {
        let base = with(&json!({"server": server, "protocolVersion": version, "qos": 1}), trust);
        let mut reader = Running::connected(source("mqtt", with(&base, json!({"datasource": "t"})), &here, true)).await;
        let mut writer = publisher(with(&base, json!({"topic": "t"})), &here).await;
        let sent = numbers(0..2_000);
        let (seen, sent) = tokio::join!(reader.texts(2_000), writer.deliver(&sent));
        sent.unwrap();
        assert_eq!(seen, texts(0..2_000));
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_named() {
    let broker = tls_broker(false);
    let strict = tls_broker(true);
    let plain = Broker::start("");
    let url = |scheme: &str, host: &str, port: u16| format!("{scheme}://{host}:{port}");
    for (broker, server, more, expected) in [
        (
            &broker,
            url("ssl", "localhost", broker.port),
            json!({"rootCaPath": "other-ca.pem"}),
            "is not signed by a trusted authority; check `rootCaPath`",
        ),
        (
            &broker,
            url("ssl", "localhost", broker.port),
            json!({}),
            "is not signed by a trusted authority; check `rootCaPath`",
        ),
        (
            &broker,
            url("ssl", "127.0.0.1", broker.port),
            json!({"rootCaPath": "ours-ca.pem"}),
            "certificate is not for `127.0.0.1`; check `server`",
        ),
        (
            &broker,
            url("ssl", "localhost", broker.port),
            json!({"rootCaPath": "none.pem"}),
            "none.pem`: it does not exist",
        ),
        (
            &broker,
            url("ssl", "localhost", broker.port),
            json!({"rootCaPath": "ours-server.key"}),
            "holds no certificate in PEM form",
        ),
        (
            &strict,
            url("ssl", "localhost", strict.port),
            json!({"rootCaPath": "ours-ca.pem"}),
            "does not accept the client's certificate; check `certificationPath`",
        ),
        (
            &strict,
            url("ssl", "localhost", strict.port),
            json!({"rootCaPath": "ours-ca.pem", "certificationPath": "other-client.pem", "privateKeyPath": "other-client.key"}),
            "does not accept the client's certificate; check `certificationPath`",
        ),
        (
            &strict,
            url("ssl", "localhost", strict.port),
            json!({"rootCaPath": "ours-ca.pem", "certificationPath": "ours-client.pem", "privateKeyPath": "other-client.key"}),
            "does not belong to the certificate",
        ),
        (&plain, url("ssl", "localhost", plain.port), json!({}), "check"),
        (&broker, url("tcp", "localhost", broker.port), json!({}), "check"),
    ] {
        let here = env("wrong", broker.folder.path());
        let props = with(&json!({"server": server, "datasource": "t"}), more);
        let mut running = Running::start(source("mqtt", props, &here, true));
        let why = running.trouble().await;
        assert!(why.contains(expected), "{why}");
        assert!(why.starts_with(&format!("`{server}`: ")), "{why}");
        running.stop().await;
    }
    // A broker that wants a certificate takes the right one.
    let here = env("right", strict.folder.path());
    let props = json!({
        "server": url("ssl", "localhost", strict.port), "datasource": "t", "rootCaPath": "ours-ca.pem",
        "certificationPath": "ours-client.pem", "privateKeyPath": "ours-client.key"
    });
    Running::connected(source("mqtt", props, &here, true)).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_mended() {
    let broker = Broker::with(|folder| {
        let file = folder.join("passwords");
        let made = Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&file).args(["user", "right"]).status();
        assert!(made.expect("mosquitto_passwd must be installed").success());
        format!("allow_anonymous false\npassword_file {}", file.display())
    });
    for version in ["3.1.1", "5"] {
        let here = here("password");
        let base = json!({"server": broker.url(), "username": "user", "qos": 1, "protocolVersion": version});
        let props = with(&base, json!({"datasource": "t", "password": "wrong"}));
        let mut running = Running::start(source("mqtt", props, &here, true));
        let why = running.trouble().await;
        assert!(why.ends_with("not authorized; check `username` and `password`"), "{why}");
        running.stop().await;
        let fault =
            sink("mqtt", with(&base, json!({"topic": "t", "password": "wrong"})), &here).connect(Report::new().0).await;
        let fault = fault.unwrap_err();
        assert!(is_later(&fault) && fault.to_string().contains("check `username` and `password`"), "{fault}");
        let props = with(&base, json!({"datasource": "t", "password": "right"}));
        Running::connected(source("mqtt", props, &here, true)).await.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_broker_the_source_subscribes_again() {
    let mut broker = Broker::start("");
    let here = here("restart");
    for (version, qos) in [("3.1.1", 0), ("3.1.1", 1), ("5", 1)] {
        let props = json!({"server": broker.url(), "datasource": "t", "qos": qos, "protocolVersion": version});
        let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
        let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1}), &here).await;
        writer.deliver(&[parcel("before")]).await.unwrap();
        assert_eq!(reader.texts(1).await, ["before"]);
        broker.kill();
        let why = reader.trouble().await;
        assert!(why.contains("closed the connection") || why.contains("nothing listens there"), "{why}");
        let stopped = writer.deliver(&[parcel("lost?")]).await.unwrap_err();
        assert!(is_later(&stopped.fault) && stopped.delivered == 0, "{stopped:?}");
        assert!(stopped.fault.to_string().contains("nothing listens there; check `server`"), "{}", stopped.fault);
        broker.again();
        reader.link(|link| *link == Link::Connected).await;
        writer.deliver(&[parcel("after")]).await.unwrap();
        assert_eq!(reader.texts(1).await, ["after"]);
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sink_comes_back_by_itself() {
    let mut broker = Broker::start("");
    let mut sink = sink("mqtt", json!({"server": broker.url(), "topic": "t"}), &here("idle"));
    let (report, mut link) = Report::new();
    sink.connect(report).await.unwrap();
    let watch = async {
        broker.kill();
        link.wait_for(|link| matches!(link.link, Link::Disconnected(_))).await.unwrap();
        broker.again();
        link.wait_for(|link| link.link == Link::Connected).await.unwrap();
    };
    tokio::select! {
        _ = sink.idle() => unreachable!(),
        done = timeout(PATIENCE, watch) => done.unwrap(),
    }
    sink.deliver(&[parcel("x")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_and_the_rest_does_not() {
    let broker = Broker::start("max_inflight_messages 100");
    for (version, qos) in [("3.1.1", 1u8), ("5", 1), ("3.1.1", 2), ("5", 2)] {
        let here = here(&format!("held-{version}-{qos}"));
        let way = Cut::before(broker.port).await;
        let props = json!({"server": way.url(), "datasource": "t", "qos": qos, "protocolVersion": version});
        let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": qos}), &here).await;
        let mut reader = Running::connected(source("mqtt", props.clone(), &here, true)).await;
        writer.deliver(&numbers(0..40)).await.unwrap();
        let mut held: Vec<(usize, SourceAck)> = Vec::new();
        for _ in 0..40 {
            let message = reader.next().await;
            held.push((text(&message).parse().unwrap(), message.ack.unwrap()));
        }
        let before = way.passed();
        // Out of order, as sinks confirm; acknowledgements are written in order all the same.
        let (first, second): (Vec<_>, Vec<_>) = held.into_iter().rev().partition(|(n, _)| *n < 20);
        first.into_iter().for_each(|(_, ack)| ack.settle());
        let (late, left): (Vec<_>, Vec<_>) = second.into_iter().partition(|(n, _)| *n > 30);
        late.into_iter().for_each(|(_, ack)| ack.settle());
        // Four bytes each; at QoS 2 the broker answers, and is answered.
        let bytes = 4 * 20 * u64::from(qos);
        timeout(PATIENCE, async {
            while way.passed() < before + bytes {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("acknowledgements must be written");
        // The broker has one thread: when it has answered someone else, it has read them too.
        let other = self::here(&format!("other-{version}-{qos}"));
        let mut other = publisher(json!({"server": broker.url(), "topic": "elsewhere", "qos": 1}), &other).await;
        other.deliver(&[parcel("x")]).await.unwrap();
        reader.crash().await;
        let mut reader = Running::connected(source("mqtt", props.clone(), &here, true)).await;
        writer.deliver(&[parcel("41")]).await.unwrap();
        let expected: Vec<String> = (20..40).map(|n| n.to_string()).chain(["41".into()]).collect();
        assert_eq!(reader.texts(21).await, expected, "{version} {qos}");
        drop(left);
        let mut source = reader.stop().await;
        source.forget().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_thrown_away_comes_again() {
    let broker = Broker::start("");
    let here = here("thrown");
    let props = json!({"server": broker.url(), "datasource": "t", "qos": 1});
    let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1}), &here).await;
    let reader = Running::connected(source("mqtt", props.clone(), &here, true)).await;
    writer.deliver(&numbers(0..30)).await.unwrap();
    // Chunks lie in the queue and no one has taken them.
    reader.stop().await;
    let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
    assert_eq!(reader.texts(30).await, texts(0..30));
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_pipeline_gives_up_is_asked_for_again() {
    // The source looks after such messages at every second ping; this broker wants one every ten seconds.
    let broker = Broker::start("max_keepalive 10");
    let here = here("refused");
    let props = json!({"server": broker.url(), "datasource": "t", "qos": 1, "protocolVersion": "5"});
    let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1}), &here).await;
    let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
    writer.deliver(&numbers(0..3)).await.unwrap();
    assert_eq!(reader.texts(1).await, ["0"]);
    drop(reader.next().await);
    assert_eq!(reader.texts(2).await, ["2", "1"]);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stream_keeps_its_session_until_it_is_deleted() {
    let broker = Broker::start("");
    for version in ["3.1.1", "5"] {
        let here = here(&format!("session-{version}"));
        let props = json!({"server": broker.url(), "datasource": "t", "qos": 1, "protocolVersion": version});
        let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1}), &here).await;
        Running::connected(source("mqtt", props.clone(), &here, true)).await.stop().await;
        writer.deliver(&[parcel("while away")]).await.unwrap();
        let mut reader = Running::connected(source("mqtt", props.clone(), &here, true)).await;
        assert_eq!(reader.texts(1).await, ["while away"]);
        let mut source_again = reader.stop().await;
        source_again.forget().await.unwrap();
        writer.deliver(&[parcel("after the end")]).await.unwrap();
        let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
        writer.deliver(&[parcel("new life")]).await.unwrap();
        assert_eq!(reader.texts(1).await, ["new life"]);
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pipeline_stops_the_source_and_loses_nothing() {
    let broker = Broker::start("max_inflight_messages 100");
    for (version, qos) in [("3.1.1", 0), ("5", 0), ("3.1.1", 1), ("5", 1)] {
        let here = here(&format!("full-{version}-{qos}"));
        let props = json!({"server": broker.url(), "datasource": "t", "qos": qos, "protocolVersion": version});
        let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
        let mut writer = publisher(json!({"server": broker.url(), "topic": "t", "qos": 1}), &here).await;
        for start in (0..50_000).step_by(1_000) {
            writer.deliver(&numbers(start..start + 1_000)).await.unwrap();
        }
        assert_eq!(reader.texts(50_000).await, texts(0..50_000));
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_no_message_at_qos_1_and_2() {
    let broker = Broker::start("max_inflight_messages 100");
    for (version, qos) in [("3.1.1", 1), ("5", 1), ("3.1.1", 2), ("5", 2)] {
        let here = here(&format!("cut-{version}-{qos}"));
        let (near, far) = (Cut::before(broker.port).await, Cut::before(broker.port).await);
        let props = json!({"server": near.url(), "datasource": "t", "qos": qos, "protocolVersion": version});
        let mut reader = Running::connected(source("mqtt", props, &here, true)).await;
        let session = qos == 2;
        let props = json!({"server": far.url(), "topic": "t", "qos": qos, "protocolVersion": version, "enableClientSession": session});
        let mut writer = publisher(props, &here).await;
        let writing = tokio::spawn(async move {
            for start in (0..20_000).step_by(500) {
                let parcels = numbers(start..start + 500);
                let mut done = 0;
                while let Err(stopped) = writer.deliver(&parcels[done..]).await {
                    assert!(is_later(&stopped.fault), "{}", stopped.fault);
                    done += stopped.delivered;
                }
            }
        });
        let cutting = tokio::spawn(async move {
            for n in 0..8 {
                sleep(Duration::from_millis(60)).await;
                if n % 2 == 0 { near.cut() } else { far.cut() }
            }
            (near, far)
        });
        let mut seen = BTreeSet::new();
        while seen.len() < 20_000 {
            let message = match timeout(PATIENCE, reader.next()).await {
                Ok(m) => m,
                Err(_) => panic!(
                    "{version} {qos} seen {} link {:?} writing {}",
                    seen.len(),
                    reader.link.borrow().link,
                    writing.is_finished()
                ),
            };
            seen.insert(text(&message).parse::<usize>().unwrap());
            message.ack.unwrap().settle();
        }
        writing.await.unwrap();
        let ways = cutting.await.unwrap();
        assert_eq!(seen, (0..20_000).collect());
        reader.stop().await;
        drop(ways);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_and_the_next_passes() {
    let broker = Broker::start("max_packet_size 20000");
    for version in ["3.1.1", "5"] {
        let here = here("large");
        let base = json!({"server": broker.url(), "qos": 1, "protocolVersion": version});
        let mut reader = Running::connected(source("mqtt", with(&base, json!({"datasource": "t"})), &here, true)).await;
        let mut writer = publisher(with(&base, json!({"topic": "t"})), &here).await;
        let parcels = [parcel("small"), parcel("x".repeat(30_000)), parcel("next")];
        let mut done = 0;
        let stopped = loop {
            match writer.deliver(&parcels[done..]).await {
                Err(stopped) if is_later(&stopped.fault) => done += stopped.delivered,
                other => break other.unwrap_err(),
            }
        };
        assert_eq!((done + stopped.delivered, stopped.fault.reason()), (1, "refused"), "{}", stopped.fault);
        writer.deliver(&parcels[2..]).await.unwrap();
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            seen.extend(reader.texts(1).await);
        }
        assert_eq!(seen, BTreeSet::from(["small".to_owned(), "next".to_owned()]));
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_with_one_id_are_told() {
    let broker = Broker::start("");
    let here = here("twice");
    let props = json!({"server": broker.url(), "datasource": "t", "clientid": "same"});
    let _one = Running::connected(source("mqtt", props.clone(), &here, false)).await;
    let mut two = Running::start(source("mqtt", props, &here, false));
    let told = |link: &Link| matches!(link, Link::Disconnected(why) if why.contains("another client is probably using the client id `same`"));
    two.link(told).await;
}

/// A broker that sends many messages, and whose keep-alive is two seconds: it says how many pings came.
async fn impatient_broker(listener: TcpListener) -> usize {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; 4096];
    let _ = stream.read(&mut bytes).await.unwrap();
    // CONNACK of MQTT 5 with a keep-alive of two seconds, SUBACK, and messages without end.
    stream.write_all(b"\x20\x06\x00\x00\x03\x13\x00\x02\x90\x04\x00\x01\x00\x00").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    tokio::spawn(async move { while write.write_all(&b"\x30\x05\x00\x01t\x00x".repeat(1000)).await.is_ok() {} });
    let mut pings = 0;
    while let Ok(Ok(length)) = timeout(Duration::from_millis(2_500), read.read(&mut bytes)).await
        && length > 0
    {
        pings += bytes[..length].windows(2).filter(|two| two == b"\xC0\x00").count();
        if pings == 3 {
            break;
        }
    }
    pings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_goes_on_pinging() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = tokio::spawn(impatient_broker(listener));
    let props = json!({"server": format!("tcp://127.0.0.1:{port}"), "datasource": "t", "protocolVersion": "5"});
    let reader = Running::connected(source("mqtt", props, &here("stall"), false)).await;
    // No one takes a message: the inlet is full at once.
    assert_eq!(timeout(PATIENCE, broker).await.unwrap().unwrap(), 3);
    reader.stop().await;
}
