//! Making and reading the contract's texts and values.
//!
//! What is made here borrows: it is good as long as what it was made of, and owns nothing.

use std::os::raw::c_void;

use super::{tag, Data, Member, Str, Value};

impl Str {
    /// Borrows text.
    #[inline]
    pub const fn new(text: &str) -> Str {
        Str { pointer: text.as_ptr(), len: text.len() }
    }

    /// Borrows bytes.
    #[inline]
    pub const fn bytes(bytes: &[u8]) -> Str {
        Str { pointer: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// `pointer` leads to `len` bytes that live and stay as they are for `'a`.
    #[inline]
    pub unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        if self.pointer.is_null() {
            return &[];
        }
        std::slice::from_raw_parts(self.pointer, self.len)
    }

    /// The text; what is not UTF-8 is replaced.
    ///
    /// # Safety
    /// As [`Str::as_bytes`].
    pub unsafe fn to_text(self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

impl Value {
    /// NULL.
    pub const NULL: Value = Value { tag: tag::NULL, extra: 0, len: 0, data: Data { int: 0 } };
    /// A cell that the row does not have.
    pub const MISSING: Value = Value { tag: tag::MISSING, extra: 0, len: 0, data: Data { int: 0 } };

    /// A boolean.
    #[inline]
    pub const fn bool(value: bool) -> Value {
        Value { tag: tag::BOOL, extra: 0, len: 0, data: Data { int: value as i64 } }
    }

    /// An integer.
    #[inline]
    pub const fn int(value: i64) -> Value {
        Value { tag: tag::INT, extra: 0, len: 0, data: Data { int: value } }
    }

    /// A float.
    #[inline]
    pub const fn float(value: f64) -> Value {
        Value { tag: tag::FLOAT, extra: 0, len: 0, data: Data { float: value } }
    }

    /// Text, borrowed.
    #[inline]
    pub const fn text(value: &str) -> Value {
        Value::pointed(tag::TEXT, value.as_ptr() as *const c_void, value.len())
    }

    /// Bytes, borrowed.
    #[inline]
    pub const fn bytes(value: &[u8]) -> Value {
        Value::pointed(tag::BYTES, value.as_ptr() as *const c_void, value.len())
    }

    /// Nanoseconds since 1970, and the offset of the zone in seconds east.
    #[inline]
    pub const fn time(nanos: i64, offset: i32) -> Value {
        Value { tag: tag::TIME, extra: offset, len: 0, data: Data { int: nanos } }
    }

    /// Elements, borrowed.
    #[inline]
    pub const fn array(elements: &[Value]) -> Value {
        Value::pointed(tag::ARRAY, elements.as_ptr() as *const c_void, elements.len())
    }

    /// Members, borrowed.
    #[inline]
    pub const fn object(members: &[Member]) -> Value {
        Value::pointed(tag::OBJECT, members.as_ptr() as *const c_void, members.len())
    }

    #[inline]
    const fn pointed(tag: u32, pointer: *const c_void, len: usize) -> Value {
        Value { tag, extra: 0, len: len as u64, data: Data { pointer } }
    }
}
