//! Text. Positions and lengths count characters, not bytes; any argument that is not text is taken as it prints.

use crate::data::Value;
use crate::diag::{Fault, Result};

use super::args::{
    MAX_TEXT, arg, as_bytes, as_text, check_int, check_text, int, is_int, literal, text_then_ints, texts, within, wrong,
};
use super::{Arg, Check, Ctx, Func, NullGuard};

const fn row(
    name: &'static str,
    signature: &'static str,
    call: fn(&[Value], &Ctx<'_>) -> Result<Value>,
    check: Check,
) -> Func {
    Func::scalar(name, signature, call).family("text").check(check)
}

pub const FUNCS: &[Func] = &[
    row("concat", "(text, ...) -> text", concat, texts)
        .null(NullGuard::Off)
        .about("The arguments in one text; null adds nothing.")
        .examples(&[("concat(\"pump\", \"-\", \"7\")", "\"pump-7\""), ("concat(\"\", \"\")", "\"\"")]),
    row("endswith", "(text, text) -> boolean", endswith, texts)
        .null(NullGuard::False)
        .about("Whether the first text ends with the second.")
        .examples(&[("endswith(\"pump\", \"mp\")", "true"), ("endswith(\"pump\", \"pu\")", "false")]),
    row("startswith", "(text, text) -> boolean", startswith, texts)
        .null(NullGuard::False)
        .about("Whether the first text starts with the second.")
        .examples(&[("startswith(\"valve_open\", \"valve\")", "true"), ("startswith(\"Valve\", \"valve\")", "false")]),
    row("indexof", "(text, text) -> bigint", indexof, texts)
        .null(NullGuard::Off)
        .about("The position of the second text in the first, counted in characters from 0; -1 when it is not there.")
        .examples(&[("indexof(\"pressure\", \"ss\")", "3"), ("indexof(\"pressure\", \"x\")", "-1")]),
    row("length", "(any) -> bigint", length, any)
        .null(NullGuard::Zero)
        .about("The number of characters; of an array or object the number of its elements, of a bytea that of its bytes.")
        .examples(&[("length(\"temperature\")", "11"), ("length(\"é漢\")", "2")]),
    row("numbytes", "(text) -> bigint", numbytes, texts)
        .null(NullGuard::Zero)
        .about("The number of bytes in UTF-8.")
        .examples(&[("numbytes(\"pump\")", "4"), ("numbytes(\"é漢\")", "5")]),
    row("lower", "(text) -> text", lower, texts)
        .about("Lower case, letter by letter.")
        .examples(&[("lower(\"OK-1\")", "\"ok-1\""), ("lower(\"É\")", "\"é\"")]),
    row("upper", "(text) -> text", upper, texts)
        .about("Upper case, letter by letter.")
        .examples(&[("upper(\"ok-1\")", "\"OK-1\""), ("upper(\"straße\")", "\"STRAßE\"")]),
    row("lpad", "(text, int) -> text", lpad, text_then_ints)
        .about("The text with so many spaces in front.")
        .examples(&[("lpad(\"tank\", 3)", "\"   tank\""), ("lpad(\"tank\", 0)", "\"tank\"")]),
    row("rpad", "(text, int) -> text", rpad, text_then_ints)
        .about("The text with so many spaces behind.")
        .examples(&[("rpad(\"tank\", 2)", "\"tank  \""), ("rpad(\"\", 1)", "\" \"")]),
    row("ltrim", "(text) -> text", ltrim, texts)
        .about("The text without white space in front.")
        .examples(&[("ltrim(\"  x \")", "\"x \""), ("ltrim(\"\\t\\ny\")", "\"y\"")]),
    row("rtrim", "(text) -> text", rtrim, texts)
        .about("The text without white space behind.")
        .examples(&[("rtrim(\" x  \")", "\" x\""), ("rtrim(\"y\\n\")", "\"y\"")]),
    row("trim", "(text) -> text", trim, texts)
        .about("The text without white space at its ends.")
        .examples(&[("trim(\"  x  \")", "\"x\""), ("trim(\"a b\")", "\"a b\"")]),
    row("reverse", "(text) -> text", reverse, texts)
        .about("The characters in reverse order.")
        .examples(&[("reverse(\"stressed\")", "\"desserts\""), ("reverse(\"é漢\")", "\"漢é\"")]),
    row("substring", "(text, int [, int]) -> text", substring, check_substring)
        .about("The text from a position, counted in characters from 0, to the end or for so many characters.")
        .examples(&[
            ("substring(\"measurement\", 3)", "\"surement\""),
            ("substring(\"measurement\", 4, 4)", "\"urem\""),
            ("substring(\"measurement\", 20)", "\"\""),
        ]),
    row("split_value", "(text, text, int) -> text", split_value, check_split)
        .about("One piece of the text cut at each separator, counted from 0, or from the end when negative; outside is an error.")
        .examples(&[("split_value(\"a/b/c\", \"/\", 1)", "\"b\""), ("split_value(\"a//c\", \"/\", 1)", "\"\"")]),
];

fn any(_: &[Arg]) -> std::result::Result<(), String> {
    Ok(())
}

fn concat(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = String::new();
    for at in 0..args.len() {
        out.push_str(&as_text(args, at));
    }
    within(out.len() as i128, MAX_TEXT, "bytes")?;
    Ok(Value::from(out))
}

fn endswith(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Bool(as_text(args, 0).ends_with(&*as_text(args, 1))))
}

