//! Regular expressions, in the notation of RE2 that rules are written in.
//!
//! The library at hand reads nearly the same notation; [`translate`] closes the gap: `\d`, `\w`, `\s` and `\b` know
//! ASCII only, brackets inside a class are letters, `\Q…\E` quotes, and what RE2 refuses is refused. Each thread keeps
//! the patterns that it compiled last, for a pattern is nearly always the same in every row.

use std::cell::RefCell;

use regex::Regex;

use crate::data::Value;
use crate::diag::{Fault, Result};

use super::args::{MAX_TEXT, as_text, texts, within};
use super::{Ctx, Func, NullGuard};

const fn row(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    Func::scalar(name, signature, call).family("text").check(texts)
}

pub const FUNCS: &[Func] = &[
    row("regexp_matches", "(text, text) -> boolean", matches)
        .null(NullGuard::False)
        .about("Whether the regular expression (RE2) matches somewhere in the text.")
        .examples(&[
            ("regexp_matches(\"sensor-42\", \"[0-9]+$\")", "true"),
            ("regexp_matches(\"sensor\", \"^S\")", "false"),
        ]),
    row("regexp_replace", "(text, text, text) -> text", replace)
        .about("The text with each match of the regular expression replaced; `$1` and `${name}` in the replacement stand for groups.")
        .examples(&[
            ("regexp_replace(\"john smith\", \"(\\\\w+) (\\\\w+)\", \"${2}_$1\")", "\"smith_john\""),
            ("regexp_replace(\"abc\", \"x\", \"y\")", "\"abc\""),
        ]),
    row("regexp_substr", "(text, text) -> text", substr)
        .about("The first match of the regular expression, or the empty text.")
        .examples(&[("regexp_substr(\"key=val\", \"[a-z]+$\")", "\"val\""), ("regexp_substr(\"none\", \"[0-9]+\")", "\"\"")]),
];

fn matches(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    is_match(&as_text(args, 0), &as_text(args, 1)).map(Value::Bool)
}

fn replace(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (text, by) = (as_text(args, 0), as_text(args, 2));
    with_pattern(&as_text(args, 1), |pattern| {
        let mut out = String::new();
        let mut last = 0;
        for found in pattern.captures_iter(&text) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&text[last..whole.start()]);
            found.expand(&by, &mut out);
            last = whole.end();
            within(out.len() as i128, MAX_TEXT, "bytes")?;
        }
        out.push_str(&text[last..]);
        Ok(Value::from(out))
    })
}

fn substr(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let text = as_text(args, 0);
    with_pattern(&as_text(args, 1), |pattern| Ok(Value::text(pattern.find(&text).map_or("", |found| found.as_str()))))
}

/// Whether the regular expression matches somewhere in the text.
pub fn is_match(text: &str, pattern: &str) -> Result<bool> {
    with_pattern(pattern, |pattern| Ok(pattern.is_match(text)))
}

const KEPT: usize = 32;

thread_local! {
    /// The newest stand last.
    static COMPILED: RefCell<Vec<(String, Regex)>> = const { RefCell::new(Vec::new()) };
}

fn with_pattern<T>(pattern: &str, run: impl FnOnce(&Regex) -> Result<T>) -> Result<T> {
    COMPILED.with_borrow_mut(|kept| {
        match kept.iter().rposition(|(text, _)| text == pattern) {
            Some(at) if at + 1 == kept.len() => {}
            Some(at) => {
                let found = kept.remove(at);
                kept.push(found);
            }
            None => {
                if kept.len() >= KEPT {
                    kept.remove(0);
                }
                kept.push((pattern.to_string(), compile(pattern)?));
            }
        }
        match kept.last() {
            Some((_, regex)) => run(regex),
            None => Err(Fault::bug("no pattern was kept")),
        }
    })
}

fn compile(pattern: &str) -> Result<Regex> {
    let bad = |why: String| Fault::eval(format!("`{pattern}` is no regular expression: {why}"));
    let translated = translate(pattern).map_err(&bad)?;
    Regex::new(&translated).map_err(|error| {
        let text = error.to_string();
        bad(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string())
    })
}

