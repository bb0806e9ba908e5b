//! Lists, maps, and what to take when there is nothing. No function changes its argument, save for `set` in name only:
//! it gives the map with the entry.

use std::collections::HashMap;

use gtmpl_ng::{FuncError, NumberKind, Value, limits};

use super::funcs::{Outcome, exactly, fail, first_of, int, items, text, whole};
use super::texts::words;

/// Nothing, zero, false, or without content.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::NoValue | Value::Nil => true,
        Value::Bool(yes) => !yes,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Map(entries) | Value::Object(entries) => entries.is_empty(),
        Value::Number(number) => match number.kind() {
            NumberKind::Float(x) => x == 0.0,
            NumberKind::Signed(n) => n == 0,
            NumberKind::Unsigned(n) => n == 0,
        },
        Value::Function(_) => false,
    }
}

pub(super) fn empty(args: &[Value]) -> Outcome {
    let [value] = exactly("empty", args)?;
    Ok(Value::Bool(is_empty(value)))
}

/// `default instead value`
pub(super) fn default(args: &[Value]) -> Outcome {
    let (instead, value) = first_of("default", args)?;
    Ok(value.first().filter(|value| !is_empty(value)).unwrap_or(instead).clone())
}

pub(super) fn coalesce(args: &[Value]) -> Outcome {
    Ok(args.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil))
}

/// `ternary yes no condition`
pub(super) fn ternary(args: &[Value]) -> Outcome {
    match exactly("ternary", args)? {
        [yes, no, Value::Bool(condition)] => Ok(if *condition { yes } else { no }.clone()),
        [_, _, other] => Err(fail(format!("`ternary` takes a boolean as its third argument, found `{other}`"))),
    }
}

/// Go's word for the kind of a value.
pub(super) fn kind_of(args: &[Value]) -> Outcome {
    let [value] = exactly("kindOf", args)?;
    Ok(Value::from(match value {
        Value::NoValue | Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Map(_) | Value::Object(_) => "map",
        Value::Function(_) => "func",
        Value::Number(number) => match number.kind() {
            NumberKind::Float(_) => "float64",
            NumberKind::Signed(_) | NumberKind::Unsigned(_) => "int64",
        },
    }))
}

pub(super) fn list(args: &[Value]) -> Outcome {
    Ok(Value::Array(args.to_vec()))
}

pub(super) fn first(args: &[Value]) -> Outcome {
    let [list] = exactly("first", args)?;
    Ok(items("first", list)?.first().cloned().unwrap_or(Value::Nil))
}

pub(super) fn last(args: &[Value]) -> Outcome {
    let [list] = exactly("last", args)?;
    Ok(items("last", list)?.last().cloned().unwrap_or(Value::Nil))
}

/// All but the first.
pub(super) fn rest(args: &[Value]) -> Outcome {
    let [list] = exactly("rest", args)?;
    Ok(Value::Array(items("rest", list)?.iter().skip(1).cloned().collect()))
}

/// All but the last.
pub(super) fn initial(args: &[Value]) -> Outcome {
    let [list] = exactly("initial", args)?;
    let items = items("initial", list)?;
    Ok(Value::Array(items[..items.len().saturating_sub(1)].to_vec()))
}

pub(super) fn append(args: &[Value]) -> Outcome {
    let [list, item] = exactly("append", args)?;
    Ok(Value::Array([items("append", list)?, std::slice::from_ref(item)].concat()))
}

pub(super) fn prepend(args: &[Value]) -> Outcome {
    let [list, item] = exactly("prepend", args)?;
    Ok(Value::Array([std::slice::from_ref(item), items("prepend", list)?].concat()))
}

pub(super) fn concat(args: &[Value]) -> Outcome {
    let lists = args.iter().map(|list| items("concat", list)).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::Array(lists.concat()))
}

pub(super) fn reverse(args: &[Value]) -> Outcome {
    let [list] = exactly("reverse", args)?;
    Ok(Value::Array(items("reverse", list)?.iter().rev().cloned().collect()))
}

