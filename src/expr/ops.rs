//! What the operators mean, as eKuiper's users know them: a comparison with null is false, arithmetic with null is
//! null, text and numbers never mix, integers wrap, a zero divisor is an error.

use std::cmp::Ordering;

use crate::data::{Time, Value};
use crate::diag::{Fault, Result};
use crate::sql::BinaryOp;

/// Applies an operator that needs both sides.
pub fn binary(op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => arithmetic(op, a, b),
        BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor => bits(op, a, b),
        BinaryOp::And | BinaryOp::Or => logic(op, a, b).map(Value::Bool),
        _ => comparison(op, a, b).map(Value::Bool),
    }
}

fn mismatch(op: BinaryOp, a: &Value, b: &Value) -> Fault {
    let shown = |value: &Value| format!("{}({})", value.type_name(), value.print());
    let help = match (op, a, b) {
        (BinaryOp::Add, Value::Text(_), _) | (BinaryOp::Add, _, Value::Text(_)) => "; use concat() to join texts",
        (_, Value::Text(_), Value::Int(_) | Value::Float(_)) | (_, Value::Int(_) | Value::Float(_), Value::Text(_)) => {
            "; use cast() to make both sides the same type"
        }
        _ => "",
    };
    Fault::eval(format!("invalid operation {} {} {}{help}", shown(a), op.symbol(), shown(b)))
}

pub fn arithmetic(op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => integers(op, *x, *y),
        (Value::Float(x), Value::Float(y)) => floats(op, *x, *y),
        (Value::Int(x), Value::Float(y)) => floats(op, *x as f64, *y),
        (Value::Float(x), Value::Int(y)) => floats(op, *x, *y as f64),
        _ if a.is_null() || b.is_null() => Ok(Value::Null),
        _ => Err(mismatch(op, a, b)),
    }
}

fn integers(op: BinaryOp, x: i64, y: i64) -> Result<Value> {
    Ok(Value::Int(match op {
        BinaryOp::Add => x.wrapping_add(y),
        BinaryOp::Sub => x.wrapping_sub(y),
        BinaryOp::Mul => x.wrapping_mul(y),
        BinaryOp::Div | BinaryOp::Rem if y == 0 => return Err(Fault::eval("divided by zero")),
        BinaryOp::Div => x.wrapping_div(y),
        _ => x.wrapping_rem(y),
    }))
}

fn floats(op: BinaryOp, x: f64, y: f64) -> Result<Value> {
    Ok(Value::Float(match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div | BinaryOp::Rem if y == 0.0 => return Err(Fault::eval("divided by zero")),
        BinaryOp::Div => x / y,
        _ => x % y,
    }))
}

fn bits(op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
    Ok(match (a, b) {
        (Value::Int(x), Value::Int(y)) => Value::Int(match op {
            BinaryOp::BitAnd => x & y,
            BinaryOp::BitOr => x | y,
            _ => x ^ y,
        }),
        (Value::Bool(x), Value::Bool(y)) => Value::Bool(match op {
            BinaryOp::BitAnd => x & y,
            BinaryOp::BitOr => x | y,
            _ => x ^ y,
        }),
        _ if a.is_null() || b.is_null() => Value::Bool(false),
        _ => return Err(mismatch(op, a, b)),
    })
}

/// AND and OR after the left side did not decide alone: a null on either side gives false.
pub fn logic(op: BinaryOp, a: &Value, b: &Value) -> Result<bool> {
    match (a, b) {
        (Value::Bool(x), Value::Bool(y)) => Ok(if op == BinaryOp::And { *x && *y } else { *x || *y }),
        (Value::Bool(_), b) | (b, Value::Bool(_)) if b.is_null() => Ok(false),
        _ if a.is_null() && b.is_null() => Ok(false),
        _ => Err(mismatch(op, a, b)),
    }
}

/// `= != < <= > >=`; a null on either side gives false.
pub fn comparison(op: BinaryOp, a: &Value, b: &Value) -> Result<bool> {
    if a.is_null() || b.is_null() {
        return Ok(false);
    }
    let Some(order) = compare(a, b) else { return Err(mismatch(op, a, b)) };
    // Truth values have an equality and no order.
    if matches!(a, Value::Bool(_)) && !matches!(op, BinaryOp::Eq | BinaryOp::NotEq) {
        return Err(mismatch(op, a, b));
    }
    Ok(holds(op, order))
}

