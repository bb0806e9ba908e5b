//! Nested access: `o->k`, `a[i]`, `a[from:to]`.

use crate::data::{Object, Value};
use crate::diag::{Fault, Result};

/// `of->name`: a missing key, a null base and a scalar base give null; an array is an error, since it needs an index.
pub fn member(of: &Value, name: &str, any_case: bool) -> Result<Value> {
    match of {
        Value::Object(object) => Ok(entry(object, name, any_case)),
        Value::Array(items) => {
            let length = items.len();
            Err(Fault::eval(format!(
                "`->{name}` needs an object, but the value is an array of {length}; index it first"
            )))
        }
        _ => Ok(Value::Null),
    }
}

/// The entry of that name; with `any_case`, and none of exactly that name, the first that differs by case only.
pub fn entry(object: &Object, name: &str, any_case: bool) -> Value {
    let found = if any_case { object.get_ignoring_case(name) } else { object.get(name) };
    found.map_or(Value::Null, Value::or_null)
}

fn position(bound: &Value, what: &str) -> Result<i64> {
    match bound {
        Value::Int(n) => Ok(*n),
        Value::Float(x) if x.is_finite() => Ok(x.trunc() as i64),
        other => {
            Err(Fault::eval(format!("{what} must be a number, but it is {}({})", other.type_name(), other.print())))
        }
    }
}

/// `of[index]`: negative counts from the end; out of range is an error; a null base is null.
pub fn index(of: &Value, index: &Value) -> Result<Value> {
    match of {
        Value::Array(items) => {
            let asked = position(index, "an array index")?;
            let at = if asked < 0 { asked + items.len() as i64 } else { asked };
            usize::try_from(at)
                .ok()
                .and_then(|at| items.get(at))
                .map(Value::or_null)
                .ok_or_else(|| Fault::eval(format!("index {asked} is out of range of an array of {}", items.len())))
        }
        Value::Absent | Value::Null => Ok(Value::Null),
        other => {
            Err(Fault::eval(format!("`[]` needs an array, but the value is {}({})", other.type_name(), other.print())))
        }
    }
}

/// `of[from:to]`, half open; negative bounds count from the end; an empty part is an empty array, a bound outside of the
/// array an error.
pub fn slice(of: &Value, from: Option<&Value>, to: Option<&Value>) -> Result<Value> {
    let items = match of {
        Value::Array(items) => items,
        Value::Absent | Value::Null => return Ok(Value::Null),
        other => {
            let shown = format!("`[:]` needs an array, but the value is {}({})", other.type_name(), other.print());
            return Err(Fault::eval(shown));
        }
    };
    let length = items.len() as i64;
    let bound = |bound: Option<&Value>, open: i64, what: &str| -> Result<i64> {
        let Some(bound) = bound else { return Ok(open) };
        let asked = position(bound, what)?;
        Ok(if asked < 0 { asked + length } else { asked })
    };
    let start = bound(from, 0, "the start of a slice")?;
    let end = bound(to, length, "the end of a slice")?;
    let outside = || Fault::eval(format!("slice [{start}:{end}] is out of range of an array of {length}"));
    if start < 0 || start >= length || end > length || start > end {
        return Err(outside());
    }
    Ok(Value::array(items[start as usize..end as usize].to_vec()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn numbers(n: i64) -> Value {
        Value::array((0..n).map(Value::Int).collect())
    }

    #[test]
    fn negative_indexes_count_from_the_end() {
        assert_eq!(index(&numbers(3), &Value::Int(-1)).unwrap(), Value::Int(2));
        assert!(index(&numbers(3), &Value::Int(3)).is_err());
        assert_eq!(index(&Value::Null, &Value::Int(0)).unwrap(), Value::Null);
    }

    #[test]
    fn slices_are_half_open() {
        assert_eq!(
            slice(&numbers(5), Some(&Value::Int(1)), Some(&Value::Int(3))).unwrap(),
            Value::array(vec![1.into(), 2.into()])
        );
        assert_eq!(slice(&numbers(3), Some(&Value::Int(-2)), None).unwrap(), Value::array(vec![1.into(), 2.into()]));
        assert_eq!(slice(&numbers(3), Some(&Value::Int(1)), Some(&Value::Int(1))).unwrap(), Value::array(vec![]));
        assert!(slice(&numbers(3), None, Some(&Value::Int(4))).is_err());
        assert!(slice(&numbers(3), Some(&Value::Int(2)), Some(&Value::Int(-2))).is_err());
    }
}
