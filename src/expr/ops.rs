//! What the operators mean, as eKuiper's users know them: a comparison with null is false, arithmetic with null is
//! null, text and numbers never mix, integers wrap, a zero divisor is an error.

use std::cmp::Ordering;

use crate::data::{DateTime, Time, Value, parse_datetime};
use crate::diag::{Fault, Result};
use crate::sql::BinaryOp;

use super::compile::Frame;

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

/// `-a`
pub fn negative(a: &Value) -> Result<Value> {
    match a {
        Value::Int(n) => Ok(Value::Int(n.wrapping_neg())),
        Value::Float(x) => Ok(Value::Float(-x)),
        other if other.is_null() => Ok(Value::Null),
        other => {
            let shown = format!("{}({})", other.type_name(), other.print());
            Err(Fault::eval(format!("`-` needs a number, but the value is {shown}")))
        }
    }
}

/// `& | ^`, of integers and of truth values; a null on either side gives false.
pub fn bits(op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
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

/// `= != < <= > >=`; a null on either side gives false. What a datetime on the left is compared with may be text that is
/// one, or epoch milliseconds; on the right it stands beside a datetime only.
pub fn comparison(op: BinaryOp, a: &Value, b: &Value, frame: &Frame<'_>) -> Result<bool> {
    if a.is_null() || b.is_null() {
        return Ok(false);
    }
    let read = |text: &str| -> Option<DateTime> { parse_datetime(text, None, &frame.rule.zone, frame.now) };
    let order = match (a, b) {
        (Value::Time(x), Value::Text(text)) => read(text).map(|y| Some(x.nanos().cmp(&y.nanos()))),
        (Value::Text(_) | Value::Int(_) | Value::Float(_), Value::Time(_)) => None,
        _ => compare(a, b),
    };
    let Some(order) = order else { return Err(mismatch(op, a, b)) };
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
        (Value::Time(x), Value::Time(y)) => Some(x.nanos().cmp(&y.nanos())),
        (Value::Time(x), Value::Int(y)) => Some(x.time().cmp(&Time(*y))),
        (Value::Int(x), Value::Time(y)) => Some(Time(*x).cmp(&y.time())),
        (Value::Time(x), Value::Float(y)) => (x.millis() as f64).partial_cmp(y),
        (Value::Float(x), Value::Time(y)) => x.partial_cmp(&(y.millis() as f64)),
        _ => return None,
    })
}

/// `=` as IN and CASE use it.
pub fn equal(a: &Value, b: &Value, frame: &Frame<'_>) -> Result<bool> {
    comparison(BinaryOp::Eq, a, b, frame)
}

/// `a BETWEEN low AND high`; a null anywhere gives false, also for NOT BETWEEN.
pub fn between(of: &Value, low: &Value, high: &Value, negated: bool, frame: &Frame<'_>) -> Result<bool> {
    if of.is_null() || low.is_null() || high.is_null() {
        return Ok(false);
    }
    let inside = comparison(BinaryOp::GreaterEq, of, low, frame)? && comparison(BinaryOp::LessEq, of, high, frame)?;
    Ok(inside != negated)
}

