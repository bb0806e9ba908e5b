use serde_json::{Map, Value as Json};

use crate::diag::{Diagnostic, nearest};
use crate::options::{Action, DEAD_LETTER, Options, dead_letter};
use crate::plan::Graph;

/// A rule as its author wrote it, checked as far as that goes without knowing streams, functions and sinks.
#[derive(Clone, Debug, PartialEq)]
pub struct Def {
    pub id: String,
    /// Empty where none was given.
    pub name: String,
    /// Empty where it is made of a graph.
    pub sql: String,
    pub graph: Option<Graph>,
    /// Of a graph none; its sinks are nodes.
    pub actions: Vec<Action>,
    pub options: Options,
    /// Whether it is to run.
    pub triggered: bool,
    pub version: String,
    /// Not kept beyond the life of the process.
    pub temp: bool,
    pub tags: Option<Vec<String>>,
    /// The text as written.
    pub text: String,
}

/// The text of a rule as an error shows it: not more than a screen of it.
fn shown(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// All members of a rule.
const MEMBERS: [&str; 10] =
    ["id", "name", "sql", "actions", "graph", "options", "triggered", "version", "temp", "tags"];

impl Def {
    /// Reads a rule. `id` is the one of the request's path, which the text may leave out; `defaults` are the server's
    /// options. The error is one sentence in eKuiper's words, or one a line for mistakes in options.
    pub fn parse(text: &str, id: Option<&str>, defaults: &Map<String, Json>) -> Result<(Def, Vec<Diagnostic>), String> {
        // Only the first value counts, as for eKuiper.
        let value = match serde_json::Deserializer::from_str(text).into_iter::<Json>().next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Err(format!("Parse rule {} error : {error}.", shown(text))),
            None => return Err("Parse rule error : the rule is empty.".to_owned()),
        };
        let Json::Object(members) = value else {
            return Err(format!("Parse rule {} error : expected a JSON object.", shown(text)));
        };
        let mut found: Vec<Diagnostic> = members
            .keys()
            .filter(|name| !MEMBERS.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|name| Diagnostic::warning("K0905", format!("a rule has no member `{name}`")).suggest(name, MEMBERS))
            .collect();

        let member = |name: &str| {
            let exact = members.get(name);
            exact.or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
        };
        let typed = |name: &str, expected: &str| format!("Parse rule error : `{name}` must be {expected}.");
        let text_of = |name: &str| match member(name) {
            None | Some(Json::Null) => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(typed(name, "text")),
        };
        let truth = |name: &str, default: bool| match member(name) {
            None | Some(Json::Null) => Ok(default),
            Some(Json::Bool(yes)) => Ok(*yes),
            Some(_) => Err(typed(name, "true or false")),
        };

        let written_id = text_of("id")?;
        let id = match id {
            Some(path) if !written_id.is_empty() && written_id != path => {
                return Err("RuleId is not consistent with rule id.".to_owned());
            }
            Some(path) => path.to_owned(),
            None if written_id.is_empty() => return Err("Missing rule id.".to_owned()),
            None => written_id,
        };
        check_id(&id)?;
        let sql = text_of("sql")?;
        let graph = match (sql.trim().is_empty(), member("graph").filter(|graph| !graph.is_null())) {
            (false, Some(_)) => return Err(format!("Rule {id} has both sql and graph.")),
            (true, None) => return Err(format!("Rule {id} has neither sql nor graph.")),
            (true, Some(graph)) => {
                let lines = |found: &Diagnostic| found.to_string();
                let graph = Graph::read(graph)
                    .map_err(|found| found.iter().map(lines).collect::<Vec<_>>().join("; "))
                    .map_err(|why| format!("Rule {id} has an invalid graph: {why}."))?;
                Some(graph)
            }
            (false, None) => None,
        };
        let actions = match member("actions") {
            None | Some(Json::Null) if graph.is_some() => Vec::new(),
            Some(Json::Array(list)) if graph.is_some() && list.is_empty() => Vec::new(),
            Some(_) if graph.is_some() => {
                return Err(format!("Rule {id} has actions beside a graph, whose sinks are nodes of it."));
            }
            None | Some(Json::Null) => {
                let meant = members.keys().find(|name| nearest(name, ["actions"]).is_some());
                let hint = meant.map(|name| format!(" `{name}` is written, did you mean `actions`?"));
                return Err(format!("Missing rule actions.{}", hint.unwrap_or_default()));
            }
            Some(Json::Array(list)) => actions(list)?,
            Some(_) => return Err(typed("actions", "a list of objects, one sink each")),
        };
        if actions.is_empty() && graph.is_none() {
            return Err("Missing rule actions.".to_owned());
        }
        let tags = match member("tags") {
            None | Some(Json::Null) => None,
            Some(Json::Array(tags)) => {
                let tags: Option<Vec<String>> = tags.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
                Some(tags.ok_or_else(|| typed("tags", "a list of texts"))?)
            }
            Some(_) => return Err(typed("tags", "a list of texts")),
        };
        let nothing = Map::new();
        let written = match member("options") {
            None | Some(Json::Null) => &nothing,
            Some(Json::Object(options)) => options,
            Some(_) => return Err(typed("options", "an object")),
        };
        let options = Options::read(defaults, written, &mut found);
        let errors: Vec<String> = found.iter().filter(|one| one.is_error()).map(ToString::to_string).collect();
        if !errors.is_empty() {
            return Err(format!("Rule {id} has invalid options: {}.", errors.join("; ")));
        }
        let def = Def {
            id,
            name: text_of("name")?,
            sql,
            graph,
            actions,
            options,
            triggered: truth("triggered", true)?,
            version: text_of("version")?,
            temp: truth("temp", false)?,
            tags,
            text: text.to_owned(),
        };
        Ok((def, found))
    }

    /// Whether rows that fail are told of one by one.
    pub(super) fn tells_of_the_dead(&self) -> bool {
        self.options.dead_letter.is_some() || self.actions.iter().any(|action| action.dead.is_some())
    }

    /// What stands in the place of a stored rule that cannot be read.
    pub(super) fn unread() -> Def {
        Def {
            id: String::new(),
            name: String::new(),
            sql: String::new(),
            graph: None,
            actions: Vec::new(),
            options: Options::default(),
            triggered: true,
            version: String::new(),
            temp: false,
            tags: None,
            text: String::new(),
        }
    }

    /// Sets whether the rule is to run, in its text too. False when nothing changed.
    pub(super) fn trigger(&mut self, triggered: bool) -> bool {
        if self.triggered == triggered {
            return false;
        }
        self.triggered = triggered;
        let value = serde_json::Deserializer::from_str(&self.text).into_iter::<Json>().next();
        if let Some(Ok(Json::Object(mut members))) = value {
            let name = members.keys().find(|key| key.eq_ignore_ascii_case("triggered")).cloned();
            members.insert(name.unwrap_or_else(|| "triggered".to_owned()), triggered.into());
            self.text = Json::Object(members).to_string();
        }
        true
    }
}

