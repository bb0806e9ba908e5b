//! Quoted text: Go's escapes in both directions.

use std::fmt::Write as _;

/// The content of a literal that is given with its quotes.
///
/// # Errors
/// What is wrong, and at which byte of the literal.
pub(super) fn unquote(literal: &str) -> Result<String, (usize, String)> {
    let quote = literal.as_bytes().first().copied().unwrap_or(b'"');
    let end = literal.len().saturating_sub(1);
    let mut out: Vec<u8> = Vec::with_capacity(literal.len());
    let bytes = literal.as_bytes();
    let mut at = 1;
    while at < end {
        match bytes[at] {
            b'\n' => return Err((at, "a text cannot span lines; write the line break as `\\n`".into())),
            byte if byte == quote => {
                let mark = quote as char;
                return Err((at, format!("a doubled quote does not escape it; write it as `\\{mark}`")));
            }
            b'\\' => at = escape(literal, at, end, quote, &mut out)?,
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| (0, "the `\\x` escapes do not make up valid UTF-8".into()))
}

/// Resolves the escape at `at` and gives the place after it.
fn escape(literal: &str, at: usize, end: usize, quote: u8, out: &mut Vec<u8>) -> Result<usize, (usize, String)> {
    let bytes = literal.as_bytes();
    let letter = bytes[at + 1];
    let simple = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => letter,
        b'\'' if quote == b'\'' => letter,
        b'x' | b'u' | b'U' => {
            let digits = match letter {
                b'x' => 2,
                b'u' => 4,
                _ => 8,
            };
            let from = at + 2;
            let code = literal.get(from..(from + digits).min(end)).unwrap_or_default();
            let wrong = || (at, format!("`\\{}` needs {digits} hexadecimal digits of a character", letter as char));
            if code.len() != digits || !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            let number = u32::from_str_radix(code, 16).map_err(|_| wrong())?;
            if letter == b'x' {
                out.push(number as u8);
            } else {
                let letter = char::from_u32(number).ok_or_else(wrong)?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            return Ok(from + digits);
        }
        b'0'..=b'7' => {
            let code = literal.get(at + 1..(at + 4).min(end)).unwrap_or_default();
            let number = u32::from_str_radix(code, 8).ok().filter(|number| code.len() == 3 && *number < 256);
            out.push(number.ok_or_else(|| (at, "an octal escape has three digits up to `\\377`".to_string()))? as u8);
            return Ok(at + 4);
        }
        _ => {
            let letter = literal[at + 1..].chars().next().unwrap_or('\\');
            return Err((at, format!("`\\{letter}` is no escape; a backslash is written `\\\\`")));
        }
    };
    out.push(simple);
    Ok(at + 2)
}

/// The text as a literal in double quotes.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if (letter as u32) < 0x20 || letter == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        for (literal, text) in [
            (r#""""#, ""),
            (r#""it's""#, "it's"),
            (r#"'say "hi"'"#, "say \"hi\""),
            (r"'it\'s'", "it's"),
            (r#"'\"'"#, "\""),
            (r#""a\tb\n\\\"""#, "a\tb\n\\\""),
            (r#""\x41\u00e9\U0001F600\101""#, "Aé😀A"),
            (r#""\xe4\xbd\xa0""#, "你"),
            (r#""\a\b\f\v\r""#, "\u{7}\u{8}\u{c}\u{b}\r"),
            ("\"tab\there\"", "tab\there"),
        ] {
            assert_eq!(unquote(literal).unwrap(), text, "{literal}");
            assert_eq!(unquote(&quote(text)).unwrap(), text, "{literal}");
        }
    }

    #[test]
    fn other_escapes_are_refused_with_their_place() {
        for (literal, at) in [
            (r#""a\qb""#, 2),
            (r#""\'""#, 1),
            (r#""\x4""#, 1),
            (r#""\xzz""#, 1),
            (r#""\ud800""#, 1),
            (r#""\U00110000""#, 1),
            (r#""\18""#, 1),
            (r#""\400""#, 1),
            (r#""\xff""#, 0),
            ("\"a\nb\"", 2),
            ("'a''b'", 2),
            (r#""\é""#, 1),
        ] {
            assert_eq!(unquote(literal).unwrap_err().0, at, "{literal}");
        }
    }
}
