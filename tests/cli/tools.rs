//! The commands that look at SQL: fmt, lint, doc, validate.

use super::*;

#[test]
fn fmt_prints_writes_and_checks() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let said = run_with(folder.path(), &["fmt", "-"], "-- one\nselect a,b from s where a>1 ;select  c from t");
    assert_eq!((said.status, said.out.as_str()), (0, "-- one\nSELECT a, b FROM s WHERE a > 1;\nSELECT c FROM t\n"));

    fs::write(path("a.sql"), "select a from s\n").unwrap();
    fs::write(path("b.sql"), "SELECT a FROM s\n").unwrap();
    fs::write(path("r.json"), "{ \"id\":\"r\",  \"sql\": \"select \\\"x\\\" from s\" }").unwrap();
    let said = run(folder.path(), &["fmt", "--check", "a.sql", "b.sql", "r.json"]);
    assert_eq!((said.status, said.out.as_str()), (1, "a.sql: not formatted\nr.json: not formatted\n"));
    assert_eq!(fs::read_to_string(path("a.sql")).unwrap(), "select a from s\n", "a check changes nothing");

    let said = run(folder.path(), &["fmt", "--write", "a.sql", "b.sql", "r.json"]);
    assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
    assert_eq!(fs::read_to_string(path("a.sql")).unwrap(), "SELECT a FROM s\n");
    let rule = fs::read_to_string(path("r.json")).unwrap();
    assert_eq!(rule, "{ \"id\":\"r\",  \"sql\": \"SELECT \\\"x\\\" FROM s\" }");
    assert_eq!(run(folder.path(), &["fmt", "--check", "a.sql", "b.sql", "r.json"]).status, 0);

    let said = run_with(folder.path(), &["fmt", "-"], "select a -- why\nfrom s");
    assert_eq!((said.status, said.out.as_str()), (0, "select a -- why\nfrom s\n"));
    assert!(said.err.contains("a comment stands in it"), "{}", said.err);

    fs::write(path("bad.sql"), "select a from s;\nselect from s\n").unwrap();
    let said = run(folder.path(), &["fmt", "--write", "bad.sql"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(said.err.contains("bad.sql:2:8"), "{}", said.err);
    for (args, word) in [
        (&["fmt", "missing.sql"][..], "missing.sql"),
        (&["fmt", "case.yaml"], "case.yaml"),
        (&["fmt", "--write", "-"], "--write"),
        (&["fmt", "--write", "--check", "a.sql"], "--check"),
        (&["fmt"], "FILE"),
    ] {
        let said = run(folder.path(), args);
        assert_eq!(said.status, 2, "{args:?}");
        assert!(said.err.contains(word), "{args:?}: {}", said.err);
    }
}

#[test]
fn doc_functions_prints_the_table() {
    let folder = TempDir::new().unwrap();
    let said = run(folder.path(), &["doc", "functions"]);
    assert_eq!(said.status, 0, "{}", said.err);
    for part in [
        "aggregate\n",
        "\n  upper(text) -> text\n",
        "\n      upper(\"ok-1\") = \"OK-1\"\n",
        "  tumblingwindow(unit, length)\n",
    ] {
        assert!(said.out.contains(part), "{part}");
    }
    let said = run(folder.path(), &["doc", "functions", "UPPER"]);
    assert_eq!((said.status, said.out.lines().next()), (0, Some("text")));
    let said = run(folder.path(), &["doc", "functions", "hash", "--json"]);
    let rows: Vec<Json> = serde_json::from_str(&said.out).unwrap();
    assert!(
        rows.len() >= 6 && rows.iter().all(|row| row["family"] == "hash" && row["examples"][1]["result"].is_string())
    );
    let said = run(folder.path(), &["doc", "functions", "uper"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(said.err.contains("did you mean `upper`?"), "{}", said.err);
    assert_eq!(run(folder.path(), &["doc"]).status, 2);
}

#[test]
fn lint_finds_what_is_most_likely_not_meant() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let stream = "CREATE STREAM pump (id STRING, celsius FLOAT) WITH (DATASOURCE=\"x\")";
    write("a.sql", &format!("{stream};\nSELECT id, celsius / 0 AS q\nFROM pump\nWHERE id = NULL;\n"));
    let said = run(folder.path(), &["lint", "a.sql"]);
    assert_eq!(said.status, 0, "{}", said.err);
    for part in ["warning[K0303]", "a.sql:2:22", "warning[K0304]", "a.sql:4:7", "^^^^^^^^^ write `id IS NULL`"] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    assert_eq!(run(folder.path(), &["lint", "--check", "a.sql"]).status, 1);

    // Streams and rows from the case beside the rule.
    let case = "name: r\nstreams:\n  - 'CREATE STREAM pump () WITH (DATASOURCE=\"x\")'\nsql: SELECT celcius FROM pump\nstart: 1\n\
                input:\n  - {stream: pump, at: 2, data: {celsius: 1.5}}\nadvance: 3\noutput: []\n";
    write("r.case.yaml", case);
    write("r.json", r#"{"id": "r", "sql": "SELECT celcius FROM pump", "actions": [{"log": {}}]}"#);
    for file in ["r.json", "r.case.yaml"] {
        let said = run(folder.path(), &["lint", "--check", file, "--json"]);
        let found: Vec<Json> = serde_json::from_str(&said.out).unwrap();
        assert_eq!((said.status, found.len()), (1, 1), "{}", said.out);
        assert_eq!((&found[0]["code"], &found[0]["column"]), (&"K0302".into(), &8.into()));
        assert_eq!(found[0]["help"], "did you mean `celsius`?");
    }

    // Streams from the command line and from a file beside; rows from a sample.
    write("streams.sql", stream);
    write("b.sql", "SELECT celcius FROM pump");
    let said = run(folder.path(), &["lint", "b.sql"]);
    assert_eq!(said.status, 1);
    assert!(said.out.contains("error[K0214]") && said.out.contains("did you mean `celsius`?"), "{}", said.out);
    write("rows.jsonl", "{\"v\": 1}\n[{\"w\": 2}]\n");
    let sample = ["lint", "-", "--sample", "rows.jsonl"];
    let said = run_with(folder.path(), &sample, "SELECT v, w, x FROM other");
    assert!(said.out.contains("none of the 2 known rows has a column `x`"), "{}", said.out);
    let given = ["lint", "--check", "-", "--stream", "CREATE STREAM s (v BIGINT) WITH ()"];
    assert_eq!(run_with(folder.path(), &given, "SELECT v FROM s").status, 0);
    assert_eq!(run_with(folder.path(), &given, "SELECT w FROM s").status, 1);
    assert_eq!(run_with(folder.path(), &given, "SELECT w FROM s WHERE").status, 1);
    // Definitions are checked as a server checks them, in a file, beside one and in a case.
    write("streams.sql", "CREATE STREAM t () WITH (FORMAT=\"jsn\");\nCREATE TABLE u () WITH (KIND=\"look\")");
    write("c.case.yaml", &case.replace("DATASOURCE=\"x\"", "FORMAT=\"protobuf\""));
    for (file, parts) in [
        ("streams.sql", &["error[K0601]: there is no format `jsn`", "streams.sql:1:33", "error[K0805]"][..]),
        ("b.sql", &["streams.sql:1:33", "^^^^^ did you mean `json`?"]),
        ("c.case.yaml", &["this kuiper has no format `protobuf`; it has `json`, `delimited`, `binary`, `urlencoded`"]),
    ] {
        let said = run(folder.path(), &["lint", file]);
        assert_eq!(said.status, 1, "{file}: {}", said.out);
        parts.iter().for_each(|part| assert!(said.out.contains(part), "{part} in {}", said.out));
    }
    for args in [&["lint"][..], &["lint", "missing.sql"], &["lint", "-", "--stream", "SELECT"]] {
        assert_eq!(run_with(folder.path(), args, "SELECT v FROM s").status, 2, "{args:?}");
    }
}

#[test]
fn validate_warns_of_what_is_most_likely_not_meant() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    server.write("rule.json", r#"{"id": "x", "sql": "SELECT v / 0 AS w FROM sim", "actions": [{"nop": {}}]}"#);
    let said = server.ask(&["rule", "validate", "-f", "rule.json"]);
    let told = "warning[K0303]: the divisor `0` is always zero, and every row fails with it\n --> sql:1:12\n  |\n\
        1 | SELECT v / 0 AS w FROM sim\n  |            ^ a zero divisor is an error, of floats too\n";
    assert_eq!((said.status, said.err.as_str()), (0, told));
    assert!(said.out.starts_with("The rule has been successfully validated"), "{}", said.out);
    let said = server.ask(&["rule", "validate", "-f", "rule.json", "--check"]);
    assert_eq!((said.status, said.out.as_str(), said.err), (1, "", format!("{told}kuiper: rule `x` has a finding\n")));
    let said = server.ask(&["rule", "validate", "-f", "rule.json", "--check", "--json"]);
    let answer: Json = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, &answer["findings"][0]["code"], &answer["valid"]), (1, &"K0303".into(), &true.into()));
}

/// What refuses a rule does not hide what is suspicious in it; a misspelt window is told once.
#[test]
fn validate_warns_of_a_rule_that_is_refused_too() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    let sql = "SELECT v / 0 AS w FROM sim GROUP BY v, TUMBLINWINDOW(ss, 10)";
    server.write("rule.json", &serde_json::json!({"id": "x", "sql": sql, "actions": [{"nop": {}}]}).to_string());
    let said = server.ask(&["rule", "validate", "-f", "rule.json"]);
    assert_eq!(said.status, 1);
    for part in ["error[K0210]", "did you mean `tumblingwindow`?", "warning[K0303]: the divisor `0` is always zero"] {
        assert!(said.err.contains(part), "{part} in {}", said.err);
    }
    assert_eq!(said.err.matches("[K0").count(), 2, "{}", said.err);
}

