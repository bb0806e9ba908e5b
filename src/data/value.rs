use std::sync::Arc;

use super::{DateTime, Object};

/// Text; up to 24 bytes are stored inline and cost no allocation.
pub type Text = compact_str::CompactString;

/// One cell.
///
/// `Absent` is a column that the message did not have. It lives in slots only: whoever reads a slot in an expression
/// gets `Null` instead, so no function and no operator ever sees it; only the projection of a plain column does.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    Bytes(Arc<[u8]>),
    Time(DateTime),
    Array(Arc<Vec<Value>>),
    Object(Arc<Object>),
}

/// The types that a column can be declared with, and that a value can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Bigint,
    Float,
    String,
    Boolean,
    Datetime,
    Bytea,
    Array(Box<Kind>),
    /// Member names and types, in the order of their declaration.
    Struct(Vec<(Text, Kind)>),
}

impl Kind {
    /// The word that stands in SQL, lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Bigint => "bigint",
            Kind::Float => "float",
            Kind::String => "string",
            Kind::Boolean => "boolean",
            Kind::Datetime => "datetime",
            Kind::Bytea => "bytea",
            Kind::Array(_) => "array",
            Kind::Struct(_) => "struct",
        }
    }
}

impl Value {
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(Text::new(text.as_ref()))
    }

    pub fn bytes(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.into())
    }

    pub fn array(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(items))
    }

    pub fn object(object: Object) -> Value {
        Value::Object(Arc::new(object))
    }

    /// Null, or a column that is not there.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Absent | Value::Null)
    }

    /// The word for the value's type in messages and in SQL.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Absent | Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "bigint",
            Value::Float(_) => "float",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytea",
            Value::Time(_) => "datetime",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }

    /// An integer or a float, as a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// An integer, or a float without a fraction that fits one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Float(x)
                if x.fract() == 0.0 && *x >= -9_223_372_036_854_775_808.0 && *x < 9_223_372_036_854_775_808.0 =>
            {
                Some(*x as i64)
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(yes) => Some(*yes),
            _ => None,
        }
    }

    /// The value, with an absent column read as null.
    pub fn or_null(&self) -> Value {
        match self {
            Value::Absent => Value::Null,
            other => other.clone(),
        }
    }
}

/// Same type and same content: `1` and `1.0` differ, two nulls are the same, nested values are compared deeply.
/// What `=` means in SQL is another question and is answered in `expr`.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Absent | Value::Null, Value::Absent | Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Time(a), Value::Time(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Object(a), Value::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Int(n)
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Value::Float(x)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Value::Bool(yes)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::text(text)
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Value::Text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_24_bytes() {
        assert_eq!(std::mem::size_of::<Value>(), 24);
        assert_eq!(std::mem::size_of::<Option<Value>>(), 24);
    }
}
