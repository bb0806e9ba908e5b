//! JSON as Go's encoder writes it: `<`, `>`, `&` as escapes, floats without a fraction as integers.

use serde::Serialize;
use serde_json::Value as Json;

/// On one line.
pub(super) fn compact(value: &impl Serialize) -> String {
    escape(&plain(value).to_string())
}

/// Indented by two spaces.
pub(super) fn pretty(value: &impl Serialize) -> String {
    escape(&format!("{:#}", plain(value)))
}

fn plain(value: &impl Serialize) -> Json {
    // What we answer with has text for keys, so this cannot fail.
    let mut tree = serde_json::to_value(value).unwrap_or_default();
    whole(&mut tree);
    tree
}

fn whole(value: &mut Json) {
    match value {
        Json::Number(number) => {
            if let Some(x) = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() < 1e15) {
                *value = Json::from(x as i64);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(whole),
        Json::Object(members) => members.values_mut().for_each(whole),
        _ => {}
    }
}

/// These characters can stand in texts only, so the place need not be looked at.
fn escape(text: &str) -> String {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_texts_look_as_in_go() {
        let value = json!({"a": 1.0, "b": 1.5, "c": "<a & b>", "d": [-3.0], "e": u64::MAX});
        assert_eq!(
            compact(&value),
            r#"{"a":1,"b":1.5,"c":"\u003ca \u0026 b\u003e","d":[-3],"e":18446744073709551615}"#
        );
        assert_eq!(pretty(&json!({"a": {"b": 1}})), "{\n  \"a\": {\n    \"b\": 1\n  }\n}");
    }
}
