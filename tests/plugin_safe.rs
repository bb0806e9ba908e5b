//! What was once used against eKuiper, and its like, tried on a server of ours. The names of the first four tests hold the
//! number of the advisory that each replays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "connectors/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "plugins/tiny.rs"]
#[allow(dead_code)]
mod tiny;
#[path = "rest/world.rs"]
#[allow(dead_code)]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use http::Reply;
use made::zipped;
use tiny::Bench;
use world::World;

/// What must never be touched: a file in every folder that a path could lead to.
struct Outside(Vec<(PathBuf, Vec<u8>)>);

impl Outside {
    fn of(w: &World) -> Outside {
        let home = w.home.path();
        fs::create_dir_all(home.join("keep/deep")).unwrap();
        fs::create_dir_all(w.home.path().join("data/plugins/sinks")).unwrap();
        for file in ["secret", "keep/secret", "keep/deep/secret", "data/secret", "data/plugins/secret"] {
            fs::write(home.join(file), "as it was").unwrap();
        }
        Outside(files(home))
    }

    /// Nothing but what lies in the folder of uploads is new, and nothing is changed or gone.
    fn is_whole(&self, w: &World, doing: &str) {
        let uploads = w.home.path().join("data/uploads");
        // The database is written to all the time.
        let counts = |path: &Path| !path.starts_with(&uploads) && path.extension().is_none_or(|end| end != "redb");
        let now: Vec<_> = files(w.home.path()).into_iter().filter(|(path, _)| counts(path)).collect();
        let then: Vec<_> = self.0.iter().filter(|(path, _)| counts(path)).cloned().collect();
        assert_eq!(now, then, "{doing}");
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Names that lead somewhere else when they are taken for paths.
fn paths(w: &World) -> Vec<String> {
    let home = w.home.path().display().to_string();
    let mut all: Vec<String> = [
        "../secret",
        "../../secret",
        "../../keep/secret",
        "../plugins/secret",
        "a/../../secret",
        "./../../secret",
        "..",
        ".",
        "../../keep",
        "../../keep/deep",
        "..\\..\\secret",
        "%2e%2e/secret",
        "\u{0}",
        "a\u{0}b",
        ".hidden",
        "a\nb",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend([format!("{home}/secret"), format!("{home}/keep"), format!("/{home}/keep/secret"), "a".repeat(300)]);
    all
}

/// The name as it stands in the path of a request.
fn in_path(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn form(w: &World, file_name: &str, content: &str) -> world::Reply {
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"uploadFile\"; filename=\"{file_name}\"\r\n\r\n{content}\r\n--x--\r\n"
    );
    let head = "POST /config/uploads HTTP/1.1\r\nhost: k\r\ncontent-type: multipart/form-data; boundary=x\r\n";
    w.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

async fn upload(w: &World, body: &serde_json::Value) -> world::Reply {
    let body = body.to_string();
    let head = "POST /config/uploads HTTP/1.1\r\nhost: k\r\ncontent-type: application/json\r\n";
    w.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

#[tokio::test]
async fn ghsa_fv2p_qj5p_wqq4_an_upload_with_a_path_as_its_name_replaces_no_file() {
    let w = World::new().await;
    let outside = Outside::of(&w);
    for name in paths(&w) {
        let reply = upload(&w, &json!({"name": name, "content": "mine"})).await;
        outside.is_whole(&w, &name);
        // What is a name, if an odd one, is a file in the folder.
        let plain = name == "%2e%2e/secret";
        assert_eq!(reply.status, if plain { 201 } else { 400 }, "{name}: {}", reply.body);
        if !name.contains(['\n', '\u{0}']) {
            let reply = form(&w, &name, "mine").await;
            assert!([201, 400].contains(&reply.status), "{name}: {}", reply.body);
            outside.is_whole(&w, &name);
            if reply.status == 201 {
                assert!(reply.body.contains("/data/uploads/"), "{name}: {}", reply.body);
            }
        }
        let reply = w.ask("DELETE", &format!("/config/uploads/{}", in_path(&name)), "").await;
        outside.is_whole(&w, &name);
        assert!([200, 400, 404, 405].contains(&reply.status), "{name}: {} {}", reply.status, reply.body);
    }
    // A link in the folder is not followed out of it.
    std::os::unix::fs::symlink(w.home.path().join("keep"), w.home.path().join("data/uploads/link")).unwrap();
    let reply = upload(&w, &json!({"name": "link/secret", "content": "mine"})).await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    let reply = w.ask("DELETE", "/config/uploads/link%2Fsecret", "").await;
    assert!(reply.status >= 400, "{}", reply.body);
    assert_eq!(fs::read_to_string(w.home.path().join("keep/secret")).unwrap(), "as it was");
}

#[tokio::test]
async fn ghsa_gj54_gwj9_x2c6_an_upload_that_names_a_url_is_fetched_to_where_uploads_are_and_from_where_it_may() {
    let w = World::with(tempfile::tempdir().unwrap(), |settings| {
        settings.download = (1000, Duration::from_secs(3));
    })
    .await;
    let outside = Outside::of(&w);
    let there = http::Server::start(|request| match request.path.as_str() {
        "/round" => Reply::status(302).header("location", "/round"),
        "/inside" => Reply::status(302).header("location", "http://169.254.169.254/latest/meta-data"),
        "/file" => Reply::status(302).header("location", "file:///etc/passwd"),
        "/large" => Reply::status(200).body(&"x".repeat(1001)),
        "/slow" => Reply::hang(),
        "/gone" => Reply::status(404),
        _ => Reply::status(200).body("theirs"),
    })
    .await;
    let url = there.url("/x.zip");
    for name in paths(&w) {
        let reply = upload(&w, &json!({"name": name, "file": url})).await;
        outside.is_whole(&w, &name);
        assert_eq!(reply.status, if name == "%2e%2e/secret" { 201 } else { 400 }, "{name}: {}", reply.body);
    }
    assert_eq!(there.asked().len(), 1, "what has no place is not even fetched");
    let sum = "4e4efb2f4b4c1b1ddfdf33c8cf8b8e0ac5fb3b1ab2fb2b1fb1b1e6b2a7c7d1ab";
    let secret = format!("file://{}/secret", w.home.path().display());
    for (file, sha256, told) in [
        ("http://169.254.169.254/latest/meta-data", "", "ip 169.254.169.254 is link-local"),
        ("http://[::ffff:169.254.169.254]/", "", "is link-local"),
        ("http://0.0.0.0:9081/", "", "ip 0.0.0.0 is link-local, unspecified"),
        ("gopher://127.0.0.1/", "", "the scheme `gopher` is not http, https or file"),
        ("file:///etc/passwd", "", "file access denied: path must be under "),
        (&secret, "", "file access denied: path must be under "),
        (&there.url("/round"), "", "the server points elsewhere more than 5 times"),
        (&there.url("/inside"), "", "ip 169.254.169.254 is link-local"),
        (&there.url("/file"), "", "which is neither http nor https"),
        (&there.url("/large"), "", "the file is larger than 1000 bytes, which `basic.downloadMaxBytes` allows"),
        (&there.url("/slow"), "", "it has not come within 3 s"),
        (&there.url("/gone"), "", "cannot download the file with status: 404"),
        (&url, sum, "has the SHA-256 "),
        (&url, "abc", "`sha256` is no digest; it is 64 hexadecimal digits"),
    ] {
        let mut body = json!({"name": "got", "file": file});
        if !sha256.is_empty() {
            body["sha256"] = sha256.into();
        }
        let reply = upload(&w, &body).await;
        assert_eq!(reply.status, 400, "{file}: {}", reply.body);
        assert!(reply.body.contains(told), "{file}: {}", reply.body);
        assert!(!w.home.path().join("data/uploads/got").exists(), "{file}");
        outside.is_whole(&w, file);
    }
    // Nothing half-fetched is left.
    let hidden = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with(".upload-");
    assert!(files(&w.home.path().join("data/uploads")).iter().all(|(path, _)| !hidden(path)));
    let sum = std::process::Command::new("sh").args(["-c", "printf theirs | sha256sum"]).output().unwrap().stdout;
    let sum = String::from_utf8(sum[..64].to_vec()).unwrap().to_uppercase();
    let reply = upload(&w, &json!({"name": "got", "file": url, "sha256": sum})).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(fs::read_to_string(w.home.path().join("data/uploads/got")).unwrap(), "theirs");
}

#[tokio::test]
async fn ghsa_rj4j_2jph_gg43_no_name_of_a_plugin_rule_or_entry_of_a_zip_is_a_path() {
    let w = World::new().await;
    let outside = Outside::of(&w);
    let bench = Bench::new();
    let library = fs::read(bench.tiny("tiny.so", "")).unwrap();
    let uploads = w.home.path().join("data/uploads");
    fs::create_dir_all(&uploads).unwrap();
    let brought = |name: &str, entries: &[(&str, &[u8])]| {
        fs::copy(zipped(bench.folder.path(), entries), uploads.join(name)).unwrap();
        format!("file://{}/{name}", uploads.display())
    };
    let good = brought("good.zip", &[("Tiny@v1.0.0.so", &library)]);
    for name in paths(&w) {
        for kind in ["sources", "sinks", "functions"] {
            let body = json!({"name": name, "file": good}).to_string();
            let reply = w.ask("POST", &format!("/plugins/{kind}"), &body).await;
            assert_eq!(reply.status, 400, "{kind} {name}: {}", reply.body);
            for (method, path) in [
                ("PUT", format!("/plugins/{kind}/{}", in_path(&name))),
                ("DELETE", format!("/plugins/{kind}/{}", in_path(&name))),
                ("GET", format!("/plugins/{kind}/{}", in_path(&name))),
            ] {
                let reply = w.ask(method, &path, &body).await;
                // Without a name it is the path of all of them.
                assert!(
                    reply.status >= 400 || name.is_empty() || reply.status == 301,
                    "{method} {path}: {}",
                    reply.body
                );
            }
            outside.is_whole(&w, &name);
        }
        let rule = json!({"id": name, "sql": "SELECT * FROM none", "actions": [{"log": {}}]}).to_string();
        assert!(w.ask("POST", "/rules", &rule).await.status >= 400 || name.is_empty(), "{name}");
        w.ask("DELETE", &format!("/rules/{}", in_path(&name)), "").await;
        outside.is_whole(&w, &name);
    }
    let out = w.home.path().join("keep/secret").display().to_string();
    for (entry, wrong) in [
        ("../../../keep/secret", "leads out of the plugin's folder"),
        ("etc/../../../../keep/secret", "leads out of the plugin's folder"),
        (&out, "leads out of the plugin's folder"),
        ("..\\secret", "has a backslash in its name"),
        ("C:\\secret", "has a backslash in its name"),
        ("C:secret", "has a colon in its name"),
        ("a\nb", "has a line break in its name"),
        (".hidden", "has a name that begins with a dot"),
        ("etc/.hid", "has a name that begins with a dot"),
        ("etc/\u{202e}gpj.sh", "has U+202E in its name"),
        ("Tiny@v1.0.0.so/b", "entry `Tiny@v1.0.0.so` is a file, and `Tiny@v1.0.0.so/b` needs a folder there"),
        (&format!("etc/{}", "a".repeat(256)), "has too long a name: it has 256 bytes, and 255 are the most"),
    ] {
        let file = brought("slips.zip", &[("Tiny@v1.0.0.so", &library), (entry, b"theirs")]);
        let reply = w.ask("POST", "/plugins/sinks", &json!({"name": "tiny", "file": file}).to_string()).await;
        assert_eq!(reply.status, 400, "{entry}: {}", reply.body);
        assert!(reply.body.contains(wrong), "{entry}: {}", reply.body);
        outside.is_whole(&w, entry);
    }
    for file_name in ["Tiny@v...so", "Tiny@v1..0.so", "Tiny@v-1.so", "Tiny@v1 0.so"] {
        let file = brought("version.zip", &[(file_name, &library)]);
        let reply = w.ask("POST", "/plugins/sinks", &json!({"name": "tiny", "file": file}).to_string()).await;
        assert_eq!(reply.status, 400, "{file_name}: {}", reply.body);
        assert!(reply.body.contains("is no version"), "{file_name}: {}", reply.body);
        outside.is_whole(&w, file_name);
    }
    // The zip itself was good.
    let reply = w.ask("POST", "/plugins/sinks", &json!({"name": "tiny", "file": good}).to_string()).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test]
async fn ghsa_c23q_fw86_9h5x_a_plugin_whose_name_is_a_path_deletes_no_folder() {
    let w = World::new().await;
    let outside = Outside::of(&w);
    for name in paths(&w) {
        // It failed there too, and what was then tidied up was the folder that the name leads to.
        let body = json!({"name": name, "file": "http://127.0.0.1:1/x.zip", "functions": [name], "shellParas": [name]});
        for kind in ["sources", "sinks", "functions", "portables"] {
            let reply = w.ask("POST", &format!("/plugins/{kind}"), &body.to_string()).await;
            assert!(reply.status >= 400, "{kind} {name}: {}", reply.body);
            w.ask("DELETE", &format!("/plugins/{kind}/{}", in_path(&name)), "").await;
            w.ask("DELETE", &format!("/plugins/{kind}/{name}"), "").await;
            outside.is_whole(&w, &name);
        }
    }
    for folder in ["keep", "keep/deep", "data/plugins/sinks"] {
        assert!(w.home.path().join(folder).is_dir(), "{folder}");
    }
}

#[tokio::test]
async fn a_request_is_taken_at_its_word_or_refused() {
    let w = World::new().await;
    let bench = Bench::new();
    let library = fs::read(bench.tiny("tiny.so", "")).unwrap();
    let uploads = w.home.path().join("data/uploads");
    fs::create_dir_all(&uploads).unwrap();
    fs::copy(zipped(bench.folder.path(), &[("Tiny@v1.0.0.so", &library)]), uploads.join("tiny.zip")).unwrap();
    let file = format!("file://{}/tiny.zip", uploads.display());
    let body = |more: serde_json::Value| {
        let mut body = json!({"name": "tiny", "file": file});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let wrong = [
        (json!({"sha265": "00"}), "there is no member `sha265`; did you mean `sha256`?"),
        (json!({"foo": 1}), "there is no member `foo`; expected `name`, `file`, "),
        (json!({"sha256": ""}), "`sha256` is no digest; it is 64 hexadecimal digits"),
        (json!({"sha256": " "}), "`sha256` is no digest; it is 64 hexadecimal digits"),
        (json!({"sha256": "00"}), "`sha256` is no digest; it is 64 hexadecimal digits"),
        (json!({"file": "https://me:s3cret@host/x.tar"}), "invalid uri https://host/x.tar: "),
        (json!({"file": "http://me:s3cret@127.0.0.1:1/x.zip"}), "fail to download file http://127.0.0.1:1/x.zip: "),
        (json!({"file": "https://me:s3cret@ho st/x.zip"}), "invalid uri ho st/x.zip: "),
        (json!({"file": "me:s3cret@host/x.zip"}), "invalid uri host/x.zip: "),
    ];
    let refuses = async |method: &str, path: &str| {
        for (more, told) in &wrong {
            let reply = w.ask(method, path, &body(more.clone())).await;
            assert_eq!(reply.status, 400, "{method} {more}: {}", reply.body);
            assert!(reply.body.contains(told), "{method} {more}: {}", reply.body);
            assert!(!reply.body.contains("s3cret"), "{method} {more}: {}", reply.body);
        }
    };
    refuses("POST", "/plugins/sinks").await;
    // What eKuiper's clients send, in any case of the letters.
    let theirs = body(json!({"shellParas": [], "functions": [], "version": "1.0.0"})).replace("\"name\"", "\"Name\"");
    let reply = w.ask("POST", "/plugins/sinks", &theirs).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    refuses("PUT", "/plugins/sinks/tiny").await;
    for query in ["force=maybe", "force=", "force", "stop=2"] {
        let reply = w.ask("DELETE", &format!("/plugins/sinks/tiny?{query}"), "").await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.body);
        assert!(reply.body.contains(", expected `true` or `false`"), "{query}: {}", reply.body);
    }
    let reply = w.ask("DELETE", "/plugins/sinks/tiny?force=1&stop=false", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "sinks plugin tiny is deleted"));
}

#[tokio::test]
async fn a_script_runs_where_it_may_and_what_it_prints_is_kept() {
    let bench = Bench::new();
    let library = fs::read(bench.tiny("tiny.so", "")).unwrap();
    let zip =
        |script: &str| zipped(bench.folder.path(), &[("Tiny@v1.0.0.so", &library), ("install.sh", script.as_bytes())]);
    let installed = async |listen: &str, scripts: Option<bool>, limit: u64, script: &str| {
        let zip = zip(script);
        let w = World::with(tempfile::tempdir().unwrap(), |settings| {
            settings.listen = listen.parse().unwrap();
            settings.external_files = true;
            settings.install.scripts = scripts;
            settings.install.script_limit = Duration::from_secs(limit);
        })
        .await;
        let body = json!({"name": "tiny", "file": format!("file://{}", zip.display())}).to_string();
        let reply = w.ask("POST", "/plugins/sinks", &body).await;
        (w, reply)
    };
    let (w, reply) = installed("127.0.0.1:9081", None, 60, "echo working; echo done >&2").await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(w.json("/plugins/sinks/tiny").await["installOutput"], "working\ndone");
    let w = w.restarted().await;
    assert_eq!(w.json("/plugins/sinks/tiny").await["installOutput"], "working\ndone");
    let (_w, reply) = installed("0.0.0.0:9081", None, 60, "true").await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("the zip has an install.sh, and this server runs none; do by hand"), "{}", reply.body);
    let (_w, reply) = installed("127.0.0.1:9081", Some(false), 60, "true").await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    let (_w, reply) = installed("0.0.0.0:9081", Some(true), 60, "true").await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let (w, reply) = installed("127.0.0.1:9081", None, 2, "echo begun; sleep 1000 & wait").await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(reply.body.contains("install.sh did not end within 2 s and was stopped: begun"), "{}", reply.body);
    assert_eq!(w.json("/plugins/sinks").await, json!([]));
}