/// The pattern in the notation of the library.
fn translate(pattern: &str) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut letters = pattern.chars().peekable();
    // Whether the last thing was a repetition: a second one may only be the `?` that makes it reluctant.
    let mut repeated = false;
    while let Some(letter) = letters.next() {
        let was_repeated = std::mem::replace(&mut repeated, false);
        match letter {
            '\\' => match letters.next() {
                None => return Err("a backslash ends it".into()),
                Some('Q') => quoted(&mut letters, &mut out),
                Some(escaped) => escape(escaped, &mut letters, &mut out, false)?,
            },
            '[' => class(&mut letters, &mut out)?,
            '*' | '+' | '?' => {
                if was_repeated {
                    return Err(format!("`{letter}` repeats a repetition"));
                }
                out.push(letter);
                if letters.next_if_eq(&'?').is_some() {
                    out.push('?');
                }
                repeated = true;
            }
            '{' => {
                let ahead: String = letters.clone().take_while(|letter| *letter != '}').collect();
                let counts: Vec<&str> = ahead.split(',').collect();
                let number = |text: &str| !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
                let is_count = match counts.as_slice() {
                    [only] => number(only),
                    [from, to] => number(from) && (to.is_empty() || number(to)),
                    _ => false,
                } && letters.clone().nth(ahead.len()) == Some('}');
                if !is_count {
                    out.push_str("\\{");
                    continue;
                }
                if was_repeated {
                    return Err(format!("`{{{ahead}}}` repeats a repetition"));
                }
                if counts.iter().any(|count| count.parse::<u32>().is_ok_and(|count| count > 1000) || count.len() > 9) {
                    return Err(format!("`{{{ahead}}}` repeats more than 1000 times"));
                }
                out.push('{');
                out.push_str(&ahead);
                out.push('}');
                letters.nth(ahead.len());
                if letters.next_if_eq(&'?').is_some() {
                    out.push('?');
                }
                repeated = true;
            }
            '(' => {
                out.push('(');
                if letters.peek() == Some(&'?') {
                    let flags: String =
                        letters.clone().skip(1).take_while(|flag| flag.is_alphabetic() || *flag == '-').collect();
                    let named = flags.starts_with('P');
                    if let Some(flag) = flags.chars().find(|flag| !named && !"imsU-".contains(*flag)) {
                        return Err(format!("there is no flag `{flag}`"));
                    }
                }
            }
            '}' | ']' => {
                out.push('\\');
                out.push(letter);
            }
            _ => out.push(letter),
        }
    }
    Ok(out)
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The text up to `\E`, letter for letter.
fn quoted(letters: &mut Letters<'_>, out: &mut String) {
    while let Some(letter) = letters.next() {
        if letter == '\\' && letters.next_if_eq(&'E').is_some() {
            return;
        }
        out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
    }
}

/// What follows a backslash.
fn escape(
    escaped: char,
    letters: &mut Letters<'_>,
    out: &mut String,
    in_class: bool,
) -> std::result::Result<(), String> {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'B' if !in_class => out.push_str("(?-u:\\B)"),
        'A' | 'z' if !in_class => {
            out.push('\\');
            out.push(escaped);
        }
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
            out.push('\\');
            out.push(escaped);
        }
        'x' => out.push_str(&format!("\\x{{{:x}}}", code_point(letters)?)),
        'p' | 'P' => property(escaped, letters, out)?,
        '0'..='7' => {
            let mut code = escaped.to_digit(8).unwrap_or(0);
            let more = letters.peek().is_some_and(|letter| letter.is_digit(8));
            if escaped != '0' && !more {
                return Err(format!("`\\{escaped}` is no escape, groups cannot be referred to"));
            }
            for _ in 0..2 {
                match letters.next_if(|letter| letter.is_digit(8)).and_then(|letter| letter.to_digit(8)) {
                    Some(digit) => code = code * 8 + digit,
                    None => break,
                }
            }
            out.push_str(&format!("\\x{{{code:x}}}"));
        }
        _ if escaped.is_ascii_punctuation() => out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4]))),
        _ => return Err(format!("`\\{escaped}` is no escape")),
    }
    Ok(())
}

