//! JSONPath, as rules know it: `$.a[0].b`, `$..k`, `$.rows[?(@.k > 1)].n`, `$[1:3]`, `$["a","b"]`, `$.*`, and
//! expressions around paths.
//!
//! A path without wildcard, filter, range, union or `..` is plain: it leads to one value or fails. Any of these makes
//! it lead to an array of matches, from which what does not fit is left out. The text is read once into a tree whose
//! depth is limited; evaluating it cannot fail in other ways than with a fault.

use crate::data::cast::shown;
use crate::data::{Text, Value};
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
    let tree = Parser::new(path).parse().map_err(|why| Fault::eval(format!("`{path}` is no JSON path: {why}")))?;
    tree.eval(root, root)
}

#[derive(Debug)]
enum Expr {
    Literal(Value),
    Path { current: bool, steps: Vec<Step> },
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

fn truth(value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| Fault::eval(format!("a condition must be true or false, found {}", shown(value))))
}

fn binary(op: &str, a: &Expr, b: &Expr, root: &Value, current: &Value) -> Result<Value> {
    let left = a.value(root, current)?;
    match op {
        "&&" => return Ok(Value::Bool(truth(&left)? && truth(&b.value(root, current)?)?)),
        "||" => return Ok(Value::Bool(truth(&left)? || truth(&b.value(root, current)?)?)),
        _ => {}
    }
    let right = b.value(root, current)?;
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
                    let fits = |item: &Value| condition.value(root, item).is_ok_and(|yes| yes.as_bool() == Some(true));
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

/// How deep brackets and parentheses may stand in one another.
const DEPTH: usize = 64;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Parsed<T> = std::result::Result<T, String>;

/// Weakest first.
const OPERATORS: [&[&str]; 5] =
    [&["||"], &["&&"], &["==", "!=", "<=", ">=", "=~", "!~", "<", ">", "in"], &["+", "-"], &["*", "/", "%"]];

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Parser { text, at: 0, depth: 0 }
    }

    fn parse(mut self) -> Parsed<Expr> {
        let expr = self.binary(0)?;
        self.blanks();
        if self.at < self.text.len() { Err(self.unexpected()) } else { Ok(expr) }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn need(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(format!("`{token}` is missing at position {}", self.place())) }
    }

    fn place(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            Some(letter) => format!("`{letter}` at position {} is out of place", self.place()),
            None => "it ends too early".into(),
        }
    }

    fn binary(&mut self, level: usize) -> Parsed<Expr> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        'next: loop {
            for operator in *operators {
                let whole = *operator != "in"
                    || self.rest().trim_start().strip_prefix("in").is_some_and(|rest| !rest.starts_with(is_name));
                if whole && self.take(operator) {
                    let right = self.binary(level + 1)?;
                    left = Expr::Binary(operator, Box::new(left), Box::new(right));
                    continue 'next;
                }
            }
            return Ok(left);
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("it is nested more than {DEPTH} deep"));
        }
        let expr = if self.take("!") {
            Expr::Not(Box::new(self.unary()?))
        } else if self.take("-") {
            Expr::Minus(Box::new(self.unary()?))
        } else if self.take("(") {
            let inner = self.binary(0)?;
            self.need(")")?;
            inner
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        self.blanks();
        match self.peek() {
            Some('$') => self.path(false),
            Some('@') => self.path(true),
            Some('"' | '\'') => self.string().map(|text| Expr::Literal(Value::Text(text))),
            Some('0'..='9') => self.number(),
            Some(letter) if is_name(letter) => {
                let name = self.name()?;
                match name.as_str() {
                    "true" => Ok(Expr::Literal(Value::Bool(true))),
                    "false" => Ok(Expr::Literal(Value::Bool(false))),
                    "null" | "nil" => Ok(Expr::Literal(Value::Null)),
                    _ => {
                        let steps = vec![Step::Key(Expr::Literal(Value::Text(name)))];
                        Ok(Expr::Path { current: false, steps: self.steps(steps)? })
                    }
                }
            }
            _ => Err(self.unexpected()),
        }
    }

    fn path(&mut self, current: bool) -> Parsed<Expr> {
        self.at += 1;
        Ok(Expr::Path { current, steps: self.steps(Vec::new())? })
    }

    fn steps(&mut self, mut steps: Vec<Step>) -> Parsed<Vec<Step>> {
        loop {
            if self.take("..") {
                steps.push(Step::Below);
                match self.peek() {
                    Some('[') => {}
                    Some('(') => {}
                    _ => steps.push(self.dotted()?),
                }
            } else if self.take(".") {
                steps.push(self.dotted()?);
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else if self.rest().starts_with('(') {
                self.at += 1;
                steps.push(Step::Script(self.binary(0)?));
                self.need(")")?;
            } else {
                return Ok(steps);
            }
        }
    }

    fn dotted(&mut self) -> Parsed<Step> {
        if self.take("*") { Ok(Step::Star) } else { Ok(Step::Key(Expr::Literal(Value::Text(self.name()?)))) }
    }

    fn bracket(&mut self) -> Parsed<Step> {
        if self.take("*") {
            self.need("]")?;
            return Ok(Step::Star);
        }
        if self.take("?") {
            let condition = self.binary(0)?;
            self.need("]")?;
            return Ok(Step::Filter(condition));
        }
        let mut keys: Vec<Option<Expr>> = Vec::new();
        let mut separator = None;
        loop {
            self.blanks();
            keys.push(if matches!(self.peek(), Some(':' | ']')) { None } else { Some(self.binary(0)?) });
            self.blanks();
            match self.peek() {
                Some(']') => break,
                Some(mark @ (':' | ',')) if separator.is_none_or(|other| other == mark) => separator = Some(mark),
                _ => return Err(self.unexpected()),
            }
            self.at += 1;
        }
        let end = self.unexpected();
        self.at += 1;
        if separator == Some(':') {
            keys.resize_with(keys.len().max(3), || None);
            return keys.try_into().map(Step::Range).map_err(|_| "a range has at most three parts".into());
        }
        let mut keys = keys.into_iter().collect::<Option<Vec<Expr>>>().ok_or(end)?;
        match (keys.len(), keys.pop()) {
            (1, Some(key)) => Ok(Step::Key(key)),
            (_, last) => {
                keys.extend(last);
                Ok(Step::Union(keys))
            }
        }
    }

    fn name(&mut self) -> Parsed<Text> {
        self.blanks();
        let rest = self.rest();
        let length = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        if length == 0 || rest.starts_with(|letter: char| letter.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        self.at += length;
        Ok(Text::new(&rest[..length]))
    }

    fn number(&mut self) -> Parsed<Expr> {
        let rest = self.rest();
        let digits = |from: usize| from + rest[from..].bytes().take_while(u8::is_ascii_digit).count();
        let mut end = digits(0);
        if rest[end..].starts_with('.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if digits(end + 1 + sign) > end + 1 + sign {
                end = digits(end + 1 + sign);
            }
        }
        self.at += end;
        let text = &rest[..end];
        let value = match text.parse::<i64>() {
            Ok(n) => Value::Int(n),
            Err(_) => Value::Float(text.parse().map_err(|_| format!("`{text}` is no number"))?),
        };
        Ok(Expr::Literal(value))
    }

    fn string(&mut self) -> Parsed<Text> {
        let quote = self.peek().unwrap_or('"');
        self.at += 1;
        let mut out = Text::default();
        let mut letters = self.rest().char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((at, 'u')) => {
                        let code = self.rest().get(at + 1..at + 5).and_then(|code| u32::from_str_radix(code, 16).ok());
                        out.push(code.and_then(char::from_u32).ok_or("`\\u` needs four hexadecimal digits")?);
                        letters.nth(3);
                    }
                    Some((_, other)) => out.push(other),
                    None => break,
                },
                other => out.push(other),
            }
        }
        Err(format!("the string at position {} does not end", self.place() - 1))
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
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
        ] {
            assert_eq!(at("{}", path), "error", "{path}");
        }
        assert_eq!(at("{}", &"(".repeat(100_000)), "error");
        assert_eq!(at("[1]", "$[::0]"), "error");
    }
}
