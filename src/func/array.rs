//! Arrays. Elements are the same when `=` would say so, numbers by value, arrays and objects by content; an array in an
//! argument is never changed, results are new ones.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::data::cast::{Strictness, printed, to_text};
use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};

use super::aggregate::Extreme;
use super::args::{MAX_ITEMS, MAX_TEXT, arg, array, int, order, text, within, wrong};
use super::other::random;
use super::same::{key, same};
use super::{Body, Ctx, Func, NullGuard, arity, guarded};

const fn row(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    Func::scalar(name, signature, call).family("array")
}

const fn open(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    row(name, signature, call).null(NullGuard::Off)
}

pub const FUNCS: &[Func] = &[
    open("array_create", "([any, ...]) -> array", create)
        .about("An array of the arguments that are not null; null when none is left.")
        .examples(&[("array_create(1, \"two\", 3.0)", "[1,\"two\",3]"), ("isnull(array_create())", "true")]),
    open("array_position", "(array, any) -> bigint", position)
        .about("The place of the first element that equals the value, from 0; -1 when there is none.")
        .examples(&[
            ("array_position(array_create(5, 6, 5), 5)", "0"),
            ("array_position(array_create(\"x\"), \"q\")", "-1"),
        ]),
    open("array_last_position", "(array, any) -> bigint", last_position)
        .about("The place of the last element that equals the value, from 0; -1 when there is none.")
        .examples(&[
            ("array_last_position(array_create(5, 6, 5), 5)", "2"),
            ("array_last_position(array_create(\"x\"), \"q\")", "-1"),
        ]),
    open("array_contains", "(array, any) -> boolean", contains)
        .about("Whether an element equals the value.")
        .examples(&[
            ("array_contains(array_create(10, 20), 20.0)", "true"),
            ("array_contains(array_create(\"red\"), \"Red\")", "false"),
        ]),
    open("array_contains_any", "(array, array) -> boolean", contains_any)
        .about("Whether the arrays have an element in common.")
        .examples(&[
            ("array_contains_any(array_create(1, 2), array_create(2, 3))", "true"),
            ("array_contains_any(array_create(1), array_create(2))", "false"),
        ]),
    row("element_at", "(array|object, int|text) -> any", element_at)
        .about("The element at a place of an array, from 0, or from the end when negative; the member of an object.")
        .examples(&[
            ("element_at(array_create(7, 8, 9), -1)", "9"),
            ("element_at(object_construct(\"k\", \"v\"), \"k\")", "\"v\""),
        ]),
    open("array_remove", "(array, any) -> array", remove)
        .about("The array without the elements that equal the value.")
        .examples(&[
            ("array_remove(array_create(1, 2, 1), 1)", "[2]"),
            ("array_remove(array_create(\"a\"), \"z\")", "[\"a\"]"),
        ]),
    row("array_intersect", "(array, array) -> array", intersect)
        .about("What both arrays have, once each, in the order of the second.")
        .examples(&[
            ("array_intersect(array_create(4, 5, 6), array_create(6, 4, 4))", "[6,4]"),
            ("array_intersect(array_create(1), array_create(2))", "[]"),
        ]),
    open("array_union", "(array, array) -> array", union)
        .about("What either array has, once each, in order.")
        .examples(&[
            ("array_union(array_create(1, 2), array_create(2, 3))", "[1,2,3]"),
            ("array_union(array_create(\"b\", \"b\"), array_create(\"b\"))", "[\"b\"]"),
        ]),
    open("array_except", "(array, array) -> array", except)
        .about("What the first array has and the second has not, once each.")
        .examples(&[
            ("array_except(array_create(1, 2, 1), array_create(2))", "[1]"),
            ("array_except(array_create(1), array_create(1))", "[]"),
        ]),
    row("array_max", "(array) -> any", |args, _| extreme(args, Ordering::Greater))
        .about("The greatest number, or the text that comes last; nulls are passed over.")
        .examples(&[("array_max(array_create(3, 9.5, 4))", "9.5"), ("array_max(array_create(\"pear\", \"apple\"))", "\"pear\"")]),
    row("array_min", "(array) -> any", |args, _| extreme(args, Ordering::Less))
        .about("The smallest number, or the text that comes first; nulls are passed over.")
        .examples(&[("array_min(array_create(3, -9, 4))", "-9"), ("array_min(array_create(\"pear\", \"apple\"))", "\"apple\"")]),
    row("array_cardinality", "(array) -> bigint", array_cardinality)
        .null(NullGuard::Zero)
        .about("The number of elements that are not null.")
        .examples(&[("array_cardinality(array_create(7, 8))", "2"), ("array_cardinality(no_such_column)", "0")]),
    row("cardinality", "(array) -> bigint", cardinality)
        .null(NullGuard::Zero)
        .about("The number of elements; 0 for what is no array.")
        .examples(&[("cardinality(array_create(7, 8))", "2"), ("cardinality(\"abc\")", "0")]),
    row("array_flatten", "(array) -> array", flatten)
        .about("The array with the elements of its arrays in their place, one level deep.")
        .examples(&[
            ("array_flatten(array_create(1, array_create(2, array_create(3))))", "[1,2,[3]]"),
            ("array_flatten(array_create(1))", "[1]"),
        ]),
    row("array_distinct", "(array) -> array", distinct)
        .about("Each element once; arrays and objects in it all stay.")
        .examples(&[
            ("array_distinct(array_create(2, 1, 2, 1))", "[2,1]"),
            ("array_distinct(array_create(\"a\"))", "[\"a\"]"),
        ]),
    row("array_map", "(text, array) -> array", map)
        .about("The results of the function of this name for each element.")
        .examples(&[
            ("array_map(\"abs\", array_create(-1, 2, -3.5))", "[1,2,3.5]"),
            ("array_map(\"upper\", array_create(\"a\"))", "[\"A\"]"),
        ]),
    row("array_join", "(array, text [, text]) -> text", join)
        .about("The elements as one text with a separator; nulls are left out, or stand as the third argument.")
        .examples(&[
            ("array_join(array_create(\"a\", \"b\"), \"-\")", "\"a-b\""),
            ("array_join(array_create(1, 2.5), \",\")", "\"1,2.5\""),
        ]),
    row("array_shuffle", "(array) -> array", shuffle)
        .impure()
        .about("The elements in random order.")
        .examples(&[("array_shuffle(array_create(7))", "[7]"), ("cardinality(array_shuffle(array_create(1, 2)))", "2")]),
    row("array_sort", "(array) -> array", sort)
        .about("The elements in order: numbers by value, everything else by its text.")
        .examples(&[
            ("array_sort(array_create(3, -10, 2.5))", "[-10,2.5,3]"),
            ("array_sort(array_create(\"b\", \"a\", \"C\"))", "[\"C\",\"a\",\"b\"]"),
        ]),
    open("array_concat", "(array, ...) -> array", concat)
        .about("The arrays one after another; nulls are passed over.")
        .examples(&[
            ("array_concat(array_create(\"a\"), array_create(\"b\"))", "[\"a\",\"b\"]"),
            ("array_concat(no_such_column)", "[]"),
        ]),
    row("repeat", "(any, int) -> array", repeat)
        .about("An array of so many copies of the value.")
        .examples(&[("repeat(\"ab\", 2)", "[\"ab\",\"ab\"]"), ("repeat(0, 0)", "[]")]),
    row("sequence", "(int, int [, int]) -> array", sequence)
        .about("The integers from the first to the second, in steps of 1 towards it or of the third argument; empty when the step leads away.")
        .examples(&[("sequence(2, 6)", "[2,3,4,5,6]"), ("sequence(0, -9, -4)", "[0,-4,-8]")]),
    row("kvpair_array_to_obj", "(array) -> object", kvpairs_to_object)
        .about("An object made of an array of objects with the members `key` and `value`.")
        .examples(&[
            ("kvpair_array_to_obj(array_create(object_construct(\"key\", \"p\", \"value\", 1)))", "{\"p\":1}"),
            ("kvpair_array_to_obj(obj_to_kvpair_array(object_construct(\"a\", 2)))", "{\"a\":2}"),
        ]),
];

