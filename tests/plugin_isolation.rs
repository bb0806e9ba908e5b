//! Plugins in processes of their own, in the real server: whatever they do, the engine and its other rules go on, the
//! rule says which plugin failed and how, and no row is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/compiled.rs"]
#[allow(dead_code)]
mod compiled;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value as Json, json};

use kuiper::{Kuiper, wait_for};

/// The library `tests/plugins/unruly.c`, built once.
fn unruly() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("unruly-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/unruly.c");
        compiled::library(&source, &["-std=gnu17", "-Wall", "-Wextra", "-Werror"], &library);
        library
    })
}

/// How long a call may take where one never returns: long enough for all others, on a machine that has much else to do.
const LIMIT: &str = "5s";

/// A server with the plugin, isolated, and these settings of its process.
fn server(process: &str) -> Kuiper {
    server_with("60s", process)
}

/// The same, where a call may take so long.
fn server_with(limit: &str, process: &str) -> Kuiper {
    let kuiper = Kuiper::start(|data| {
        let config = data.parent().unwrap().join("config");
        fs::create_dir(&config).unwrap();
        let text = format!("plugins:\n  isolation: process\n  process:\n    callTimeout: {limit}\n{process}");
        fs::write(config.join("kuiper.yaml"), text).unwrap();
        for kind in ["sinks", "sources", "functions"] {
            let folder = data.join("plugins").join(kind);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(unruly(), folder.join("Unruly@v1.0.0.so")).unwrap();
        }
    });
    // A rule that has nothing to do with it.
    let steady = json!({"data": [{"n": 1}], "interval": "5ms", "loop": true}).to_string().replace('"', "\\\"");
    kuiper.stream(&format!(r#"CREATE STREAM ticks () WITH (TYPE="simulator", FORMAT="json", EXTRA="{steady}")"#));
    kuiper.rule("steady", "SELECT plusOne(n) + n AS n FROM ticks", json!({"nop": {}}));
    kuiper.rule("apart", "SELECT abs(n) AS n FROM ticks", json!({"nop": {}}));
    kuiper
}

/// The other rule goes on, and its account is balanced.
fn goes_on(kuiper: &Kuiper) {
    let before = kuiper.count("apart", "in");
    let status =
        kuiper.until("apart", "rows of the other rule", |status| status["ledger"]["out"].as_i64() > Some(before + 20));
    let ledger = &status["ledger"];
    assert_eq!((&ledger["dead"], &ledger["dropped"]), (&json!({}), &json!({})), "{status:#}");
}

/// A stream that gives these rows once, and then waits.
fn stream(kuiper: &Kuiper, rows: &Json) {
    let extra = json!({"data": rows, "interval": "10ms", "loop": false}).to_string().replace('"', "\\\"");
    kuiper.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{extra}")"#));
}

/// A rule with these options that writes its rows to the file `seen`.
fn rule(kuiper: &Kuiper, sql: &str, options: Json) {
    let file = json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}});
    let rule = json!({"id": "fragile", "sql": sql, "actions": [file], "options": options});
    kuiper.ask("POST", "/rules", &rule.to_string());
}

