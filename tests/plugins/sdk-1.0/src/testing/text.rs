//! JSON text to values, for tests.

use crate::value::{Owned, Record};

/// Reads JSON; text may also stand in single quotes. What is no JSON panics, for this is for tests.
///
/// # Panics
/// Where the text is no JSON.
pub fn json(text: &str) -> Owned {
    let mut reader = Reader::new(text);
    match reader.value().filter(|_| reader.rest().is_empty()) {
        Some(value) => value,
        None => panic!("this is no JSON: {}", text),
    }
}

/// Reads values from the front of a text.
pub(super) struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Reader<'a> {
        Reader { text }
    }

    /// What is left, without blanks in front.
    pub(super) fn rest(&mut self) -> &'a str {
        self.text = self.text.trim_start();
        self.text
    }

    /// Takes a token, if it stands next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        match self.rest().strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    /// Takes as many letters, digits, and other characters of names and numbers as there are.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_+-.".contains(c))).unwrap_or(rest.len());
        self.text = &rest[end..];
        &rest[..end]
    }

    pub(super) fn value(&mut self) -> Option<Owned> {
        if self.take("[") {
            let mut elements = Vec::new();
            while !self.take("]") {
                if !elements.is_empty() && !self.take(",") {
                    return None;
                }
                elements.push(self.value()?);
            }
            return Some(Owned::Array(elements));
        }
        if self.take("{") {
            let mut record = Record::new();
            while !self.take("}") {
                if !record.is_empty() && !self.take(",") {
                    return None;
                }
                let key = match self.value()? {
                    Owned::Text(key) => key,
                    _ => return None,
                };
                if !self.take(":") {
                    return None;
                }
                let value = self.value()?;
                record.set(key, value);
            }
            return Some(Owned::Object(record));
        }
        for quote in ['"', '\''] {
            if self.take(&quote.to_string()) {
                return self.quoted(quote).map(Owned::Text);
            }
        }
        Some(match self.word() {
            "null" | "NULL" => Owned::Null,
            "true" => Owned::Bool(true),
            "false" => Owned::Bool(false),
            number => match number.parse() {
                Ok(int) => Owned::Int(int),
                Err(_) => Owned::Float(number.parse().ok()?),
            },
        })
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.text.chars();
        loop {
            match letters.next()? {
                end if end == quote => break,
                '\\' => text.push(match letters.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let digits: String = letters.by_ref().take(4).collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                    }
                    other => other,
                }),
                letter => text.push(letter),
            }
        }
        self.text = letters.as_str();
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_was() {
        for text in ["null", "[1,-2.5,\"a\\\"\\n\",true,{\"k\":{},\"l\":[]}]", "9223372036854775807"] {
            assert_eq!(json(text).to_string(), text);
        }
        assert_eq!(json(" { 'a' : '\\u0041' } ").to_string(), "{\"a\":\"A\"}");
    }

    #[test]
    #[should_panic(expected = "this is no JSON: [1 2]")]
    fn other_text_is_refused() {
        json("[1 2]");
    }
}
