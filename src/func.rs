//! The function catalogue: what can be called in SQL.
//!
//! A function is a row of a `const` table in the file of its family, with its doc and its examples; the code stands
//! below the table. A function sees values, never trees: how a call is compiled is the business of `expr`. Functions
//! of plugins are rows of the same type, made at run time. `Value::Absent` never reaches a function.
//!
//! Who calls a function applies its [`NullGuard`] first ([`guarded`]) and puts its name before the text of a fault. A
//! call is checked once, when the rule is made ([`check_call`]): the number of arguments against the signature, and
//! literals against what the function takes. No argument makes a function panic, nor grow without bound.

mod acc;
pub mod aggregate;
pub mod analytic;
mod args;
mod array;
mod convert;
mod datetime;
mod hash;
pub mod hit;
mod incremental;
mod json;
mod jsonpath;
mod math;
mod object;
mod other;
pub mod rows;
mod same;
mod statistics;
mod text;
mod text_format;
mod text_pattern;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::data::{Object, Text, Time, Value};
use crate::diag::Result;

pub use convert::{compressed, decompressed};

/// What a JSON path leads to in a value: a value, or an array of all that fits.
///
/// # Errors
/// `Eval` for a text that is no path, and for a plain path that leads nowhere.
pub fn json_path(root: &Value, path: &str) -> Result<Value> {
    jsonpath::query(root, path).map(|found| match found {
        jsonpath::Found::One(value) => value,
        jsonpath::Found::Many(values) => Value::array(values),
    })
}

/// What a function may know beside its arguments.
pub struct Ctx<'a> {
    /// The rule's clock.
    pub now: Time,
    /// The time of the row, or the trigger of the window for an aggregated row.
    pub row_time: Option<Time>,
    pub rule: &'a RuleInfo,
}

/// The same for all calls of one rule.
#[derive(Clone)]
pub struct RuleInfo {
    pub id: Text,
    /// When the rule was started.
    pub started: Time,
    /// `basic.timezone`.
    pub zone: TimeZone,
    /// Static properties, `KUIPER_PROPS_*`, names in lower case.
    pub props: Arc<Object>,
    pub around: Arc<dyn Around>,
}

/// What functions reach beyond their arguments.
pub trait Around: Send + Sync {
    /// Waits so long, as the rule's clock goes.
    fn pause(&self, _: Duration) {}

    /// The rule is to end: nothing is waited for any more.
    fn hurry(&self) {}