pub fn holds(op: BinaryOp, order: Option<Ordering>) -> bool {
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::NotEq => order != Some(Ordering::Equal),
        BinaryOp::Less => order == Some(Ordering::Less),
        BinaryOp::LessEq => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Greater => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// The order of two values that are not null: `None` when their types cannot be compared, `Some(None)` for NaN.
pub fn compare(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Int(x), Value::Int(y)) => Some(x.cmp(y)),
        (Value::Float(x), Value::Float(y)) => x.partial_cmp(y),
        (Value::Int(x), Value::Float(y)) => (*x as f64).partial_cmp(y),
        (Value::Float(x), Value::Int(y)) => x.partial_cmp(&(*y as f64)),
        (Value::Text(x), Value::Text(y)) => Some(x.as_bytes().cmp(y.as_bytes())),
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        (Value::Time(x), Value::Time(y)) => Some(x.nanos.cmp(&y.nanos)),
        (Value::Time(x), Value::Int(y)) => Some(x.time().cmp(&Time(*y))),
        (Value::Int(x), Value::Time(y)) => Some(Time(*x).cmp(&y.time())),
        (Value::Time(x), Value::Float(y)) => (x.millis() as f64).partial_cmp(y),
        (Value::Float(x), Value::Time(y)) => x.partial_cmp(&(y.millis() as f64)),
        _ => return None,
    })
}

/// `=` as IN and CASE use it.
pub fn equal(a: &Value, b: &Value) -> Result<bool> {
    comparison(BinaryOp::Eq, a, b)
}

/// `a BETWEEN low AND high`; a null anywhere gives false, also for NOT BETWEEN.
pub fn between(of: &Value, low: &Value, high: &Value, negated: bool) -> Result<bool> {
    if of.is_null() || low.is_null() || high.is_null() {
        return Ok(false);
    }
    let inside = comparison(BinaryOp::GreaterEq, of, low)? && comparison(BinaryOp::LessEq, of, high)?;
    Ok(inside != negated)
}

/// `%` is any run of characters, `_` one character, `\` takes the meaning from the next; case counts.
pub fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern = LikePattern::new(pattern);
    pattern.matches(&text)
}

/// A pattern of LIKE, read once.
pub struct LikePattern(Vec<Piece>);

#[derive(PartialEq)]
enum Piece {
    Run,
    One,
    Char(char),
}

impl LikePattern {
    pub fn new(pattern: &str) -> Self {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(next) = chars.next() {
            pieces.push(match next {
                '%' => Piece::Run,
                '_' => Piece::One,
                '\\' => Piece::Char(chars.next().unwrap_or('\\')),
                other => Piece::Char(other),
            });
        }
        LikePattern(pieces)
    }

    pub fn matches(&self, text: &[char]) -> bool {
        let (mut at, mut piece) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Run) => {
                    retry = Some((at, piece));
                    piece += 1;
                    continue;
                }
                Some(Piece::One) => {}
                Some(Piece::Char(wanted)) if *wanted == text[at] => {}
                _ => {
                    let Some((from, run)) = retry else { return false };
                    retry = Some((from + 1, run));
                    (at, piece) = (from + 1, run + 1);
                    continue;
                }
            }
            at += 1;
            piece += 1;
        }
        self.0[piece.min(self.0.len())..].iter().all(|piece| *piece == Piece::Run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_takes_patterns_literally_apart_from_its_own_signs() {
        for (text, pattern, wanted) in [
            ("pump", "p%", true),
            ("pump", "p__p", true),
            ("pump", "p_p", false),
            ("a.b", "a.b", true),
            ("axb", "a.b", false),
            ("50%", "50\\%", true),
            ("50x", "50\\%", false),
            ("", "%", true),
            ("abcbc", "%bc", true),
            ("wärme", "w_rme", true),
        ] {
            assert_eq!(like(text, pattern), wanted, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn null_is_false_in_comparisons_and_null_in_arithmetic() {
        assert_eq!(binary(BinaryOp::NotEq, &Value::Null, &Value::Int(1)), Ok(Value::Bool(false)));
        assert_eq!(binary(BinaryOp::Add, &Value::Int(1), &Value::Null), Ok(Value::Null));
        assert_eq!(binary(BinaryOp::Or, &Value::Null, &Value::Bool(true)), Ok(Value::Bool(false)));
    }

    #[test]
    fn integers_wrap_and_zero_divides_nothing() {
        assert_eq!(binary(BinaryOp::Add, &Value::Int(i64::MAX), &Value::Int(1)), Ok(Value::Int(i64::MIN)));
        assert_eq!(binary(BinaryOp::Div, &Value::Int(-7), &Value::Int(2)), Ok(Value::Int(-3)));
        assert!(binary(BinaryOp::Div, &Value::Float(1.0), &Value::Int(0)).is_err());
        assert!(binary(BinaryOp::Add, &Value::text("a"), &Value::Int(1)).is_err());
    }
}