fn seen(kuiper: &Kuiper) -> Vec<Json> {
    let text = fs::read_to_string(kuiper.folder.path().join("seen")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command that is obeyed once.
fn once(kuiper: &Kuiper, command: &str) -> String {
    let path = kuiper.folder.path().join(format!("once-{command}"));
    fs::write(&path, "").unwrap();
    format!("{command}@{}", path.display())
}

/// What a process of the plugin is said to have ended by.
const ENDS: [(&str, &str); 7] = [
    ("segfault", "plugin unruly: its process was ended by SIGSEGV"),
    ("overflow", "plugin unruly: its process was ended by SIGSEGV"),
    ("abort", "plugin unruly: its process was ended by SIGABRT; it wrote last: as asked"),
    ("exit", "plugin unruly: its process exited with code 0"),
    ("hog", "plugin unruly: its process was ended by SIGABRT; it wrote last: no memory is left"),
    ("loop", "plugin unruly: its process was killed: `call` did not return within 5s"),
    ("close", "plugin unruly: its process has lost its connection to the engine"),
];

fn process(kuiper: &Kuiper, kind: &str) -> Json {
    serde_json::from_str::<Json>(&kuiper.ask("GET", &format!("/plugins/{kind}/unruly"), "")).unwrap()["process"].clone()
}

#[test]
fn a_row_that_ends_the_process_of_a_function_twice_is_dead_with_its_reason() {
    for (command, told) in ENDS {
        let kuiper = server_with(if command == "loop" { LIMIT } else { "60s" }, "    memory: 400000000\n");
        stream(&kuiper, &json!([{"t": "a"}, {"t": command}, {"t": "b"}]));
        rule(&kuiper, "SELECT unruly(t) AS t FROM demo", json!({}));
        let status = kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 2);
        assert_eq!(
            (&status["ledger"]["in"], &status["ledger"]["dead"]),
            (&json!(3), &json!({"eval": 1})),
            "{status:#}"
        );
        assert_eq!(seen(&kuiper), [json!({"t": "a"}), json!({"t": "b"})]);
        assert!(status.to_string().contains(&format!("{told}, by this row")), "{told}: {status:#}");
        let process = process(&kuiper, "functions");
        assert_eq!(process["deaths"], 2, "{process}");
        assert_eq!(process["lastDeath"], told);
        goes_on(&kuiper);
    }
}

#[test]
fn a_process_that_ends_once_costs_no_row_of_a_function() {
    let kuiper = server_with(LIMIT, "");
    let rows: Vec<Json> = ["segfault", "abort", "exit", "loop", "close"]
        .iter()
        .flat_map(|command| [json!({"t": "plain"}), json!({"t": once(&kuiper, command)})])
        .collect();
    stream(&kuiper, &json!(rows));
    rule(&kuiper, "SELECT unruly(t) AS t FROM demo", json!({}));
    let status = kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 10);
    assert_eq!(status["ledger"]["dead"], json!({}), "{status:#}");
    assert_eq!(seen(&kuiper), rows);
    assert_eq!(process(&kuiper, "functions")["deaths"], 5);
    goes_on(&kuiper);
}

#[test]
fn rows_that_a_sink_was_given_when_its_process_ended_are_given_again() {
    let kuiper = server_with(LIMIT, "    memory: 400000000\n");
    let commands = ["segfault", "abort", "exit", "loop", "close", "hog"];
    let rows: Vec<Json> = (0..60)
        .map(|n| match commands.get(n / 10).filter(|_| n % 10 == 5) {
            Some(command) => json!({"n": n, "do": once(&kuiper, command)}),
            None => json!({"n": n}),
        })
        .collect();
    stream(&kuiper, &json!(rows));
    let path = kuiper.folder.path().join("rows");
    let sink = json!({"unruly": {"path": path, "sendSingle": true}});
    let rule = json!({"id": "fragile", "sql": "SELECT * FROM demo", "actions": [sink], "options": {"qos": 1}});
    kuiper.ask("POST", "/rules", &rule.to_string());
    let status = kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 60);
    assert_eq!((&status["ledger"]["in"], &status["ledger"]["dead"]), (&json!(60), &json!({})), "{status:#}");
    let written: BTreeSet<i64> = fs::read_to_string(&path).unwrap().lines().map(|n| n.parse().unwrap()).collect();
    assert_eq!(written, (0..60).collect());
    assert_eq!(process(&kuiper, "sinks")["deaths"], 6);
    goes_on(&kuiper);
}

#[test]
fn a_sink_that_takes_back_has_each_row_once_whatever_ends_its_process() {
    for single in [true, false] {
        let kuiper = server("");
        let commands = ["segfault", "exit", "kill"];
        // Of each ten rows, which are delivered together, the sixth; and once when all are written, and it says so.
        let rows: Vec<Json> = (0..60)
            .map(|n| match (n / 10, n % 10) {
                (ten, 5) if ten < 3 => json!({"n": n, "do": once(&kuiper, commands[ten])}),
                (4, 5) => json!({"n": n, "do": format!("last:{}", once(&kuiper, "abort"))}),
                _ => json!({"n": n}),
            })
            .collect();
        stream(&kuiper, &json!(rows));
        let path = kuiper.folder.path().join("rows");
        let sink = json!({"unruly": {"path": path, "back": true, "sendSingle": single}});
        let sql = "SELECT * FROM demo GROUP BY COUNTWINDOW(10)";
        let rule = json!({"id": "fragile", "sql": sql, "actions": [sink], "options": {"qos": 2}});
        kuiper.ask("POST", "/rules", &rule.to_string());
        let status = kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 60);
        assert_eq!((&status["ledger"]["in"], &status["ledger"]["dead"]), (&json!(60), &json!({})), "{status:#}");
        let written: Vec<i64> = fs::read_to_string(&path).unwrap().lines().map(|n| n.parse().unwrap()).collect();
        assert_eq!(written, (0..60).collect::<Vec<i64>>());
        // The last one may come after the last row.
        wait_for("the fourth death", || process(&kuiper, "sinks")["deaths"] == 4);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 60);
        goes_on(&kuiper);
    }
}

