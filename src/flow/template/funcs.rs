//! The table of all functions, and how their arguments are read: as Sprig does, which takes almost anything for a text
//! or a number.

use std::cell::RefCell;

use gtmpl_ng::{Func, FuncError, Number, NumberKind, Value};

use super::{Facts, codes, lists, numbers, texts, times};

pub(super) type Outcome = Result<Value, FuncError>;

thread_local! {
    /// The facts of the render that runs on this thread: functions of `gtmpl_ng` are plain pointers and have no other way
    /// to know anything.
    static FACTS: RefCell<Option<Facts>> = const { RefCell::new(None) };
}

/// Runs with facts for the functions that are called meanwhile.
pub(super) fn with_facts<T>(facts: &Facts, run: impl FnOnce() -> T) -> T {
    let before = FACTS.replace(Some(facts.clone()));
    let result = run();
    FACTS.set(before);
    result
}

/// The facts of the running render.
pub(super) fn facts() -> Result<Facts, FuncError> {
    FACTS.with_borrow(Clone::clone).ok_or_else(|| fail("the function was called outside of a template"))
}

/// Every function beside those of Go itself.
pub(super) const FUNCS: &[(&str, Func)] = &[
    ("abbrev", texts::abbrev),
    ("add", numbers::add),
    ("add1", numbers::add1),
    ("addf", numbers::addf),
    ("append", lists::append),
    ("atoi", numbers::int),
    ("b64dec", codes::b64dec),
    ("b64enc", codes::b64enc),
    ("base64", codes::base64_of),
    ("cat", texts::cat),
    ("ceil", numbers::ceil),
    ("coalesce", lists::coalesce),
    ("concat", lists::concat),
    ("contains", texts::contains),
    ("date", times::date),
    ("default", lists::default),
    ("dict", lists::dict),
    ("div", numbers::div),
    ("divf", numbers::divf),
    ("empty", lists::empty),
    ("first", lists::first),
    ("float64", numbers::float_of),
    ("floor", numbers::floor),
    ("fromJson", codes::from_json),
    ("get", lists::get),
    ("has", lists::has),
    ("hasKey", lists::has_key),
    ("hasPrefix", texts::has_prefix),
    ("hasSuffix", texts::has_suffix),
    ("indent", texts::indent),
    ("initial", lists::initial),
    ("int", numbers::int),
    ("int64", numbers::int),
    ("join", texts::join),
    ("json", codes::to_json),
    ("keys", lists::keys),
    ("kindOf", lists::kind_of),
    ("last", lists::last),
    ("list", lists::list),
    ("lower", texts::lower),
    ("max", numbers::max),
    ("maxf", numbers::maxf),
    ("md5sum", codes::md5sum),
    ("merge", lists::merge),
    ("min", numbers::min),
    ("minf", numbers::minf),
    ("mod", numbers::modulo),
    ("mul", numbers::mul),
    ("mulf", numbers::mulf),
    ("nindent", texts::nindent),
    ("nospace", texts::nospace),
    ("now", times::now),
    ("omit", lists::omit),
    ("pick", lists::pick),
    ("pluck", lists::pluck),
    ("prepend", lists::prepend),
    ("prop", codes::prop),
    ("quote", texts::quote),
    ("regexMatch", texts::regex_match),
    ("regexReplaceAll", texts::regex_replace_all),
    ("repeat", texts::repeat),
    ("replace", texts::replace),
    ("rest", lists::rest),
    ("reverse", lists::reverse),
    ("round", numbers::round),
    ("seq", lists::seq),
    ("set", lists::set),
    ("sha1sum", codes::sha1sum),
    ("sha256sum", codes::sha256sum),
    ("sortAlpha", lists::sort_alpha),
    ("split", texts::split),
    ("splitList", texts::split_list),
    ("squote", texts::squote),
    ("sub", numbers::sub),
    ("subf", numbers::subf),
    ("substr", texts::substr),
    ("ternary", lists::ternary),
    ("title", texts::title),
    ("toJson", codes::to_json),
    ("toPrettyJson", codes::to_pretty_json),
    ("toString", texts::to_string),
    ("trim", texts::trim),
    ("trimAll", texts::trim_all),
    ("trimPrefix", texts::trim_prefix),
    ("trimSuffix", texts::trim_suffix),
    ("trunc", texts::trunc),
    ("uniq", lists::uniq),
    ("unixEpoch", times::unix_epoch),
    ("until", lists::until),
    ("upper", texts::upper),
    ("uuidv4", codes::uuidv4),
    ("values", lists::values),
    ("without", lists::without),
];

pub(super) fn fail(text: impl Into<String>) -> FuncError {
    FuncError::Generic(text.into())
}

/// The arguments, if there are as many as the function takes.
pub(super) fn exactly<'a, const N: usize>(name: &str, args: &'a [Value]) -> Result<&'a [Value; N], FuncError> {
    let wrong = |_| fail(format!("`{name}` takes {N} arguments and was given {}", args.len()));
    args.try_into().map_err(wrong)
}

/// The first argument and the others.
pub(super) fn first_of<'a>(name: &str, args: &'a [Value]) -> Result<(&'a Value, &'a [Value]), FuncError> {
    args.split_first().ok_or_else(|| fail(format!("`{name}` was given no argument")))
}

/// Any value as text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::NoValue | Value::Nil => String::new(),
        other => other.to_string(),
    }
}

/// Any value as an integer: a float loses its fraction, a text that is no number is 0.
pub(super) fn int(value: &Value) -> i64 {
    match value {
        Value::Number(number) => match number.kind() {
            NumberKind::Signed(n) => n,
            NumberKind::Unsigned(n) => n as i64,
            NumberKind::Float(x) => x as i64,
        },
        Value::Bool(yes) => (*yes).into(),
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}

/// Any value as a float.
pub(super) fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => match number.kind() {
            NumberKind::Float(x) => x,
            _ => int(value) as f64,
        },
        Value::String(text) => text.parse().unwrap_or_default(),
        other => int(other) as f64,
    }
}

/// The items of a list; nothing is an empty one.
pub(super) fn items<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], FuncError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil | Value::NoValue => Ok(&[]),
        other => Err(fail(format!("`{name}` takes a list, found `{other}`"))),
    }
}

pub(super) fn whole(n: i64) -> Value {
    Value::Number(Number::signed(n))
}

pub(super) fn real(x: f64) -> Value {
    Value::Number(Number::float(x))
}
