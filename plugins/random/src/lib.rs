//! The source `random`: on each interval one row of random integers.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};

use kuiper_plugin::{Context, Emitter, Error, Owned, PullSource, Record, Result, Time};

kuiper_plugin::properties! {
    /// Properties of the source `random`; `interval` is taken by the engine.
    #[derive(Debug)]
    pub struct Options {
        /// Names of the columns, each with the integer that its values start at.
        pattern: Record,
        /// How many different values a column can have: each is the start plus 0 to seed - 1.
        seed: i64,
        /// How many rows to remember so that none of them comes again: 0 none, negative all.
        deduplicate: i64 = 0,
        /// Only `json`.
        format: String = "json".to_owned(),
    }
}

/// Key under which the rows to remember are kept in the rule's state.
const SEEN: &str = "input";

/// The source.
pub struct Random {
    starts: Vec<(String, i64)>,
    seed: u64,
    deduplicate: i64,
    dice: Dice,
    order: VecDeque<String>,
    seen: HashSet<String>,
    /// The rows of before were taken up.
    remembers: bool,
}

impl Default for Random {
    fn default() -> Random {
        Random {
            starts: Vec::new(),
            seed: 1,
            deduplicate: 0,
            dice: Dice(RandomState::new().build_hasher().finish()),
            order: VecDeque::new(),
            seen: HashSet::new(),
            remembers: false,
        }
    }
}

impl PullSource for Random {
    type Config = Options;

    fn provision(&mut self, _: &Context, options: Options) -> Result<()> {
        if !options.format.eq_ignore_ascii_case("json") {
            return Err(Error::never(format!("property `format` must be `json`, found `{}`", options.format)));
        }
        if options.seed <= 0 {
            return Err(Error::never(format!("property `seed` must be greater than 0, found {}", options.seed)));
        }
        self.starts = options.pattern.iter().map(start).collect::<Result<_>>()?;
        self.seed = options.seed as u64;
        self.deduplicate = options.deduplicate;
        Ok(())
    }

    fn pull(&mut self, context: &Context, _: Time, out: &Emitter) -> Result<()> {
        // Before the first row an earlier version may still be giving its last ones.
        if !self.remembers {
            self.remember(context);
            self.remembers = true;
        }
        let row: Record = self
            .starts
            .iter()
            .map(|(name, start)| (name.as_str(), start.wrapping_add(self.dice.below(self.seed) as i64)))
            .collect();
        if self.deduplicate != 0 && !self.is_new(context, &row) {
            return Ok(());
        }
        out.row(row)
    }
}

impl Random {
    /// Takes up the rows that were given before a restart.
    fn remember(&mut self, context: &Context) {
        if let (true, Some(Owned::Array(rows))) = (self.deduplicate != 0, context.state(SEEN)) {
            let texts = rows.into_iter().filter_map(|row| match row {
                Owned::Text(row) => Some(row),
                _ => None,
            });
            self.order = texts.collect();
            self.seen = self.order.iter().cloned().collect();
        }
    }

    fn is_new(&mut self, context: &Context, row: &Record) -> bool {
        let text = Owned::Object(row.clone()).to_string();
        if !self.seen.insert(text.clone()) {
            return false;
        }
        self.order.push_back(text);
        if self.deduplicate > 0 && self.order.len() as i64 > self.deduplicate {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
        context.set_state(SEEN, self.order.iter().map(|row| Owned::Text(row.clone())).collect::<Vec<_>>());
        true
    }
}

fn start((name, start): (&str, &Owned)) -> Result<(String, i64)> {
    match start {
        Owned::Int(start) => Ok((name.to_owned(), *start)),
        Owned::Float(start) if start.fract() == 0.0 && start.abs() < 9e15 => Ok((name.to_owned(), *start as i64)),
        other => Err(Error::never(format!("property `pattern`: `{name}` must be an integer, found {other}"))),
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    /// A number from 0 to `bound - 1`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(word ^ word >> 31) * u128::from(bound)) >> 64) as u64
    }
}

kuiper_plugin::export! {
    pull_source "Random" => constructor(Random::default) {
        about: "Rows of random integers, one on each interval.",
        state: 1..=1,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuiper_plugin::testing::{json, Host};

    fn pulled(properties: &str, times: usize) -> Vec<Record> {
        let host = Host::load(kuiper_plugin_v1);
        let source = host.source("Random").unwrap();
        source.provision(json(properties)).unwrap();
        source.connect().unwrap();
        (0..times).for_each(|_| source.pull(0).unwrap());
        source.rows()
    }

    #[test]
    fn values_stand_between_start_and_seed() {
        let rows = pulled(r#"{"pattern": {"count": 50, "n": -3}, "seed": 10}"#, 100);
        assert_eq!(rows.len(), 100);
        for row in &rows {
            assert!(matches!(row.get("count"), Some(Owned::Int(50..=59))), "{row:?}");
            assert!(matches!(row.get("n"), Some(Owned::Int(-3..=6))), "{row:?}");
        }
        assert!(rows.iter().any(|row| row != &rows[0]));
    }

    #[test]
    fn remembered_rows_do_not_come_again() {
        let of = |deduplicate: i64| {
            pulled(&format!(r#"{{"pattern": {{"a": 0}}, "seed": 4, "deduplicate": {deduplicate}}}"#), 300)
        };
        assert_eq!(of(-1).len(), 4);
        let rows = of(3);
        assert!(rows.len() > 4);
        for four in rows.windows(4) {
            assert!(!four[..3].contains(&four[3]), "{four:?}");
        }
    }

    #[test]
    fn remembers_across_a_restart() {
        let host = Host::load(kuiper_plugin_v1);
        for _ in 0..2 {
            let source = host.source("Random").unwrap();
            source.provision(json(r#"{"pattern": {"a": 0}, "seed": 2, "deduplicate": -1}"#)).unwrap();
            source.connect().unwrap();
            (0..100).for_each(|_| source.pull(0).unwrap());
            assert_eq!(source.rows().len(), 2);
        }
    }

    #[test]
    fn wrong_properties_are_named() {
        let host = Host::load(kuiper_plugin_v1);
        let refused = |properties: &str| {
            let source = host.source("Random").unwrap();
            source.provision(json(properties)).unwrap_err().to_string()
        };
        assert_eq!(refused(r#"{"seed": 1}"#), "property `pattern` is missing: it must be an object");
        assert_eq!(
            refused(r#"{"seed": 1, "pattern": {"a": "x"}}"#),
            "property `pattern`: `a` must be an integer, found \"x\""
        );
        assert_eq!(refused(r#"{"seed": 0, "pattern": {}}"#), "property `seed` must be greater than 0, found 0");
    }
}
