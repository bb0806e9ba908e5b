//! The rest sink, request by request, and behind a rule's outlet that tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::tokio_rustls::rustls::ServerConfig;
use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value as Json, json};

use kuiper::diag::{Fault, Retry, Whose};
use kuiper::io::{Link, Parcel, Report, Sink, Stopped};

use super::broker::free_port;
use super::contract::{env, is_later, numbers, parcel, sink};
use super::http::{Reply, Server};

async fn connected(props: Json) -> Box<dyn Sink> {
    let mut sink = sink("rest", props, &env("r", "."));
    sink.connect(Report::new().0).await.unwrap();
    sink
}

fn with(props: &[(&str, &str)]) -> Parcel {
    let props = props.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Parcel { props, ..parcel("{}") }
}

/// Delivers as an outlet does, with short pauses.
async fn insist(sink: &mut dyn Sink, parcels: &[Parcel]) -> usize {
    let (mut done, mut tries) = (0, 0);
    while let Err(Stopped { delivered, fault }) = sink.deliver(&parcels[done..]).await {
        assert!(is_later(&fault), "{fault}");
        done += delivered;
        tries += 1;
        assert!(tries < 1000, "{fault}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let _ = sink.connect(Report::new().0).await;
    }
    tries
}

#[tokio::test]
async fn messages_are_sent_in_order_over_one_connection() {
    let server = Server::start(|_| Reply::status(201).body("made")).await;
    let mut sink = connected(json!({"url": server.url("/a?b=c"), "method": "post", "headers": {"X-Key": "k"}})).await;
    sink.deliver(&numbers(0..100)).await.unwrap();
    assert_eq!(server.bodies(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    let asked = server.asked();
    let first = &asked[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/a?b=c"));
    assert_eq!((first.header("x-key"), first.header("content-type")), ("k", "application/json"));
    assert!(asked.iter().all(|request| request.line == first.line), "more than one connection for the requests");
}

#[tokio::test]
async fn without_a_method_nothing_is_carried() {
    let server = Server::start(|_| Reply::status(204)).await;
    connected(json!({"url": server.url("/")})).await.deliver(&numbers(7..8)).await.unwrap();
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].body.len(), asked[0].header("content-type")), ("GET", 0, ""));
}

#[tokio::test]
async fn templates_fill_the_url_headers_and_form() {
    let server = Server::start(|_| Reply::status(200)).await;
    let url = format!("{}/{{{{.id}}}}", server.url(""));
    let props = json!({"url": url, "method": "PUT", "headers": {"X-Id": "{{.id}}", "content-type": "a/b"}});
    let mut sink = connected(props).await;
    let path = server.url("/p 1?x=ü");
    sink.deliver(&[with(&[("url", &path), ("headers.X-Id", "p1")])]).await.unwrap();
    let asked = server.asked();
    assert_eq!((asked[0].path.as_str(), asked[0].header("x-id")), ("/p%201?x=%C3%BC", "p1"));
    assert_eq!(asked[0].header("content-type"), "a/b", "the user's header is the stronger one");
    // A row that makes no address of it is that row's fault.
    for (url, told) in
        [("nonsense", "is no address"), ("http://169.254.169.254/", "link-local"), ("file:///etc", "http")]
    {
        let stopped = sink.deliver(&[with(&[("url", url)])]).await.unwrap_err();
        assert!(stopped.fault.whose() == Whose::Row && stopped.fault.to_string().contains(told), "{stopped:?}");
    }
    let stopped = sink.deliver(&[with(&[("url", &path), ("headers.X-Id", "a\nb")])]).await.unwrap_err();
    assert_eq!(stopped.fault.whose(), Whose::Row, "{stopped:?}");

    let props = json!({"url": server.url("/"), "method": "POST", "bodyType": "formdata", "fileFieldName": "doc",
        "formData": {"unit": "{{.u}}", "kind": "x"}});
    connected(props).await.deliver(&[with(&[("formData.unit", "bar")])]).await.unwrap();
    let asked = server.asked();
    let form = asked.last().unwrap();
    assert!(form.header("content-type").starts_with("multipart/form-data; boundary="), "{form:?}");
    let text = form.text();
    assert!(text.contains("name=\"unit\"\r\n\r\nbar\r\n") && text.contains("name=\"kind\"\r\n\r\nx\r\n"), "{text}");
    assert!(text.contains("name=\"doc\"; filename=\"") && text.contains("\r\n\r\n{}\r\n"), "{text}");
}

#[tokio::test]
async fn what_the_server_refuses_is_dead_with_what_it_says() {
    let server = Server::start(|request| match request.text().as_str() {
        "1" => Reply::status(400).body("\n  the unit is missing \nand more"),
        _ => Reply::status(200),
    })
    .await;
    let mut sink = connected(json!({"url": server.url("/a?secret=1"), "method": "POST"})).await;
    let Stopped { delivered, fault } = sink.deliver(&numbers(0..3)).await.unwrap_err();
    assert_eq!((delivered, fault.whose(), fault.retry()), (1, Whose::Row, Retry::Never));
    let url = server.url("/a");
    assert_eq!(fault.to_string(), format!("`POST {url}` is answered 400 Bad Request: the unit is missing"));
    sink.deliver(&numbers(2..3)).await.unwrap();
    assert_eq!(server.bodies(), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_server_that_is_busy_or_cut_off_gets_the_same_message_again() {
    let mut asked = 0;
    let server = Server::start(move |_| {
        asked += 1;
        match asked {
            2 => Reply::status(503).body("later"),
            3 => Reply::cut(),
            5 => Reply::status(500),
            _ => Reply::status(200),
        }
    })
    .await;
    let mut sink = connected(json!({"url": server.url("/"), "method": "POST"})).await;
    let tries = insist(sink.as_mut(), &numbers(0..4)).await;
    assert_eq!(server.bodies(), ["0", "1", "1", "1", "2", "2", "3"]);
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let mut asked = 0;
    let server = Server::start(move |_| {
        asked += 1;
        if asked == 1 { Reply::status(429).header("Retry-After", "1") } else { Reply::status(200) }
    })
    .await;
    let mut sink = connected(json!({"url": server.url("/"), "method": "POST"})).await;
    insist(sink.as_mut(), &numbers(0..2)).await;
    let asked = server.asked();
    assert_eq!(server.bodies(), ["0", "0", "1"]);
    assert!(asked[1].at.duration_since(asked[0].at) >= Duration::from_millis(990), "it came too soon");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_no_longer_than_asked() {
    let server =
        Server::start(|request| if request.path == "/slow" { Reply::hang() } else { Reply::status(200) }).await;
    let mut sink = connected(json!({"url": server.url("/slow"), "method": "POST", "timeout": "100ms"})).await;
    let Stopped { delivered, fault } = sink.deliver(&numbers(0..2)).await.unwrap_err();
    assert_eq!(delivered, 0);
    assert!(is_later(&fault) && fault.to_string().ends_with("does not answer in time"), "{fault}");
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_found_when_it_comes() {
    let port = free_port();
    let props = json!({"url": format!("http://127.0.0.1:{port}/x"), "method": "POST"});
    let mut sink = sink("rest", props, &env("r", "."));
    let fault = sink.connect(Report::new().0).await.unwrap_err();
    assert_eq!(fault.to_string(), format!("`http://127.0.0.1:{port}/x`: connection refused"));
    assert!(is_later(&fault));
    let stopped = sink.deliver(&numbers(0..1)).await.unwrap_err();
    assert!(is_later(&stopped.fault), "{stopped:?}");
    let server = Server::at(&format!("127.0.0.1:{port}"), None, |_| Reply::status(200)).await;
    let (report, link) = Report::new();
    sink.connect(report).await.unwrap();
    assert_eq!(link.borrow().link, Link::Connected);
    sink.deliver(&numbers(0..1)).await.unwrap();
    assert_eq!(server.bodies(), ["0"]);
}

#[tokio::test]
async fn only_answers_that_keep_the_message_are_followed() {
    let server = Server::start(|request| match request.path.as_str() {
        "/moved" => Reply::status(301).header("Location", "/there"),
        "/keep" => Reply::status(307).header("Location", "/there"),
        "/cloud" => Reply::status(308).header("Location", "http://169.254.169.254/"),
        _ => Reply::status(200),
    })
    .await;
    let to = |path: &str| connected(json!({"url": server.url(path), "method": "POST"}));
    to("/keep").await.deliver(&numbers(5..6)).await.unwrap();
    let there = server.asked().pop().unwrap();
    assert_eq!((there.method.as_str(), there.path.as_str(), there.text().as_str()), ("POST", "/there", "5"));
    for path in ["/moved", "/cloud"] {
        let fault = to(path).await.deliver(&numbers(0..1)).await.unwrap_err().fault;
        assert!(fault.whose() == Whose::Row && fault.to_string().contains("write that address in `url`"), "{fault}");
    }
    assert_eq!(server.asked().len(), 4, "a message went to a place that drops it");
}

#[tokio::test]
async fn a_code_in_the_body_counts_where_it_is_asked_for() {
    let server = Server::start(|_| Reply::status(200).body("{\"code\": 404}")).await;
    let props =
        |debug: bool| json!({"url": server.url("/"), "method": "POST", "responseType": "body", "debugResp": debug});
    connected(props(false)).await.deliver(&numbers(0..1)).await.unwrap();
    let fault = connected(props(true)).await.deliver(&numbers(0..1)).await.unwrap_err().fault;
    assert!(fault.whose() == Whose::Row && fault.to_string().ends_with("with the code 404"), "{fault}");
}

/// A certificate for `localhost` in PEM, and a server that has it.
fn self_signed() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn the_certificate_of_the_server_is_checked() {
    let (pem, tls) = self_signed();
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ca.pem"), pem).unwrap();
    let server = Server::at("127.0.0.1:0", Some(tls), |_| Reply::status(200)).await;
    let here = env("r", root.path());
    let to = |host: &str, more: Json| {
        let mut props = json!({"url": format!("https://{host}:{}/", server.address.port()), "method": "POST"});
        props.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sink("rest", props, &here)
    };
    for more in [json!({"rootCaPath": "ca.pem"}), json!({"insecureSkipVerify": true})] {
        to("localhost", more).deliver(&numbers(0..1)).await.unwrap();
    }
    assert_eq!(server.bodies(), ["0", "0"]);
    for (host, more, told) in [
        ("localhost", json!({}), "is not signed by a trusted authority; check `rootCaPath`"),
        ("127.0.0.1", json!({"rootCaPath": "ca.pem"}), "the server's certificate is not for `127.0.0.1`; check `url`"),
        ("localhost", json!({"rootCaPath": "none.pem"}), "none.pem`: it does not exist"),
    ] {
        let fault = to(host, more).deliver(&numbers(0..1)).await.unwrap_err().fault;
        assert!(is_later(&fault) && fault.to_string().contains(told), "{fault}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_renewed_and_fetched_again() {
    let logins = Arc::<AtomicUsize>::default();
    let count = logins.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/login" if request.text() != "{\"user\":\"me\"}" => Reply::status(403).body("who?"),
        "/login" => {
            let n = count.fetch_add(1, Ordering::SeqCst);
            Reply::status(200).body(&json!({"token": format!("t{n}"), "renew": "r", "holds": 2}).to_string())
        }
        "/renew" if request.header("authorization") == "r" => Reply::status(200).body("{\"token\": \"new\"}"),
        "/renew" => Reply::status(400),
        // The first token is taken back after its first use.
        _ if request.header("authorization") == "Bearer t0" && request.text() == "1" => Reply::status(401),
        _ if request.header("authorization").starts_with("Bearer ") => Reply::status(200),
        _ => Reply::status(401),
    })
    .await;
    let oauth = json!({
        "access": {"url": server.url("/login"), "body": "{\"user\":\"me\"}", "expire": "{{.holds}}"},
        "refresh": {"url": server.url("/renew"), "headers": {"authorization": "{{.renew}}"}},
    });
    let headers = json!({"Authorization": "Bearer {{.token}}"});
    let props = json!({"url": server.url("/data"), "method": "POST", "headers": headers, "oAuth": oauth});
    let mut sink = connected(props.clone()).await;
    sink.deliver(&numbers(0..2)).await.unwrap();
    let tokens = || -> Vec<String> {
        let data = server.asked().into_iter().filter(|request| request.path == "/data");
        data.map(|request| request.header("authorization")[7..].to_owned()).collect()
    };
    assert_eq!(tokens(), ["t0", "t0", "t1"], "a token that is refused is fetched anew");
    let begun = std::time::Instant::now();
    while !tokens().ends_with(&["new".to_owned()]) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not renewed: {:?}", tokens());
        sink.deliver(&numbers(2..3)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() > Duration::from_millis(900), "half of its time is a second");
    assert_eq!(logins.load(Ordering::SeqCst), 2, "it is renewed, not fetched");

    let mut props = props;
    props["oAuth"]["access"]["body"] = json!("{}");
    let mut sink = super::contract::sink("rest", props, &env("r", "."));
    let fault = sink.connect(Report::new().0).await.unwrap_err();
    let url = server.url("/login");
    assert_eq!(fault, Fault::unreachable(format!("the login at `{url}`: it is answered 403 Forbidden: who?")));
}
