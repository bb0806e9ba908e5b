#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::tz::TimeZone;

use super::*;
use crate::clock::{Clock, Time};

fn facts() -> Facts {
    Facts::new(Clock::stopped_at(Time(1000)), TimeZone::UTC, Arc::default())
}

fn shape(props: &str, layout: &Layout, takes: Takes) -> Shape {
    let common = Common::take(&mut serde_json::from_str(props).unwrap()).unwrap();
    Shape::new(&common, Arc::new(layout.clone()), takes, facts()).unwrap()
}

/// Columns a and b, and the spread object of `*`.
fn layout() -> Layout {
    let column = |name: &str, spread| Column { name: name.into(), spread };
    Layout::new(vec![column("a", false), column("b", false), column("*", true)])
}

fn row(text: &str) -> Vec<Value> {
    let Value::Object(all) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
    let mut all = Arc::unwrap_or_clone(all);
    let mut take = |name: &str| all.remove(name).unwrap_or(Value::Absent);
    let (a, b) = (take("a"), take("b"));
    vec![a, b, Value::object(all)]
}

/// The parcels of one emission, one text each: properties, if there are any, and the content.
fn sent(props: &str, takes: Takes, rows: &[&str]) -> Result<Vec<String>, String> {
    let rows: Vec<Vec<Value>> = rows.iter().map(|text| row(text)).collect();
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let mut out = Vec::new();
    let mut shape = shape(props, &layout(), takes);
    let result = shape.parcels(&layout(), &rows, &mut out);
    result.map_err(|fault| {
        assert_eq!(out.len(), 0);
        fault.to_string()
    })?;
    Ok(out.iter().map(shown).collect())
}

fn shown(parcel: &Parcel) -> String {
    let props: String = parcel.props.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    match &parcel.content {
        Content::Bytes(bytes) => format!("{props}{}", String::from_utf8_lossy(bytes)),
        Content::Rows(set) => {
            let mut text = Vec::new();
            let objects: Vec<Value> = set.objects().into_iter().map(Value::object).collect();
            match &objects[..] {
                [only] if set.single => json::print(&mut text, only),
                _ => json::print(&mut text, &Value::array(objects)),
            }
            format!("{props}rows {}", String::from_utf8_lossy(&text))
        }
    }
}

fn bytes(props: &str, rows: &[&str]) -> Vec<String> {
    sent(props, Takes::Bytes, rows).unwrap()
}

const ONE: &str = r#"{"a":1,"c":"x"}"#;
const TWO: &str = r#"{"a":2,"b":{"k":[1,2]}}"#;

