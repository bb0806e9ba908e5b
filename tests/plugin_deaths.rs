//! A plugin in the server that ends it, in the real server, started again as a supervisor does: twice what the server died
//! of runs again and is named, the third time it is left out with its cause, and everything else goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/compiled.rs"]
#[allow(dead_code)]
mod compiled;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use kuiper::{Kuiper, wait_for};

const ALL: [&str; 3] = ["sinks", "sources", "functions"];

/// The library `tests/plugins/unruly.c`, built into that folder, with these sources beside.
fn unruly(folder: &Path, beside: &[&Path]) -> PathBuf {
    let library = folder.join("unruly.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/unruly.c");
    let beside = beside.iter().map(|source| source.to_str().unwrap());
    let options: Vec<&str> = ["-std=gnu17", "-Wall", "-Wextra", "-Werror"].into_iter().chain(beside).collect();
    compiled::library(&source, &options, &library);
    library
}

/// A server with the plugin, of these kinds, and two rules that are not to suffer: one calls it too.
fn server(kinds: &[&str], beside: &[&Path]) -> Kuiper {
    let kuiper = Kuiper::start(|data| {
        let library = unruly(data.parent().unwrap(), beside);
        for kind in kinds {
            let folder = data.join("plugins").join(kind);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(&library, folder.join("Unruly@v1.0.0.so")).unwrap();
        }
    });
    simulated(&kuiper, "ticks", &json!({"n": 1}));
    kuiper.rule("steady", "SELECT plusOne(n) AS n FROM ticks", json!({"nop": {}}));
    kuiper.rule("apart", "SELECT abs(n) AS n FROM ticks", json!({"nop": {}}));
    kuiper
}