#[test]
fn what_a_function_counts_is_each_row_once_also_when_its_process_ends() {
    let kuiper = server("");
    let commands = ["segfault", "kill"];
    let rows: Vec<Json> = (0..40)
        .map(|n| match n % 20 {
            7 => json!({"t": once(&kuiper, commands[n / 20])}),
            _ => json!({"t": n}),
        })
        .collect();
    stream(&kuiper, &json!(rows));
    rule(&kuiper, "SELECT unrulySeen(t) AS seen FROM demo", json!({}));
    let status = kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 40);
    assert_eq!(status["ledger"]["dead"], json!({}), "{status:#}");
    assert_eq!(seen(&kuiper), (1..=40).map(|n| json!({"seen": n})).collect::<Vec<_>>());
    kuiper.ask("DELETE", "/rules/fragile", "");
    fs::remove_file(kuiper.folder.path().join("seen")).unwrap();
    commands.iter().for_each(|command| drop(once(&kuiper, command)));
    rule(&kuiper, "SELECT unrulyCount(t) AS seen FROM demo GROUP BY COUNTWINDOW(20)", json!({}));
    let status = kuiper.until("fragile", "all windows", |status| status["ledger"]["out"] == 40);
    assert_eq!(status["ledger"]["dead"], json!({}), "{status:#}");
    assert_eq!(seen(&kuiper), vec![json!({"seen": 20}); 2]);
    assert_eq!(process(&kuiper, "functions")["deaths"], 4);
    goes_on(&kuiper);
}

#[test]
fn a_sink_that_always_ends_its_process_holds_its_rule_back_and_says_why() {
    let kuiper = server("");
    stream(&kuiper, &json!([{"n": 1}, {"n": 2, "do": "segfault"}, {"n": 3}]));
    let path = kuiper.folder.path().join("rows");
    kuiper.rule("fragile", "SELECT * FROM demo", json!({"unruly": {"path": path, "sendSingle": true}}));
    let status = kuiper.until("fragile", "the reason", |status| {
        let told = status["sink_unruly_0_0_last_exception"].as_str().unwrap_or_default();
        told.contains("plugin unruly: its process was ended by SIGSEGV")
    });
    assert_eq!(status["status"], "running", "{status:#}");
    // Each pause before a start is twice as long as the one before.
    wait_for("three pauses", || {
        let log = kuiper.log();
        ["100ms", "200ms", "400ms"].iter().all(|pause| log.contains(&format!("it is started again in {pause}")))
    });
    let status = kuiper.status("fragile");
    assert_eq!((&status["ledger"]["in"], &status["ledger"]["dead"]), (&json!(3), &json!({})), "{status:#}");
    assert!(status["ledger"]["out"].as_i64() < Some(2), "{status:#}");
    goes_on(&kuiper);
    kuiper.ask("DELETE", "/rules/fragile", "");
}

#[test]
fn a_source_is_opened_again_where_it_stood() {
    for thread in [false, true] {
        let kuiper = server("");
        let command = once(&kuiper, "segfault");
        let extra = json!({"count": 300, "at": 100, "do": command, "thread": thread}).to_string().replace('"', "\\\"");
        kuiper.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="unruly", FORMAT="json", EXTRA="{extra}")"#));
        rule(&kuiper, "SELECT n FROM demo", json!({"qos": 1}));
        let all: BTreeSet<i64> = (1..=300).collect();
        let numbers = || seen(&kuiper).iter().map(|row| row["n"].as_i64().unwrap()).collect::<Vec<_>>();
        kuiper.until("fragile", "all numbers", |_| numbers().last() == Some(&300));
        let numbers = numbers();
        assert_eq!(numbers.iter().copied().collect::<BTreeSet<i64>>(), all, "thread: {thread}");
        assert!(numbers.len() <= 310, "{} rows, where it went on from its position", numbers.len());
        assert!(kuiper.log().contains("the source stopped: plugin unruly: its process was ended by SIGSEGV"));
        kuiper.until("fragile", "an account that is balanced", |status| {
            status["ledger"]["in"] == status["ledger"]["out"]
        });
        goes_on(&kuiper);
    }
}

