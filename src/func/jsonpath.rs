//! JSONPath, as rules know it: `$.a[0].b`, `$..k`, `$.rows[?(@.k > 1)].n`, `$[1:3]`, `$["a","b"]`, `$.*`, and
//! expressions around paths.
//!
//! A path without wildcard, filter, range, union or `..` is plain: it leads to one value or fails. Any of these makes
//! it lead to an array of matches, from which what does not fit is left out. The text is read once into a tree whose
//! depth is limited; evaluating it cannot fail in other ways than with a fault.

mod parse;

use crate::data::Value;
use crate::data::cast::shown;
use crate::diag::{Fault, Result};

use super::args::order;
use super::same::same;
use super::text_pattern;

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub enum Found {
    One(Value),
    Many(Vec<Value>),
}

/// Follows a path, or computes an expression, from `root`.
pub fn query(root: &Value, path: &str) -> Result<Found> {
    let tree = parse::parse(path).map_err(|why| Fault::eval(format!("`{path}` is no JSON path: {why}")))?;
    tree.eval(root, root)
}

#[derive(Debug)]
enum Expr {
    Literal(Value),
    /// `[a, b]` where no path stands before it.
    List(Vec<Expr>),
    Path {
        current: bool,
        steps: Vec<Step>,
    },
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
}

#[derive(Debug)]
enum Step {
    /// `.name`, `["name"]`, `[0]`.
    Key(Expr),
    /// `[a, b]`.
    Union(Vec<Expr>),
    /// `[from:to:step]`.
    Range([Option<Expr>; 3]),
    /// `[?(condition)]`.
    Filter(Expr),
    /// `.*`, `[*]`.
    Star,
    /// `..`: the value and all below it.
    Below,
    /// `(expression)` after a path.
    Script(Expr),
}

impl Expr {
    fn eval(&self, root: &Value, current: &Value) -> Result<Found> {
        Ok(Found::One(match self {
            Expr::Literal(value) => value.clone(),
            Expr::List(items) => {
                Value::array(items.iter().map(|item| item.value(root, current)).collect::<Result<Vec<Value>>>()?)
            }
            Expr::Path { current: from_current, steps } => {
                return follow(if *from_current { current } else { root }, root, steps);
            }
            Expr::Not(inner) => Value::Bool(!truth(&inner.value(root, current)?)?),
            Expr::Minus(inner) => match inner.value(root, current)? {
                Value::Int(n) => n.checked_neg().map_or(Value::Float(-(n as f64)), Value::Int),
                Value::Float(x) => Value::Float(-x),
                other => return Err(Fault::eval(format!("`-` needs a number, found {}", shown(&other)))),
            },
            Expr::Binary(op, a, b) => binary(op, a, b, root, current)?,
        }))
    }

    fn value(&self, root: &Value, current: &Value) -> Result<Value> {
        Ok(match self.eval(root, current)? {
            Found::One(value) => value,
            Found::Many(values) => Value::array(values),
        })
    }
}

/// Null is false, and texts and numbers are what they mean; other values are no condition.
fn truth(value: &Value) -> Result<bool> {
    match value {
        Value::Bool(yes) => Some(*yes),
        Value::Null => Some(false),
        Value::Text(text) => match text.as_str() {
            "true" | "TRUE" => Some(true),
            "false" | "FALSE" => Some(false),
            text => number(text).and_then(|number| number.as_f64()).map(|x| x != 0.0),
        },
        other => other.as_f64().map(|x| x != 0.0),
    }
    .ok_or_else(|| Fault::eval(format!("a condition must be true or false, found {}", shown(value))))
}

/// The number that a text is. One too great for a float is none.
fn number(text: &str) -> Option<Value> {
    if let Ok(n) = text.parse() {
        return Some(Value::Int(n));
    }
    let x: f64 = text.parse().ok()?;
    (!x.is_infinite() || !text.contains(|letter: char| letter.is_ascii_digit())).then_some(Value::Float(x))
}

/// Beside a number, a text that is a number counts as one.
fn leveled(left: Value, right: Value) -> (Value, Value) {
    let turned = match (&left, &right) {
        (Value::Text(text), Value::Int(_) | Value::Float(_)) => number(text).map(|left| (left, right.clone())),
        (Value::Int(_) | Value::Float(_), Value::Text(text)) => number(text).map(|right| (left.clone(), right)),
        _ => None,
    };
    turned.unwrap_or((left, right))
}

