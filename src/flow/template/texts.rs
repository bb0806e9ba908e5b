//! Texts: cases, cutting, searching, joining. As in Sprig the text comes last, so that it can be piped in.

use std::collections::HashMap;

use gtmpl_ng::{FuncError, Value, limits};
use regex::Regex;

use super::funcs::{Outcome, exactly, fail, int, items, text};

fn one(name: &str, args: &[Value], change: impl FnOnce(&str) -> String) -> Outcome {
    let [value] = exactly(name, args)?;
    Ok(Value::String(change(&text(value))))
}

fn two<T: Into<Value>>(name: &str, args: &[Value], change: impl FnOnce(&str, &str) -> T) -> Outcome {
    let [a, b] = exactly(name, args)?;
    Ok(change(&text(a), &text(b)).into())
}

/// A text may not grow beyond what one call may give.
fn bounded(name: &str, size: usize) -> Result<(), FuncError> {
    match limits::active().function_output {
        Some(limit) if size > limit => Err(fail(format!("`{name}` would give more than {limit} bytes"))),
        _ => Ok(()),
    }
}

pub(super) fn to_string(args: &[Value]) -> Outcome {
    one("toString", args, str::to_owned)
}

pub(super) fn upper(args: &[Value]) -> Outcome {
    one("upper", args, str::to_uppercase)
}

pub(super) fn lower(args: &[Value]) -> Outcome {
    one("lower", args, str::to_lowercase)
}

/// Each word with a capital.
pub(super) fn title(args: &[Value]) -> Outcome {
    one("title", args, |text| {
        let mut inside = false;
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            if inside {
                out.push(c)
            } else {
                out.extend(c.to_uppercase())
            }
            inside = c.is_alphanumeric() || c == '_' || c == '\'';
        }
        out
    })
}

pub(super) fn trim(args: &[Value]) -> Outcome {
    one("trim", args, |text| text.trim().into())
}

pub(super) fn trim_all(args: &[Value]) -> Outcome {
    two("trimAll", args, |cut, text| text.trim_matches(|c| cut.contains(c)).to_owned())
}

pub(super) fn trim_prefix(args: &[Value]) -> Outcome {
    two("trimPrefix", args, |cut, text| text.strip_prefix(cut).unwrap_or(text).to_owned())
}

pub(super) fn trim_suffix(args: &[Value]) -> Outcome {
    two("trimSuffix", args, |cut, text| text.strip_suffix(cut).unwrap_or(text).to_owned())
}

pub(super) fn contains(args: &[Value]) -> Outcome {
    two("contains", args, |part, text| text.contains(part))
}

pub(super) fn has_prefix(args: &[Value]) -> Outcome {
    two("hasPrefix", args, |part, text| text.starts_with(part))
}

pub(super) fn has_suffix(args: &[Value]) -> Outcome {
    two("hasSuffix", args, |part, text| text.ends_with(part))
}

pub(super) fn nospace(args: &[Value]) -> Outcome {
    one("nospace", args, |text| text.split_whitespace().collect())
}

pub(super) fn replace(args: &[Value]) -> Outcome {
    let [old, new, all] = exactly("replace", args)?;
    let (old, new, all) = (text(old), text(new), text(all));
    bounded("replace", all.len() + all.matches(&old).count().saturating_mul(new.len()))?;
    Ok(Value::String(all.replace(&old, &new)))
}

pub(super) fn repeat(args: &[Value]) -> Outcome {
    let [count, value] = exactly("repeat", args)?;
    let (count, value) = (int(count).max(0) as usize, text(value));
    bounded("repeat", count.saturating_mul(value.len()))?;
    Ok(Value::String(value.repeat(count)))
}

/// `trunc 5 text` keeps the first five characters, `trunc -5 text` the last.
pub(super) fn trunc(args: &[Value]) -> Outcome {
    let [count, value] = exactly("trunc", args)?;
    let (count, value) = (int(count), text(value));
    let length = value.chars().count();
    let kept = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(length);
    Ok(Value::String(match count < 0 {
        true => value.chars().skip(length - kept).collect(),
        false => value.chars().take(kept).collect(),
    }))
}