/// An id can stand in a path and in a file name.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("id cannot be empty".to_owned());
    }
    if id.trim() != id {
        return Err(format!("id '{id}' contains leading or trailing whitespace"));
    }
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(format!(
            "id '{id}' contains invalid characters: only alphanumeric, hyphens and underscores are allowed"
        ));
    }
    Ok(())
}

fn actions(list: &[Json]) -> Result<Vec<Action>, String> {
    let mut actions = Vec::new();
    for (index, action) in list.iter().enumerate() {
        let Json::Object(sinks) = action else {
            return Err(format!("Parse rule error : action {} must be an object, as {{\"log\": {{}}}}.", index + 1));
        };
        for (sink, props) in sinks {
            let mut props = match props {
                Json::Object(props) => props.clone(),
                Json::Null => Map::new(),
                _ => return Err(format!("Parse rule error : the properties of `{sink}` must be an object.")),
            };
            let dead = props.keys().find(|name| name.eq_ignore_ascii_case("deadLetter")).cloned();
            let dead = match dead.and_then(|name| props.shift_remove(&name)) {
                None | Some(Json::Null) => None,
                Some(given) => Some(Box::new(dead_letter(&given).ok_or_else(|| {
                    format!(
                        "Parse rule error : property `deadLetter` of `{sink}` must be {DEAD_LETTER}, found {given}."
                    )
                })?)),
            };
            actions.push(Action { sink: sink.clone(), index, props, dead });
        }
    }
    Ok(actions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Def, String> {
        Def::parse(text, None, &Map::new()).map(|(def, _)| def)
    }

    #[test]
    fn the_tutorials_rule_has_two_sinks_in_one_object() {
        let def =
            parse(r#"{"id": "rule", "sql": "SELECT * FROM demo", "actions": [{"log": {}, "mysql": {"table": "t"}}]}"#)
                .unwrap();
        assert_eq!((def.id.as_str(), def.triggered, def.temp, def.tags.is_none()), ("rule", true, false, true));
        let sinks: Vec<(&str, usize)> = def.actions.iter().map(|one| (one.sink.as_str(), one.index)).collect();
        assert_eq!(sinks, [("log", 0), ("mysql", 0)]);
        assert_eq!(def.actions[1].props["table"], "t");
    }

    #[test]
    fn names_of_members_heed_no_case_and_unknown_ones_warn() {
        let text = r#"{"ID": "r", "Sql": "SELECT 1", "ACTIONS": [{"nop": null}], "tagz": []} {"second": 1}"#;
        let (def, warnings) = Def::parse(text, Some("r"), &Map::new()).unwrap();
        assert_eq!(def.id, "r");
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].to_string(), "a rule has no member `tagz` (did you mean `tags`?)");
    }

    #[test]
    fn mistakes_have_the_known_words() {
        for (text, expected) in [
            (r#"{"sql": "SELECT 1", "actions": [{"log": {}}]}"#, "Missing rule id."),
            (r#"{"id": "r", "sql": "SELECT 1"}"#, "Missing rule actions."),
            (r#"{"id": "r", "sql": "SELECT 1", "actions": []}"#, "Missing rule actions."),
            (
                r#"{"id": "r", "sql": "SELECT 1", "action": []}"#,
                "Missing rule actions. `action` is written, did you mean `actions`?",
            ),
            (r#"{"id": "r", "actions": [{"log": {}}]}"#, "Rule r has neither sql nor graph."),
            (r#"{"id": "r", "sql": "SELECT 1", "graph": {}, "actions": []}"#, "Rule r has both sql and graph."),
            (
                r#"{"id": "a b", "sql": "SELECT 1", "actions": [{"log": {}}]}"#,
                "id 'a b' contains invalid characters: only alphanumeric, hyphens and underscores are allowed",
            ),
            (
                r#"{"id": "r", "sql": "SELECT 1", "actions": [{"log": {}}], "options": {"qos": 3}}"#,
                "Rule r has invalid options: option `qos` is `3`, expected 0, 1 or 2.",
            ),
            ("[]", "Parse rule [] error : expected a JSON object."),
            (r#"{"id": 3}"#, "Parse rule error : `id` must be text."),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        assert!(parse("{\"id\":").unwrap_err().starts_with("Parse rule {\"id\": error : "));
        let other = Def::parse(r#"{"id": "a", "sql": "SELECT 1"}"#, Some("b"), &Map::new());
        assert_eq!(other.unwrap_err(), "RuleId is not consistent with rule id.");
    }

    #[test]
    fn triggering_changes_the_text_only_when_it_must() {
        let text = r#"{ "id": "r", "sql": "SELECT 1",  "actions": [{"log": {}}] }"#;
        let mut def = parse(text).unwrap();
        assert!(!def.trigger(true));
        assert_eq!(def.text, text);
        assert!(def.trigger(false));
        assert_eq!(def.text, r#"{"id":"r","sql":"SELECT 1","actions":[{"log":{}}],"triggered":false}"#);
        let again = parse(&def.text).unwrap();
        assert!(!again.triggered);
    }
}