    /// A value of the keyed state.
    fn keyed_state(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

/// No time to wait for, and no state.
struct Nowhere;

impl Around for Nowhere {}

impl RuleInfo {
    /// For calls outside of any rule: folding of constants, examples.
    pub fn nowhere() -> Self {
        let (id, props, around) = (Text::default(), Arc::default(), Arc::new(Nowhere));
        RuleInfo { id, started: Time(0), zone: TimeZone::UTC, props, around }
    }
}

/// One function. Everything in it is static: what a plugin brings is leaked, as its library is never unloaded either.
#[derive(Clone, Copy)]
pub struct Func {
    pub name: &'static str,
    /// For example `(text, int [, int]) -> text`; `...` repeats the last one. The arity check reads it.
    pub signature: &'static str,
    pub about: &'static str,
    /// Calls as written in SQL, and the literal or JSON text of their result. Each is executed by a test.
    pub examples: &'static [(&'static str, &'static str)],
    pub family: &'static str,
    pub body: Body,
    /// What is returned without a call when an argument is null, or an empty array or object.
    pub null: NullGuard,
    /// Looks at the arguments when a rule is made: literals are known, the rest is not.
    pub check: Option<Check>,
    /// The same, asked of a plugin.
    pub validate: Option<&'static Validate>,
    /// Gives the same result for the same arguments, so that constants can be folded.
    pub pure: bool,
}

/// Why a call is wrong, as far as the rule's text tells; the name of the function is put before it.
pub type Check = fn(&[Arg]) -> std::result::Result<(), String>;

/// A check that is made at run time.
pub type Validate = dyn Fn(&[Arg]) -> std::result::Result<(), String> + Send + Sync;

#[derive(Clone, Copy)]
pub enum Body {
    Scalar(fn(&[Value], &Ctx<'_>) -> Result<Value>),
    /// A scalar that remembers: one instance a call in the statement.
    Stateful(fn() -> Box<dyn Stateful>),
    Aggregate(fn() -> Box<dyn Accumulator>),
    /// A scalar of a plugin, called with a batch of rows; one instance a call in the statement.
    Guest(&'static (dyn Fn() -> Box<dyn Guest> + Send + Sync)),
    /// An aggregate of a plugin.
    GuestAggregate(&'static (dyn Fn() -> Box<dyn Accumulator> + Send + Sync)),
    /// Its meaning needs the plan: `meta`, `lag`, `row_number`, `unnest`, `window_start` and their like.
    Special(Special),
}

/// Functions that `plan` and `expr` know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `meta(key)`, `mqtt(topic)`.
    Meta,
    /// `window_start()`, `window_end()`, `window_trigger()`.
    WindowBound,
    /// `event_time()`.
    EventTime,
    /// lag, latest, changed_col, had_changed, acc_*.
    Analytic,
    /// last_hit_count and its like.
    Hit,
    /// `row_number()`.
    RowNumber,
    /// unnest, extract.
    Rows,
    /// changed_cols.
    Columns,
}

/// A function that remembers something between calls.
pub trait Stateful: Send {
    fn call(&mut self, args: &[Value], ctx: &Ctx<'_>) -> Result<Value>;
    fn save(&self) -> Value;
    fn load(&mut self, saved: Value) -> Result<()>;
}

/// What an aggregate keeps of one group. `args` has one value an argument; for `*` it is the whole row as an object.
pub trait Accumulator: Send {
    fn add(&mut self, args: &[Value], ctx: &Ctx<'_>) -> Result<()>;
    /// The result so far; may be asked more than once.
    fn give(&self) -> Result<Value>;
    fn save(&self) -> Value;
    fn load(&mut self, saved: Value) -> Result<()>;

    /// Whether `take` can be called: what came of some rows and what came of later ones make what comes of all.
    fn takes(&self) -> bool {
        false
    }

    /// Takes in what another of its kind, fed with rows that came later, saved.
    fn take(&mut self, _later: Value) -> Result<()> {
        Err(crate::diag::Fault::bug("an aggregate was to be put together that cannot be"))
    }
}

/// A scalar function of a plugin.
pub trait Guest: Send + Sync {
    /// One result for each of `rows` rows, of which there is one at least; `args` holds their arguments, row after row.
    fn call(&self, args: &[&Value], rows: usize, ctx: &Ctx<'_>) -> Vec<Result<Value>>;

    /// What it stores that is to be saved with the rule; an empty list where it stores nothing.
    fn save(&self) -> Value {
        Value::array(Vec::new())
    }

    /// Goes on with what `save` gave.
    fn load(&self, _saved: &Value) -> Result<()> {
        Ok(())
    }
}

/// Answer to an argument that is null or an empty array or object, given before the function runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullGuard {
    /// The function sees nulls.
    Off,
    Null,
    False,
    Zero,
}

/// What is known of an argument when a rule is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Literal(Value),
    /// DD, HH, MI, SS, MS.
    Unit,
    Wildcard,
    /// A plain column or alias.
    Column(Text),
    Other,
}

impl Func {
    pub const fn scalar(
        name: &'static str,
        signature: &'static str,
        call: fn(&[Value], &Ctx<'_>) -> Result<Value>,
    ) -> Self {
        Func::with(name, signature, Body::Scalar(call), NullGuard::Null)
    }

    pub const fn aggregate(name: &'static str, signature: &'static str, start: fn() -> Box<dyn Accumulator>) -> Self {
        Func::with(name, signature, Body::Aggregate(start), NullGuard::Off)
    }

    pub const fn stateful(name: &'static str, signature: &'static str, start: fn() -> Box<dyn Stateful>) -> Self {
        Func { pure: false, ..Func::with(name, signature, Body::Stateful(start), NullGuard::Off) }
    }

    pub const fn special(name: &'static str, signature: &'static str, what: Special) -> Self {
        Func { pure: false, ..Func::with(name, signature, Body::Special(what), NullGuard::Off) }
    }

    /// Whether it takes the rows of a group.
    pub fn is_aggregate(&self) -> bool {
        matches!(self.body, Body::Aggregate(_) | Body::GuestAggregate(_))
    }

    const fn with(name: &'static str, signature: &'static str, body: Body, null: NullGuard) -> Self {
        let (about, examples, family, check, validate) = ("", [].as_slice(), "", None, None);
        Func { name, signature, about, examples, family, body, null, check, validate, pure: true }
    }

    pub const fn family(mut self, family: &'static str) -> Self {
        self.family = family;
        self
    }

    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    pub const fn examples(mut self, examples: &'static [(&'static str, &'static str)]) -> Self {
        self.examples = examples;
        self
    }

    pub const fn null(mut self, guard: NullGuard) -> Self {
        self.null = guard;
        self
    }

    pub const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Two calls with the same arguments may differ, so a call is never folded or shared.
    pub const fn impure(mut self) -> Self {
        self.pure = false;
        self
    }
}

/// All functions that a rule can call: ours, and those of plugins.
#[derive(Clone, Default)]
pub struct Catalogue {
    guests: BTreeMap<Text, &'static Func>,
}

impl Catalogue {
    /// Ours heed no case, those of plugins do; ours come first.
    pub fn find(&self, name: &str) -> Option<&'static Func> {
        static OURS: OnceLock<HashMap<&'static str, &'static Func>> = OnceLock::new();
        let ours = OURS.get_or_init(|| all().map(|func| (func.name, func)).collect());
        let found = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => ours.get(name.to_ascii_lowercase().as_str()),
            false => ours.get(name),
        };
        found.or_else(|| self.guests.get(name)).copied()
    }

    /// Every name, for "did you mean" and for lists.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        all().map(|func| func.name).chain(self.guests.keys().map(|name| name.as_str()))
    }

    /// Adds or replaces a function of a plugin.
    pub fn add(&mut self, func: &'static Func) {
        self.guests.insert(func.name.into(), func);
    }

    pub fn remove(&mut self, name: &str) {
        self.guests.remove(name);
    }
}

/// The tables of all families.
const FAMILIES: &[&[Func]] = &[
    aggregate::FUNCS,
    statistics::FUNCS,
    math::FUNCS,
    text::FUNCS,
    text_format::FUNCS,
    text_pattern::FUNCS,
    hash::FUNCS,
    convert::FUNCS,
    datetime::FUNCS,
    array::FUNCS,
    object::FUNCS,
    json::FUNCS,
    analytic::FUNCS,
    rows::FUNCS,
    window::FUNCS,
    hit::FUNCS,
    other::FUNCS,
    incremental::FUNCS,
];

/// All built-in functions.
pub fn all() -> impl Iterator<Item = &'static Func> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The answer that the null guard gives in place of a call, if it gives one.
pub fn guarded(func: &Func, args: &[Value]) -> Option<Value> {
    let answer = match func.null {
        NullGuard::Off => return None,
        NullGuard::Null => Value::Null,
        NullGuard::False => Value::Bool(false),
        NullGuard::Zero => Value::Int(0),
    };
    let empty = |arg: &Value| match arg {
        Value::Absent | Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    args.iter().any(empty).then_some(answer)
}

/// How many arguments a function takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arity {
    /// The numbers that are right, ascending.
    pub counts: Vec<usize>,
    /// More than the last of them is right too.
    pub more: bool,
}

impl Arity {
    pub fn fits(&self, count: usize) -> bool {
        self.counts.contains(&count) || (self.more && self.counts.last().is_some_and(|most| count > *most))
    }

    /// `1 argument`, `2 or 3 arguments`, `at least 2 arguments`.
    fn words(&self) -> String {
        let least = self.counts.first().copied().unwrap_or(0);
        if self.more && self.counts.len() == 1 {
            return format!("at least {least} argument{}", if least == 1 { "" } else { "s" });
        }
        let counts: Vec<_> = self.counts.iter().map(usize::to_string).collect();
        match counts.as_slice() {
            [] => "no argument".into(),
            [only] if only == "0" => "no argument".into(),
            [only] => format!("{only} argument{}", if least == 1 { "" } else { "s" }),
            [first @ .., last] => {
                format!("{} or {last}{} arguments", first.join(", "), if self.more { " or more" } else { "" })
            }
        }
    }
}

/// Reads the arity off the signature: a bracket opens arguments that may be left out together, `...` repeats the last.
pub fn arity(func: &Func) -> Arity {
    let list = func.signature.split("->").next().unwrap_or_default();
    let mut counts = Vec::new();
    let (mut count, mut more, mut word) = (0, false, String::new());
    for letter in list.chars().chain([' ']) {
        if letter.is_alphanumeric() || matches!(letter, '.' | '|' | '*' | '_') {
            word.push(letter);
            continue;
        }
        match std::mem::take(&mut word).as_str() {
            "" => {}
            "..." => more = true,
            _ => count += 1,
        }
        if letter == '[' {
            counts.push(count);
        }
    }
    counts.push(count);
    Arity { counts, more }
}

/// Whether a call is right as far as a rule's text tells: the number of arguments, and those that are literals. The
/// answer to a wrong one is a sentence that says what was expected and what was found.
pub fn check_call(func: &Func, args: &[Arg]) -> std::result::Result<(), String> {
    let arity = arity(func);
    if !arity.fits(args.len()) {
        let found = match args.len() {
            0 => "none is given".into(),
            1 => "1 is given".into(),
            count => format!("{count} are given"),
        };
        return Err(format!("`{}` takes {}, but {found}", func.name, arity.words()));
    }
    let checked = match (func.check, func.validate) {
        (Some(check), _) => check(args),
        (None, Some(validate)) => validate(args),
        (None, None) => Ok(()),
    };
    checked.map_err(|problem| format!("`{}`: {problem}", func.name))
}

#[cfg(test)]
mod tests;