/// `substr from to text`, in characters; a negative end is that of the text.
pub(super) fn substr(args: &[Value]) -> Outcome {
    let [from, to, value] = exactly("substr", args)?;
    let value = text(value);
    let from = usize::try_from(int(from)).unwrap_or_default();
    let to = usize::try_from(int(to)).unwrap_or(usize::MAX);
    Ok(Value::String(value.chars().take(to).skip(from).collect()))
}

/// `abbrev width text`: cut with an ellipsis.
pub(super) fn abbrev(args: &[Value]) -> Outcome {
    let [width, value] = exactly("abbrev", args)?;
    let (width, value) = (usize::try_from(int(width)).unwrap_or_default(), text(value));
    if width < 4 || value.chars().count() <= width {
        return Ok(Value::String(value));
    }
    Ok(Value::String(value.chars().take(width - 3).chain("...".chars()).collect()))
}

pub(super) fn indent(args: &[Value]) -> Outcome {
    let [count, value] = exactly("indent", args)?;
    let (count, value) = (int(count).max(0) as usize, text(value));
    bounded("indent", value.len() + value.split('\n').count().saturating_mul(count))?;
    let pad = " ".repeat(count);
    Ok(Value::String(format!("{pad}{}", value.replace('\n', &format!("\n{pad}")))))
}

pub(super) fn nindent(args: &[Value]) -> Outcome {
    match indent(args)? {
        Value::String(text) => Ok(Value::String(format!("\n{text}"))),
        other => Ok(other),
    }
}

fn there(args: &[Value]) -> impl Iterator<Item = String> {
    args.iter().filter(|value| !matches!(value, Value::Nil | Value::NoValue)).map(text)
}

/// Each argument in double quotes, with a space between.
pub(super) fn quote(args: &[Value]) -> Outcome {
    let quoted = there(args).map(|text| serde_json::Value::from(text).to_string());
    Ok(Value::String(quoted.collect::<Vec<_>>().join(" ")))
}

pub(super) fn squote(args: &[Value]) -> Outcome {
    Ok(Value::String(there(args).map(|text| format!("'{text}'")).collect::<Vec<_>>().join(" ")))
}

pub(super) fn cat(args: &[Value]) -> Outcome {
    Ok(Value::String(there(args).collect::<Vec<_>>().join(" ")))
}

pub(super) fn join(args: &[Value]) -> Outcome {
    let [separator, list] = exactly("join", args)?;
    let texts: Vec<String> = match list {
        Value::Array(items) => there(items).collect(),
        other => vec![text(other)],
    };
    Ok(Value::String(texts.join(&text(separator))))
}

fn pieces(separator: &str, text: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

pub(super) fn split_list(args: &[Value]) -> Outcome {
    two("splitList", args, pieces)
}

/// The pieces as a map with the keys `_0`, `_1` and so on.
pub(super) fn split(args: &[Value]) -> Outcome {
    two("split", args, |separator, text| {
        let numbered = pieces(separator, text).into_iter().enumerate();
        numbered.map(|(number, piece)| (format!("_{number}"), piece)).collect::<HashMap<_, _>>()
    })
}

fn pattern(value: &Value) -> Result<Regex, FuncError> {
    Regex::new(&text(value)).map_err(|_| fail(format!("`{}` is not a regular expression", text(value))))
}

pub(super) fn regex_match(args: &[Value]) -> Outcome {
    let [wanted, value] = exactly("regexMatch", args)?;
    Ok(Value::Bool(pattern(wanted)?.is_match(&text(value))))
}

/// `regexReplaceAll pattern text replacement`; groups are `${1}`.
pub(super) fn regex_replace_all(args: &[Value]) -> Outcome {
    let [wanted, value, replacement] = exactly("regexReplaceAll", args)?;
    let (value, replacement) = (text(value), text(replacement));
    let replaced = pattern(wanted)?.replace_all(&value, replacement.as_str()).into_owned();
    bounded("regexReplaceAll", replaced.len())?;
    Ok(Value::String(replaced))
}

/// The items of a list as texts.
pub(super) fn words(name: &str, value: &Value) -> Result<Vec<String>, FuncError> {
    Ok(items(name, value)?.iter().map(text).collect())
}
