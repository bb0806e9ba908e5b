//! Reading the text of a JSON path.

use crate::data::{Text, Value};

use super::{Expr, Step};

/// How deep brackets and parentheses may stand in one another.
const DEPTH: usize = 64;

/// The tree of a path or expression, or what is wrong with its text.
pub(super) fn parse(text: &str) -> Parsed<Expr> {
    Parser { text, at: 0, depth: 0 }.whole()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

pub(super) type Parsed<T> = std::result::Result<T, String>;

/// Weakest first.
const OPERATORS: [&[&str]; 5] =
    [&["||"], &["&&"], &["==", "!=", "<=", ">=", "=~", "!~", "<", ">", "in"], &["+", "-"], &["*", "/", "%"]];

impl<'a> Parser<'a> {
    fn whole(mut self) -> Parsed<Expr> {
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
            Some('[') => self.list(),
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

    fn list(&mut self) -> Parsed<Expr> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(Expr::List(items));
        }
        loop {
            items.push(self.binary(0)?);
            if !self.take(",") {
                self.need("]")?;
                return Ok(Expr::List(items));
            }
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