/// A pattern of LIKE, read once: `%` is any run of characters, `_` one character, `\` takes the meaning from the next;
/// case counts.
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

    pub fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut piece = 0;
        // Where to go on when what follows the last run does not fit: one character further.
        let mut retry: Option<(std::str::Chars<'_>, usize)> = None;
        loop {
            if self.0.get(piece) == Some(&Piece::Run) {
                piece += 1;
                retry = Some((rest.clone(), piece));
                continue;
            }
            let Some(next) = rest.next() else { break };
            match self.0.get(piece) {
                Some(Piece::One) => piece += 1,
                Some(Piece::Char(wanted)) if *wanted == next => piece += 1,
                _ => {
                    let Some((from, after)) = &mut retry else { return false };
                    from.next();
                    (rest, piece) = (from.clone(), *after);
                }
            }
        }
        piece == self.0.len()
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
            ("wärme", "%_", true),
            ("", "_", false),
            ("ab", "%a", false),
            ("aXbXc", "a%X_", true),
            ("a", "a%%", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(LikePattern::new(pattern).matches(text), wanted, "{text} LIKE {pattern}");
        }
    }

    fn over<T>(run: impl FnOnce(&Frame<'_>) -> T) -> T {
        let rule = crate::func::RuleInfo::nowhere();
        run(&Frame { row: &[], meta: None, time: Time(0), now: Time(0), rule: &rule })
    }

    #[test]
    fn null_is_false_in_comparisons_and_null_in_arithmetic() {
        let compared = |op, a: &Value, b: &Value| over(|frame| comparison(op, a, b, frame));
        assert_eq!(compared(BinaryOp::NotEq, &Value::Null, &Value::Int(1)), Ok(false));
        assert_eq!(compared(BinaryOp::Eq, &Value::Absent, &Value::Null), Ok(false));
        assert_eq!(arithmetic(BinaryOp::Add, &Value::Int(1), &Value::Null), Ok(Value::Null));
        assert_eq!(bits(BinaryOp::BitOr, &Value::Null, &Value::Int(1)), Ok(Value::Bool(false)));
        for negated in [false, true] {
            assert_eq!(over(|frame| between(&1.into(), &Value::Null, &3.into(), negated, frame)), Ok(false));
        }
    }

    #[test]
    fn integers_wrap_and_zero_divides_nothing() {
        let add = |a: Value, b: Value| arithmetic(BinaryOp::Add, &a, &b);
        assert_eq!(add(Value::Int(i64::MAX), Value::Int(1)), Ok(Value::Int(i64::MIN)));
        assert_eq!(arithmetic(BinaryOp::Div, &Value::Int(-7), &Value::Int(2)), Ok(Value::Int(-3)));
        assert_eq!(arithmetic(BinaryOp::Div, &Value::Int(i64::MIN), &Value::Int(-1)), Ok(Value::Int(i64::MIN)));
        assert!(arithmetic(BinaryOp::Div, &Value::Float(1.0), &Value::Int(0)).is_err());
        assert!(arithmetic(BinaryOp::Rem, &Value::Int(1), &Value::Float(0.0)).is_err());
        assert!(add(Value::text("a"), Value::Int(1)).is_err());
    }

    #[test]
    fn kinds_compare_as_the_reference_tells() {
        let time = |millis| Value::Time(DateTime::from_millis(millis, jiff::tz::TimeZone::UTC));
        let text = Value::text("1970-01-01T00:00:01Z");
        let less = |a: &Value, b: &Value| over(|frame| comparison(BinaryOp::Less, a, b, frame));
        assert_eq!(less(&Value::Int(1), &Value::Float(1.5)), Ok(true));
        assert_eq!(less(&time(999), &Value::Int(1000)), Ok(true));
        assert_eq!(less(&time(999), &Value::Float(999.5)), Ok(true));
        assert_eq!(less(&time(999), &text), Ok(true));
        assert_eq!(less(&time(999), &time(1000)), Ok(true));
        assert_eq!(less(&Value::text("Z"), &Value::text("a")), Ok(true));
        for (a, b) in [
            (Value::text("1"), Value::Int(2)),
            (Value::Float(999.5), time(1000)),
            (text.clone(), time(1000)),
            (Value::Bool(false), Value::Bool(true)),
            (time(0), Value::text("soon")),
            (time(0), Value::Bool(true)),
            (Value::array(vec![]), Value::array(vec![])),
            (Value::bytes(b"a"), Value::bytes(b"b")),
        ] {
            assert!(less(&a, &b).is_err(), "{a:?} < {b:?}");
        }
        assert_eq!(over(|frame| equal(&Value::Bool(true), &Value::Bool(true), frame)), Ok(true));
    }
}
