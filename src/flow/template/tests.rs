#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Time;
use crate::codec::json;
use crate::data::Column;

fn facts() -> Facts {
    let props = Object::from_iter([("vin", Value::text("L6T7"))]);
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    Facts::new(Clock::stopped_at(Time(1_709_979_072_500)), zone, Arc::new(props))
}

const ROW: &str = r#"{"id":7,"temperature":20.5,"name":"a<b","on":true,"gone":null,"size":1000000,"odd":1234567.5,
    "device":{"name":"d1","tags":["x","y"]},"values":[3,1,2],"empty":"","zero":0}"#;

fn layout() -> Layout {
    Layout::new(vec![Column { name: "*".into(), spread: true }])
}

fn render(template: &str) -> String {
    let template = Template::compile(template).unwrap();
    let row = [json::parse(ROW.as_bytes()).unwrap()];
    template.render(&Item::new(&layout(), &[&row], true), &facts()).unwrap_or_else(|fault| fault.to_string())
}

/// What the simple path gives, and what `gtmpl_ng` gives.
fn both(text: &str) -> (Option<String>, String) {
    let template = Template::compile(text).unwrap();
    let row = [json::parse(ROW.as_bytes()).unwrap()];
    let layout = layout();
    let rows: [&[Value]; 1] = [&row];
    let item = Item::new(&layout, &rows, true);
    let full = funcs::with_facts(&facts(), || template.full.render(item.context()));
    (template.parts.as_ref().and_then(|parts| simple(parts, &item)), full.unwrap())
}

#[test]
fn simple_templates_give_the_same_either_way() {
    for text in [
        "t/{{.id}}",
        "{{ .device.name }}/{{.temperature}}{{.on}}",
        "{{.size}} {{.odd}} {{.name}}",
        "{{json .}}",
        "{{ toJson . }}!",
        "{{json .device}} {{json  .values}} {{json .gone}} {{json .name}}",
        "plain",
        "",
    ] {
        let (simple, full) = both(text);
        assert_eq!(simple.as_deref(), Some(full.as_str()), "{text}");
    }
    for text in ["{{.missing}}", "{{.gone}}", "{{.device}}", "{{.values}}"] {
        assert_eq!(both(text).0, None, "{text}");
    }
    for text in [
        "{{- .id}}",
        "{{.id | json}}",
        "{{json .id .id}}",
        "{{.a-b}}",
        "{{/* */}}",
        "{{ . }}",
        "{{.id}} {{ if .on }}{{end}}",
    ] {
        assert_eq!(parts(text), None, "{text}");
    }
}

