//! Arithmetic. A result that is no number or not finite is null, so that no message is lost over it; arguments outside
//! of what a function is defined for are errors where the definition says so. Integers are exact at any size.

use crate::data::Value;
use crate::diag::{Fault, Result};

use super::args::{arg, check_number, finite, float, float_of_int, int, ints, numbers, only_literal, wrong};
use super::other::random;
use super::{Arg, Check, Ctx, Func, NullGuard};

const fn row(
    name: &'static str,
    signature: &'static str,
    call: fn(&[Value], &Ctx<'_>) -> Result<Value>,
    check: Check,
) -> Func {
    Func::scalar(name, signature, call).family("math").check(check)
}

pub const FUNCS: &[Func] = &[
    row("abs", "(number) -> number", abs, numbers)
        .about("The absolute value, of the same type as the argument; an integer whose absolute value does not fit is an error.")
        .examples(&[("abs(-7)", "7"), ("abs(-2.5)", "2.5")]),
    row("acos", "(number) -> float", acos, numbers)
        .about("The inverse cosine in radians; null outside of -1 to 1.")
        .examples(&[("acos(1)", "0"), ("acos(2)", "null")]),
    row("asin", "(number) -> float", asin, numbers)
        .about("The inverse sine in radians; null outside of -1 to 1.")
        .examples(&[("asin(0)", "0"), ("asin(2)", "null")]),
    row("atan", "(number) -> float", atan, numbers)
        .about("The inverse tangent in radians.")
        .examples(&[("atan(0)", "0"), ("atan(1)", "0.7853981633974483")]),
    row("atan2", "(number, number) -> float", atan2, numbers)
        .about("The angle in radians of the point whose y is the first argument and whose x is the second.")
        .examples(&[("atan2(1, 1)", "0.7853981633974483"), ("atan2(0, -1)", "3.141592653589793")]),
    row("bitand", "(int, int) -> bigint", bitand, ints)
        .about("Bitwise AND of two integers.")
        .examples(&[("bitand(12, 10)", "8"), ("bitand(-1, 255)", "255")]),
    row("bitor", "(int, int) -> bigint", bitor, ints)
        .about("Bitwise OR of two integers.")
        .examples(&[("bitor(4, 2)", "6"), ("bitor(0, 0)", "0")]),
    row("bitxor", "(int, int) -> bigint", bitxor, ints)
        .about("Bitwise exclusive OR of two integers.")
        .examples(&[("bitxor(12, 10)", "6"), ("bitxor(5, 5)", "0")]),
    row("bitnot", "(int) -> bigint", bitnot, ints)
        .about("Bitwise complement of an integer.")
        .examples(&[("bitnot(-1)", "0"), ("bitnot(255)", "-256")]),
    row("ceiling", "(number) -> float", ceil, numbers)
        .about("The number rounded up to a whole one; the same as `ceil`.")
        .examples(&[("ceiling(2.1)", "3"), ("ceiling(-2.9)", "-2")]),
    row("ceil", "(number) -> float", ceil, numbers)
        .about("The number rounded up to a whole one.")
        .examples(&[("ceil(2.1)", "3"), ("ceil(7)", "7")]),
    row("cos", "(number) -> float", cos, numbers)
        .about("The cosine of an angle in radians.")
        .examples(&[("cos(0)", "1"), ("cos(3.141592653589793)", "-1")]),
    row("cosh", "(number) -> float", cosh, numbers)
        .about("The hyperbolic cosine; null when it is too large for a float.")
        .examples(&[("cosh(0)", "1"), ("cosh(1000)", "null")]),
    row("cot", "(number) -> float", cot, numbers)
        .about("The cotangent of an angle in radians; where it is infinite, as at 0, an error.")
        .examples(&[("cot(1)", "0.6420926159343308"), ("cot(-0.5)", "-1.830487721712452")]),
    row("conv", "(text|number, int, int) -> text", conv, check_conv)
        .about("A whole number given as text in the first base, written in the second. A negative base to read in bounds the number to 64 bits with a sign; a negative base to write in writes a sign. Null for a base outside of 2 to 36.")
        .examples(&[("conv(\"ff\", 16, 10)", "\"255\""), ("conv(\"-5\", 10, -16)", "\"-5\""), ("conv(\"10\", 1, 10)", "null")]),
    row("degrees", "(number) -> float", degrees, numbers)
        .about("Radians as degrees.")
        .examples(&[("degrees(0)", "0"), ("degrees(3.141592653589793)", "180")]),
    row("radians", "(number) -> float", radians, numbers)
        .about("Degrees as radians.")
        .examples(&[("radians(0)", "0"), ("radians(180)", "3.141592653589793")]),
    row("exp", "(number) -> float", exp, numbers)
        .about("e raised to the number; null when it is too large for a float.")
        .examples(&[("exp(0)", "1"), ("exp(710)", "null")]),
    row("floor", "(number) -> float", floor, numbers)
        .about("The number rounded down to a whole one.")
        .examples(&[("floor(2.9)", "2"), ("floor(-2.1)", "-3")]),
    row("ln", "(number) -> float", ln, numbers)
        .about("The natural logarithm; null of 0, an error of less.")
        .examples(&[("ln(1)", "0"), ("ln(0)", "null")]),
    row("log", "(number [, number]) -> float", log, numbers)
        .about("The logarithm to base 10, or with two arguments that of the second to the base of the first; null for a base not above 1 and for 0, an error for less.")
        .examples(&[("log(1000)", "3"), ("log(2, 8)", "3")]),
    row("mod", "(number, number) -> float", modulo, numbers)
        .about("The remainder of a division, with the sign of the first argument; null for a division by 0.")
        .examples(&[("mod(10, 4)", "2"), ("mod(-7.5, 2)", "-1.5"), ("mod(1, 0)", "null")]),
    row("pi", "() -> float", pi, numbers)
        .about("The number pi.")
        .examples(&[("pi()", "3.141592653589793"), ("floor(pi())", "3")]),
    row("power", "(number, number) -> float", power, numbers)
        .about("The first number raised to the second; null where that is no finite number.")
        .examples(&[("power(2, 10)", "1024"), ("power(-8, 0.5)", "null")]),
    row("pow", "(number, number) -> float", power, numbers)
        .about("The first number raised to the second; the same as `power`.")
        .examples(&[("pow(3, 4)", "81"), ("pow(9, 0.5)", "3")]),
    row("rand", "() -> float", rand, numbers)
        .null(NullGuard::Off)
        .impure()
        .about("A random number from 0 up to, not including, 1.")
        .examples(&[("rand() < 1", "true"), ("rand() >= 0", "true")]),
    row("round", "(number [, int]) -> float", round, numbers)
        .about("The number rounded to so many decimals, half away from zero; a negative count rounds before the point.")
        .examples(&[("round(3.5)", "4"), ("round(1234.5678, 2)", "1234.57"), ("round(15, -1)", "20")]),
    row("sign", "(number) -> bigint", sign, numbers)
        .about("-1, 0 or 1.")
        .examples(&[("sign(-2.5)", "-1"), ("sign(0)", "0")]),
    row("sin", "(number) -> float", sin, numbers)
        .about("The sine of an angle in radians.")
        .examples(&[("sin(0)", "0"), ("sin(1)", "0.8414709848078965")]),
    row("sinh", "(number) -> float", sinh, numbers)
        .about("The hyperbolic sine; null when it is too large for a float.")
        .examples(&[("sinh(0)", "0"), ("sinh(1000)", "null")]),
    row("sqrt", "(number) -> float", sqrt, numbers)
        .about("The square root; of a negative number an error.")
        .examples(&[("sqrt(9)", "3"), ("sqrt(0.25)", "0.5")]),
    row("tan", "(number) -> float", tan, numbers)
        .about("The tangent of an angle in radians.")
        .examples(&[("tan(0)", "0"), ("tan(0.5)", "0.5463024898437905")]),
    row("tanh", "(number) -> float", tanh, numbers)
        .about("The hyperbolic tangent.")
        .examples(&[("tanh(0)", "0"), ("tanh(-20)", "-1")]),
];

fn abs(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Int(n) => n
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(|| Fault::eval(format!("the absolute value of {n} does not fit a 64-bit integer"))),
        Value::Float(x) => Ok(finite(x.abs())),
        _ => Err(wrong(args, 0, "a number")),
    }
}

