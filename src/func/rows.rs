//! Functions that turn one value into rows: `unnest` and `extract`.

use crate::data::Value;
use crate::data::cast::shown;
use crate::diag::{Fault, Result};

use super::{Func, Special};

pub const FUNCS: &[Func] = &[
    Func::special("unnest", "(array) -> rows", Special::Rows)
        .family("rows")
        .about("One row for each element of the array; the members of an object become columns, other elements stand in the column of the call.")
        .examples(&[("unnest(array_create(7))", "7"), ("unnest(array_create(\"x\"))", "\"x\"")]),
    Func::special("extract", "(object) -> rows", Special::Rows)
        .family("rows")
        .about("One row with the members of the object as columns.")
        .examples(&[
            ("extract(object_construct(\"a\", 1))", "{\"a\":1}"),
            ("extract(object_construct(\"a\", 1, \"b\", 2))", "{\"a\":1,\"b\":2}"),
        ]),
];

/// The values of the rows that a call of the function of this name makes, in order; at least one.
pub fn expand(name: &str, value: &Value) -> Result<Vec<Value>> {
    match (name, value) {
        ("unnest", Value::Array(items)) if !items.is_empty() => Ok(items.to_vec()),
        ("extract", Value::Object(object)) if !object.is_empty() => Ok(vec![value.clone()]),
        ("unnest", _) => Err(must_be("an array that is not empty", value)),
        _ => Err(must_be("an object that is not empty", value)),
    }
}

fn must_be(wanted: &str, value: &Value) -> Fault {
    Fault::eval(format!("argument 1 must be {wanted}, found {}", shown(value)))
}