fn create(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let items: Vec<Value> = args.iter().filter(|arg| !arg.is_null()).cloned().collect();
    Ok(if items.is_empty() { Value::Null } else { Value::array(items) })
}

/// The place of a match as a result, -1 for none.
fn place(found: Option<usize>) -> Value {
    Value::Int(found.map_or(-1, |at| at as i64))
}

fn position(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Int(-1));
    }
    Ok(place(array(args, 0)?.iter().position(|item| same(item, arg(args, 1)))))
}

fn last_position(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Int(-1));
    }
    Ok(place(array(args, 0)?.iter().rposition(|item| same(item, arg(args, 1)))))
}

fn contains(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(array(args, 0)?.iter().any(|item| same(item, arg(args, 1)))))
}

fn contains_any(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Bool(false));
    }
    let (first, second) = (array(args, 0)?, array(args, 1)?);
    let keys: HashSet<Vec<u8>> = first.iter().map(key).collect();
    Ok(Value::Bool(second.iter().any(|item| keys.contains(&key(item)))))
}

fn element_at(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Array(items) => {
            let at = int(args, 1)?;
            let place = if at < 0 { at.checked_add(items.len() as i64) } else { Some(at) };
            place
                .and_then(|place| usize::try_from(place).ok())
                .and_then(|place| items.get(place))
                .cloned()
                .ok_or_else(|| Fault::eval(format!("argument 2 is {at}, but the array has {} elements", items.len())))
        }
        Value::Object(object) => Ok(object.get(text(args, 1)?).cloned().unwrap_or(Value::Null)),
        _ => Err(wrong(args, 0, "an array or an object")),
    }
}