/// A function of one float.
macro_rules! of_one {
    ($($name:ident: $call:expr;)*) => {
        $(fn $name(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
            let call: fn(f64) -> f64 = $call;
            float(args, 0).map(|x| finite(call(x)))
        })*
    };
}

of_one! {
    acos: f64::acos;
    asin: f64::asin;
    atan: f64::atan;
    cos: f64::cos;
    cosh: f64::cosh;
    degrees: f64::to_degrees;
    radians: f64::to_radians;
    exp: f64::exp;
    sin: f64::sin;
    sinh: f64::sinh;
    tan: f64::tan;
    tanh: f64::tanh;
}

fn atan2(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(finite(float(args, 0)?.atan2(float(args, 1)?)))
}

fn bitand(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(int(args, 0)? & int(args, 1)?))
}

fn bitor(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(int(args, 0)? | int(args, 1)?))
}

fn bitxor(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(int(args, 0)? ^ int(args, 1)?))
}

fn bitnot(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(!int(args, 0)?))
}

fn ceil(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Int(n) => Ok(float_of_int(*n)),
        _ => float(args, 0).map(|x| finite(x.ceil())),
    }
}

fn floor(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Int(n) => Ok(float_of_int(*n)),
        _ => float(args, 0).map(|x| finite(x.floor())),
    }
}