#[test]
fn an_aggregate_goes_on_after_its_process_has_ended() {
    let kuiper = server("");
    let rows: Vec<Json> = (0..1000)
        .map(|n| match n {
            500 => json!({"v": once(&kuiper, "segfault")}),
            n => json!({ "v": n }),
        })
        .collect();
    let extra = json!({"data": rows, "interval": "1ms", "loop": false}).to_string().replace('"', "\\\"");
    kuiper.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{extra}")"#));
    rule(&kuiper, "SELECT unrulySum(v) AS s, count(*) AS c FROM demo GROUP BY COUNTWINDOW(1000)", json!({}));
    let status = kuiper.until("fragile", "the window", |status| status["ledger"]["out"] == 1000);
    assert_eq!(seen(&kuiper), [json!({"s": 999 * 500 - 500, "c": 1000})], "{status:#}");
    assert_eq!(process(&kuiper, "functions")["deaths"], 1);
    goes_on(&kuiper);
}

#[test]
fn a_flood_of_lines_is_cut_and_counted() {
    // A flood may take a while where the machine is busy, and is none of those calls that take too long.
    let kuiper = server("");
    let begun = std::time::Instant::now();
    stream(&kuiper, &json!([{"t": "flood"}, {"t": "print"}, {"t": "b"}]));
    rule(&kuiper, "SELECT unruly(t) AS t FROM demo", json!({}));
    kuiper.until("fragile", "all rows", |status| status["ledger"]["out"] == 3);
    wait_for("the account of lines", || {
        let log = kuiper.log();
        let dropped =
            |line: &str| line.split(" lines of its log were dropped").next()?.rsplit(' ').next()?.parse::<usize>().ok();
        let dropped: usize = log.lines().filter(|line| line.contains("lines of its log")).filter_map(dropped).sum();
        let written = log.matches("line of the flood").count();
        dropped + written == 40_000
    });
    // In any second so many, and one warning.
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let log = kuiper.log();
    let (written, told) =
        (log.matches("line of the flood").count(), log.matches("lines of its log were dropped").count());
    assert!(written <= 50 * seconds && (1..=seconds).contains(&told), "{written} and {told} in {seconds} s: {log}");
    goes_on(&kuiper);
}

#[test]
fn a_shared_function_that_hangs_holds_up_those_who_call_it_and_nobody_else() {
    let kuiper = server_with("1m", "");
    stream(&kuiper, &json!([{"t": "a"}, {"t": "loop"}]));
    let ids = ["one", "two", "three", "four"];
    for id in ids {
        kuiper.rule(id, "SELECT unrulyShared(t) AS t FROM demo", json!({"nop": {}}));
    }
    for id in ids {
        kuiper.until(id, "the row that hangs", |status| status["ledger"]["in"].as_i64() > Some(0));
        goes_on(&kuiper);
    }
    // All that was while the first call hung.
    assert_eq!(process(&kuiper, "functions")["deaths"], 0);
}

