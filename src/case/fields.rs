//! Reads a map of a case file field by field, so that every error names its place and no field is left unread.

use serde_yaml::{Mapping, Value as Yaml};

use crate::data::Time;
use crate::diag::nearest;

/// The fields of one map. Each is taken by name; [`Fields::end`] refuses what no one took.
pub(super) struct Fields {
    /// Where the map stands, as `input[3]`; empty at the top of a document.
    place: String,
    map: Mapping,
    known: Vec<&'static str>,
}

pub(super) type Read<T> = Result<T, String>;

impl Fields {
    pub fn of(place: impl Into<String>, yaml: Yaml) -> Read<Self> {
        let place = place.into();
        match yaml {
            Yaml::Mapping(map) => Ok(Fields { place, map, known: Vec::new() }),
            other => Err(format!("{} must be a map, found {}", place_name(&place), kind(&other))),
        }
    }

    /// The place of one of the fields, as `input[3].data`.
    pub fn place(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_string() } else { format!("{}.{name}", self.place) }
    }

    /// An error about one of the fields.
    pub fn wrong<T>(&self, name: &str, what: impl std::fmt::Display) -> Read<T> {
        Err(format!("`{}` {what}", self.place(name)))
    }

    /// The field as it is; a null that is written counts as given.
    pub fn take(&mut self, name: &'static str) -> Option<Yaml> {
        self.known.push(name);
        self.map.shift_remove(name)
    }

    pub fn need(&mut self, name: &'static str) -> Read<Yaml> {
        match self.take(name) {
            Some(yaml) => Ok(yaml),
            None => self.missing(name),
        }
    }

    /// The field is not there; perhaps it is misspelt.
    fn missing<T>(&self, name: &str) -> Read<T> {
        let hint = match nearest(name, self.map.keys().filter_map(Yaml::as_str)) {
            Some(found) => format!(", found `{found}`"),
            None => String::new(),
        };
        Err(format!("field `{}` is missing{hint}", self.place(name)))
    }

    pub fn text(&mut self, name: &'static str) -> Read<Option<String>> {
        match self.take(name) {
            None | Some(Yaml::Null) => Ok(None),
            Some(Yaml::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(name, format!("must be a text, found {}", kind(&other))),
        }
    }

    pub fn need_text(&mut self, name: &'static str) -> Read<String> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => self.missing(name),
        }
    }

    pub fn flag(&mut self, name: &'static str) -> Read<Option<bool>> {
        match self.take(name) {
            None | Some(Yaml::Null) => Ok(None),
            Some(Yaml::Bool(yes)) => Ok(Some(yes)),
            Some(other) => self.wrong(name, format!("must be true or false, found {}", kind(&other))),
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Read<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let all: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                self.wrong(name, format!("must be one of {}, found `{text}`", all.join(", ")))
            }
        }
    }

    /// A list; a field that is not there is an empty one.
    pub fn list(&mut self, name: &'static str) -> Read<Vec<Yaml>> {
        match self.take(name) {
            None | Some(Yaml::Null) => Ok(Vec::new()),
            Some(Yaml::Sequence(items)) => Ok(items),
            Some(other) => self.wrong(name, format!("must be a list, found {}", kind(&other))),
        }
    }

    pub fn texts(&mut self, name: &'static str) -> Read<Vec<String>> {
        let place = self.place(name);
        self.list(name)?
            .into_iter()
            .enumerate()
            .map(|(n, item)| match item {
                Yaml::String(text) => Ok(text),
                other => Err(format!("`{place}[{n}]` must be a text, found {}", kind(&other))),
            })
            .collect()
    }

    /// An instant: epoch milliseconds, or `"+1200"` after `start` where there is one.
    pub fn instant(&mut self, name: &'static str, start: Option<Time>) -> Read<Option<Time>> {
        match (self.take(name), start) {
            (None | Some(Yaml::Null), _) => Ok(None),
            (Some(Yaml::Number(number)), _) if number.is_i64() => Ok(number.as_i64().map(Time)),
            (Some(Yaml::String(text)), Some(start)) => {
                match text.strip_prefix('+').and_then(|digits| digits.parse::<u32>().ok()) {
                    Some(after) => Ok(Some(Time(start.0 + i64::from(after)))),
                    None => self.wrong(name, format!("must look like `\"+1200\"`, found `{text}`")),
                }
            }
            (Some(other), _) => self.wrong(name, format!("must be epoch milliseconds, found {}", kind(&other))),
        }
    }

    pub fn need_instant(&mut self, name: &'static str, start: Option<Time>) -> Read<Time> {
        match self.instant(name, start)? {
            Some(time) => Ok(time),
            None => self.missing(name),
        }
    }

    /// Refuses the fields that were not taken.
    pub fn end(self) -> Read<()> {
        let Some(left) = self.map.keys().next() else { return Ok(()) };
        let name = left.as_str().map_or_else(|| kind(left).to_string(), str::to_string);
        let hint = match nearest(&name, self.known.iter().copied()) {
            Some(known) => format!(", did you mean `{known}`?"),
            None => String::new(),
        };
        Err(format!("unknown field `{}`{hint}", self.place(&name)))
    }
}

fn place_name(place: &str) -> String {
    if place.is_empty() { "a case".to_string() } else { format!("`{place}`") }
}

/// The word for what stands in YAML, for messages.
pub(super) fn kind(yaml: &Yaml) -> &'static str {
    match yaml {
        Yaml::Null => "null",
        Yaml::Bool(_) => "a boolean",
        Yaml::Number(number) if number.is_f64() => "a float",
        Yaml::Number(_) => "an integer",
        Yaml::String(_) => "a text",
        Yaml::Sequence(_) => "a list",
        Yaml::Mapping(_) => "a map",
        Yaml::Tagged(_) => "a tagged value",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::of("input[3]", serde_yaml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_field_that_no_one_took_is_refused_with_its_place() {
        let mut fields = fields("{stream: a, dta: 1}");
        assert_eq!(fields.need_text("stream").unwrap(), "a");
        assert!(fields.take("data").is_none());
        assert_eq!(fields.end().unwrap_err(), "unknown field `input[3].dta`, did you mean `data`?");
    }

    #[test]
    fn instants_may_be_relative() {
        let mut fields = fields("{at: '+1200', advance: 1700000000000, bad: 'soon'}");
        assert_eq!(fields.instant("at", Some(Time(1000))).unwrap(), Some(Time(2200)));
        assert_eq!(fields.need_instant("advance", None).unwrap(), Time(1_700_000_000_000));
        assert_eq!(
            fields.instant("bad", Some(Time(0))).unwrap_err(),
            "`input[3].bad` must look like `\"+1200\"`, found `soon`"
        );
    }
}
