//! What Prometheus is told, held against the status of the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kuiper::config::Settings;
use serde_json::{Value as Json, json};

use super::world::{PATIENCE, Reply, World, eventually};

const PUMP: &str = r#"{"sql": "CREATE STREAM pump (a BIGINT) WITH (TYPE=\"simulator\", FORMAT=\"json\", EXTRA=\"{\\\"data\\\":[{\\\"a\\\":1},{\\\"a\\\":0},{\\\"a\\\":2},{\\\"a\\\":9}],\\\"interval\\\":0,\\\"loop\\\":false}\")"}"#;
const QUIET: &str =
    r#"{"sql": "CREATE STREAM quiet () WITH (TYPE=\"memory\", DATASOURCE=\"quiet\", FORMAT=\"json\")"}"#;
const IDS: [&str; 4] = ["feed", "keeps", "mixed", "waits"];

/// The REST interface tells them too.
fn on(settings: &mut Settings) {
    settings.metrics = Some(settings.listen.port());
}

/// The samples, by name and labels as they are written. What is not in the format is a failure.
fn samples(reply: &Reply) -> BTreeMap<String, f64> {
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(reply.body.ends_with('\n'));
    let (mut all, mut names) = (BTreeMap::new(), BTreeSet::new());
    let (mut helped, mut typed) = ("", "");
    for line in reply.body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').unwrap().0;
            assert!(names.insert(helped), "{helped} stands in two places");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(name == helped && ["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            typed = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let labels = series.strip_prefix(typed).unwrap_or_else(|| panic!("{line} stands under {typed}"));
        assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
        assert!(all.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is there twice");
    }
    all
}

/// What the status of a rule says, as it must be scraped.
fn told(id: &str, status: &Json) -> BTreeMap<String, f64> {
    const OF_NODES: [&str; 7] = [
        "records_in_total",
        "records_out_total",
        "messages_processed_total",
        "exceptions_total",
        "process_latency_us",
        "buffer_length",
        "connection_status",
    ];
    let mut all = BTreeMap::new();
    let mut put = |series: String, value: &Json| {
        let before = all.insert(series, value.as_f64().unwrap());
        assert_eq!(before, None);
    };
    for (key, value) in status.as_object().unwrap() {
        let Some((node, metric)) = key.split_once("_0_").map(|_| key.rsplit_once("_0_").unwrap()) else { continue };
        let (kind, op) = node.split_once('_').unwrap();
        if OF_NODES.contains(&metric) {
            let labels = format!(r#"{{rule="{id}",type="{kind}",op="{op}",op_instance="0"}}"#);
            put(format!("kuiper_{kind}_{metric}{labels}"), value);
        }
    }
    let state = match status["status"].as_str().unwrap() {
        "running" => 1,
        "stopped" => 0,
        other => panic!("{other}"),
    };
    put(format!(r#"kuiper_rule_status{{rule="{id}"}}"#), &state.into());
    let mut account = |of: &Json, labels: String, [first, total, kept]: [&str; 3], [came, waits]: [&str; 2]| {
        for (term, value) in of.as_object().unwrap() {
            match value {
                Json::Object(reasons) => reasons.iter().for_each(|(reason, rows)| {
                    put(format!(r#"{total}{{{labels},fate="{term}",reason="{reason}"}}"#), rows);
                }),
                rows if term == came => put(format!("{first}{{{labels}}}"), rows),
                rows if term == waits => put(format!("{kept}{{{labels}}}"), rows),
                rows => put(format!(r#"{total}{{{labels},fate="{term}",reason=""}}"#), rows),
            }
        }
    };
    let names = ["kuiper_rule_rows_in_total", "kuiper_rule_rows_total", "kuiper_rule_rows_held"];
    account(&status["ledger"], format!(r#"rule="{id}""#), names, ["in", "held"]);
    for (sink, of) in status["sinks"].as_object().unwrap() {
        let names = ["kuiper_sink_rows_in_total", "kuiper_sink_rows_total", "kuiper_sink_rows_queued"];
        account(of, format!(r#"rule="{id}",op="{sink}""#), names, ["results", "queued"]);
    }
    all
}

fn rule(id: &str, sql: &str, action: Json) -> String {
    json!({"id": id, "sql": sql, "actions": [action]}).to_string()
}

/// The connection that nobody answers is tried again and again, so that what is told of it changes by itself.
fn is_still(series: &str) -> bool {
    !series.contains(r#"op="mqtt_0",op_instance"#)
}

/// What the status of all rules says.
async fn statuses(w: &World) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for id in IDS {
        all.extend(told(id, &w.json(&format!("/rules/{id}/status")).await));
    }
    all.retain(|series, _| is_still(series));
    all
}

/// What is scraped is what the status says, rule by rule, and nothing more, once it says the same before and after: a
/// rule that has just begun may be connecting still, and one that is done, ending.
async fn compare(w: &World) -> BTreeMap<String, f64> {
    let begun = Instant::now();
    let mut before = statuses(w).await;
    loop {
        let all = samples(&w.ask("GET", "/metrics", "").await);
        let after = statuses(w).await;
        if before == after {
            let mut of_rules = all.clone();
            of_rules.retain(|series, _| series.contains("rule=\"") && is_still(series));
            assert_eq!(of_rules, after);
            return all;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come to rest: {before:#?} {after:#?}");
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scraped_is_what_the_status_says_and_the_ledger_goes_on_after_a_restart() {
    let w = World::with(tempfile::tempdir().unwrap(), on).await;
    let away = json!({"mqtt": {"server": "tcp://127.0.0.1:1", "topic": "t", "sendSingle": true, "enableCache": true}});
    let created = |id: &str| format!("Rule {id} was created successfully.");
    w.follow(&[
        ("POST /streams", PUMP, 201, "Stream pump is created."),
        ("POST /streams", QUIET, 201, "Stream quiet is created."),
        (
            "POST /rules",
            &rule("keeps", "SELECT count(*) FROM quiet GROUP BY COUNTWINDOW(100)", json!({"nop": {}})),
            201,
            &created("keeps"),
        ),
        (
            "POST /rules",
            &rule("feed", "SELECT a FROM pump", json!({"memory": {"topic": "quiet"}})),
            201,
            &created("feed"),
        ),
        ("POST /rules", &rule("waits", "SELECT a FROM pump", away), 201, &created("waits")),
        (
            "POST /rules",
            &rule("mixed", "SELECT 8 / a AS b FROM pump WHERE a < 5", json!({"nop": {}})),
            201,
            &created("mixed"),
        ),
    ])
    .await;
    let status = |w: &World, id: &str| w.server.rules.status(id).unwrap();
    eventually("four rows are held", || status(&w, "keeps").run.ledger.held == 4).await;
    eventually("four rows lie in the queue", || status(&w, "waits").run.sinks.iter().any(|(_, s)| s.queued == 4)).await;
    eventually("the rules are done", || ["feed", "mixed"].iter().all(|id| status(&w, id).message == "done")).await;
    let all = compare(&w).await;
    for (series, value) in [
        (r#"kuiper_rule_rows_in_total{rule="mixed"}"#, 4.0),
        (r#"kuiper_rule_rows_total{rule="mixed",fate="out",reason=""}"#, 2.0),
        (r#"kuiper_rule_rows_total{rule="mixed",fate="filtered",reason=""}"#, 1.0),
        (r#"kuiper_rule_rows_total{rule="mixed",fate="dead",reason="eval"}"#, 1.0),
        (r#"kuiper_rule_rows_held{rule="keeps"}"#, 4.0),
        (r#"kuiper_sink_rows_queued{rule="waits",op="mqtt_0"}"#, 4.0),
        // Rows are counted, however many came at once.
        (r#"kuiper_source_messages_processed_total{rule="mixed",type="source",op="pump",op_instance="0"}"#, 4.0),
        (r#"kuiper_rule_status{rule="keeps"}"#, 1.0),
    ] {
        assert_eq!(all.get(series), Some(&value), "{series}");
    }
    let count = |status: &str| all[&format!(r#"kuiper_rule_count{{status="{status}"}}"#)];
    assert_eq!(count("running") + count("stop"), 4.0);
    for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"] {
        assert!(all[&format!("process_{name}")] > 0.0, "{name}");
    }

    w.follow(&[("POST /rules/waits/stop", "", 200, "Rule waits was stopped.")]).await;
    let w = w.restarted_with(on).await;
    eventually("the rule runs", || status(&w, "keeps").state.name() == "running").await;
    let all = compare(&w).await;
    for (series, value) in [
        (r#"kuiper_rule_rows_total{rule="mixed",fate="dead",reason="eval"}"#, 1.0),
        (r#"kuiper_rule_rows_in_total{rule="keeps"}"#, 4.0),
        (r#"kuiper_rule_rows_total{rule="keeps",fate="dropped",reason="stop"}"#, 4.0),
        (r#"kuiper_sink_rows_total{rule="mixed",op="nop_0",fate="delivered",reason=""}"#, 2.0),
        (r#"kuiper_sink_rows_queued{rule="waits",op="mqtt_0"}"#, 4.0),
    ] {
        assert_eq!(all.get(series), Some(&value), "{series}");
    }
    // What is counted from now on comes to it.
    w.follow(&[("POST /rules/mixed/start", "", 200, "Rule mixed was started")]).await;
    eventually("it is done again", || status(&w, "mixed").run.ledger.came == 8).await;
    eventually("it is at rest", || status(&w, "mixed").message == "done").await;
    let all = compare(&w).await;
    assert_eq!(all[r#"kuiper_rule_rows_total{rule="mixed",fate="dead",reason="eval"}"#], 2.0);

    w.follow(&[("DELETE /rules/mixed", "", 200, "Rule mixed is dropped.")]).await;
    let left = w.ask("GET", "/metrics", "").await;
    assert!(
        !left.body.contains(r#"rule="mixed""#) && samples(&left).contains_key(r#"kuiper_rule_status{rule="keeps"}"#)
    );
}

#[tokio::test]
async fn the_rest_interface_tells_metrics_only_where_it_is_to() {
    let w = World::new().await;
    w.follow(&[
        ("GET /metrics", "", 404, "404 page not found\n"),
        ("POST /metrics", "", 404, "404 page not found\n"),
        ("GET /metrics/dump/check", "", 200, "disabled"),
        ("GET /metrics/dump", "", 400, "{\"error\":1000,\"message\":\"metrics dump not enabled\"}\n"),
    ])
    .await;
    let w = w.restarted_with(on).await;
    w.follow(&[("POST /metrics", "", 405, ""), ("GET /metrics/", "", 404, "404 page not found\n")]).await;
    let all = samples(&w.ask("GET", "/metrics", "").await);
    assert_eq!(all[r#"kuiper_rule_count{status="running"}"#], 0.0);
}