#[test]
fn the_language_is_gos() {
    for (template, text) in [
        ("{{.missing}} {{.gone}}", "<no value> <no value>"),
        ("{{.device}} {{.values}}", "map[name:d1 tags:[x y]] [3 1 2]"),
        ("{{if gt .temperature 20.0}}hot{{else}}cold{{end}}", "hot"),
        ("{{range $i, $v := .values}}{{$i}}={{$v}};{{end}}", "0=3;1=1;2=2;"),
        ("{{with .device}}{{.name}}{{end}}", "d1"),
        (r#"{{define "x"}}[{{.}}]{{end}}{{template "x" .id}}"#, "[7]"),
        (r#"{{printf "%.1f %v %s" .temperature .id .name}}"#, "20.5 7 a<b"),
        ("{{index .values 1}} {{index .device.tags 0}} {{len .values}}", "1 x 3"),
        ("{{and .on .id}} {{or .empty .name}} {{not .on}}", "7 a<b false"),
        ("{{.name | html}}", "a&lt;b"),
        ("{{.name}}{{- \" x\" }}", "a<b x"),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn functions_do_as_in_sprig() {
    for (template, text) in [
        (r#"{{json .device}}"#, r#"{"name":"d1","tags":["x","y"]}"#),
        (r#"{{json .name}} {{json .gone}}"#, r#""a\u003cb" null"#),
        (r#"{{toPrettyJson .device.tags}}"#, "[\n  \"x\",\n  \"y\"\n]"),
        (r#"{{(fromJson "{\"a\":[1,2]}").a}}"#, "[1 2]"),
        (r#"{{base64 .id}} {{base64 .on}} {{base64 .name}} {{base64 .device.name}}"#, "Nw== dHJ1ZQ== YTxi ZDE="),
        (r#"{{base64 (dict "a" 1)}}"#, "eyJhIjoxfQ=="),
        (r#"{{b64enc "hi"}} {{b64dec "aGk="}}"#, "aGk= hi"),
        (r#"{{prop "vin"}} {{prop "et"}} {{prop "none"}}"#, "L6T7 1709979072500 none"),
        (r#"{{add 1 2 3}} {{add1 1}} {{sub 5 2}} {{mul 2 3 4}} {{div 7 2}} {{mod 7 2}}"#, "6 2 3 24 3 1"),
        (r#"{{addf 1.5 2}} {{subf 3 1.25}} {{mulf 1.5 3}} {{divf 3 2}}"#, "3.5 1.75 4.5 1.5"),
        (r#"{{max 1 5 3}} {{min 4 2}} {{maxf 1.5 2.5}} {{minf 1.5 2.5}}"#, "5 2 2.5 1.5"),
        (
            r#"{{ceil 1.2}} {{floor 1.8}} {{round 1.235 2}} {{int 3.9}} {{int64 "7"}} {{float64 "1.5"}} {{atoi "12"}}"#,
            "2 1 1.24 3 7 1.5 12",
        ),
        (r#"{{upper "aé"}} {{lower "AB"}} {{title "hello big world"}}"#, "AÉ ab Hello Big World"),
        (r#"{{trim "  a "}}|{{trimAll "$" "$5$"}}|{{trimPrefix "a" "ab"}}|{{trimSuffix "b" "ab"}}"#, "a|5|b|a"),
        (r#"{{contains "b" "abc"}} {{hasPrefix "b" "abc"}} {{hasSuffix "bc" "abc"}}"#, "true false true"),
        (r#"{{replace "-" "_" "a-b-c"}} {{repeat 3 "ab"}} {{nospace " a b "}}"#, "a_b_c ababab ab"),
        (
            r#"{{trunc 2 "héllo"}} {{trunc -2 "héllo"}} {{substr 1 3 "héllo"}} {{abbrev 5 "hello world"}}"#,
            "hé lo él he...",
        ),
        (r#"{{quote "a\"b" 1}} {{squote "a"}} {{cat "a" 1 .missing}}"#, r#""a\"b" "1" 'a' a 1"#),
        (r#"{{join "," .values}} {{splitList "," "a,b"}} {{(split "," "a,b")._1}}"#, "3,1,2 [a b] b"),
        ("{{indent 2 \"a\\nb\"}}|{{nindent 1 \"a\"}}", "  a\n  b|\n a"),
        (r#"{{regexMatch "^a.c$" "abc"}} {{regexReplaceAll "a(.)" "abac" "${1}-"}}"#, "true b-c-"),
        (r#"{{default "x" .empty}} {{default "x" .name}} {{.missing | default 5}}"#, "x a<b 5"),
        (r#"{{coalesce .empty .zero .name}} {{empty .zero}} {{ternary "a" "b" .on}}"#, "a<b true a"),
        (
            r#"{{first .values}} {{last .values}} {{rest .values}} {{initial .values}} {{reverse .values}}"#,
            "3 2 [1 2] [3 1] [2 1 3]",
        ),
        (
            r#"{{append .values 9}} {{prepend .values 9}} {{concat .values (list 7 8)}}"#,
            "[3 1 2 9] [9 3 1 2] [3 1 2 7 8]",
        ),
        (r#"{{has "x" .device.tags}} {{without .device.tags "x"}} {{uniq (list 1 1 2)}}"#, "true [y] [1 2]"),
        (r#"{{sortAlpha (list "b" "a")}} {{until 3}} {{seq 3}} {{seq 1 2 5}}"#, "[a b] [0 1 2] 1 2 3 1 3 5"),
        (r#"{{get (dict "a" 1) "a"}} {{hasKey .device "name"}} {{keys .device}}"#, "1 true [name tags]"),
        (
            r#"{{pick .device "name"}} {{omit .device "name"}} {{set (dict "a" 1) "b" 2}}"#,
            "map[name:d1] map[tags:[x y]] map[a:1 b:2]",
        ),
        (
            r#"{{pluck "a" (dict "a" 1) (dict "b" 2)}} {{merge (dict "a" 1) (dict "a" 2 "b" 3)}} {{values (dict "b" 2 "a" 1)}}"#,
            "[1] map[a:1 b:3] [1 2]",
        ),
        (r#"{{kindOf .id}} {{kindOf .name}} {{kindOf .device}} {{kindOf .values}}"#, "float64 string map slice"),
        (
            r#"{{md5sum "a"}} {{sha1sum "a" | trunc 8}} {{sha256sum "a" | trunc 8}}"#,
            "0cc175b9c0f1b6a831c399e269772661 86f7e437 ca978112",
        ),
        (r#"{{now}} {{unixEpoch now}}"#, "2024-03-09T12:11:12.500+02:00 1709979072"),
        (
            r#"{{now | date "2006-01-02T15:04:05.000Z07:00"}} {{date "Mon Jan _2 3:04PM 06" 0}}"#,
            "2024-03-09T12:11:12.500+02:00 Thu Jan  1 2:00AM 70",
        ),
        (r#"{{len uuidv4}} {{toString .id}}"#, "36 7"),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn faults_say_what_is_wrong() {
    assert!(Template::compile("{{.a").is_err());
    let told = Template::compile("{{nofunc .a}}").err().unwrap();
    assert!(told.contains("nofunc"), "{told}");
    for (template, part) in [
        ("{{div 1 0}}", "`div` by zero"),
        ("{{upper}}", "`upper` takes 1 arguments and was given 0"),
        ("{{.id.x}}", "fields"),
        ("{{first .name}}", "`first` takes a list, found `a<b`"),
        ("{{repeat 999999999 \"x\"}}", "`repeat` would give more than"),
        ("{{range until 99999999}}x{{end}}", "`until` would give more than"),
    ] {
        let told = render(template);
        assert!(told.starts_with("template: ") && told.contains(part) && !told.contains('\n'), "{template}: {told}");
    }
}

#[test]
fn lists_are_rendered_as_lists() {
    let layout = Layout::from_iter(["a", "b"]);
    let first = [Value::Int(1), Value::Absent];
    let second = [Value::Int(2), Value::text("x")];
    let text = |template: &str, rows: &[&[Value]], single| {
        Template::compile(template).unwrap().render(&Item::new(&layout, rows, single), &facts()).unwrap()
    };
    assert_eq!(text("{{json .}}", &[&first, &second], false), r#"[{"a":1},{"a":2,"b":"x"}]"#);
    assert_eq!(text("{{json .}}", &[&first], false), r#"[{"a":1}]"#);
    assert_eq!(text("{{json .}}", &[&first], true), r#"{"a":1}"#);
    assert_eq!(text("{{json .}}|{{len .}}", &[], false), "[]|0");
    assert_eq!(text("{{(index . 0).a}} {{range .}}{{.a}},{{end}}", &[&first, &second], false), "1 1,2,");
    assert_eq!(text("{{.a}} {{.b}}", &[&first], true), "1 <no value>");
}

#[test]
fn ids_grow_and_never_repeat() {
    let facts = facts();
    let ids: Vec<String> = (0..5000).map(|_| facts.prop("snowflake").unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a.parse::<i64>().unwrap() < b.parse::<i64>().unwrap()));
}

#[test]
fn every_function_is_in_order_and_was_tried() {
    assert!(funcs::FUNCS.is_sorted_by(|a, b| a.0.to_lowercase() < b.0.to_lowercase()));
    let tried = include_str!("tests.rs");
    for (name, _) in funcs::FUNCS {
        let call = |before: &str| [" ", "}}"].iter().any(|after| tried.contains(&format!("{before}{name}{after}")));
        assert!(["{{", "| ", "(", " "].into_iter().any(call), "{name}");
    }
}
