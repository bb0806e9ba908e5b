//! Arithmetic: over integers (`add`), and over floats (`addf`).

use gtmpl_ng::Value;

use super::funcs::{Outcome, exactly, fail, first_of, float, int as int_of, real, whole};

fn fold(name: &str, args: &[Value], step: fn(i64, i64) -> i64) -> Outcome {
    let (first, others) = first_of(name, args)?;
    Ok(whole(others.iter().fold(int_of(first), |sum, next| step(sum, int_of(next)))))
}

fn foldf(name: &str, args: &[Value], step: fn(f64, f64) -> f64) -> Outcome {
    let (first, others) = first_of(name, args)?;
    Ok(real(others.iter().fold(float(first), |sum, next| step(sum, float(next)))))
}

pub(super) fn add(args: &[Value]) -> Outcome {
    fold("add", args, i64::wrapping_add)
}

pub(super) fn add1(args: &[Value]) -> Outcome {
    let [n] = exactly("add1", args)?;
    Ok(whole(int_of(n).wrapping_add(1)))
}

pub(super) fn sub(args: &[Value]) -> Outcome {
    fold("sub", args, i64::wrapping_sub)
}

pub(super) fn mul(args: &[Value]) -> Outcome {
    fold("mul", args, i64::wrapping_mul)
}

pub(super) fn div(args: &[Value]) -> Outcome {
    let [a, b] = exactly("div", args)?;
    int_of(a).checked_div(int_of(b)).map(whole).ok_or_else(|| fail("`div` by zero"))
}

pub(super) fn modulo(args: &[Value]) -> Outcome {
    let [a, b] = exactly("mod", args)?;
    int_of(a).checked_rem(int_of(b)).map(whole).ok_or_else(|| fail("`mod` by zero"))
}

pub(super) fn max(args: &[Value]) -> Outcome {
    fold("max", args, i64::max)
}

pub(super) fn min(args: &[Value]) -> Outcome {
    fold("min", args, i64::min)
}

pub(super) fn addf(args: &[Value]) -> Outcome {
    foldf("addf", args, |a, b| a + b)
}

pub(super) fn subf(args: &[Value]) -> Outcome {
    foldf("subf", args, |a, b| a - b)
}

pub(super) fn mulf(args: &[Value]) -> Outcome {
    foldf("mulf", args, |a, b| a * b)
}

pub(super) fn divf(args: &[Value]) -> Outcome {
    if args.iter().skip(1).any(|divisor| float(divisor) == 0.0) {
        return Err(fail("`divf` by zero"));
    }
    foldf("divf", args, |a, b| a / b)
}

pub(super) fn maxf(args: &[Value]) -> Outcome {
    foldf("maxf", args, f64::max)
}

pub(super) fn minf(args: &[Value]) -> Outcome {
    foldf("minf", args, f64::min)
}

pub(super) fn ceil(args: &[Value]) -> Outcome {
    let [x] = exactly("ceil", args)?;
    Ok(real(float(x).ceil()))
}

pub(super) fn floor(args: &[Value]) -> Outcome {
    let [x] = exactly("floor", args)?;
    Ok(real(float(x).floor()))
}

/// `round number digits`; half is away from zero.
pub(super) fn round(args: &[Value]) -> Outcome {
    let [x, digits] = exactly("round", args)?;
    let scale = 10f64.powi(int_of(digits).clamp(0, 15) as i32);
    Ok(real((float(x) * scale).round() / scale))
}

pub(super) fn int(args: &[Value]) -> Outcome {
    let [value] = exactly("int", args)?;
    Ok(whole(int_of(value)))
}

pub(super) fn float_of(args: &[Value]) -> Outcome {
    let [value] = exactly("float64", args)?;
    Ok(real(float(value)))
}