/// What rows tell is found by the server as by `kuiper lint`, from a sample and from the case beside the rule.
#[test]
fn validate_knows_rows() {
    let server = Server::start();
    server.done(&["stream", "create", r#"CREATE STREAM pump () WITH (TYPE="memory", DATASOURCE="a")"#]);
    let rule = r#"{"id": "x", "sql": "SELECT celcius, more FROM pump", "actions": [{"nop": {}}]}"#;
    server.write("rule.json", rule);
    server.done(&["rule", "validate", "-f", "rule.json", "--check"]);

    server.write("rows.jsonl", "{\"celsius\": 1, \"more\": 2}\n");
    let with_rows = ["rule", "validate", "-f", "rule.json", "--sample", "rows.jsonl"];
    let said = server.ask(&with_rows);
    let found = "warning[K0302]: none of the 1 known rows has a column `celcius`\n --> sql:1:8\n  |\n\
        1 | SELECT celcius, more FROM pump\n  |        ^^^^^^^ did you mean `celsius`?\n";
    assert_eq!((said.status, said.err.as_str()), (0, found));
    assert_eq!(server.ask(&[&with_rows[..], &["--check"]].concat()).status, 1);

    let case = "sql: SELECT a FROM pump\ninput:\n  - {stream: other, data: {celcius: 1}}\n";
    server.write("rule.case.yaml", case);
    server.done(&["rule", "validate", "-f", "rule.json", "--check"]);
    server.write("rule.case.yaml", &case.replace("other", "pump"));
    let said = server.ask(&["rule", "validate", "-f", "rule.json", "--check"]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("none of the 1 known rows has a column `more`"), "{}", said.err);
    let said = server.ask(&["rule", "validate", "-f", "rule.json", "--sample", "missing.jsonl"]);
    assert_eq!((said.status, said.err.contains("missing.jsonl")), (2, true), "{}", said.err);
}

/// A file of many statements is looked at in one pass: at the cost of a square it would take gigabytes and hours.
#[test]
fn lint_and_fmt_take_many_statements() {
    let folder = TempDir::new().unwrap();
    let statements = 20_000;
    let bad = "SELECT a / 0 FROM s;";
    for (between, name) in [("\n", "lines.sql"), (" ", "line.sql")] {
        fs::write(folder.path().join(name), vec![bad; statements].join(between)).unwrap();
        let said = run(folder.path(), &["lint", "--check", name]);
        assert_eq!((said.status, said.out.matches("warning[K0303]").count()), (1, statements));
        let (line, column) =
            if between == "\n" { (statements, 12) } else { (1, (bad.len() + 1) * (statements - 1) + 12) };
        assert!(said.out.contains(&format!("{name}:{line}:{column}\n")), "{name}");
        let said = run(folder.path(), &["fmt", name]);
        assert_eq!(said.out.lines().count(), statements);
    }
}

/// The rules that are there to be copied are in the style that is taught, and nothing in them is suspicious.
#[test]
fn the_rules_of_the_guide_are_formatted_and_sound() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<String> = fs::read_dir(&rules)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".json"))
        .collect();
    files.sort();
    assert!(files.len() >= 3);
    for command in ["fmt", "lint"] {
        let mut args = vec![command, "--check"];
        args.extend(files.iter().map(String::as_str));
        let said = run(&rules, &args);
        assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""));
    }
}