fn startswith(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Bool(as_text(args, 0).starts_with(&*as_text(args, 1))))
}

fn indexof(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() || arg(args, 1).is_null() {
        return Ok(Value::Int(-1));
    }
    let text = as_text(args, 0);
    let at = text.find(&*as_text(args, 1)).map(|at| text[..at].chars().count() as i64);
    Ok(Value::Int(at.unwrap_or(-1)))
}

fn length(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let count = match arg(args, 0) {
        Value::Array(items) => items.len(),
        Value::Object(object) => object.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => as_text(args, 0).chars().count(),
    };
    Ok(Value::Int(count as i64))
}

fn numbytes(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(as_bytes(args, 0).len() as i64))
}

/// Each letter by itself: one whose other case is several letters stays as it is.
fn lower(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(as_text(args, 0).chars().map(|letter| single(letter, letter.to_lowercase())).collect::<String>()))
}

fn upper(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(as_text(args, 0).chars().map(|letter| single(letter, letter.to_uppercase())).collect::<String>()))
}

fn single(letter: char, mut other: impl ExactSizeIterator<Item = char>) -> char {
    // Of the letters that become several only this one has a single letter in the other case.
    match letter {
        'İ' => 'i',
        _ if other.len() == 1 => other.next().unwrap_or(letter),
        _ => letter,
    }
}

fn padding(args: &[Value]) -> Result<String> {
    let count = int(args, 1)?;
    if count < 0 {
        return Err(wrong(args, 1, "an integer that is not negative"));
    }
    Ok(" ".repeat(within(count.into(), MAX_TEXT, "bytes")?))
}

fn lpad(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(padding(args)? + &as_text(args, 0)))
}

fn rpad(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(as_text(args, 0).into_owned() + &padding(args)?))
}

fn ltrim(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::text(as_text(args, 0).trim_start()))
}

fn rtrim(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::text(as_text(args, 0).trim_end()))
}

fn trim(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::text(as_text(args, 0).trim()))
}

fn reverse(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(as_text(args, 0).chars().rev().collect::<String>()))
}

fn is_count(value: &Value) -> bool {
    matches!(value, Value::Int(0..))
}

fn check_substring(args: &[Arg]) -> std::result::Result<(), String> {
    check_text(args, 0)?;
    (1..args.len()).try_for_each(|at| {
        check_int(args, at)?;
        literal(args, at, "an integer that is not negative", is_count)
    })
}

fn substring(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let count = |at| match int(args, at)? {
        n if n < 0 => Err(wrong(args, at, "an integer that is not negative")),
        n => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
    };
    let text = as_text(args, 0);
    let rest = text.chars().skip(count(1)?);
    Ok(Value::from(match args.get(2) {
        Some(_) => rest.take(count(2)?).collect::<String>(),
        None => rest.collect(),
    }))
}

fn check_split(args: &[Arg]) -> std::result::Result<(), String> {
    check_text(args, 0)?;
    check_text(args, 1)?;
    literal(args, 2, "an integer", is_int)?;
    literal(args, 2, "an integer that is not negative", is_count)
}

fn split_value(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (text, separator, at) = (as_text(args, 0), as_text(args, 1), int(args, 2)?);
    // An empty separator cuts between all characters.
    let pieces: Vec<&str> = if separator.is_empty() {
        text.char_indices().map(|(start, letter)| &text[start..start + letter.len_utf8()]).collect()
    } else {
        text.split(&*separator).collect()
    };
    let place = if at < 0 { at.checked_add(pieces.len() as i64) } else { Some(at) };
    let piece = place.and_then(|place| usize::try_from(place).ok()).and_then(|place| pieces.get(place));
    match piece {
        Some(piece) => Ok(Value::text(piece)),
        None => Err(Fault::eval(format!("argument 3 is {at}, but the text has {} pieces", pieces.len()))),
    }
}
