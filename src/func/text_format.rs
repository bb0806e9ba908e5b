//! `format`: numbers with a fixed count of decimals, in the notation of a country.

use crate::data::Value;
use crate::diag::{Fault, Result};

use super::args::{arg, as_text, check_number, float, int, is_int, is_text, only_literal, within, wrong};
use super::{Arg, Ctx, Func};

pub const FUNCS: &[Func] = &[Func::scalar("format", "(number, int [, text]) -> text", format)
    .family("text")
    .check(check)
    .about("The number with so many decimals, rounded half to even; a locale with a country such as `de_DE` groups the digits and picks the marks.")
    .examples(&[
        ("format(7, 3)", "\"7.000\""),
        ("format(98765.4321, 2)", "\"98765.43\""),
        ("format(98765.4321, 2, \"de_DE\")", "\"98.765,43\""),
    ])];

fn check(args: &[Arg]) -> std::result::Result<(), String> {
    check_number(args, 0)?;
    only_literal(args, 1, "an integer literal", is_int)?;
    if args.len() > 2 { only_literal(args, 2, "a string literal", is_text) } else { Ok(()) }
}

fn format(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let places = int(args, 1)?;
    if places < 0 {
        return Err(wrong(args, 1, "an integer that is not negative"));
    }
    let places = within(places.into(), 1 << 16, "decimals")?;
    let digits = match arg(args, 0) {
        Value::Int(n) if places == 0 => n.to_string(),
        Value::Int(n) => format!("{n}.{:0places$}", 0),
        _ => match float(args, 0)? {
            x if x.is_finite() => format!("{x:.places$}"),
            _ => return Ok(Value::Null),
        },
    };
    if args.len() < 3 {
        return Ok(Value::from(digits));
    }
    let name = as_text(args, 2);
    let style = style(&name).ok_or_else(|| {
        Fault::eval(format!("argument 3 must be a locale with a country such as `en_US`, found `{name}`"))
    })?;
    Ok(Value::from(styled(&digits, &style)))
}

/// How a country writes numbers.
struct Style {
    group: &'static str,
    point: &'static str,
    /// Groups of two above the thousands, as in India.
    lakh: bool,
    /// The first of its ten digits.
    zero: char,
}

/// The notation of `xx_YY` or `xx-YY`.
fn style(locale: &str) -> Option<Style> {
    let mut parts = locale.split(['_', '-']);
    let language = parts.next()?.to_ascii_lowercase();
    let country = parts.next_back()?.to_ascii_uppercase();
    if !(2..=3).contains(&language.len())
        || country.len() != 2
        || !country.bytes().chain(language.bytes()).all(|letter| letter.is_ascii_alphabetic())
    {
        return None;
    }
    let of = |group, point| Style { group, point, lakh: false, zero: '0' };
    let (comma_dot, dot_comma, space_comma) = (of(",", "."), of(".", ","), of("\u{a0}", ","));
    Some(match (language.as_str(), country.as_str()) {
        ("de" | "fr" | "it" | "rm" | "gsw", "CH") | ("de", "LI") => match language.as_str() {
            "fr" => space_comma,
            _ => of("’", "."),
        },
        ("de", "AT") => space_comma,
        ("es", "MX" | "US" | "GT" | "HN" | "NI" | "PA" | "PE" | "PR" | "SV" | "DO" | "CU") => comma_dot,
        ("es", "CR") => space_comma,
        ("en", "ZA" | "FI" | "SE") => space_comma,
        ("en", "DE" | "AT" | "NL" | "DK" | "SI" | "BE") => dot_comma,
        ("ar", "IN") => Style { zero: '٠', ..of("٬", "٫") },
        ("ur", "IN") => Style { zero: '۰', ..of("٬", "٫") },
        ("ar", "DZ" | "LB" | "LY" | "MA" | "TN") | ("ms", "BN") | ("en", "CH") | ("fo" | "km" | "lb" | "ps", _) => {
            dot_comma
        }
        ("pt", "PT" | "AO" | "CH" | "LU" | "MO" | "MZ") | ("tk", _) => space_comma,
        ("no", "NO") | ("kn" | "te", "IN") => comma_dot,
        ("bn", _) | ("ta", "LK") => Style { lakh: true, ..comma_dot },
        ("fr", "LU" | "MA") => dot_comma,
        ("hi" | "gu" | "ml" | "mr" | "pa" | "ta" | "or" | "as" | "en", "IN") => Style { lakh: true, ..comma_dot },
        (
            "de" | "es" | "it" | "nl" | "pt" | "id" | "tr" | "da" | "el" | "hr" | "ro" | "sl" | "sr" | "vi" | "ca"
            | "gl" | "eu" | "is" | "mk" | "bs" | "az" | "lo",
            _,
        ) => dot_comma,
        (
            "fr" | "ru" | "uk" | "pl" | "cs" | "sk" | "sv" | "nb" | "no" | "nn" | "fi" | "hu" | "bg" | "lt" | "lv"
            | "et" | "be" | "kk" | "ka" | "hy" | "uz" | "ky" | "af" | "sq",
            _,
        ) => space_comma,
        _ => comma_dot,
    })
}

fn styled(digits: &str, style: &Style) -> String {
    let (minus, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut out = String::from(minus);
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        let cut = if style.lakh && left > 3 { (left - 3) % 2 == 0 } else { left % 3 == 0 };
        if at > 0 && cut {
            out.push_str(style.group);
        }
        out.push(style.digit(digit));
    }
    if !fraction.is_empty() {
        out.push_str(style.point);
        out.extend(fraction.chars().map(|digit| style.digit(digit)));
    }
    out
}

impl Style {
    fn digit(&self, digit: char) -> char {
        digit.to_digit(10).and_then(|n| char::from_u32(u32::from(self.zero) + n)).unwrap_or(digit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_country() {
        let in_locale = |locale: &str| styled("-12345678.50", &style(locale).unwrap());
        assert_eq!(in_locale("en_US"), "-12,345,678.50");
        assert_eq!(in_locale("de_DE"), "-12.345.678,50");
        assert_eq!(in_locale("de-CH"), "-12’345’678.50");
        assert_eq!(in_locale("hi_IN"), "-1,23,45,678.50");
        assert_eq!(styled("123", &style("fr_FR").unwrap()), "123");
        assert!(style("en").is_none() && style("").is_none() && style("en_USA").is_none());
    }
}