fn remove(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Null);
    }
    let left = array(args, 0)?.iter().filter(|item| !same(item, arg(args, 1))).cloned();
    Ok(Value::array(left.collect()))
}

/// The elements whose keys can be added to the set, in order.
fn additions<'a>(seen: &mut HashSet<Vec<u8>>, items: impl IntoIterator<Item = &'a Value>) -> Vec<Value> {
    items.into_iter().filter(|item| seen.insert(key(item))).cloned().collect()
}

fn intersect(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (first, second) = (array(args, 0)?, array(args, 1)?);
    let mut keys: HashSet<Vec<u8>> = first.iter().map(key).collect();
    Ok(Value::array(second.iter().filter(|item| keys.remove(&key(item))).cloned().collect()))
}

/// The elements of an array, none of null.
fn items_or_none(args: &[Value], at: usize) -> Result<&[Value]> {
    if arg(args, at).is_null() { Ok(&[]) } else { array(args, at).map(Vec::as_slice) }
}

fn union(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (first, second) = (items_or_none(args, 0)?, items_or_none(args, 1)?);
    Ok(Value::array(additions(&mut HashSet::new(), first.iter().chain(second))))
}

fn except(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Null);
    }
    let (first, second) = (array(args, 0)?, items_or_none(args, 1)?);
    let mut keys: HashSet<Vec<u8>> = second.iter().map(key).collect();
    Ok(Value::array(additions(&mut keys, first)))
}

fn extreme(args: &[Value], wanted: Ordering) -> Result<Value> {
    let mut extreme = Extreme { best: Value::Null, wanted };
    for item in array(args, 0)? {
        extreme.put(item).map_err(|wanted| {
            wrong(std::slice::from_ref(item), 0, wanted).context(format_args!("an element of the array: "))
        })?;
    }
    Ok(extreme.get())
}

fn array_cardinality(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(array(args, 0)?.iter().filter(|item| !item.is_null()).count() as i64))
}

fn cardinality(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(match arg(args, 0) {
        Value::Array(items) => items.len() as i64,
        Value::Bytes(bytes) => bytes.len() as i64,
        _ => 0,
    }))
}

fn flatten(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = Vec::new();
    for item in array(args, 0)? {
        match item {
            Value::Array(inner) => out.extend(inner.iter().cloned()),
            other => out.push(other.clone()),
        }
    }
    Ok(Value::array(out))
}

fn distinct(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut seen = HashSet::new();
    let nested = |item: &Value| matches!(item, Value::Array(_) | Value::Object(_));
    let kept = array(args, 0)?.iter().filter(|item| nested(item) || seen.insert(key(item)));
    Ok(Value::array(kept.cloned().collect()))
}

