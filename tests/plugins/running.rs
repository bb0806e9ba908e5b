//! Rules of the real server that use all kinds of plugins, also over a crash.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

use super::kuiper_served::{Kuiper, wait_for};
use super::made::{kinds, ours};

/// Copied there by hand, plugins are loaded when the server starts.
fn with_plugins(data: &Path) {
    let names: [(&str, &[&str]); 3] =
        [("sources", &["Steps", "Counted", "Rooms"]), ("sinks", &["Lines", "Told"]), ("functions", &["Kinds"])];
    for (kind, names) in names {
        let folder = data.join("plugins").join(kind);
        fs::create_dir_all(&folder).unwrap();
        for name in names {
            fs::copy(kinds(), folder.join(format!("{name}@v1.0.0.so"))).unwrap();
        }
    }
}

/// The same, each in a process of its own.
fn with_isolated(data: &Path) {
    with_plugins(data);
    let config = data.parent().unwrap().join("config");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("kuiper.yaml"), "plugins:\n  isolation: process\n").unwrap();
}

/// A server with the plugins in its own process, and one with each in another.
fn servers() -> [Kuiper; 2] {
    [Kuiper::start(with_plugins), Kuiper::start(with_isolated)]
}

/// The process of a plugin, while it runs.
fn process(kuiper: &Kuiper, kind: &str, name: &str) -> Option<u64> {
    let described: Json = serde_json::from_str(&kuiper.ask("GET", &format!("/plugins/{kind}/{name}"), "")).unwrap();
    described["process"]["id"].as_u64()
}