/// What follows `\x`: two digits, or any number of them in braces.
fn code_point(letters: &mut Letters<'_>) -> std::result::Result<u32, String> {
    let bad = |text: &str| format!("`\\x{text}` is no escape, it takes two hexadecimal digits, or more in braces");
    let digits = if letters.next_if_eq(&'{').is_some() {
        braced(letters).ok_or_else(|| bad("{"))?
    } else {
        let digits: String = letters.by_ref().take(2).collect();
        if digits.chars().count() < 2 {
            return Err(bad(&digits));
        }
        digits
    };
    match u32::from_str_radix(&digits, 16) {
        Ok(code) if char::from_u32(code).is_some() && !digits.starts_with('+') => Ok(code),
        _ => Err(bad(&digits)),
    }
}

/// What follows `\p` or `\P`: a category or a script, by one letter or in braces, where `^` turns it round. Names are
/// those of Go: `Lu`, `Greek`; the library knows more properties, and heeds no case.
fn property(escaped: char, letters: &mut Letters<'_>, out: &mut String) -> std::result::Result<(), String> {
    let name = match letters.next() {
        Some('{') => braced(letters),
        letter => letter.map(String::from),
    };
    let name = name.ok_or_else(|| format!("`\\{escaped}` names no category or script"))?;
    let (turned, plain) = name.strip_prefix('^').map_or((false, &*name), |plain| (true, plain));
    // Letters without a category count in no group, and surrogates are no letters here.
    let negated = (escaped == 'P') != turned;
    let members = match plain {
        "Any" => "\\x{0}-\\x{10ffff}".into(),
        "Cs" => "a&&b".into(),
        "C" => "\\p{Cc}\\p{Cf}\\p{Co}".into(),
        _ if CATEGORIES.split(' ').any(|category| category == plain) => format!("\\p{{gc={plain}}}"),
        _ if is_script(plain) => format!("\\p{{sc={plain}}}"),
        _ => {
            let help = "categories such as `Lu` and scripts such as `Greek` are known";
            return Err(format!("there is no property `\\{escaped}{{{name}}}`, {help}"));
        }
    };
    out.push_str(&format!("[{}{members}]", if negated { "^" } else { "" }));
    Ok(())
}

/// The general categories of Unicode, and their groups, as Go names them.
const CATEGORIES: &str =
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";

/// Whether it is the full name of a script, each word of which begins with a capital letter.
fn is_script(name: &str) -> bool {
    let spelled = name.split('_').all(|word| {
        let mut letters = word.bytes();
        letters.next().is_some_and(|first| first.is_ascii_uppercase()) && letters.all(|rest| rest.is_ascii_lowercase())
    });
    // Names of four letters may be the codes of scripts, which Go does not know.
    let full = name.len() != 4 || FOUR.split(' ').any(|script| script == name);
    (spelled && full || name == "SignWriting") && Regex::new(&format!("\\p{{sc={name}}}")).is_ok()
}

/// The scripts whose full names have four letters.
const FOUR: &str = "Ahom Cham Kawi Lisu Miao Modi Newa Thai Toto";

/// The text up to the closing brace, which is eaten.
fn braced(letters: &mut Letters<'_>) -> Option<String> {
    let inner: String = letters.clone().take_while(|letter| *letter != '}').collect();
    letters.nth(inner.chars().count()).map(|_| inner)
}