fn map(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let name = text(args, 0)?.to_ascii_lowercase();
    let items = array(args, 1)?;
    let unknown = || Fault::eval(format!("there is no function `{name}` for argument 1"));
    let func = super::all().find(|func| func.name == name).ok_or_else(unknown)?;
    let Body::Scalar(call) = func.body else {
        return Err(Fault::eval(format!("`{name}` is no function of a single value, as argument 1 must be")));
    };
    if !arity(func).fits(1) {
        return Err(Fault::eval(format!("`{name}` cannot be called with one argument, as argument 1 must be")));
    }
    let one = |item: &Value| {
        let args = std::slice::from_ref(item);
        match guarded(func, args) {
            Some(answer) => Ok(answer),
            None => call(args, ctx).map_err(|fault| fault.context(format_args!("`{name}`: "))),
        }
    };
    Ok(Value::array(items.iter().map(one).collect::<Result<_>>()?))
}

fn join(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (items, separator) = (array(args, 0)?, text(args, 1)?);
    let null = if args.len() > 2 { text(args, 2)?.as_str() } else { "" };
    let mut out = String::new();
    let mut first = true;
    for item in items {
        let shown = match item {
            Value::Absent | Value::Null if null.is_empty() => continue,
            Value::Absent | Value::Null => Text::new(null),
            other => to_text(other, Strictness::All)?,
        };
        if !std::mem::replace(&mut first, false) {
            out.push_str(separator);
        }
        out.push_str(&shown);
        within(out.len() as i128, MAX_TEXT, "bytes")?;
    }
    Ok(Value::from(out))
}

fn shuffle(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut items = array(args, 0)?.clone();
    for at in (1..items.len()).rev() {
        items.swap(at, (random() % (at as u64 + 1)) as usize);
    }
    Ok(Value::array(items))
}

fn sort(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut items = array(args, 0)?.clone();
    if items.iter().all(|item| item.is_null() || item.as_f64().is_some()) {
        // Nulls go last; what is not a number stands before them.
        let rank = |item: &Value| match item {
            Value::Float(x) if x.is_nan() => 1,
            Value::Int(_) | Value::Float(_) => 0,
            _ => 2,
        };
        items.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| order(a, b).unwrap_or(Ordering::Equal)));
    } else {
        items.sort_by_cached_key(|item| if item.is_null() { Text::const_new("<nil>") } else { printed(item) });
    }
    Ok(Value::array(items))
}

fn concat(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = Vec::new();
    for at in 0..args.len() {
        out.extend_from_slice(items_or_none(args, at)?);
    }
    Ok(Value::array(out))
}

fn repeat(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let count = int(args, 1)?;
    if count < 0 {
        return Err(wrong(args, 1, "an integer that is not negative"));
    }
    Ok(Value::array(vec![arg(args, 0).clone(); within(count.into(), MAX_ITEMS, "elements")?]))
}

fn sequence(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (start, stop) = (int(args, 0)?, int(args, 1)?);
    let step = match args.get(2) {
        Some(_) => int(args, 2)?,
        None if start <= stop => 1,
        None => -1,
    };
    if step == 0 {
        return Err(wrong(args, 2, "an integer other than 0"));
    }
    let span = i128::from(stop) - i128::from(start);
    let count = if (span < 0) != (step < 0) && span != 0 { 0 } else { span / i128::from(step) + 1 };
    let count = within(count, MAX_ITEMS, "elements")?;
    let item = |at: usize| Value::Int((i128::from(start) + at as i128 * i128::from(step)) as i64);
    Ok(Value::array((0..count).map(item).collect()))
}

fn kvpairs_to_object(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = Object::new();
    for item in array(args, 0)? {
        let pair = match item {
            Value::Object(pair) if pair.len() == 2 => pair.get("key").and_then(Value::as_str).zip(pair.get("value")),
            _ => None,
        };
        let Some((name, value)) = pair else {
            return Err(wrong(std::slice::from_ref(item), 0, "an object of a string `key` and a `value`")
                .context("an element of the array: "));
        };
        out.insert(name, value.clone());
    }
    Ok(Value::object(out))
}