#[test]
fn a_process_is_limited_and_has_no_more_of_the_environment_than_is_said() {
    let kuiper = server("    files: 99\n    environment: [PATH]\n");
    let process = process(&kuiper, "functions");
    let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process["id"])).unwrap();
    let limits = of("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(str::to_owned).take(2).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max address space"), ["1073741824", "1073741824"]);
    assert_eq!(limit("Max open files"), ["99", "99"]);
    assert_eq!(limit("Max file size"), ["1073741824", "1073741824"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert!(of("status").contains("NoNewPrivs:\t1"));
    let environment = of("environ");
    let names: Vec<&str> = environment.split('\0').filter_map(|one| Some(one.split_once('=')?.0)).collect();
    assert_eq!(names, ["MALLOC_ARENA_MAX", "PATH"]);
}

#[test]
fn a_process_that_someone_kills_is_started_again_and_ends_with_the_server() {
    let mut kuiper = server("");
    let first = process(&kuiper, "functions")["id"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    let mut next = Json::Null;
    wait_for("the next process", || {
        next = process(&kuiper, "functions");
        next["id"].as_u64().is_some_and(|id| id != first)
    });
    assert_eq!(next["lastDeath"], "plugin unruly: its process was ended by SIGKILL");
    let steady = kuiper.count("steady", "out");
    kuiper.until("steady", "rows through the new one", |status| status["ledger"]["out"].as_i64() > Some(steady + 20));
    kuiper.kill();
    let path = format!("/proc/{}/cmdline", next["id"]);
    wait_for("its end", || !fs::read_to_string(&path).is_ok_and(|line| line.contains("plugin-host")));
}

#[test]
fn a_plugin_is_isolated_when_its_installation_says_so_and_not_by_default() {
    let kuiper = Kuiper::start(|_| {});
    let zip = kuiper.folder.path().join("unruly.zip");
    let mut writer = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    writer.start_file("Unruly@v1.0.0.so", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut writer, &fs::read(unruly()).unwrap()).unwrap();
    writer.finish().unwrap();
    let upload = kuiper.folder.path().join("data/uploads/unruly.zip");
    fs::create_dir_all(upload.parent().unwrap()).unwrap();
    fs::copy(&zip, &upload).unwrap();
    let described =
        |kuiper: &Kuiper| serde_json::from_str::<Json>(&kuiper.ask("GET", "/plugins/functions/unruly", "")).unwrap();
    let file = format!("file://{}", upload.display());

    kuiper.ask("POST", "/plugins/functions", &json!({"name": "unruly", "file": file}).to_string());
    assert_eq!((&described(&kuiper)["isolation"], &described(&kuiper)["process"]), (&json!("none"), &Json::Null));
    let path = "/plugins/functions/unruly";
    let told = kuiper.refused("PUT", path, &json!({"file": file, "isolation": "jail"}).to_string());
    assert!(told.contains("`isolation` is `jail`, expected `process` or `none`"), "{told}");
    kuiper.ask("PUT", path, &json!({"file": file, "isolation": "process"}).to_string());
    let found = described(&kuiper);
    assert_eq!(found["isolation"], "process");
    assert!(found["process"]["id"].as_u64().is_some(), "{found:#}");
    let symbol = found["symbols"].as_array().unwrap().iter().find(|symbol| symbol["name"] == "unruly").unwrap();
    assert_eq!((&symbol["signature"], &symbol["about"]), (&json!("(any) -> any"), &json!("Does as it is told.")));
    // It is remembered, also over a restart.
    let mut kuiper = kuiper;
    kuiper.kill();
    kuiper.again();
    assert_eq!(described(&kuiper)["isolation"], "process");
    let id = described(&kuiper)["process"]["id"].to_string();
    kuiper.ask("DELETE", path, "");
    wait_for("the end of its process", || !Path::new("/proc").join(&id).join("exe").exists());

    // Each of these is one line of the log, also what was refused.
    let secret = "https://me:secret@127.0.0.1:1/unruly.zip";
    kuiper.refused("POST", "/plugins/functions", &json!({"name": "unruly", "file": secret}).to_string());
    kuiper.refused("DELETE", path, "");
    let log = kuiper.log();
    let told = |level: &str, what: &str| {
        let lines = log.lines().filter(|line| line.contains(what) && line.contains("unruly"));
        assert_eq!(lines.filter(|line| line.contains(level)).count(), 1, "{what}: {log}");
    };
    told("INFO", &format!("plugin installed: 1.0.0 from {file}"));
    told(
        "WARN",
        &format!("plugin not replaced from {file}: functions plugin unruly update command error: `isolation` is"),
    );
    told("INFO", &format!("plugin replaced: 1.0.0 from {file}"));
    told("INFO", "plugin deleted: 1.0.0");
    told("WARN", "plugin not installed from https://127.0.0.1:1/unruly.zip: ");
    told("WARN", "plugin not deleted: ");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn the_command_of_the_process_is_shown_nowhere_and_refuses_to_run_by_hand() {
    let kuiper = || Command::new(env!("CARGO_BIN_EXE_kuiper"));
    let help = kuiper().arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("plugin-host"));
    let alone = kuiper().args(["plugin-host", "x"]).stdin(std::process::Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && told.contains("this command is started by `kuiper serve`"), "{told}");
}