fn binary(op: &str, a: &Expr, b: &Expr, root: &Value, current: &Value) -> Result<Value> {
    let left = a.value(root, current)?;
    // Only a boolean decides alone; beside anything else the right side must be a condition, too.
    if matches!((op, left.as_bool()), ("&&", Some(false)) | ("||", Some(true))) {
        return Ok(left);
    }
    let right = b.value(root, current)?;
    let (left, right) = match op {
        "&&" | "||" => {
            let (x, y) = (truth(&left)?, truth(&right)?);
            return Ok(Value::Bool(if op == "&&" { x && y } else { x || y }));
        }
        "=~" | "!~" | "in" => (left, right),
        _ => leveled(left, right),
    };
    let unfit = || Fault::eval(format!("`{op}` cannot join {} and {}", shown(&left), shown(&right)));
    let ordered =
        |good: fn(std::cmp::Ordering) -> bool| order(&left, &right).map(good).map(Value::Bool).ok_or_else(unfit);
    match op {
        "==" => Ok(Value::Bool(same(&left, &right))),
        "!=" => Ok(Value::Bool(!same(&left, &right))),
        "<" => ordered(std::cmp::Ordering::is_lt),
        "<=" => ordered(std::cmp::Ordering::is_le),
        ">" => ordered(std::cmp::Ordering::is_gt),
        ">=" => ordered(std::cmp::Ordering::is_ge),
        "=~" | "!~" => match (&left, &right) {
            (Value::Text(text), Value::Text(pattern)) => {
                text_pattern::is_match(text, pattern).map(|found| Value::Bool(found == (op == "=~")))
            }
            _ => Err(unfit()),
        },
        "in" => match &right {
            Value::Array(items) => Ok(Value::Bool(items.iter().any(|item| same(item, &left)))),
            _ => Err(unfit()),
        },
        "+" if left.as_str().is_some() && right.as_str().is_some() => {
            Ok(Value::from(format!("{}{}", left.print(), right.print())))
        }
        _ => {
            if let (Value::Int(x), Value::Int(y)) = (&left, &right) {
                let exact = match op {
                    "+" => x.checked_add(*y),
                    "-" => x.checked_sub(*y),
                    "*" => x.checked_mul(*y),
                    _ => None,
                };
                if let Some(n) = exact {
                    return Ok(Value::Int(n));
                }
            }
            let (x, y) = left.as_f64().zip(right.as_f64()).ok_or_else(unfit)?;
            Ok(Value::Float(match op {
                "+" => x + y,
                "-" => x - y,
                "*" => x * y,
                "/" => x / y,
                _ => x % y,
            }))
        }
    }
}

