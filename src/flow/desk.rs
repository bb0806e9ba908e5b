//! The desk at which a rule asks a lookup table: it opens the table when it is first needed, and keeps answers where the
//! user asks for it. In production and in the case runner it is the same.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::clock::{Clock, Time};
use crate::data::{Object, Text, Value, key};
use crate::diag::{Diagnostic, Result, Retry};
use crate::io::props::Period;
use crate::io::{Lookup, LookupTable};

/// The properties `lookup` of a lookup table.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheOptions {
    /// Answers are kept.
    cache: bool,
    /// How long; zero for ever. A bare number is milliseconds.
    cache_ttl: Period,
    /// That there are no rows is kept too.
    cache_missing_key: bool,
}

impl CacheOptions {
    /// Takes them out of the properties of a table.
    pub fn take(props: &mut Map<String, Json>) -> std::result::Result<CacheOptions, Diagnostic> {
        let name = props.keys().find(|name| name.eq_ignore_ascii_case("lookup")).cloned();
        let Some(given) = name.and_then(|name| props.remove(&name)) else { return Ok(CacheOptions::default()) };
        serde_json::from_value(given).map_err(|error| {
            let text = format!("property `lookup` of a lookup table: {error}");
            let help = "it is an object of `cache`, `cacheTtl` and `cacheMissingKey`";
            Diagnostic::error("K0636", text).help(help)
        })
    }
}

/// One lookup table, as one rule asks it.
pub struct Desk {
    table: Arc<dyn LookupTable>,
    columns: Vec<Text>,
    fields: Vec<Text>,
    open: Option<Box<dyn Lookup>>,
    cache: CacheOptions,
    kept: HashMap<Vec<u8>, Answer>,
    /// When answers that are too old were thrown away the last time.
    swept: Time,
    clock: Clock,
}

struct Answer {
    rows: Vec<Object>,
    at: Time,
}

impl Desk {
    /// `columns` are those that the rule asks by.
    pub fn new(table: Arc<dyn LookupTable>, columns: Vec<Text>, cache: CacheOptions, clock: Clock) -> Desk {
        let swept = clock.now();
        Desk { table, columns, fields: Vec::new(), open: None, cache, kept: HashMap::new(), swept, clock }
    }

    /// The rule reads only these columns of what is found.
    pub fn reading(mut self, fields: Vec<Text>) -> Desk {
        self.fields = fields;
        self
    }

    /// The rows for each list of values. Cancelled, it can be asked again.
    pub async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        if !self.cache.cache {
            return self.ask(questions).await;
        }
        let now = self.clock.now();
        self.sweep(now);
        let keys: Vec<Vec<u8>> = questions.iter().map(|values| key_of(values)).collect();
        let mut answers: Vec<Option<Vec<Object>>> = keys.iter().map(|key| self.kept(key, now)).collect();
        let missing: Vec<usize> = (0..questions.len()).filter(|n| answers[*n].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<Vec<Value>> = missing.iter().map(|n| questions[*n].clone()).collect();
            for (n, rows) in missing.into_iter().zip(self.ask(&asked).await?) {
                if !rows.is_empty() || self.cache.cache_missing_key {
                    self.kept.insert(keys[n].clone(), Answer { rows: rows.clone(), at: now });
                }
                answers[n] = Some(rows);
            }
        }
        Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn ask(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(self.table.open_for(&self.columns, &self.fields)?),
        };
        let found = open.find(questions).await;
        if found.as_ref().is_err_and(|fault| fault.retry() == Retry::Later)
            && let Some(mut open) = self.open.take()
        {
            open.close().await;
        }
        found
    }

    fn is_fresh(&self, answer: &Answer, now: Time) -> bool {
        self.cache.cache_ttl.some().is_none_or(|ttl| now.since(answer.at) < ttl)
    }

    fn kept(&self, key: &[u8], now: Time) -> Option<Vec<Object>> {
        self.kept.get(key).filter(|answer| self.is_fresh(answer, now)).map(|answer| answer.rows.clone())
    }

    /// Throws away what is too old, now and then.
    fn sweep(&mut self, now: Time) {
        if let Some(ttl) = self.cache.cache_ttl.some()
            && now.since(self.swept) >= ttl * 2
        {
            self.swept = now;
            self.kept.retain(|_, answer| now.since(answer.at) < ttl);
        }
    }

    pub async fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.close().await;
        }
    }
}

fn key_of(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| key::add(&mut bytes, value));
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::io::{Change, MemoryTable};

    struct Shelf(Arc<MemoryTable>);

    impl LookupTable for Shelf {
        fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>> {
            Ok(MemoryTable::open(&self.0, columns))
        }
    }

    fn options(json: Json) -> CacheOptions {
        let mut props = Map::from_iter([("lookup".to_owned(), json)]);
        let options = CacheOptions::take(&mut props).unwrap();
        assert!(props.is_empty());
        options
    }

    async fn found(desk: &mut Desk, ids: &[i64]) -> Vec<usize> {
        let questions: Vec<Vec<Value>> = ids.iter().map(|id| vec![Value::Int(*id)]).collect();
        desk.find(&questions).await.unwrap().iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn answers_are_kept_as_long_as_the_user_says() {
        let row = |id| Object::from_iter([("id", Value::Int(id))]);
        for (json, wanted) in [
            (json!({}), [[1, 0], [0, 1], [0, 1]]),
            (json!({"cache": true}), [[1, 0], [1, 1], [1, 1]]),
            (json!({"cache": true, "cacheTtl": "5s"}), [[1, 0], [1, 1], [0, 1]]),
            (json!({"cache": true, "cacheTtl": 5000, "cacheMissingKey": true}), [[1, 0], [1, 0], [0, 1]]),
        ] {
            let (clock, table) = (Clock::stopped_at(Time(1000)), MemoryTable::new(Some("id".into())));
            table.apply(row(1), Change::Put);
            let shelf = Arc::new(Shelf(table.clone()));
            let mut desk = Desk::new(shelf, vec!["id".into()], options(json.clone()), clock.clone());
            assert_eq!(found(&mut desk, &[1, 2]).await, wanted[0], "{json}");
            table.apply(row(1), Change::Delete);
            table.apply(row(2), Change::Put);
            clock.set(Time(3000));
            assert_eq!(found(&mut desk, &[1, 2]).await, wanted[1], "{json}");
            clock.set(Time(20_000));
            assert_eq!(found(&mut desk, &[1, 2]).await, wanted[2], "{json}");
        }
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for json in [json!({"cahce": true}), json!({"cache": 1}), json!(true), json!({"cacheTtl": "soon"})] {
            let mut props = Map::from_iter([("lookup".to_owned(), json)]);
            assert_eq!(CacheOptions::take(&mut props).unwrap_err().code, "K0636");
        }
    }
}
