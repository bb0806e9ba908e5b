//! Expressions made up at random. Most fit their kinds, some do not, so that rows fail now and then.

use super::join::is_lookup;
use super::random::Random;

/// An alias that expressions may use.
#[derive(Clone, Copy)]
pub struct Name {
    pub name: &'static str,
    pub aggregated: bool,
    /// An analytic function stands in it.
    pub looks: bool,
}

pub struct Words<'a> {
    pub random: &'a mut Random,
    pub aliases: Vec<Name>,
    /// Columns that must not be named.
    pub hidden: Vec<&'static str>,
    /// The alias whose expression is made.
    pub within: Option<&'static str>,
    /// Sources beside the first, and that there are no analytic functions then.
    pub others: Vec<&'static str>,
    /// An analytic function was made since this was cleared.
    pub looked: bool,
    windowed: bool,
    /// Aggregates, and aliases of such, may stand here.
    group: bool,
    /// Analytic functions may stand here.
    pub look: bool,
}

impl<'a> Words<'a> {
    pub fn new(random: &'a mut Random, windowed: bool) -> Self {
        Words {
            random,
            aliases: Vec::new(),
            hidden: Vec::new(),
            within: None,
            others: Vec::new(),
            looked: false,
            windowed,
            group: false,
            look: true,
        }
    }