pub(super) fn uniq(args: &[Value]) -> Outcome {
    let [list] = exactly("uniq", args)?;
    let mut kept: Vec<Value> = Vec::new();
    for item in items("uniq", list)? {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
    Ok(Value::Array(kept))
}

/// `without list item…`
pub(super) fn without(args: &[Value]) -> Outcome {
    let (list, unwanted) = first_of("without", args)?;
    Ok(Value::Array(items("without", list)?.iter().filter(|item| !unwanted.contains(item)).cloned().collect()))
}

/// `has item list`
pub(super) fn has(args: &[Value]) -> Outcome {
    let [item, list] = exactly("has", args)?;
    Ok(Value::Bool(items("has", list)?.contains(item)))
}

pub(super) fn sort_alpha(args: &[Value]) -> Outcome {
    let [list] = exactly("sortAlpha", args)?;
    let mut texts = words("sortAlpha", list)?;
    texts.sort_unstable();
    Ok(Value::from(texts))
}

/// A list that a template asked for may not be longer than a loop may be.
fn numbers(name: &str, from: i64, to: i64, step: i64) -> Outcome {
    let count = if step == 0 { 0 } else { (to.saturating_sub(from) / step).max(0) + 1 };
    match limits::active().iterations {
        Some(limit) if count as u64 > limit as u64 => {
            Err(fail(format!("`{name}` would give more than {limit} numbers")))
        }
        _ if (step > 0 && from > to) || (step < 0 && from < to) => Ok(Value::Array(Vec::new())),
        _ => Ok(Value::Array((0..count).map(|number| whole(from + number * step)).collect())),
    }
}

/// 0 up to the number, without it.
pub(super) fn until(args: &[Value]) -> Outcome {
    let [count] = exactly("until", args)?;
    match int(count) {
        0 => Ok(Value::Array(Vec::new())),
        count if count > 0 => numbers("until", 0, count - 1, 1),
        count => numbers("until", 0, count + 1, -1),
    }
}

/// `seq last`, `seq first last`, `seq first step last`, as text.
pub(super) fn seq(args: &[Value]) -> Outcome {
    let towards = |from: i64, to: i64| if to < from { -1 } else { 1 };
    let list = match args {
        [to] => numbers("seq", 1, int(to), towards(1, int(to)))?,
        [from, to] => numbers("seq", int(from), int(to), towards(int(from), int(to)))?,
        [from, step, to] => numbers("seq", int(from), int(to), int(step))?,
        _ => return Err(fail("`seq` takes one to three arguments")),
    };
    Ok(Value::String(words("seq", &list)?.join(" ")))
}

fn entries<'a>(name: &str, value: &'a Value) -> Result<&'a HashMap<String, Value>, FuncError> {
    match value {
        Value::Map(entries) | Value::Object(entries) => Ok(entries),
        other => Err(fail(format!("`{name}` takes a map, found `{other}`"))),
    }
}

/// `dict key value…`
pub(super) fn dict(args: &[Value]) -> Outcome {
    let pairs = args.chunks(2).map(|pair| (text(&pair[0]), pair.get(1).cloned().unwrap_or_else(|| Value::from(""))));
    Ok(Value::Map(pairs.collect()))
}

pub(super) fn get(args: &[Value]) -> Outcome {
    let [map, key] = exactly("get", args)?;
    Ok(entries("get", map)?.get(&text(key)).cloned().unwrap_or_else(|| Value::from("")))
}

pub(super) fn set(args: &[Value]) -> Outcome {
    let [map, key, value] = exactly("set", args)?;
    let mut changed = entries("set", map)?.clone();
    changed.insert(text(key), value.clone());
    Ok(Value::Map(changed))
}

pub(super) fn has_key(args: &[Value]) -> Outcome {
    let [map, key] = exactly("hasKey", args)?;
    Ok(Value::Bool(entries("hasKey", map)?.contains_key(&text(key))))
}

fn sorted<'a>(name: &str, map: &'a Value) -> Result<Vec<(&'a String, &'a Value)>, FuncError> {
    let mut all: Vec<_> = entries(name, map)?.iter().collect();
    all.sort_unstable_by_key(|(key, _)| *key);
    Ok(all)
}

/// The keys of all maps, of each in order.
pub(super) fn keys(args: &[Value]) -> Outcome {
    let mut all = Vec::new();
    for map in args {
        all.extend(sorted("keys", map)?.into_iter().map(|(key, _)| key.clone()));
    }
    Ok(Value::from(all))
}

/// The values, in the order of their keys.
pub(super) fn values(args: &[Value]) -> Outcome {
    let [map] = exactly("values", args)?;
    Ok(Value::Array(sorted("values", map)?.into_iter().map(|(_, value)| value.clone()).collect()))
}

fn some(name: &str, args: &[Value], listed: bool) -> Outcome {
    let (map, names) = first_of(name, args)?;
    let names: Vec<String> = names.iter().map(text).collect();
    let kept = entries(name, map)?.iter().filter(|(key, _)| names.contains(key) == listed);
    Ok(Value::Map(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

/// `pick map key…`
pub(super) fn pick(args: &[Value]) -> Outcome {
    some("pick", args, true)
}

/// `omit map key…`
pub(super) fn omit(args: &[Value]) -> Outcome {
    some("omit", args, false)
}

/// `pluck key map…`: what the maps have under the key.
pub(super) fn pluck(args: &[Value]) -> Outcome {
    let (key, maps) = first_of("pluck", args)?;
    let key = text(key);
    let found = maps.iter().map(|map| Ok(entries("pluck", map)?.get(&key).cloned()));
    Ok(Value::Array(found.filter_map(Result::transpose).collect::<Result<_, FuncError>>()?))
}

/// The entries of all maps; of two the first counts.
pub(super) fn merge(args: &[Value]) -> Outcome {
    let mut all = HashMap::new();
    for map in args.iter().rev() {
        all.extend(entries("merge", map)?.clone());
    }
    Ok(Value::Map(all))
}