fn follow(from: &Value, root: &Value, steps: &[Step]) -> Result<Found> {
    let mut values = vec![from.clone()];
    let mut many = false;
    for step in steps {
        let mut next = Vec::new();
        for value in &values {
            match step {
                Step::Key(_) | Step::Script(_) => {
                    let found = match step {
                        Step::Script(script) => script.value(root, value),
                        Step::Key(key) => key.value(root, value).and_then(|key| member(value, &key)),
                        _ => continue,
                    };
                    match found {
                        Ok(found) => next.push(found),
                        Err(_) if many => {}
                        Err(fault) => return Err(fault),
                    }
                }
                Step::Union(keys) => {
                    for key in keys {
                        let key = key.value(root, value);
                        next.extend(key.and_then(|key| member(value, &key)).ok());
                    }
                }
                Step::Range(bounds) => range(value, root, bounds, &mut next)?,
                Step::Filter(condition) => {
                    let fits = |item: &Value| condition.value(root, item).and_then(|yes| truth(&yes)).unwrap_or(false);
                    next.extend(children(value).filter(|item| fits(item)).cloned());
                }
                Step::Star => next.extend(children(value).cloned()),
                Step::Below => below(value, &mut next),
            }
        }
        many |= !matches!(step, Step::Key(_) | Step::Script(_));
        values = next;
    }
    match (many, values.pop()) {
        (false, Some(value)) => Ok(Found::One(value)),
        (_, last) => {
            values.extend(last);
            Ok(Found::Many(values))
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(object) => Box::new(object.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn below(value: &Value, out: &mut Vec<Value>) {
    out.push(value.clone());
    children(value).for_each(|child| below(child, out));
}

fn member(value: &Value, key: &Value) -> Result<Value> {
    match value {
        Value::Object(object) => {
            let name = key.print();
            object.get(&name).cloned().ok_or_else(|| Fault::eval(format!("there is no key `{name}`")))
        }
        Value::Array(items) => {
            let place = key.as_i64().or_else(|| key.as_str().and_then(|text| text.parse().ok()));
            let Some(place) = place else {
                return Err(Fault::eval(format!("an array has no key {}", shown(key))));
            };
            usize::try_from(place)
                .ok()
                .and_then(|place| items.get(place))
                .cloned()
                .ok_or_else(|| Fault::eval(format!("place {place} is outside of an array of {} elements", items.len())))
        }
        _ => Err(Fault::eval(format!("there is no key {} in {}", shown(key), shown(value)))),
    }
}

fn range(value: &Value, root: &Value, bounds: &[Option<Expr>; 3], out: &mut Vec<Value>) -> Result<()> {
    let Value::Array(items) = value else { return Ok(()) };
    let length = items.len() as i64;
    let bound = |at: usize, default: i64| match &bounds[at] {
        Some(bound) => {
            bound.value(root, value)?.as_i64().ok_or_else(|| Fault::eval("the bounds of a range must be integers"))
        }
        None => Ok(default),
    };
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at.min(length) };
    let (from, to, step) = (place(bound(0, 0)?), place(bound(1, length)?), bound(2, 1)?);
    let Ok(stride) = usize::try_from(step.unsigned_abs()) else { return Ok(()) };
    if stride == 0 {
        return Err(Fault::eval("the step of a range must not be 0"));
    }
    let places = from as usize..(to.max(from)) as usize;
    if step > 0 {
        out.extend(places.step_by(stride).map(|at| items[at].clone()));
    } else {
        out.extend(places.rev().step_by(stride).map(|at| items[at].clone()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::cast::json;

    fn at(data: &str, path: &str) -> String {
        match query(&json::parse(data.as_bytes()).unwrap(), path) {
            Ok(Found::One(value)) => json::text(&value).unwrap(),
            Ok(Found::Many(values)) => format!("*{}", json::text(&Value::array(values)).unwrap()),
            Err(_) => "error".into(),
        }
    }

    #[test]
    fn plain_paths_lead_to_one_value_or_fail() {
        let data = r#"{"a":{"b":[7,{"c":"x"}],"b c":1,"1":true},"n":null}"#;
        for (path, wanted) in [
            ("$.a.b[1].c", r#""x""#),
            ("a.b[0]", "7"),
            (r#"$["a"]['b c']"#, "1"),
            ("$.a[1]", "true"),
            ("$.n", "null"),
            ("$.a.b[2]", "error"),
            ("$.a.b[-1]", "error"),
            ("$.a.x", "error"),
            ("$.n.x", "error"),
            ("$.a.b[0] + 1 == 8", "true"),
        ] {
            assert_eq!(at(data, path), wanted, "{path}");
        }
    }

    #[test]
    fn other_paths_lead_to_what_fits() {
        let rows = r#"[{"k":1,"n":"one"},{"k":2},{"k":3,"n":"three"},5]"#;
        for (path, wanted) in [
            ("$[*].n", r#"*["one","three"]"#),
            ("$[?(@.k > 1 && @.k <= 3)].k", "*[2,3]"),
            (r#"$[?@.n == "one" || @.n =~ "^th"].k"#, "*[1,3]"),
            ("$[?(@.k > 9)]", "*[]"),
            ("$..k", "*[1,2,3]"),
            ("$[0:2].k", "*[1,2]"),
            ("$[:-2].k", "*[1,2]"),
            ("$[::-2]", r#"*[5,{"k":2}]"#),
            (r#"$[0]["k","n","x"]"#, r#"*[1,"one"]"#),
            ("$[0,2].k", "*[1,3]"),
            ("$[0].*", r#"*[1,"one"]"#),
            ("$[?(@.k in $..k)].k", "*[1,2,3]"),
            ("$[?(!(@.k == 1))].k", "*[2,3]"),
            ("$[*].k(@ * 2)", "*[2,4,6]"),
        ] {
            assert_eq!(at(rows, path), wanted, "{path}");
        }
    }

    #[test]
    fn conditions_take_values_for_what_they_mean() {
        let rows = r#"[{"v":1},{"v":0},{"v":"true"},{"v":"FALSE"},{"v":"no"},{"v":null},{"v":"0.5"},{"v":"0"},{"v":[1]},
            {"v":"50"},{"v":true},{"w":1},{"v":"1e999"}]"#;
        for (path, wanted) in [
            ("$[?(@.v)].v", r#"*[1,"true","0.5","50",true]"#),
            ("$[?(!@.v)].v", r#"*[0,"FALSE",null,"0"]"#),
            ("$[?(@.v && true)].v", r#"*[1,"true","0.5","50",true]"#),
            ("$[?(@.v == 50)].v", r#"*["50"]"#),
            ("$[?(50.0 == @.v)].v", r#"*["50"]"#),
            ("$[?(@.v > 9)].v", r#"*["50"]"#),
            ("$[?(@.v * 2 == 1)].v", r#"*["0.5"]"#),
            (r#"$[?("5" == "5.0")]"#, "*[]"),
            (r#"$[?(@.v > "9" && @.v < "t")].v"#, r#"*["FALSE","no"]"#),
            (r#"$[?(@.v in ["50", 1])].v"#, r#"*[1,"50"]"#),
            ("$[?(@.v in [50])].v", "*[]"),
            ("$[?(@.v in [])].v", "*[]"),
            ("$[?([@.v] == [1])].v", "*[1]"),
            (r#""5" + 1"#, "6"),
            (r#""5" + "1""#, r#""51""#),
        ] {
            assert_eq!(at(rows, path), wanted, "{path}");
        }
    }

    #[test]
    fn bad_paths_are_refused_without_panic() {
        for path in [
            "",
            "$.",
            "$[",
            "$.[",
            "$[1",
            "$[1,2:3]",
            "$[]",
            "$['a",
            "$ $",
            "$[1:2:3:4]",
            "$..",
            "1 +",
            "é(",
            "$\u{1F600}",
            "1 in [",
            "1 in [1,",
            "1 in [1,]",
            "1 in [1:2]",
        ] {
            assert_eq!(at("{}", path), "error", "{path}");
        }
        assert_eq!(at("{}", &"(".repeat(100_000)), "error");
        assert_eq!(at("{}", &"[".repeat(100_000)), "error");
        assert_eq!(at("[1]", "$[::0]"), "error");
    }
}
