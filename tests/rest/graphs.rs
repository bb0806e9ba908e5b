//! Rules made of a graph, as clients see them.

use serde_json::{Value as Json, json};

use super::world::{SOURCE, STREAM, World, eventually};

/// Rows above 1 go to a file, those above 2 to a second sink too, all are counted.
fn rule(path: &str, qos: u8) -> Json {
    json!({
        "id": "g",
        "options": {"qos": qos},
        "graph": {
            "nodes": {
                "in": {"type": "source", "nodeType": "simulator", "props": {"sourceType": "stream", "sourceName": "sim"}, "ui": {"x": 1}},
                "by": {"type": "operator", "nodeType": "switch", "props": {"cases": ["a > 1", "a > 2"]}},
                "twice": {"type": "operator", "nodeType": "pick", "props": {"fields": ["a * 2 AS b"]}},
                "some": {"type": "sink", "nodeType": "file", "props": {"path": path, "sendSingle": true}},
                "few": {"type": "sink", "nodeType": "nop", "props": {}},
                "all": {"type": "sink", "nodeType": "nop"}
            },
            "topo": {"sources": ["in"], "edges": {"in": ["by", "all"], "by": [["twice"], ["few"]], "twice": ["some"]}}
        }
    })
}

#[tokio::test]
async fn rows_go_the_ways_that_the_edges_lead() {
    for qos in [0, 1, 2] {
        let w = World::new().await;
        let file = w.home.path().join("out.jsonl");
        let text = rule(&file.display().to_string(), qos).to_string();
        w.follow(&[
            ("PUT /metadata/sources/simulator/confKeys/three", SOURCE, 200, ""),
            ("POST /streams", STREAM, 201, "Stream sim is created."),
            ("POST /rules/validate", &text, 200, "{\"sources\":[\"sim\"],\"valid\":true…"),
            ("POST /rules", &text, 201, "Rule g was created successfully."),
        ])
        .await;
        eventually("the end of the input", || w.server.rules.status("g").unwrap().message == "done").await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"b\":4}\n{\"b\":6}\n", "qos {qos}");
        let status = w.json("/rules/g/status").await;
        assert_eq!((&status["ledger"]["in"], &status["ledger"]["out"]), (&json!(3), &json!(3)), "{status:#}");
        let results = ["file_0", "nop_1", "nop_2"].map(|sink| status["sinks"][sink]["results"].clone());
        assert_eq!(results, [json!(2), json!(1), json!(3)], "{status:#}");
        assert_eq!(w.json("/rules/g").await["graph"]["nodes"]["in"]["ui"]["x"], 1);
        let topo = w.json("/rules/g/topo").await;
        assert_eq!(topo["sources"], json!(["source_sim"]));
        let explained = w.ask("GET", "/rules/g/explain", "").await;
        assert_eq!(explained.status, 200);
        assert!(explained.body.starts_with("{\"op\":\"GraphPlan_0\",\"info\":\"Paths:[ "), "{}", explained.body);
        assert!(explained.body.contains("SELECT a * 2 AS `b` FROM `sim`"), "{}", explained.body);
    }
}

#[tokio::test]
async fn graphs_that_cannot_be_are_refused() {
    let w = World::new().await;
    w.follow(&[
        ("PUT /metadata/sources/simulator/confKeys/three", SOURCE, 200, ""),
        ("POST /streams", STREAM, 201, "Stream sim is created."),
    ])
    .await;
    let base = rule("/tmp/never", 0);
    let changed = |change: &dyn Fn(&mut Json)| {
        let mut rule = base.clone();
        change(&mut rule);
        rule.to_string()
    };
    for (text, why) in [
        (
            changed(&|rule| rule["sql"] = json!("SELECT a FROM sim")),
            "invalid rule json: Rule g has both sql and graph.",
        ),
        (changed(&|rule| rule["graph"] = Json::Null), "invalid rule json: Rule g has neither sql nor graph."),
        (
            changed(&|rule| rule["actions"] = json!([{"log": {}}])),
            "invalid rule json: Rule g has actions beside a graph, whose sinks are nodes of it.",
        ),
        (
            changed(&|rule| rule["graph"]["nodes"]["by"]["nodeType"] = json!("swich")),
            "invalid rule json: Rule g has an invalid graph: node `by`: there is no operator `swich` (did you mean `switch`?)",
        ),
        (
            changed(&|rule| rule["graph"]["nodes"]["in"]["props"]["sourceName"] = json!("sin")),
            "fail to get stream sin, please check if stream is created",
        ),
        (
            changed(&|rule| rule["graph"]["nodes"]["in"]["nodeType"] = json!("mqtt")),
            "error[K0922]: source `sim` is of type `simulator`, and the graph says `mqtt`",
        ),
        (changed(&|rule| rule["graph"]["nodes"]["few"]["nodeType"] = json!("nop2")), "sink nop2 is not defined"),
        (
            changed(&|rule| rule["graph"]["nodes"]["some"]["props"]["pth"] = json!("x")),
            "error[K0620]: the `file` sink has no property `pth`\n  did you mean `path`?",
        ),
        (
            changed(&|rule| rule["graph"]["nodes"]["twice"]["props"]["fields"] = json!(["b + 1"])),
            "error[K0214]: node `twice` (pick): stream `sim` has no column `b`",
        ),
    ] {
        let reply = w.ask("POST", "/rules", &text).await;
        let told: Json = serde_json::from_str(&reply.body).unwrap();
        let told = told["message"].as_str().unwrap();
        assert!(reply.status == 400 && told.starts_with(why), "{} {told}\n  not {why}", reply.status);
    }
    // A stream that a graph reads is not dropped while the rule runs, and its own sources are defined by it.
    let own = json!({
        "id": "own", "graph": {
            "nodes": {
                "mem": {"type": "source", "nodeType": "memory", "props": {"datasource": "a/b"}},
                "out": {"type": "sink", "nodeType": "nop"}
            },
            "topo": {"sources": ["mem"], "edges": {"mem": ["out"]}}
        }
    });
    w.follow(&[("POST /rules", &own.to_string(), 201, "Rule own was created successfully.")]).await;
    eventually("the rule runs", || w.server.rules.status("own").unwrap().state.name() == "running").await;
    assert_eq!(w.json("/streams").await, json!(["sim"]));
}