/// A stream that gives this row again and again.
fn simulated(kuiper: &Kuiper, stream: &str, row: &Json) {
    let extra = json!({"data": [row], "interval": "5ms", "loop": true}).to_string().replace('"', "\\\"");
    kuiper.stream(&format!(r#"CREATE STREAM {stream} () WITH (TYPE="simulator", FORMAT="json", EXTRA="{extra}")"#));
}

/// The file whose being there has a command followed, once.
fn trigger(kuiper: &Kuiper) -> PathBuf {
    kuiper.folder.path().join("now")
}

/// The rule runs, and rows go through it.
fn runs(kuiper: &Kuiper, id: &str) -> Json {
    let before = kuiper.count(id, "out");
    let more = |status: &Json| status["status"] == "running" && status["ledger"]["out"].as_i64() > Some(before + 5);
    kuiper.until(id, "rows", more)
}

/// Has the server die of what the rule does, and starts it again.
fn dies(kuiper: &mut Kuiper, id: &str) {
    runs(kuiper, id);
    fs::write(trigger(kuiper), "").unwrap();
    assert_eq!(kuiper.ended(), None, "{}", kuiper.log());
    kuiper.again();
    runs(kuiper, "steady");
    runs(kuiper, "apart");
}

fn is_named(kuiper: &Kuiper, id: &str, told: &str) {
    let status = runs(kuiper, id);
    assert_eq!((&status["message"], &status["health"]["state"]), (&json!(""), &json!("degraded")), "{status:#}");
    assert_eq!(status["health"]["reason"], told, "{status:#}");
    assert!(kuiper.log().contains(told));
}

fn is_held(kuiper: &Kuiper, id: &str, told: &str) {
    let status = kuiper.until(id, "the cause", |status| status["status"] == "stopped");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with(told) && message.contains(&format!("`kuiper rule start {id}`")), "{status:#}");
    assert_eq!((&status["health"]["state"], &status["health"]["reason"]), (&json!("failed"), &json!(told)));
}

fn is_well(kuiper: &Kuiper, id: &str) {
    let status = runs(kuiper, id);
    assert_eq!((&status["message"], &status["health"]["state"]), (&json!(""), &json!("healthy")), "{status:#}");
}

/// Installs the same library over what is there.
fn deploy(kuiper: &Kuiper, kind: &str) {
    let zip = kuiper.folder.path().join("data/uploads/unruly.zip");
    fs::create_dir_all(zip.parent().unwrap()).unwrap();
    let mut writer = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    writer.start_file("Unruly@v1.0.0.so", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&fs::read(kuiper.folder.path().join("unruly.so")).unwrap()).unwrap();
    writer.finish().unwrap();
    let wish = json!({"name": "unruly", "file": format!("file://{}", zip.display())}).to_string();
    kuiper.ask("PUT", &format!("/plugins/{kind}/unruly"), &wish);
}

#[test]
fn a_function_that_ends_the_server_is_left_out_after_the_third_time_until_someone_starts_its_rule() {
    let mut kuiper = server(&ALL, &[]);
    simulated(&kuiper, "demo", &json!({"t": format!("segfault@{}", trigger(&kuiper).display())}));
    kuiper.rule("fragile", "SELECT unruly(t) AS t FROM demo", json!({"nop": {}}));
    is_well(&kuiper, "fragile");
    let told =
        |times| format!("the server died {times} while plugin `unruly` 1.0.0 was called for `fragile` (SIGSEGV)");
    for times in ["once", "2 times"] {
        dies(&mut kuiper, "fragile");
        is_named(&kuiper, "fragile", &told(times));
    }
    dies(&mut kuiper, "fragile");
    is_held(&kuiper, "fragile", &told("3 times"));
    is_well(&kuiper, "steady");
    // It stays so, whatever the end of the server.
    kuiper.kill();
    kuiper.again();
    is_held(&kuiper, "fragile", &told("3 times"));
    kuiper.ask("POST", "/rules/fragile/start", "");
    is_well(&kuiper, "fragile");
    for times in ["once", "2 times"] {
        dies(&mut kuiper, "fragile");
        is_named(&kuiper, "fragile", &told(times));
    }
    dies(&mut kuiper, "fragile");
    is_held(&kuiper, "fragile", &told("3 times"));
    // Another version, copied there by hand.
    kuiper.kill();
    let folder = kuiper.folder.path().join("data/plugins/functions");
    fs::copy(folder.join("Unruly@v1.0.0.so"), folder.join("Unruly@v1.0.1.so")).unwrap();
    kuiper.again();
    is_well(&kuiper, "fragile");
}

#[test]
fn a_sink_that_ends_the_server_is_left_out_until_its_plugin_is_installed_anew() {
    let mut kuiper = server(&ALL, &[]);
    simulated(&kuiper, "demo", &json!({"n": 1, "do": format!("abort@{}", trigger(&kuiper).display())}));
    let sink = json!({"unruly": {"path": kuiper.folder.path().join("rows"), "sendSingle": true}});
    kuiper.rule("fragile", "SELECT * FROM demo", sink);
    for _ in 0..3 {
        dies(&mut kuiper, "fragile");
    }
    is_held(
        &kuiper,
        "fragile",
        "the server died 3 times while plugin `unruly` 1.0.0 was called for `fragile` (SIGABRT)",
    );
    deploy(&kuiper, "sinks");
    kuiper.kill();
    kuiper.again();
    is_well(&kuiper, "fragile");
}

#[test]
fn a_server_that_is_killed_while_a_plugin_is_called_puts_that_down_to_nobody() {
    let mut kuiper = server(&ALL, &[]);
    simulated(&kuiper, "demo", &json!({"t": format!("loop@{}", trigger(&kuiper).display())}));
    kuiper.rule("fragile", "SELECT unruly(t) AS t FROM demo", json!({"nop": {}}));
    for _ in 0..4 {
        runs(&kuiper, "fragile");
        fs::write(trigger(&kuiper), "").unwrap();
        wait_for("the call that does not end", || !trigger(&kuiper).exists());
        kuiper.kill();
        kuiper.again();
    }
    is_well(&kuiper, "fragile");
}

#[test]
fn a_thread_of_a_plugin_that_ends_the_server_has_the_plugins_named_and_none_blamed() {
    let mut kuiper = server(&ALL, &[]);
    fs::write(trigger(&kuiper), "").unwrap();
    let command = format!("segfault@{}", trigger(&kuiper).display());
    let extra = json!({"count": 1_000_000, "at": 3_000, "do": command, "thread": true}).to_string();
    let extra = extra.replace('"', "\\\"");
    kuiper.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="unruly", FORMAT="json", EXTRA="{extra}")"#));
    kuiper.rule("fragile", "SELECT n FROM demo", json!({"nop": {}}));
    assert_eq!(kuiper.ended(), None);
    kuiper.again();
    is_well(&kuiper, "fragile");
    let log = kuiper.log();
    let told = log.lines().find(|line| line.contains("the server died of SIGSEGV while its thread was in no plugin"));
    assert!(told.unwrap().contains("in this process there are `unruly`"), "{log}");
}

#[test]
fn a_library_that_ends_the_server_when_it_is_loaded_is_not_loaded_after_the_third_time() {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("loaded.c");
    let code = r#"
        #include <unistd.h>
        __attribute__((constructor)) static void loaded(void) {
            if (access("die", F_OK) == 0) {
                *(volatile int *)0 = 1;
            }
        }
    "#;
    fs::write(&source, code).unwrap();
    let mut kuiper = server(&["functions"], &[&source]);
    kuiper.kill();
    let folder = kuiper.folder.path().to_owned();
    fs::write(folder.join("die"), "").unwrap();
    for _ in 0..3 {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        serve
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        assert_eq!(serve.status().unwrap().signal(), Some(11));
    }
    kuiper.again();
    runs(&kuiper, "apart");
    let told = "the server died 3 times while plugin `unruly` 1.0.0 was called (SIGSEGV)";
    let log = kuiper.log();
    assert!(log.lines().any(|line| line.contains("cannot load `") && line.contains(told)), "{log}");
    kuiper.refused("POST", "/rules/steady/start", "");
    // Someone deploys it again, now that what it stumbled over is gone.
    fs::remove_file(folder.join("die")).unwrap();
    deploy(&kuiper, "functions");
    kuiper.ask("POST", "/rules/steady/start", "");
    is_well(&kuiper, "steady");
}