#[test]
fn one_message_an_emission_or_one_a_row() {
    assert_eq!(bytes("{}", &[ONE]), [r#"[{"a":1,"c":"x"}]"#]);
    assert_eq!(bytes("{}", &[ONE, TWO]), [r#"[{"a":1,"c":"x"},{"a":2,"b":{"k":[1,2]}}]"#]);
    assert_eq!(bytes(r#"{"sendSingle":true}"#, &[ONE, TWO]), [r#"{"a":1,"c":"x"}"#, r#"{"a":2,"b":{"k":[1,2]}}"#]);
    assert_eq!(sent("{}", Takes::Rows, &[ONE, TWO]).unwrap(), [r#"rows [{"a":1,"c":"x"},{"a":2,"b":{"k":[1,2]}}]"#]);
    assert_eq!(sent(r#"{"sendSingle":true}"#, Takes::Rows, &[ONE]).unwrap(), [r#"rows {"a":1,"c":"x"}"#]);
}

#[test]
fn empty_emissions_are_sent_unless_omitted() {
    let none: [String; 0] = [];
    assert_eq!(bytes("{}", &[]), ["[]"]);
    assert_eq!(bytes(r#"{"sendSingle":true}"#, &[]), none);
    assert_eq!(bytes(r#"{"omitIfEmpty":true}"#, &[]), none);
    assert_eq!(bytes(r#"{"omitIfEmpty":true}"#, &["{}"]), ["[{}]"]);
    assert_eq!(bytes(r#"{"omitIfEmpty":true,"sendSingle":true}"#, &["{}", ONE]), [r#"{"a":1,"c":"x"}"#]);
    assert_eq!(bytes(r#"{"sendSingle":true}"#, &["{}"]), ["{}"]);
}

#[test]
fn columns_are_chosen() {
    assert_eq!(
        bytes(r#"{"fields":["c","a","none"]}"#, &[ONE, TWO]),
        [r#"[{"a":1,"c":"x","none":null},{"a":2,"c":null,"none":null}]"#]
    );
    assert_eq!(bytes(r#"{"fields":["c","a"],"format":"delimited"}"#, &[ONE, TWO]), ["x,1\n,2"]);
    assert_eq!(bytes(r#"{"excludeFields":["c","b"]}"#, &[ONE, TWO]), [r#"[{"a":1},{"a":2}]"#]);
    assert_eq!(bytes(r#"{"excludeFields":["c","b"],"sendSingle":true}"#, &[TWO]), [r#"{"a":2}"#]);
    assert_eq!(sent(r#"{"fields":["c"]}"#, Takes::Rows, &[ONE]).unwrap(), [r#"rows [{"c":"x"}]"#]);
    let closed = Layout::from_iter(["a"]);
    let mut out = Vec::new();
    let mut none = shape(r#"{"excludeFields":["a"]}"#, &closed, Takes::Bytes);
    none.parcels(&closed, &[&[Value::Int(1)]], &mut out).unwrap();
    assert_eq!(shown(&out[0]), "[{}]");
}

#[test]
fn templates_give_the_message() {
    assert_eq!(bytes(r#"{"dataTemplate":"a is {{.a}}","sendSingle":true}"#, &[ONE, TWO]), ["a is 1", "a is 2"]);
    assert_eq!(bytes(r#"{"dataTemplate":"{{len .}} {{(index . 1).a}}"}"#, &[ONE, TWO]), ["2 2"]);
    assert_eq!(bytes(r#"{"dataTemplate":"{{json .}}"}"#, &[ONE]), [r#"[{"a":1,"c":"x"}]"#]);
    assert_eq!(bytes(r#"{"dataTemplate":"{{json .}}"}"#, &[]), ["[]"]);
    let told = sent(r#"{"dataTemplate":"{{div .a 0}}","sendSingle":true}"#, Takes::Bytes, &[ONE]).unwrap_err();
    assert!(told.starts_with("template: ") && told.contains("`div` by zero"), "{told}");
}

#[test]
fn the_text_of_a_template_is_read_again_where_rows_are_wanted() {
    let template = r#"{"dataTemplate":"{\"x\":{{.a}}}","sendSingle":true}"#;
    assert_eq!(sent(template, Takes::Rows, &[ONE]).unwrap(), [r#"rows {"x":1}"#]);
    let list = r#"{"dataTemplate":"[{{range $i, $r := .}}{{if $i}},{{end}}{\"x\":{{$r.a}}}{{end}}]"}"#;
    assert_eq!(sent(list, Takes::Rows, &[ONE, TWO]).unwrap(), [r#"rows [{"x":1},{"x":2}]"#]);
    let csv = r#"{"dataTemplate":"{{.a}},z","sendSingle":true,"format":"delimited"}"#;
    assert_eq!(sent(csv, Takes::Rows, &[ONE]).unwrap(), [r#"rows {"col0":"1","col1":"z"}"#]);
    let told = sent(r#"{"dataTemplate":"{{.a}}","sendSingle":true}"#, Takes::Rows, &[ONE]).unwrap_err();
    assert_eq!(told, "a sink is sent an object or a list of objects, found float");
    let told = sent(r#"{"dataTemplate":"a","sendSingle":true}"#, Takes::Rows, &[ONE]).unwrap_err();
    assert_eq!(told, "the text of `dataTemplate` is no json: malformed json at byte 0: expected a value, found `a`");
    // A format without text cannot take the text of a template as it is.
    let binary = r#"{"dataTemplate":"{\"self\":\"{{.c}}\"}","sendSingle":true,"format":"binary"}"#;
    assert_eq!(bytes(binary, &[ONE]), ["x"]);
}

#[test]
fn data_field_takes_what_one_column_holds() {
    assert_eq!(bytes(r#"{"dataField":"b","sendSingle":true}"#, &[TWO]), [r#"{"k":[1,2]}"#]);
    assert_eq!(bytes(r#"{"tableDataField":"b"}"#, &[TWO, ONE]), [r#"{"k":[1,2]}"#]);
    assert_eq!(bytes(r#"{"dataField":"b","fields":["z","k"]}"#, &[TWO]), [r#"{"k":[1,2],"z":null}"#]);
    assert_eq!(bytes(r#"{"dataField":"b","excludeFields":["k"]}"#, &[TWO]), ["{}"]);
    assert_eq!(bytes(r#"{"dataField":"b"}"#, &[]).len(), 0);
    assert_eq!(bytes(r#"{"dataField":"list"}"#, &[r#"{"list":[{"x":1},{"x":2}]}"#]), [r#"[{"x":1},{"x":2}]"#]);
    assert_eq!(
        bytes(r#"{"dataField":"d","dataTemplate":"{\"d\":{{json .}}}","sendSingle":true}"#, &[ONE]),
        [r#"{"a":1,"c":"x"}"#]
    );
    // A row without the column has nothing to send; to pick columns out of nothing is an error.
    assert_eq!(bytes(r#"{"dataField":"b","sendSingle":true}"#, &[ONE]).len(), 0);
    assert_eq!(
        sent(r#"{"dataField":"b","fields":["z"],"sendSingle":true}"#, Takes::Bytes, &[ONE]),
        Err("`dataField` is to hold an object or a list of objects, and column `b` is not there".into())
    );
    for (row, told) in [
        (r#"{"b":5}"#, "`dataField` is to hold an object or a list of objects, and column `b` is float"),
        (r#"{"b":[5]}"#, "a sink is sent an object or a list of objects, found float"),
    ] {
        assert_eq!(sent(r#"{"dataField":"b","sendSingle":true}"#, Takes::Bytes, &[row]), Err(told.into()));
    }
}

#[test]
fn fields_are_chosen_from_the_text_of_a_template() {
    let props = r#"{"dataTemplate":"{\"x\":{{.a}},\"y\":2}","fields":["y"],"sendSingle":true}"#;
    assert_eq!(bytes(props, &[ONE]), [r#"{"y":2}"#]);
}

#[test]
fn dynamic_properties_see_the_row_before_it_is_shaped() {
    let props = r#"{"topic":"t/{{.a}}","h":{"k":"{{.c}}"},"fields":["c"],"sendSingle":true,"qos":1}"#;
    assert_eq!(bytes(props, &[ONE]), [r#"topic=t/1 h.k=x {"c":"x"}"#]);
    assert_eq!(bytes(r#"{"topic":"n{{len .}}"}"#, &[ONE, TWO])[0][..9], *"topic=n2 ");
    let told = sent(r#"{"topic":"{{.c.d}}","sendSingle":true}"#, Takes::Bytes, &[TWO, ONE]).unwrap_err();
    assert!(told.starts_with("property `topic`: template: "), "{told}");
}

#[test]
fn errors_reach_sinks_in_their_own_form() {
    let told = |props: &str, takes| shown(&shape(props, &layout(), takes).error_parcel("it \"broke\"").unwrap());
    assert_eq!(told("{}", Takes::Bytes), r#"it "broke""#);
    assert_eq!(told("{}", Takes::Rows), r#"rows [{"error":"it \"broke\""}]"#);
    assert_eq!(told(r#"{"sendSingle":true}"#, Takes::Rows), r#"rows {"error":"it \"broke\""}"#);
    assert_eq!(told(r#"{"sendSingle":true,"topic":"e/{{.error}}"}"#, Takes::Bytes), r#"topic=e/it "broke" it "broke""#);
    let shown_row =
        |props: &str| shown(&shape(props, &layout(), Takes::Bytes).errors_as_rows().error_parcel("no").unwrap());
    assert_eq!(shown_row("{}"), r#"[{"error":"no"}]"#);
    assert_eq!(shown_row(r#"{"sendSingle":true}"#), r#"{"error":"no"}"#);
}
