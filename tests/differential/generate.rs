//! Rules made up at random: statements that the planner must take, over rows of all kinds.

use super::case::Case;
use super::join::{RETAINED, is_lookup, is_table};
use super::random::Random;
use super::rows;
use super::words::{Name, Words};

/// The rule of that number.
pub fn case(seed: u64, number: u64) -> Case {
    let mut random = Random::new(seed, number);
    let windowed = random.chance(55);
    let event_time = random.chance(35);
    let others: &[&'static str] = match random.below(12) {
        // Two streams meet in windows only; a table keeps its rows for single ones too.
        0 | 1 if windowed => &["j"],
        2 if windowed => &["j", "k"],
        3 if windowed && !event_time => &["table_t", "j"],
        4 if !event_time => &["table_t"],
        5 if windowed => &["j", "lookup_t"],
        5 | 6 => &["lookup_t"],
        _ => &[],
    };
    let crowd = !others.is_empty() && random.chance(40);
    let (mut rows, length) = rows::stream(&mut random, crowd);
    if !others.is_empty() {
        rows::divide(&mut random, &mut rows, others);
    }
    // Of a stream that declares its columns each is what it is declared to be.
    let declared = others.is_empty() && !event_time && random.chance(20);
    if declared {
        rows.iter_mut().for_each(|row| rows::fit(&mut row.data));
    }
    let mut statement = Statement::new(&mut random, windowed, event_time, length);
    statement.words.others = others.to_vec();
    statement.words.look = others.is_empty();
    let sql = statement.write();
    let mut options = vec![];
    if event_time {
        rows::stamp(&mut random, &mut rows);
        options.push(("isEventTime", "true".to_string()));
        if random.chance(75) {
            options.push(("lateTolerance", format!("{}ms", random.pick(&[0, 300, 700, 2000, 5000]))));
        }
    }
    if random.chance(90) {
        options.push(("sendError", "true".to_string()));
    }
    if random.chance(20) {
        options.push(("sendNilField", "true".to_string()));
    }
    // Other windows refuse the option.
    if sql.contains("SLIDING") && random.chance(40) {
        options.push(("planOptimizeStrategy", "{windowOption: {windowVersion: v2}}".to_string()));
    }
    Case {
        name: format!("generated/{seed}_{number}"),
        streams: match declared {
            true => vec![format!(r#"CREATE STREAM s ({}) WITH (DATASOURCE="s", FORMAT="JSON")"#, rows::DECLARED)],
            false => std::iter::once(&"s").chain(others).map(|name| create(name)).collect(),
        },
        sql,
        options,
        start: rows::START,
        rows,
        length,
    }
}

fn create(name: &str) -> String {
    match () {
        () if is_table(name) => {
            format!(r#"CREATE TABLE {name} () WITH (DATASOURCE="{name}", FORMAT="JSON", RETAIN_SIZE="{RETAINED}")"#)
        }
        () if is_lookup(name) => {
            format!(r#"CREATE TABLE {name} () WITH (DATASOURCE="{name}", TYPE="memory", KIND="lookup", KEY="id")"#)
        }
        () => format!(r#"CREATE STREAM {name} () WITH (DATASOURCE="{name}", FORMAT="JSON", TIMESTAMP="ts")"#),
    }
}

struct Statement<'a> {
    words: Words<'a>,
    windowed: bool,
    event_time: bool,
    /// Of the run, in milliseconds.
    length: i64,
    /// With a name of its own, and those without.
    fields: Vec<String>,
    aggregated: bool,
}

impl<'a> Statement<'a> {
    fn new(random: &'a mut Random, windowed: bool, event_time: bool, length: i64) -> Self {
        let words = Words::new(random, windowed);
        Statement { words, windowed, event_time, length, fields: Vec::new(), aggregated: false }
    }

    fn write(&mut self) -> String {
        let grouping = self.windowed && self.words.random.chance(60);
        self.write_fields(grouping);
        let others = self.words.others.clone();
        let source = if others.is_empty() && self.words.random.chance(10) { "s AS src" } else { "s" };
        let joins: String = others.iter().map(|other| self.words.join(other)).collect();
        let mut sql = format!("SELECT {} FROM {source}{joins}", self.fields.join(", "));
        if self.words.random.chance(50) {
            let of_rows = self.words.rows_only(|words| words.condition(2));
            let of_all = match others.is_empty() && self.words.random.chance(10) {
                true => format!("{} >= {} AND ", self.words.column(), self.words.group_value(0)),
                false => String::new(),
            };
            sql += &format!(" WHERE {of_all}{of_rows}");
        }
        if !self.windowed {
            if others.is_empty() && self.words.random.chance(5) {
                sql += &format!(" LIMIT {}", self.words.random.below(3));
            }
            return sql;
        }
        let mut keys = Vec::new();
        let count =
            if self.aggregated || self.words.random.chance(15) { *self.words.random.pick(&[0, 0, 1, 1, 2]) } else { 0 };
        for _ in 0..count {
            keys.push(self.words.rows_only(|words| match words.random.below(7) {
                0 | 1 => "id".to_string(),
                6 => "t".to_string(),
                2 => format!("{} % 2", words.column()),
                3 => "window_end()".to_string(),
                4 => words.number(1),
                _ => words.condition(1),
            }));
        }
        // A window may stand anywhere among the keys.
        let place = self.words.random.below(keys.len() + 1);
        let window = self.window();
        let mut group = keys.clone();
        group.insert(place, window);
        sql += &format!(" GROUP BY {}", group.join(", "));
        if self.words.random.chance(25) {
            let aggregate = self.words.group_value(1);
            let having = match self.words.random.below(5) {
                4 => "last_value(ok, false)".to_string(),
                0 => format!("{aggregate} > {} AND count(*) < {}", self.words.literal(), self.words.random.range(1, 6)),
                1 => format!("NOT {aggregate} = {}", self.words.literal()),
                _ => format!("{aggregate} {} {}", self.words.comparison(), self.words.literal()),
            };
            sql += &format!(" HAVING {having}");
        }
        if self.words.random.chance(35) {
            let mut sorts = Vec::new();
            for _ in 0..self.words.random.range(1, 3) {
                let key = match self.words.random.below(6) {
                    0 | 1 => self.words.rows_only(|words| words.name()),
                    2 => format!("abs({})", self.words.rows_only(|words| words.name())),
                    3 => "count(*)".to_string(),
                    4 => "t".to_string(),
                    _ => format!("coalesce({}, 0)", self.words.rows_only(|words| words.number(1))),
                };
                let direction = *self.words.random.pick(&["", " ASC", " DESC", " DESC"]);
                sorts.push(format!("{key}{direction}"));
            }
            sql += &format!(" ORDER BY {}", sorts.join(", "));
        }
        if self.words.random.chance(20) {
            sql += &format!(" LIMIT {}", self.words.random.below(4));
        }
        sql
    }

    fn write_fields(&mut self, grouping: bool) {
        let shadows: &[&str] = if self.words.random.chance(25) { &["a", "x", "b"] } else { &["x", "y", "z", "w"] };
        let count = self.words.random.below(shadows.len() + 1);
        let names = &shadows[..count];
        let mut taken: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        for (n, name) in names.iter().enumerate() {
            // A column that a later alias hides would make circles.
            self.words.hidden = names[n + 1..].to_vec();
            self.words.within = Some(name);
            let (alias, expr) = if grouping && self.words.random.chance(45) {
                let value = self.words.group_value(2);
                self.aggregated = true;
                (Name { name, aggregated: true, looks: false }, value)
            } else {
                self.words.looked = false;
                let expr = self.words.rows_only(|words| match words.random.below(10) {
                    0 => words.column(),
                    1 | 2 => words.condition(2),
                    _ => words.number(3),
                });
                let looks = self.words.looked;
                (Name { name, aggregated: false, looks }, expr)
            };
            let invisible = if self.words.random.chance(12) { " INVISIBLE" } else { "" };
            self.fields.push(format!("{expr} AS {name}{invisible}"));
            self.words.within = None;
            self.words.aliases.push(alias);
        }
        self.words.hidden = Vec::new();
        for _ in 0..self.words.random.range(1, 3) {
            let (name, expr) = match self.words.random.below(9) {
                0..=2 => {
                    let name = *self.words.random.pick(&["a", "b", "c", "t", "id", "ok", "o", "l", "gone", "ts", "d"]);
                    (name.to_string(), name.to_string())
                }
                3 if self.windowed => ("window_start".to_string(), "window_start()".to_string()),
                4 if self.windowed => ("row_number".to_string(), self.words.row_number()),
                5 => ("upper".to_string(), format!("upper({})", self.words.rows_only(|words| words.text(1)))),
                6 => ("lag".to_string(), self.words.rows_only(|words| words.lag())),
                _ if grouping => {
                    let expr = self.words.group_value(2);
                    self.aggregated = true;
                    (String::new(), format!("({expr})"))
                }
                _ => (String::new(), format!("({})", self.words.rows_only(|words| words.number(2)))),
            };
            if name.is_empty() || !taken.contains(&name) {
                taken.push(name);
                self.fields.push(expr);
            }
        }
        if self.words.random.chance(7) {
            let alias = if self.words.random.chance(40) { " AS u" } else { "" };
            let call = if self.words.random.chance(75) { "unnest(l)" } else { "extract(o)" };
            self.fields.push(format!("{call}{alias}"));
        }
        if self.words.random.chance(if self.windowed { 3 } else { 12 }) && !grouping {
            let changed = self.changed_cols();
            self.fields.push(changed);
        }
        if grouping && !self.aggregated {
            self.aggregated = true;
            self.fields.push("count(*) AS n".to_string());
        }
        if self.words.random.chance(12) {
            let star = match self.words.random.below(4) {
                0 => "* EXCEPT (a, t)".to_string(),
                1 => format!("* REPLACE ({} AS r)", self.words.rows_only(|words| words.number(1))),
                _ => "*".to_string(),
            };
            self.fields.push(star);
        }
        if self.fields.is_empty() {
            self.fields.push("a".to_string());
        }
        self.words.random.shuffle(&mut self.fields);
    }

    /// Columns that are given where they changed, under names that no other field has.
    fn changed_cols(&mut self) -> String {
        let mut args = Vec::new();
        for _ in 0..self.words.random.range(1, 3) {
            args.push(match self.words.random.below(9) {
                0 => "*".to_string(),
                1 => "* EXCEPT (a, t)".to_string(),
                2 => format!("abs({})", self.words.column()),
                3 => self.words.rows_only(|words| words.number(1)),
                4 => "s.c".to_string(),
                _ => (*self.words.random.pick(&["b", "c", "t", "id", "ok", "o", "l", "gone"])).to_string(),
            });
        }
        let ignore = self.words.random.chance(50);
        let alias = if self.words.random.chance(25) { " AS cc" } else { "" };
        format!("changed_cols(\"c_\", {ignore}, {}){alias}", args.join(", "))
    }

    fn window(&mut self) -> String {
        // Windows of a few steps over the length of the run.
        let steps = self.words.random.range(1, 12);
        let millis = (self.length / steps / 100).clamp(1, 300) * 100;
        let (unit, count) = if self.words.random.chance(30) { ("ms", millis) } else { ("ss", (millis / 1000).max(1)) };
        let size = if unit == "ss" { 1000 } else { 1 };
        let step = if unit == "ss" { 1 } else { 100 };
        let more = |random: &mut Random, most: i64| random.range(1, (count * most / step).max(1)) * step;
        // There are no count windows in event time.
        let kinds: &[u8] = if self.event_time { &[0, 1, 2, 3, 5] } else { &[0, 1, 2, 3, 4, 5] };
        let kind = *self.words.random.pick(kinds);
        let text = match kind {
            0 => format!("TUMBLINGWINDOW({unit}, {count})"),
            // Often a window of whole intervals, which is put together from parts.
            1 if self.words.random.chance(60) => {
                format!("HOPPINGWINDOW({unit}, {}, {count})", count * self.words.random.range(1, 3))
            }
            1 => format!("HOPPINGWINDOW({unit}, {}, {count})", more(self.words.random, 3)),
            2 if self.words.random.chance(50) => format!("SLIDINGWINDOW({unit}, {count})"),
            2 => format!("SLIDINGWINDOW({unit}, {count}, {})", more(self.words.random, 1)),
            3 => format!("SESSIONWINDOW({unit}, {}, {count})", more(self.words.random, 4)),
            4 => {
                let length = self.words.random.range(1, 6);
                match self.words.random.chance(50) {
                    true => format!("COUNTWINDOW({length})"),
                    false => format!("COUNTWINDOW({length}, {})", self.words.random.range(1, length)),
                }
            }
            _ => {
                let begin = self.words.fixed_only(|words| words.condition(1));
                match self.words.random.chance(50) {
                    true => format!("STATEWINDOW({begin})"),
                    false => {
                        format!("STATEWINDOW({begin}, {})", self.words.fixed_only(|words| words.condition(1)))
                    }
                }
            }
        };
        let _ = size;
        let filter = if self.words.random.chance(20) {
            format!(" FILTER (WHERE {})", self.words.rows_only(|words| words.condition(1)))
        } else {
            String::new()
        };
        let over = match kind {
            2 if self.words.random.chance(40) => {
                format!(" OVER (WHEN {})", self.words.rows_only(|words| words.condition(1)))
            }
            5 if self.words.random.chance(50) => " OVER (PARTITION BY id)".to_string(),
            _ => String::new(),
        };
        format!("{text}{filter}{over}")
    }
}