const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The rest of a class after its bracket. Brackets, `&`, `-` and `~` that would mean something to the library only
/// are letters.
fn class(letters: &mut Letters<'_>, out: &mut String) -> std::result::Result<(), String> {
    out.push('[');
    if letters.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    while let Some(letter) = letters.next() {
        match letter {
            ']' if !first => {
                out.push(']');
                return Ok(());
            }
            '\\' => match letters.next() {
                None => return Err("a backslash ends it".into()),
                Some(escaped) => escape(escaped, letters, out, true)?,
            },
            '[' if letters.peek() == Some(&':') => {
                let ahead: String = letters.clone().skip(1).collect();
                match ahead.split_once(":]") {
                    None => out.push_str("\\["),
                    Some((name, _)) if CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) => {
                        out.push_str(&format!("[:{name}:]"));
                        letters.nth(name.len() + 2);
                    }
                    Some((name, _)) => return Err(format!("there is no class `[:{name}:]`")),
                }
            }
            '[' | ']' | '&' | '~' | '^' | '#' | ' ' => {
                out.push('\\');
                out.push(letter);
            }
            '-' => {
                let range = !first && letters.peek().is_some_and(|next| *next != ']' && *next != '-');
                out.push_str(if range { "-" } else { "\\-" });
            }
            _ => out.push(letter),
        }
        first = false;
    }
    Err("`[` is not closed".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().is_match(text)
    }

    #[test]
    fn classes_know_ascii_only() {
        assert!(!matches(r"\d", "٣") && matches(r"^\d+$", "12"));
        assert!(!matches(r"^\w$", "é") && matches(r"^\W$", "é"));
        assert!(matches(r"[\w-]+@", "a-b@"));
        assert!(matches(r"^[\W]$", "é"));
        assert!(matches(r"\bé", "aé") && !matches(r"\ba", "ba"));
    }

    #[test]
    fn brackets_and_marks_inside_a_class_are_letters() {
        assert!(matches("^[a[b]]$", "[]") && matches("^[a&&b]+$", "a&"));
        assert!(matches("^[]x]+$", "]x") && matches("^[a-c-]+$", "b-"));
        assert!(matches("^[[:alpha:]_]+$", "ab_"));
        assert!(matches("a{,2}", "a{,2}") && matches("{", "{") && matches("x]}", "x]}"));
    }

    #[test]
    fn properties_and_code_points_may_stand_in_braces() {
        assert!(matches(r"^\p{Lu}\PL$", "A1") && !matches(r"\p{Lu}", "a") && matches(r"^\p{Han}{2}$", "温度"));
        assert!(matches(r"^\p{^Lu}$", "a") && matches(r"^\P{^Lu}$", "A") && matches(r"^\pL{2}$", "éé"));
        assert!(matches(r"^[\p{Lu}-z]+$", "A-z") && matches(r"^[^\p{^Lu}]$", "A"));
        assert!(matches(r"^\p{Any}$", "é") && !matches(r"\P{Any}", "é") && matches(r"^\p{Old_Italic}$", "\u{10300}"));
        assert!(matches(r"^\p{Thai}$", "ก") && matches(r"^\p{Nko}$", "\u{7ca}") && matches(r"^\p{Yi}\p{Lao}$", "ꀀກ"));
        assert!(!matches(r"\p{Cs}", "a") && matches(r"^\P{Cs}[^\p{Cs}]$", "ab") && matches(r"^\p{C}$", "\u{7}"));
        assert!(!matches(r"\p{C}", "\u{378}") && matches(r"^\p{SignWriting}$", "\u{1d800}"));
        assert!(matches(r"^\x{e9}{2}$", "éé") && matches(r"^\xe9$", "é") && matches(r"^\x{2000}$", "\u{2000}"));
        assert!(matches(r"^[\x{e8}-\x{ea}]$", "é") && matches(r"^\x{0000000041}$", "A"));
        for wrong in [
            r"\p",
            r"\p{}",
            r"\p{L",
            r"\p{Foo}",
            r"\p^L",
            r"\p{sc=Greek}",
            r"\p{Alphabetic}",
            r"\p{greek}",
            r"\p{Grek}",
            r"\p{lu}",
            r"\p{LC}",
            r"\p{Cn}",
            r"\p{Uppercase_Letter}",
            r"\p{Emoji}",
            r"\x",
            r"\xe",
            r"\x{}",
            r"\x{e9",
            r"\x{110000}",
            r"\x{+1}",
            r"\x+1",
            "[[:foo:]]",
            "[[::]]",
            "[[:a]b:]]",
        ] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
        let message = compile(r"\p{Emoji}").unwrap_err().to_string();
        assert!(
            message.ends_with(
                "there is no property `\\p{Emoji}`, categories such as `Lu` and scripts such as `Greek` are known"
            ),
            "{message}"
        );
        assert!(matches("^[[:]$", ":") && matches("^[[:^alpha:]-z]+$", "é-z"));
    }

    #[test]
    fn quoting_and_octal() {
        assert!(matches(r"^\Qa.b\E.$", "a.bc") && !matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\101\<$", "A<"));
        assert!(matches(r"(?i)^SEN", "sensor") && matches(r"(?P<n>a)(?:b)", "ab"));
    }

    #[test]
    fn what_the_notation_does_not_have_is_refused() {
        for wrong in ["[", "(", r"(a)\1", "a**", "a{2}*", r"\Z", r"\y", "(?x)a", "a{1001}", "\\", "(?=a)", "*a"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
        assert!(matches("a+?b", "aab") && matches("a{1,2}?", "a"));
    }
}