fn cot(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let result = 1.0 / float(args, 0)?.tan();
    if result.is_infinite() {
        return Err(Fault::eval(format!("the cotangent of {} is infinite", arg(args, 0).print())));
    }
    Ok(finite(result))
}

fn ln(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let x = float(args, 0)?;
    if x < 0.0 { Err(wrong(args, 0, "a positive number")) } else { Ok(finite(x.ln())) }
}

fn log(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let last = args.len().saturating_sub(1).min(1);
    let x = float(args, last)?;
    if last == 0 {
        return if x < 0.0 { Err(wrong(args, 0, "a positive number")) } else { Ok(finite(x.log10())) };
    }
    let base = float(args, 0)?;
    if base.is_nan() || base <= 1.0 {
        return Ok(Value::Null);
    }
    if x < 0.0 {
        return Err(wrong(args, 1, "a positive number"));
    }
    // The two bases with functions of their own come out exact.
    let result = if base == 2.0 {
        x.log2()
    } else if base == 10.0 {
        x.log10()
    } else {
        x.ln() / base.ln()
    };
    Ok(finite(result))
}

fn modulo(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if let (Value::Int(a), Value::Int(b)) = (arg(args, 0), arg(args, 1)) {
        return Ok(match b {
            0 => Value::Null,
            -1 => Value::Float(0.0),
            _ => float_of_int(a % b),
        });
    }
    Ok(finite(float(args, 0)? % float(args, 1)?))
}

fn pi(_: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Float(std::f64::consts::PI))
}

fn power(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(finite(float(args, 0)?.powf(float(args, 1)?)))
}

fn rand(_: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Float((random() >> 11) as f64 / (1_u64 << 53) as f64))
}

fn round(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let x = float(args, 0)?;
    let places = match args.get(1) {
        Some(_) => float(args, 1)?.trunc().clamp(-400.0, 400.0) as i32,
        None => 0,
    };
    if let (Value::Int(n), 0..) = (arg(args, 0), places) {
        return Ok(float_of_int(*n));
    }
    let factor = 10_f64.powi(places.abs());
    if places < 0 {
        return Ok(finite(if factor.is_finite() { (x / factor).round() * factor } else { 0.0_f64.copysign(x) }));
    }
    let scaled = x * factor;
    // A float that cannot be scaled has no digits left to round away.
    Ok(finite(if scaled.is_finite() && factor.is_finite() { scaled.round() / factor } else { x }))
}

fn sign(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let x = float(args, 0)?;
    Ok(Value::Int(i64::from(x > 0.0) - i64::from(x < 0.0)))
}

fn sqrt(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let x = float(args, 0)?;
    if x < 0.0 { Err(wrong(args, 0, "a number that is not negative")) } else { Ok(finite(x.sqrt())) }
}

fn check_conv(args: &[Arg]) -> std::result::Result<(), String> {
    if check_number(args, 0).is_err() {
        super::args::check_text(args, 0)?;
    }
    for at in [1, 2] {
        only_literal(args, at, "an integer literal", super::args::is_int)?;
    }
    Ok(())
}

fn conv(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (from, to) = (int(args, 1)?, int(args, 2)?);
    if !matches!(arg(args, 0), Value::Text(_) | Value::Bytes(_)) {
        float(args, 0).map_err(|_| wrong(args, 0, "a string or a number"))?;
    }
    let base = |base: i64| u32::try_from(base.unsigned_abs()).ok().filter(|base| (2..=36).contains(base));
    let (Some(from_base), Some(to_base)) = (base(from), base(to)) else { return Ok(Value::Null) };
    let text = super::args::as_text(args, 0);
    let (minus, digits) = match text.trim() {
        text if text.starts_with('-') => (true, &text[1..]),
        text => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut size: u64 = 0;
    for digit in digits.chars().map_while(|letter| letter.to_digit(from_base)) {
        size = size
            .checked_mul(from_base.into())
            .and_then(|size| size.checked_add(digit.into()))
            .ok_or_else(|| Fault::eval(format!("`{}` does not fit 64 bits", text.trim())))?;
    }
    let bits = if from < 0 {
        let bounded = if minus { size.min(1 << 63) } else { size.min(i64::MAX as u64) };
        if minus { bounded.wrapping_neg() } else { bounded }
    } else if minus {
        size.wrapping_neg()
    } else {
        size
    };
    let signed = to < 0 && (bits as i64) < 0;
    let mut left = if signed { bits.wrapping_neg() } else { bits };
    let mut out = Vec::new();
    loop {
        let digit = (left % u64::from(to_base)) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
        left /= u64::from(to_base);
        if left == 0 {
            break;
        }
    }
    if signed {
        out.push(b'-');
    }
    out.reverse();
    Ok(Value::from(String::from_utf8_lossy(&out).into_owned()))
}