    /// Without aggregates.
    pub fn rows_only<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.group, false);
        let made = make(self);
        self.group = before;
        made
    }

    /// Without aggregates and analytic functions.
    pub fn fixed_only<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.look, false);
        let made = self.rows_only(make);
        self.look = before;
        made
    }

    /// A column of numbers.
    pub fn column(&mut self) -> String {
        let hidden =
            |name: &&&str| self.hidden.contains(*name) || self.aliases.iter().any(|alias| alias.name == **name);
        if !self.others.is_empty() && self.random.chance(30) {
            let other = *self.random.pick(&self.others);
            return match self.random.below(3) {
                0 => "d".to_string(),
                1 => format!("{other}.d"),
                _ => format!("{other}.a"),
            };
        }
        let free: Vec<&str> = ["a", "b", "c"].iter().filter(|name| !hidden(name)).copied().collect();
        let own: Vec<&str> =
            free.into_iter().chain(self.within.filter(|name| ["a", "b", "c"].contains(name))).collect();
        if own.is_empty() || self.random.chance(8) {
            return format!("s.{}", self.random.pick(&["a", "b", "c"]));
        }
        (*self.random.pick(&own)).to_string()
    }

    /// A column or an alias.
    pub fn name(&mut self) -> String {
        let (group, look) = (self.group, self.look);
        let fits = |alias: &&Name| (group || !alias.aggregated) && (look || !alias.looks);
        let usable: Vec<Name> = self.aliases.iter().filter(fits).copied().collect();
        if !usable.is_empty() && self.random.chance(40) {
            let alias = *self.random.pick(&usable);
            self.looked |= alias.looks;
            return alias.name.to_string();
        }
        self.column()
    }

    pub fn literal(&mut self) -> String {
        (*self.random.pick(&["0", "1", "2", "3", "2.5", "-1", "7", "10", "0.5", "NULL"])).to_string()
    }

    pub fn comparison(&mut self) -> &'static str {
        self.random.pick::<&'static str>(&["=", "!=", "<", "<=", ">", ">="])
    }

    fn atom(&mut self) -> String {
        match self.random.below(20) {
            0 => "o->k".to_string(),
            1 => format!("l[{}]", *self.random.pick(&[-1, 0, 0, 0, 1])),
            2..=5 => self.literal(),
            6 if self.windowed => (*self.random.pick(&["window_end()", "window_start()"])).to_string(),
            7 if self.random.chance(5) => (*self.random.pick(&["t", "ok", "gone", "o", "l"])).to_string(),
            _ => self.name(),
        }
    }

    pub fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.atom();
        }
        let d = depth - 1;
        match self.random.below(22) {
            0..=2 => self.atom(),
            3..=8 => {
                let op = *self.random.pick(&["+", "-", "*"]);
                format!("({} {op} {})", self.number(d), self.number(d))
            }
            9 => {
                // Zero fails, so mostly by what is not.
                let by = match self.random.chance(25) {
                    true => self.number(0),
                    false => (*self.random.pick(&["2", "3", "2.5", "-2", "7", "0.5"])).to_string(),
                };
                format!("({} {} {by})", self.number(d), self.random.pick(&["/", "%"]))
            }
            10 => format!("(- {})", self.number(d)),
            11 | 12 => {
                let (when, then) = (self.condition(d), self.number(d));
                let second = match self.random.chance(40) {
                    true => format!(" WHEN {} THEN {}", self.condition(d), self.number(d)),
                    false => String::new(),
                };
                let last = match self.random.chance(60) {
                    true => format!(" ELSE {}", self.number(d)),
                    false => String::new(),
                };
                format!("CASE WHEN {when} THEN {then}{second}{last} END")
            }
            13 => {
                let (of, when, then) = (self.number(d), self.number(0), self.number(d));
                format!("CASE {of} WHEN {when} THEN {then} WHEN 2 THEN b ELSE {} END", self.number(0))
                    .replace(" THEN b", &format!(" THEN {}", self.column()))
            }
            14 => format!("abs({})", self.number(d)),
            15 => format!("coalesce({}, {})", self.number(d), self.number(0)),
            16 => {
                let function = *self.random.pick(&["floor", "ceil", "sign", "round"]);
                format!("{function}({})", self.number(d))
            }
            17 => format!("length({})", self.text(d)),
            18 => "cardinality(l)".to_string(),
            19 => {
                let of = if self.random.chance(15) { self.number(d) } else { format!("length({})", self.text(d)) };
                format!("({of} {} {})", self.random.pick(&["&", "|", "^"]), self.random.range(0, 7))
            }
            20 if self.look && !self.group => self.look_back(),
            _ => format!("mod({}, {})", self.number(d), self.number(0)),
        }
    }

    pub fn text(&mut self, depth: usize) -> String {
        if depth == 0 {
            return (*self.random.pick(&["t", "id", "\"p1\"", "\"\"", "t", "o->s"])).to_string();
        }
        match self.random.below(6) {
            0 => format!("concat({}, {})", self.text(depth - 1), self.text(0)),
            1 => format!("lower({})", self.text(depth - 1)),
            2 => format!("CASE WHEN {} THEN {} ELSE {} END", self.condition(depth - 1), self.text(0), self.text(0)),
            _ => self.text(0),
        }
    }

    pub fn condition(&mut self, depth: usize) -> String {
        let d = depth.saturating_sub(1);
        let not = if self.random.chance(40) { "NOT " } else { "" };
        match self.random.below(if depth == 0 { 8 } else { 24 }) {
            0..=7 => {
                let op = self.comparison();
                format!("({} {op} {})", self.number(d), self.number(d))
            }
            8..=12 => {
                let op = *self.random.pick(&["AND", "OR"]);
                format!("({} {op} {})", self.condition(d), self.condition(d))
            }
            13 => format!("(NOT {})", self.condition(d)),
            14 | 15 => format!("({} {not}BETWEEN {} AND {})", self.number(d), self.number(0), self.number(d)),
            16 => format!("({} {not}IN ({}, {}, {}))", self.number(d), self.number(0), self.literal(), self.number(0)),
            17 => format!("({} {not}IN l)", self.number(d)),
            18 => {
                let pattern = match self.random.chance(80) {
                    true => *self.random.pick(&["\"p%\"", "\"_1\"", "\"%\"", "\"p1\"", "\"%x%\"", "\"\"", "\"p_%1\""]),
                    false => "id",
                };
                format!("({} {not}LIKE {pattern})", self.text(1))
            }
            19 => {
                let not = if not.is_empty() { "" } else { "NOT " };
                format!("({} IS {not}NULL)", self.number(d))
            }
            20 => format!("isnull({})", self.number(d)),
            21 => format!("({} {} {})", self.text(d), self.comparison(), self.text(0)),
            22 if self.look && !self.group => self.changed(),
            _ => (*self.random.pick(&["ok", "true", "false", "ok = true", "startswith(t, \"p\")"])).to_string(),
        }
    }

    /// JOIN of one source with what stands before it.
    pub fn join(&mut self, other: &str) -> String {
        if is_lookup(other) {
            return self.lookup(other);
        }
        let kind = *self.random.pick(&["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "INNER", "LEFT"]);
        if kind == "CROSS" || self.random.chance(8) {
            return format!(" {kind} JOIN {other}");
        }
        let equal = *self.random.pick(&["id", "id", "a"]);
        let on = match self.random.below(6) {
            0 => format!("{other}.{equal} = s.{equal} AND s.b > {other}.d"),
            1 => format!("s.a + 1 = {other}.d AND {other}.id != s.id"),
            2 => format!("s.b >= {other}.a"),
            3 => format!("s.{equal} = {other}.{equal} OR {other}.d = 2"),
            4 if self.random.chance(30) => format!("{other}.ok"),
            _ => format!("s.{equal} = {other}.{equal}"),
        };
        format!(" {kind} JOIN {other} ON {on}")
    }

    /// A lookup table is asked by columns that are equal to something; other conditions stand behind.
    fn lookup(&mut self, table: &str) -> String {
        let kind = *self.random.pick(&["INNER", "LEFT"]);
        let on = match self.random.below(7) {
            0 => format!("{table}.id = s.id AND s.b > {table}.d"),
            1 => format!("{table}.a = s.a"),
            2 => format!("s.id = {table}.id AND {table}.a = s.a"),
            3 => format!("s.a + 1 = {table}.d AND {table}.ok"),
            _ => format!("s.id = {table}.id"),
        };
        format!(" {kind} JOIN {table} ON {on}")
    }

    /// OVER, or nothing.
    fn over(&mut self) -> String {
        let part = match self.random.below(3) {
            0 => "PARTITION BY id".to_string(),
            1 => format!("PARTITION BY id, {} % 2", self.column()),
            _ => String::new(),
        };
        let when = match self.random.chance(35) {
            true => format!("WHEN {}", self.fixed_only(|words| words.condition(1))),
            false => String::new(),
        };
        let over = format!("{part} {when}").trim().to_string();
        if over.is_empty() { over } else { format!(" OVER ({over})") }
    }

    pub fn lag(&mut self) -> String {
        if !self.look {
            return "abs(s.a)".to_string();
        }
        self.looked = true;
        let of = self.rows_only(|words| words.number(1));
        let rest = match self.random.below(4) {
            0 => ", 2".to_string(),
            1 => format!(", {}, {}", self.random.range(1, 3), self.literal()),
            2 => format!(", 1, {}, {}", self.literal(), self.random.chance(50)),
            _ => String::new(),
        };
        format!("lag({of}{rest}){}", self.over())
    }

    /// An analytic number.
    fn look_back(&mut self) -> String {
        self.looked = true;
        match self.random.below(8) {
            0..=2 => self.lag(),
            3 => format!("latest({}){}", self.number(1), self.over()),
            4 => format!("latest({}, {}){}", self.number(1), self.literal(), self.over()),
            5 => format!("changed_col({}, {}){}", self.random.chance(50), self.number(1), self.over()),
            _ => {
                let name = *self.random.pick(&["acc_sum", "acc_count", "acc_avg", "acc_max", "acc_min"]);
                format!("{name}({}){}", self.number(1), self.over())
            }
        }
    }

    pub fn row_number(&mut self) -> String {
        let part = match self.random.below(4) {
            0 => "PARTITION BY id".to_string(),
            1 => format!("PARTITION BY id, {} % 2", self.column()),
            _ => String::new(),
        };
        let mut sorts = Vec::new();
        for _ in 0..self.random.below(3) {
            let plain = self.random.chance(60);
            let key = self.fixed_only(|words| match plain {
                true => words.name(),
                false => format!("coalesce({}, 0)", words.number(1)),
            });
            sorts.push(format!("{key}{}", self.random.pick(&["", " ASC", " DESC"])));
        }
        let order = if sorts.is_empty() { String::new() } else { format!("ORDER BY {}", sorts.join(", ")) };
        let over = format!("{part} {order}").trim().to_string();
        if over.is_empty() { "row_number()".to_string() } else { format!("row_number() OVER ({over})") }
    }

    fn changed(&mut self) -> String {
        self.looked = true;
        let more = if self.random.chance(40) { ", t" } else { "" };
        format!("had_changed({}, {}{more}){}", self.random.chance(50), self.number(1), self.over())
    }

    /// A value of a group: an aggregate, or something made of aggregates.
    pub fn group_value(&mut self, depth: usize) -> String {
        let name = *self.random.pick(&["count", "sum", "avg", "min", "max", "sum", "count"]);
        let aggregate = match self.random.below(12) {
            0 | 1 => "count(*)".to_string(),
            2 => format!("collect({})", self.rows_only(|words| words.number(1))),
            3 => format!("last_value({}, {})", self.rows_only(|words| words.number(1)), self.random.chance(50)),
            4 => format!("{}(t)", self.random.pick(&["min", "max", "count"])),
            5 => "collect(*)".to_string(),
            6 => format!("{}({})", self.random.pick(&["median", "stddev"]), self.rows_only(|words| words.column())),
            // Of a column, since values of expressions hardly come twice.
            7 => format!("{}(DISTINCT {})", self.random.pick(&["count", "sum", "avg"]), self.column()),
            8 => format!("count(DISTINCT {})", self.random.pick(&["id", "ok"])),
            _ => format!("{name}({})", self.rows_only(|words| words.number(1))),
        };
        let whole = aggregate.starts_with("collect") || aggregate.contains("(t)");
        if depth == 0 || whole || self.random.chance(60) {
            return aggregate;
        }
        match self.random.below(3) {
            0 => format!("({aggregate} {} {})", self.random.pick(&["+", "-", "*"]), self.group_value(0)),
            1 => format!("CASE WHEN {aggregate} > {} THEN {aggregate} ELSE 0 END", self.literal()),
            _ => format!("({aggregate} + {})", self.literal()),
        }
    }
}
