//! A cursor over the bytes of one JSON text: white space, text, numbers and words, taken or passed over.
//!
//! What is passed over is checked by the same grammar as what is taken, so a broken record never hides in a column that
//! no one asked for. Only two checks need the value itself and are made where it is taken: that text is UTF-8, and that
//! a number fits a float.

use std::borrow::Cow;

use crate::diag::{Fault, Result};

/// Arrays and objects within one another, at most.
pub(super) const MAX_DEPTH: usize = 128;

/// The position in a JSON text.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A number as it stands in the text.
pub(super) struct Number<'a> {
    text: &'a [u8],
    start: usize,
    /// All digits as one integer; wraps when there are more than 19.
    mantissa: u64,
    digits: usize,
    /// Power of ten by which the mantissa is to be multiplied.
    exponent: i32,
    negative: bool,
    /// Neither point nor exponent.
    pub whole: bool,
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The powers of ten that a float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// High bits of the bytes that are zero. Bits above the lowest one may be wrong.
const fn zeros(x: u64) -> u64 {
    x.wrapping_sub(ONES) & !x & HIGHS
}

/// High bits of the bytes that end a plain run of text: `"`, `\` and control characters.
const fn stops(x: u64) -> u64 {
    zeros(x ^ (ONES * b'"' as u64)) | zeros(x ^ (ONES * b'\\' as u64)) | (x.wrapping_sub(ONES * 0x20) & !x & HIGHS)
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Scan { bytes, at: 0 }
    }

    /// Bytes of the whole text.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// What is left.
    pub fn tail(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next byte; zero at the end, which stands nowhere outside of text.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn pass(&mut self, count: usize) {
        self.at += count;
    }

    #[inline(always)]
    pub fn space(&mut self) {
        if self.peek() <= b' ' {
            while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
                self.at += 1;
            }
        }
    }

    /// Passes a byte if it is the next one.
    #[inline(always)]
    pub fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.at += usize::from(there);
        there
    }

    /// Only white space is left.
    pub fn end(&mut self) -> Result<()> {
        self.space();
        if self.at < self.bytes.len() { Err(self.unexpected("the end")) } else { Ok(()) }
    }

    /// A fault about the byte here.
    #[cold]
    pub fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.tail().utf8_chunks().next() {
            None => "the end".to_string(),
            Some(chunk) => match chunk.valid().chars().next() {
                Some(c) if c.is_control() => format!("the character {:#04x}", c as u32),
                Some(c) => format!("`{c}`"),
                None => format!("the byte {:#04x}", self.peek()),
            },
        };
        self.broken(self.at, &format!("expected {expected}, found {found}"))
    }

    /// A fault about a place.
    #[cold]
    pub fn broken(&self, at: usize, what: &str) -> Fault {
        Fault::decode(format!("malformed json at byte {at}: {what}"))
    }

    /// Goes one level deeper, or says that this is too deep.
    pub fn deeper(&self, depth: usize) -> Result<usize> {
        if depth >= MAX_DEPTH {
            return Err(self.broken(self.at, &format!("more than {MAX_DEPTH} levels of arrays and objects")));
        }
        Ok(depth + 1)
    }

    /// The place of the first byte from here on that ends a plain run of text.
    #[inline(always)]
    fn plain_end(&self) -> usize {
        let mut at = self.at;
        while let Some(chunk) = self.bytes.get(at..).and_then(|left| left.first_chunk::<8>()) {
            let found = stops(u64::from_le_bytes(*chunk));
            if found != 0 {
                return at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        while self.bytes.get(at).is_some_and(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\') {
            at += 1;
        }
        at
    }

    /// Passes over text; its opening quote is next.
    #[inline(always)]
    pub fn skip_text(&mut self) -> Result<()> {
        self.at += 1;
        self.at = self.plain_end();
        if self.eat(b'"') { Ok(()) } else { self.skip_text_slowly() }
    }

    fn skip_text_slowly(&mut self) -> Result<()> {
        loop {
            self.at = self.plain_end();
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.escape()?;
                }
                _ => return Err(self.text_stopped()),
            }
        }
    }

    #[cold]
    fn text_stopped(&self) -> Fault {
        if self.at >= self.bytes.len() {
            self.unexpected("`\"`")
        } else {
            self.broken(self.at, &format!("the control character {:#04x} must be escaped in text", self.peek()))
        }
    }

    /// Takes text; its opening quote is next.
    #[inline(always)]
    pub fn text(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at + 1;
        self.at = start;
        self.at = self.plain_end();
        let end = self.at;
        if self.eat(b'"') { Ok(Cow::Borrowed(self.utf8(start, end)?)) } else { self.text_slowly(start).map(Cow::Owned) }
    }

    #[inline(always)]
    fn utf8(&self, start: usize, end: usize) -> Result<&'a str> {
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| self.broken(start + error.valid_up_to(), "the text is not utf-8"))
    }

    fn text_slowly(&mut self, mut start: usize) -> Result<String> {
        let mut text = String::new();
        loop {
            text.push_str(self.utf8(start, self.at)?);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => text.push(self.escaped()?),
                _ => return Err(self.text_stopped()),
            }
            start = self.at;
            self.at = self.plain_end();
        }
    }

    /// Passes an escape and gives the character; half of a surrogate pair becomes U+FFFD, as in Go.
    fn escaped(&mut self) -> Result<char> {
        let high = self.escape()?;
        if (0xD800..0xDC00).contains(&high) && self.tail().starts_with(b"\\u") {
            let back = self.at;
            let low = self.escape()?;
            if (0xDC00..0xE000).contains(&low) {
                let both = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Passes one escape and gives its code.
    fn escape(&mut self) -> Result<u32> {
        let start = self.at;
        let code = match self.bytes.get(start + 1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'u') => {
                let digits = self.bytes.get(start + 2..start + 6).unwrap_or_default();
                let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
                return match code {
                    Some(code) if digits.len() == 4 => {
                        self.at += 6;
                        Ok(code)
                    }
                    _ => Err(self.broken(start, "`\\u` must be followed by four hexadecimal digits")),
                };
            }
            _ => {
                self.at = self.bytes.len().min(start + 1);
                return Err(self.unexpected("one of `\"\\/bfnrtu` after `\\`"));
            }
        };
        self.at += 2;
        Ok(code.into())
    }

    #[inline(always)]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.at;
        loop {
            let digit = self.peek().wrapping_sub(b'0');
            if digit > 9 {
                return self.at - start;
            }
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(digit.into());
            self.at += 1;
        }
    }

    /// Takes a number; its first digit or its sign is next.
    #[inline(always)]
    pub fn number(&mut self) -> Result<Number<'a>> {
        let start = self.at;
        let mut mantissa = 0;
        let negative = self.eat(b'-');
        let leading_zero = self.peek() == b'0';
        let mut digits = self.digits(&mut mantissa);
        if digits == 0 || (leading_zero && digits > 1) {
            return Err(self.bad_number(start, digits));
        }
        let mut exponent = 0;
        let mut whole = true;
        if self.eat(b'.') {
            let fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(self.unexpected("a digit after the point"));
            }
            digits += fraction;
            exponent = -i32::try_from(fraction).unwrap_or(i32::MAX);
            whole = false;
        }
        if matches!(self.peek(), b'e' | b'E') {
            exponent = self.exponent(exponent)?;
            whole = false;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Number { text, start, mantissa, digits, exponent, negative, whole })
    }

    #[cold]
    fn bad_number(&mut self, start: usize, digits: usize) -> Fault {
        if digits == 0 {
            self.unexpected("a digit")
        } else {
            self.broken(start, "a number must not start with a zero that another digit follows")
        }
    }

    fn exponent(&mut self, before: i32) -> Result<i32> {
        self.at += 1;
        let minus = self.eat(b'-');
        if !minus {
            self.eat(b'+');
        }
        let mut size = 0;
        let digits = self.digits(&mut size);
        if digits == 0 {
            return Err(self.unexpected("a digit in the exponent"));
        }
        // Beyond this the exact path is out of question, whatever the size.
        let size = if digits > 9 { 1_000_000_000 } else { size as i32 };
        Ok(before.saturating_add(if minus { -size } else { size }))
    }

    /// Takes `true`, `false` or `null`.
    #[inline(always)]
    pub fn word(&mut self, word: &str) -> Result<()> {
        if self.tail().starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{word}`")))
        }
    }

    /// Passes over a value.
    #[inline(always)]
    pub fn skip(&mut self, depth: usize) -> Result<()> {
        match self.peek() {
            b'"' => self.skip_text(),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'{' => self.skip_object(depth),
            b'[' => self.skip_array(depth),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn skip_object(&mut self, depth: usize) -> Result<()> {
        let depth = self.deeper(depth)?;
        self.open();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.key_is_next()?;
            self.skip_text()?;
            self.colon()?;
            self.skip(depth)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<()> {
        let depth = self.deeper(depth)?;
        self.open();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.skip(depth)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    /// Passes an opening bracket.
    #[inline(always)]
    pub fn open(&mut self) {
        self.at += 1;
        self.space();
    }

    #[inline(always)]
    pub fn key_is_next(&self) -> Result<()> {
        if self.peek() == b'"' { Ok(()) } else { Err(self.unexpected("`\"` and a name")) }
    }

    /// Passes the colon between a name and its value.
    #[inline(always)]
    pub fn colon(&mut self) -> Result<()> {
        self.space();
        if !self.eat(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.space();
        Ok(())
    }

    /// After an entry: passes a comma (true) or the closing bracket (false).
    #[inline(always)]
    pub fn more(&mut self, close: u8) -> Result<bool> {
        self.space();
        if self.eat(b',') {
            self.space();
            return Ok(true);
        }
        if self.eat(close) {
            return Ok(false);
        }
        Err(self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" }))
    }
}

impl Number<'_> {
    /// The nearest float. Up to 15 digits and small exponents take one exact operation; the rest is parsed by `std`.
    #[inline(always)]
    pub fn float(&self) -> Result<f64> {
        if self.digits <= 19 && self.mantissa <= 1 << 53 && (-22..=22).contains(&self.exponent) {
            let size = self.mantissa as f64;
            let power = POWERS[self.exponent.unsigned_abs() as usize];
            let size = if self.exponent < 0 { size / power } else { size * power };
            return Ok(if self.negative { -size } else { size });
        }
        self.float_slowly()
    }

    #[inline(never)]
    fn float_slowly(&self) -> Result<f64> {
        match std::str::from_utf8(self.text).ok().and_then(|text| text.parse::<f64>().ok()) {
            Some(x) if x.is_finite() => Ok(x),
            _ => Err(Fault::decode(format!(
                "malformed json at byte {}: the number `{}` is too large for a float",
                self.start,
                self.shown()
            ))),
        }
    }

    /// The exact integer, if the number is written as one and fits.
    pub fn int(&self) -> Option<i64> {
        if !self.whole {
            return None;
        }
        if self.digits <= 18 {
            let size = self.mantissa as i64;
            return Some(if self.negative { -size } else { size });
        }
        std::str::from_utf8(self.text).ok()?.parse().ok()
    }

    /// The number as written, cut when it is very long.
    pub fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text[..self.text.len().min(40)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn float(text: &str) -> f64 {
        Scan::new(text.as_bytes()).number().unwrap().float().unwrap()
    }

    #[test]
    fn floats_are_the_nearest_ones() {
        for text in [
            "0",
            "-0",
            "20.15",
            "55.1",
            "0.1",
            "1e22",
            "1e23",
            "-2.5E-3",
            "9007199254740993",
            "9007199254740992e22",
            "20.150000000000002",
            "123456789012345678901234567890",
            "1.7976931348623157e308",
            "4.9e-324",
            "2.4703282292062327e-324",
            "1e-400",
            "0.000000000000000000000000000001",
            "179769313486231580793728971405301e276",
        ] {
            assert_eq!(float(text).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn integers_are_exact_to_the_last_one() {
        let int = |text: &str| Scan::new(text.as_bytes()).number().unwrap().int();
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int("9223372036854775808"), None);
        assert_eq!(int("999999999999999999"), Some(999_999_999_999_999_999));
        assert_eq!(int("1.0"), None);
        assert_eq!(int("1e3"), None);
    }

    #[test]
    fn the_end_of_text_is_found_wherever_it_stands() {
        for length in 0..40 {
            for stop in ["\"", "\\n\"", "\u{1}"] {
                let body = "é".repeat(length);
                let text = format!("\"{body}{stop} trailing text");
                let mut scan = Scan::new(text.as_bytes());
                match (stop, scan.text()) {
                    ("\u{1}", Err(fault)) => {
                        let at = 1 + body.len();
                        let told =
                            format!("malformed json at byte {at}: the control character 0x01 must be escaped in text");
                        assert_eq!(fault.to_string(), told);
                    }
                    ("\"", Ok(found)) => assert_eq!(found, body),
                    (_, found) => assert_eq!(found.unwrap(), format!("{body}\n")),
                }
            }
        }
    }
}