/// A stream or table with properties of its connector.
fn with(what: &str, options: &str, extra: &Json) -> String {
    let extra = extra.to_string().replace('"', "\\\"");
    format!(r#"CREATE {what} () WITH ({options}, FORMAT="json", EXTRA="{extra}")"#)
}

/// A stream that gives these rows once, and then waits.
fn rows(rows: &Json) -> String {
    with("STREAM demo", r#"TYPE="simulator""#, &json!({"data": rows, "interval": "20ms", "loop": false}))
}

/// What stands in a file that is being written: its lines, of which the last may not be whole yet and is left out then.
fn text(path: &Path) -> String {
    let mut text = fs::read_to_string(path).unwrap_or_default();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

#[test]
fn rows_are_joined_with_what_a_plugin_finds() {
    for kuiper in servers() {
        let log = kuiper.folder.path().join("asked");
        kuiper.stream(&rows(&json!([{"id": 2}, {"id": 3}, {"id": 4}, {"id": 2}, {"id": 13}, {"id": 6}])));
        let table = json!({"word": "hall", "log": log, "lookup": {"cache": true, "cacheMissingKey": true}});
        let create = with("TABLE rooms", r#"TYPE="rooms", KIND="lookup", DATASOURCE="house", KEY="id""#, &table);
        kuiper.ask("POST", "/tables", &json!({ "sql": create }).to_string());
        let file = json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}});
        let sql = "SELECT demo.id, rooms.name FROM demo LEFT JOIN rooms ON demo.id = rooms.id";
        kuiper.rule("joined", sql, file);
        let status = kuiper.until("joined", "all rows", |status| {
            let ledger = &status["ledger"];
            ledger["out"].as_i64().unwrap() + ledger["dead"].as_object().map_or(0, |dead| dead.len() as i64) == 6
        });
        wait_for("the rows", || text(&kuiper.folder.path().join("seen")).lines().count() == 6);
        assert_eq!(
            text(&kuiper.folder.path().join("seen")),
            "{\"id\":2,\"name\":\"hall 2\"}\n{\"id\":3}\n{\"id\":4,\"name\":\"hall 4\"}\n{\"id\":4,\"name\":\"hall 5\"}\n\
             {\"id\":2,\"name\":\"hall 2\"}\n{\"id\":6,\"name\":\"hall 6\"}\n",
            "{status:#}"
        );
        // The second 2 was known. The table is asked for what is read of it.
        let asked: Vec<String> = text(&log).lines().map(str::to_owned).collect();
        assert!(asked.iter().all(|line| line == "name,id of id: 1"), "{asked:?}");
        assert_eq!(asked.len(), 5);

        let wrong = with("TABLE wrong", r#"TYPE="rooms", KIND="lookup""#, &json!({"wrod": "x"}));
        let told = kuiper.refused("POST", "/tables", &json!({ "sql": wrong }).to_string());
        assert!(told.contains("`rooms`: property `wrod` is not known; did you mean `word`?"), "{told}");
        let none = with("TABLE none", r#"TYPE="steps", KIND="lookup""#, &json!({}));
        let told = kuiper.refused("POST", "/tables", &json!({ "sql": none }).to_string());
        assert!(told.contains("types of lookup tables: memory, rooms"), "{told}");
    }
}

/// A rule that keeps numbers, counts and middles exactly, though the server is killed, and a process of the source.
fn exactly_once(mut kuiper: Kuiper) {
    const COUNT: usize = 6_000;
    kuiper.stream(&with("STREAM steps", r#"TYPE="steps""#, &json!({"count": COUNT, "batch": 10})));
    let (seen, middles) = (kuiper.folder.path().join("seen"), kuiper.folder.path().join("middles"));
    let rule = |id: &str, sql: &str, path: &Path, prefix: &str| {
        let rule = json!({
            "id": id, "sql": sql, "actions": [{"lines": {"path": path, "sendSingle": true, "prefix": prefix}}],
            "options": {"qos": 2, "checkpointInterval": "50ms"},
        });
        kuiper.ask("POST", "/rules", &rule.to_string());
    };
    let visits = "SELECT n, visits('all') AS v, CASE WHEN n % 2 = 0 THEN visits('even') END AS e FROM steps";
    rule("kept", visits, &seen, "{{.n}}=");
    rule("grouped", "SELECT middle(n) AS m FROM steps GROUP BY COUNTWINDOW(1000)", &middles, "");
    for part in 1..4 {
        wait_for("a part of the rows", || text(&seen).lines().count() > part * COUNT / 8);
        kuiper.kill();
        kuiper.again();
        let Some(first) = process(&kuiper, "sources", "steps") else { continue };
        let begun = text(&seen).lines().count();
        wait_for("more rows", || text(&seen).lines().count() > begun);
        assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
        wait_for("the next process", || process(&kuiper, "sources", "steps").is_some_and(|next| next != first));
    }
    kuiper.until("kept", "all rows", |status| text(&seen).lines().count() >= COUNT && status["status"] == "running");
    wait_for("all windows", || text(&middles).lines().count() >= COUNT / 1000);
    let numbers = text(&seen);
    let mut lines = numbers.lines();
    for n in 0..COUNT {
        let even = if n % 2 == 0 { format!("\"e\":{},", n / 2 + 1) } else { String::new() };
        let line = lines.next().unwrap();
        assert_eq!(line, format!("{n}={{{even}\"n\":{n},\"v\":{}}}", n + 1));
    }
    assert_eq!(lines.next(), None);
    let expected: String = (0..COUNT / 1000).map(|n| format!("{{\"m\":{}}}\n", n * 1000 + 500)).collect();
    assert_eq!(text(&middles), expected);
    assert!(kuiper.log().contains("back to "), "{}", kuiper.log());
    assert!(kuiper.log().contains("resumed with "), "{}", kuiper.log());
}

#[test]
fn nothing_is_lost_or_doubled_over_crashes() {
    exactly_once(Kuiper::start(with_plugins));
}

#[test]
fn nor_is_it_where_plugins_run_in_processes_that_are_killed() {
    exactly_once(Kuiper::start(with_isolated));
}

#[test]
fn a_lookup_whose_process_is_killed_is_asked_again_and_no_row_is_lost() {
    let kuiper = Kuiper::start(with_isolated);
    let ids: Vec<Json> = (0..3_000).map(|n| json!({"id": n % 5 * 2, "n": n})).collect();
    let stream = json!({"data": ids, "interval": "1ms", "loop": false});
    kuiper.stream(&with("STREAM demo", r#"TYPE="simulator""#, &stream));
    let create = with("TABLE rooms", r#"TYPE="rooms", KIND="lookup", DATASOURCE="house", KEY="id""#, &json!({}));
    kuiper.ask("POST", "/tables", &json!({ "sql": create }).to_string());
    let seen = kuiper.folder.path().join("seen");
    let file = json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}});
    kuiper.rule("joined", "SELECT n, rooms.name FROM demo INNER JOIN rooms ON demo.id = rooms.id", file);
    for part in 1..4 {
        wait_for("some rows", || text(&seen).lines().count() > part * 300);
        let first = process(&kuiper, "sources", "rooms").unwrap();
        assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
        wait_for("the next process", || process(&kuiper, "sources", "rooms").is_some_and(|next| next != first));
    }
    let status = kuiper.until("joined", "all rows", |status| status["ledger"]["in"] == 3_000);
    kuiper.until("joined", "its end", |status| status["ledger"]["out"] == 3_000);
    assert_eq!(status["ledger"]["dead"], json!({}), "{status:#}");
    // Of the room 4 there are two.
    wait_for("the rows", || text(&seen).lines().count() == 3_600);
    let numbers = text(&seen);
    let mut numbers: Vec<i64> =
        numbers.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["n"].as_f64().unwrap() as i64).collect();
    numbers.dedup();
    assert_eq!(numbers, (0..3_000).collect::<Vec<i64>>());
}

#[test]
fn a_user_sets_the_position_of_a_source() {
    let kuiper = Kuiper::start(with_plugins);
    kuiper.stream(&with("STREAM steps", r#"TYPE="steps""#, &json!({"count": 20})));
    kuiper.stream(&rows(&json!([{"n": 1}])));
    let file = json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}});
    kuiper.rule("steps", "SELECT n FROM steps", file);
    let seen = kuiper.folder.path().join("seen");
    wait_for("the rows", || text(&seen).lines().count() == 20);
    let body = |kind: i64, stream: &str| {
        json!({"type": kind, "params": {"streamName": stream, "input": {"next": 17}}}).to_string()
    };
    assert_eq!(kuiper.ask("PUT", "/rules/steps/reset_state", &body(1, "steps")), "success");
    wait_for("the rows again", || text(&seen).lines().count() == 23);
    assert!(text(&seen).ends_with("{\"n\":19}\n{\"n\":17}\n{\"n\":18}\n{\"n\":19}\n"), "{}", text(&seen));
    assert!(kuiper.log().contains("reset to 17"), "{}", kuiper.log());
    for (rule, body, wrong) in [
        ("steps", body(2, "steps"), "unknown stateType:2"),
        ("steps", body(1, "demo"), "stream demo not found in topo"),
        ("none", body(1, "steps"), "Rule none is not found in registry"),
    ] {
        let told = kuiper.refused("PUT", &format!("/rules/{rule}/reset_state"), &body);
        assert!(told.contains(wrong), "{told}");
    }
}

#[test]
fn what_a_plugin_stores_is_there_after_a_restart_of_the_rule() {
    for kuiper in servers() {
        kuiper.stream(&with("STREAM ticks", r#"TYPE="counted""#, &json!({"interval": "10ms"})));
        let rule = json!({
            "id": "ticking",
            "sql": "SELECT n, run, visits() AS v FROM ticks",
            "actions": [{"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}],
            "options": {"qos": 1},
        });
        kuiper.ask("POST", "/rules", &rule.to_string());
        let seen = kuiper.folder.path().join("seen");
        for part in 1..4 {
            wait_for("rows", || text(&seen).lines().count() > part * 5);
            kuiper.ask("POST", "/rules/ticking/stop", "");
            kuiper.ask("POST", "/rules/ticking/start", "");
        }
        // Of the fourth run; the last line may not be whole yet.
        wait_for("rows", || text(&seen).lines().any(|line| line.contains("\"run\":4,")));
        kuiper.ask("POST", "/rules/ticking/stop", "");
        let rows: Vec<Json> = text(&seen).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_f64().unwrap() as i64).collect();
        let mut each = numbers.clone();
        each.dedup();
        let all: Vec<i64> = (1..=*numbers.last().unwrap()).collect();
        assert_eq!(each, all, "each follows the one before, though one may be given again");
        assert_eq!(rows.last().unwrap()["v"].as_i64().unwrap(), rows.len() as i64, "{rows:?}");
        assert_eq!(rows.last().unwrap()["run"].as_f64(), Some(4.0));
    }
}

#[test]
fn what_our_plugins_remember_is_there_after_a_restart() {
    let mut kuiper = Kuiper::start(|data| {
        for (kind, name, library) in [("sources", "random", "Random"), ("functions", "echo", "Echo")] {
            let folder = data.join("plugins").join(kind);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(ours(name), folder.join(format!("{library}@v1.0.0.so"))).unwrap();
        }
    });
    // Of 100 values two in 30 would be alike.
    let extra = json!({"interval": "2ms", "seed": 100, "deduplicate": -1, "pattern": {"a": 0}});
    kuiper.stream(&with("STREAM dice", r#"TYPE="random""#, &extra));
    let rule = json!({
        "id": "r",
        "sql": "SELECT a, accumulateWordCount('one', ' ') AS n FROM dice",
        "actions": [{"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}],
        "options": {"qos": 2},
    });
    kuiper.ask("POST", "/rules", &rule.to_string());
    let seen = kuiper.folder.path().join("seen");
    for part in 1..3 {
        wait_for("rows", || text(&seen).lines().count() >= part * 30);
        kuiper.kill();
        kuiper.again();
    }
    wait_for("all values", || text(&seen).lines().count() >= 100);
    let rows: Vec<Json> = text(&seen).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap() as usize).collect::<Vec<_>>();
    assert_eq!(of("n"), (1..=rows.len()).collect::<Vec<_>>());
    let mut values = of("a");
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_function_is_told_of_the_rule_and_of_the_call() {
    let kuiper = Kuiper::start(with_plugins);
    kuiper.stream(&rows(&json!([{"n": 1}, {"n": 2}])));
    let sql = "SELECT called() AS a, CASE WHEN n = 1 THEN called() END AS b, calledForAll(n) AS c, calledForAll(1) AS d \
               FROM demo WHERE isNull(called()) = false GROUP BY COUNTWINDOW(1)";
    kuiper.rule("told", sql, json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}));
    let seen = kuiper.folder.path().join("seen");
    wait_for("the rows", || text(&seen).lines().count() == 2);
    let rows: Vec<Json> = text(&seen).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut sites: Vec<u64> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(rows[0][name]["rule"], "told", "{rows:?}");
        sites.push(rows[0][name]["site"].as_u64().unwrap());
        assert!(rows[1][name].is_null() && name == "b" || rows[1][name] == rows[0][name], "{rows:?}");
    }
    // One of the five stands in WHERE.
    sites.sort_unstable();
    sites.dedup();
    assert!(sites.len() == 4 && sites[3] <= 4, "{rows:?}");
}

#[test]
fn who_stores_what_is_not_kept_is_told_once() {
    let kuiper = Kuiper::start(with_plugins);
    kuiper.stream(&rows(&json!([{"n": 1}, {"n": 2}, {"n": 3}])));
    let log = || kuiper.log();
    let warnings = |rule: &str| {
        let log = log();
        let of_rule = log.lines().filter(|line| line.contains("what it stores goes when the rule stops"));
        of_rule.filter(|line| line.contains(rule) && line.contains("forgottenVisits")).count()
    };
    for (id, function, qos, told) in
        [("careless", "forgottenVisits", 0, 0), ("careful", "visits", 1, 0), ("mistaken", "forgottenVisits", 1, 1)]
    {
        let rule = json!({
            "id": id,
            "sql": format!("SELECT {function}() AS v FROM demo"),
            "actions": [{"file": {"path": id, "fileType": "lines", "sendSingle": true}}],
            "options": {"qos": qos},
        });
        kuiper.ask("POST", "/rules", &rule.to_string());
        let seen = kuiper.folder.path().join(id);
        wait_for("the rows", || text(&seen).lines().count() == 3);
        assert_eq!(warnings(id), told, "{id}: {}", kuiper.log());
    }
}

#[test]
fn metadata_tell_of_lookups_and_functions_and_connections_are_tested() {
    let kuiper = Kuiper::start(with_plugins);
    let ask = |path: &str| -> Json { serde_json::from_str(&kuiper.ask("GET", path, "")).unwrap() };
    let names = |path: &str| -> Vec<String> {
        ask(path).as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let (scans, lookups) = (names("/metadata/sources"), names("/metadata/sources?kind=lookup"));
    assert!(scans.contains(&"steps".to_owned()) && !scans.contains(&"rooms".to_owned()), "{scans:?}");
    assert_eq!(lookups, ["memory", "rooms"]);
    for path in ["/metadata/sources/rooms", "/metadata/sources/rooms?kind=lookup"] {
        let rooms = ask(path);
        assert_eq!(rooms["about"]["description"]["en"], "Rooms by their number.", "{path}");
        let fields = rooms["properties"]["default"].as_array().unwrap();
        let word = fields.iter().find(|field| field["name"] == "word").unwrap();
        assert_eq!((&word["default"], &word["hint"]["en"]), (&json!("room"), &json!("What is said of each room.")));
    }
    let steps = ask("/metadata/sources/steps");
    let fields: Vec<&Json> =
        steps["properties"]["default"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(fields, ["count", "batch", "tokens"], "they are those of this source, not of the first in the library");
    let visits = ask("/metadata/functions/visits");
    assert_eq!(
        (&visits["signature"], &visits["aggregate"], &visits["plugin"]),
        (&json!("([text]) -> int"), &json!(false), &json!("kinds"))
    );
    assert_eq!(ask("/metadata/functions/middle")["aggregate"], true);
    let told = kuiper.refused("GET", "/metadata/functions/vists", "");
    assert!(told.contains("did you mean `visits`?"), "{told}");
    let described = ask("/plugins/sources/rooms");
    let symbols: Vec<&Json> = described["symbols"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(symbols.contains(&&json!("RoomsLookup")), "{described:#}");

    let path = kuiper.folder.path().join("seen").display().to_string();
    kuiper.ask("POST", "/metadata/sinks/connection/lines", &json!({"path": path, "sendSingle": true}).to_string());
    kuiper.ask("POST", "/metadata/lookups/connection/rooms", &json!({"KEY": "id"}).to_string());
    kuiper.ask("POST", "/metadata/sources/connection/simulator", &json!({"data": [{"n": 1}]}).to_string());
    for (path, body, wrong) in [
        ("/metadata/sinks/connection/lines", json!({"path": "/nowhere/else"}), "No such file"),
        ("/metadata/sinks/connection/lines", json!({"path": path, "prefx": "x"}), "property `prefx` is not known"),
        ("/metadata/lookups/connection/steps", json!({}), "there is no lookup table of type `steps`"),
        (
            "/metadata/sources/connection/mqtt",
            json!({"server": "tcp://127.0.0.1:9", "datasource": "t"}),
            "nothing listens there",
        ),
    ] {
        let told = kuiper.refused("POST", path, &body.to_string());
        assert!(told.contains(wrong), "{path}: {told}");
    }
}

#[test]
fn a_plugin_is_told_of_secrets_templates_paths_and_its_folder() {
    let kuiper = Kuiper::start(|data| {
        with_plugins(data);
        let config = data.parent().unwrap().join("config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("kuiper.yaml"), "secrets:\n  door: open-sesame\n").unwrap();
        let own = data.join("sinks/told");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("list.txt"), "one two\n").unwrap();
    });
    kuiper.stream(&rows(&json!([{"room": "hall", "list": [1, 2]}])));
    let seen = kuiper.folder.path().join("seen");
    kuiper.rule("told", "SELECT * FROM demo", json!({"told": {"path": seen, "sendSingle": true}}));
    wait_for("the row", || !text(&seen).is_empty());
    let told: Json = serde_json::from_str(&text(&seen)).unwrap();
    let expected = json!({
        "rule": "told", "run": 1, "instance": 0, "secret": 11, "template": "hall: [1 2]", "path": 2, "nowhere": true,
        "unknown": "there is no secret `window`; add it to `secrets` of the configuration", "kept": "one two",
    });
    assert_eq!(told, expected);
    for path in ["/rules/told", "/rules/told/status", "/plugins/sinks/told", "/metadata/sinks/told"] {
        let body = kuiper.ask("GET", path, "");
        assert!(!body.contains("sesame"), "{path}: {body}");
    }
    assert!(!kuiper.log().contains("sesame"), "{}", kuiper.log());
}
