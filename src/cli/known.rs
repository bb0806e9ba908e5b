//! What the command line and the files beside a rule tell of the streams that it reads: definitions, and rows that they have.
//! Both `kuiper lint` and `kuiper rule validate` look at statements with it.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::fmt::read;
use crate::lint::Known;

/// Adds the rows of a file of JSON lines; each is a row or a list of rows of any stream.
///
/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn add_sample(path: &Path, known: &mut Known) -> Result<(), String> {
    let (name, text) = read(path)?;
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let rows = serde_json::from_str(line).map_err(|error| format!("`{name}`, line {}: {error}", n + 1))?;
        known.add_rows(None, rows);
    }
    Ok(())
}

/// The case file beside a rule, `NAME.case.yaml` beside `NAME.json`, if there is one, and the cases in it.
pub(super) fn case_beside(file: &Path) -> Option<(PathBuf, Vec<Json>)> {
    let stem = file.file_stem()?.to_string_lossy();
    let path = file.with_file_name(format!("{stem}.case.yaml"));
    let text = std::fs::read_to_string(&path).ok()?;
    Some((path, documents(&text).into_iter().flatten().collect()))
}

/// The cases of a file.
pub(super) fn documents(text: &str) -> Vec<Result<Json, serde_yaml::Error>> {
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(text).map(Json::deserialize).collect()
}

/// Adds the rows that arrive in a case.
pub(super) fn add_inputs(case: &Json, known: &mut Known) {
    for input in case["input"].as_array().into_iter().flatten() {
        let stream = input["stream"].as_str();
        if let Some(data) = input.get("data") {
            known.add_rows(stream, data.clone());
        } else if let Some(Ok(rows)) = input["raw"].as_str().map(serde_json::from_str::<Json>) {
            known.add_rows(stream, rows);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lint::lint;

    #[test]
    fn rows_of_a_case_are_known() {
        let mut known = Known::default();
        let case = json!({"input": [
            {"stream": "s", "data": {"a": 1}},
            {"stream": "s", "raw": "[{\"b\": 1}, {\"c\": 2}]"},
            {"stream": "s", "raw": "no json"},
            {"stream": "s", "eof": true},
        ]});
        add_inputs(&case, &mut known);
        let select = crate::sql::parse_select("SELECT a, b, c, d FROM s").unwrap();
        let found = lint(&select, &known);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("none of the 3 known rows has a column `d`"), "{}", found[0]);
    }
}
