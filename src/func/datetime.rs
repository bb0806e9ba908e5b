//! Dates and times: the clock, the parts of a datetime, patterns and differences.
//!
//! Where a datetime is taken, epoch milliseconds and text of any known layout are taken as well. A datetime keeps the
//! zone that it came with; numbers, and text without a zone, are in the configured one.

#[cfg(test)]
mod tests;

use std::fmt::Display;

use jiff::Span;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::data::{Civil, DateTime, Time, Value, day_name, format_datetime, month_name, parse_datetime};
use crate::diag::{Fault, Result};

use super::{Arg, Ctx, Func, NullGuard};

type Call = fn(&[Value], &Ctx<'_>) -> Result<Value>;
type Checked = std::result::Result<(), String>;
type Examples = &'static [(&'static str, &'static str)];

const TO_SECOND: &str = "yyyy-MM-dd HH:mm:ss";
/// What the check of a literal asks for.
const DATETIME: &str = "a datetime, for example `cast(\"2024-03-09\", \"datetime\")`";

const fn row(name: &'static str, signature: &'static str, call: Call, about: &'static str, examples: Examples) -> Func {
    let plain = Func::scalar(name, signature, call).about(about).examples(examples);
    Func { family: "datetime", null: NullGuard::Off, ..plain }
}

/// A function of the clock.
const fn clock(
    name: &'static str,
    signature: &'static str,
    call: Call,
    about: &'static str,
    examples: Examples,
) -> Func {
    row(name, signature, call, about, examples).impure().check(check_clock)
}

/// A number that is a part of a datetime.
const fn part(name: &'static str, call: Call, about: &'static str, examples: Examples) -> Func {
    row(name, "(datetime) -> bigint", call, about, examples).check(check_time)
}

/// A text that is a part of a datetime.
const fn words(name: &'static str, call: Call, about: &'static str, examples: Examples) -> Func {
    row(name, "(datetime) -> text", call, about, examples).check(check_time)
}

const NOW: &str = "The present date and time in the configured zone, with up to six digits of a second if asked.";
const CUR_DATE: &str = "The present date in the configured zone.";
const CUR_TIME: &str = "The present time of day in the configured zone, with up to six digits of a second if asked.";

#[rustfmt::skip] // One function, one look.
pub const FUNCS: &[Func] = &[
    clock("now", "([digits]) -> text", now, NOW,
        &[("length(now())", "19"), ("length(now(3))", "23")]),
    clock("current_timestamp", "([digits]) -> text", now, NOW,
        &[("length(current_timestamp())", "19"), ("length(current_timestamp(6))", "26")]),
    clock("local_time", "([digits]) -> text", now, NOW,
        &[("length(local_time())", "19"), ("length(local_time(1))", "21")]),
    clock("local_timestamp", "([digits]) -> text", now, NOW,
        &[("length(local_timestamp())", "19"), ("length(local_timestamp(0))", "19")]),
    clock("cur_date", "() -> text", cur_date, CUR_DATE,
        &[("length(cur_date())", "10"), ("endswith(cur_date(), \"-\")", "false")]),
    clock("current_date", "() -> text", cur_date, CUR_DATE,
        &[("length(current_date())", "10"), ("endswith(current_date(), \"-\")", "false")]),
    clock("cur_time", "([digits]) -> text", cur_time, CUR_TIME,
        &[("length(cur_time())", "8"), ("length(cur_time(2))", "11")]),
    clock("current_time", "([digits]) -> text", cur_time, CUR_TIME,
        &[("length(current_time())", "8"), ("length(current_time(6))", "15")]),
    row("format_time", "(datetime, text) -> text", format_time,
        "The datetime as a pattern says: yyyy yy M MM MMM MMMM d dd EEE EEEE HH h hh a m mm s ss, S to SSSSSSSSS for a \
         dot and digits of the second, z Z X XX XXX for the zone, G for AD. Other letters stand for themselves, and \
         so does what is in single quotes or behind a backslash.",
        &[("format_time(cast(\"2024-03-09T10:11:12Z\", \"datetime\"), \"dd.MM.yyyy 'at' h a\")", "\"09.03.2024 at 10 AM\""),
          ("format_time(cast(\"2024-03-09T10:11:12.5Z\", \"datetime\"), \"EEE HH:mm:ssSSS XXX\")", "\"Sat 10:11:12.500 +00:00\"")])
        .null(NullGuard::Null)
        .check(check_format),
    row("date_calc", "(datetime, text) -> text", date_calc,
        "The datetime moved by a duration such as `1h30m`, `-24h` or `1.5s`; the units are ns, us, ms, s, m and h.",
        &[("date_calc(cast(\"2024-03-09T10:11:12Z\", \"datetime\"), \"1h30m\")", "\"2024-03-09 11:41:12\""),
          ("date_calc(cast(\"2024-03-01T00:00:00Z\", \"datetime\"), \"-24h\")", "\"2024-02-29 00:00:00\"")])
        .check(check_calc),
    row("date_diff", "(datetime, datetime) -> bigint", date_diff,
        "The whole days from the first datetime to the second, negative when the second is earlier.",
        &[("date_diff(cast(\"2024-02-28\", \"datetime\"), cast(\"2024-03-01\", \"datetime\"))", "2"),
          ("date_diff(cast(\"2024-03-09 12:00\", \"datetime\"), cast(\"2024-03-08\", \"datetime\"))", "-1")])
        .check(check_times),
    words("day_name", day_name_of, "The English name of the weekday.",
        &[("day_name(cast(\"2024-03-09\", \"datetime\"))", "\"Saturday\""), ("day_name(cast(0, \"datetime\"))", "\"Thursday\"")]),
    part("day_of_month", day, "The day of the month, 1 to 31; the same as `day`.",
        &[("day_of_month(cast(\"2024-03-09\", \"datetime\"))", "9"), ("day_of_month(cast(-1, \"datetime\"))", "31")]),
    part("day", day, "The day of the month, 1 to 31.",
        &[("day(cast(\"2024-06-30\", \"datetime\"))", "30"), ("day(cast(0, \"datetime\"))", "1")]),
    part("day_of_week", day_of_week, "The day of the week, 1 for Sunday to 7 for Saturday.",
        &[("day_of_week(cast(\"2024-03-09\", \"datetime\"))", "7"), ("day_of_week(cast(\"2024-03-10\", \"datetime\"))", "1")]),
    part("day_of_year", day_of_year, "The day of the year, 1 to 366.",
        &[("day_of_year(cast(\"2024-12-31\", \"datetime\"))", "366"), ("day_of_year(cast(\"2024-02-01\", \"datetime\"))", "32")]),
    row("from_days", "(int) -> text", from_days,
        "The date of a day that is counted from 1970-01-01 as day 1; null for day 0.",
        &[("from_days(cast(\"365\", \"bigint\"))", "\"1970-12-31\""), ("from_days(cast(\"19800\", \"bigint\"))", "\"2024-03-17\"")])
        .null(NullGuard::Null)
        .check(check_count),
    row("from_unix_time", "(int) -> text", from_unix_time,
        "The date and time in the configured zone of a number of seconds since 1970-01-01 UTC.",
        &[("from_unix_time(cast(\"0\", \"bigint\"))", "\"1970-01-01 00:00:00\""),
          ("from_unix_time(cast(\"1709979072\", \"bigint\"))", "\"2024-03-09 10:11:12\"")])
        .null(NullGuard::Null)
        .check(check_count),
    part("hour", hour, "The hour of the day, 0 to 23.",
        &[("hour(cast(\"2024-03-09 22:11\", \"datetime\"))", "22"), ("hour(cast(\"2024-03-09T10:11:12+08:00\", \"datetime\"))", "10")]),
    words("last_day", last_day, "The last date of the month.",
        &[("last_day(cast(\"2024-02-10\", \"datetime\"))", "\"2024-02-29\""), ("last_day(cast(\"2023-02-10\", \"datetime\"))", "\"2023-02-28\"")]),
    part("microsecond", microsecond, "The part of the second in microseconds, 0 to 999999.",
        &[("microsecond(cast(\"2024-03-09T10:11:12.5Z\", \"datetime\"))", "500000"), ("microsecond(cast(\"2024-03-09 10:11:12\", \"datetime\"))", "0")]),
    part("minute", minute, "The minute of the hour, 0 to 59.",
        &[("minute(cast(\"2024-03-09 22:11\", \"datetime\"))", "11"), ("minute(cast(-1, \"datetime\"))", "59")]),
    part("month", month, "The month of the year, 1 to 12.",
        &[("month(cast(\"2024-03-09\", \"datetime\"))", "3"), ("month(cast(-1, \"datetime\"))", "12")]),
    words("month_name", month_name_of, "The English name of the month.",
        &[("month_name(cast(\"2024-03-09\", \"datetime\"))", "\"March\""), ("month_name(cast(-1, \"datetime\"))", "\"December\"")]),
    part("second", second, "The second of the minute, 0 to 59.",
        &[("second(cast(\"2024-03-09T10:11:12.5Z\", \"datetime\"))", "12"), ("second(cast(0, \"datetime\"))", "0")]),
    row("to_seconds", "(datetime) -> bigint", to_seconds, "The seconds since 1970-01-01 UTC, rounded down.",
        &[("to_seconds(\"2024/03/09\")", "1709942400"), ("to_seconds(-1)", "-1")])
        .null(NullGuard::Null),
];

/// How a value reads in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("`{text}`"),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        other => other.type_name().to_string(),
    }
}

fn no_literal(args: &[Arg], at: usize, wanted: &str) -> Checked {
    let found = match args.get(at) {
        Some(Arg::Literal(value)) if !value.is_null() => shown(value),
        Some(Arg::Wildcard) => "`*`".into(),
        _ => return Ok(()),
    };
    Err(format!("argument {} must be {wanted}, found {found}", at + 1))
}

fn check_time(args: &[Arg]) -> Checked {
    no_literal(args, 0, DATETIME)
}

fn check_times(args: &[Arg]) -> Checked {
    no_literal(args, 0, DATETIME)?;
    no_literal(args, 1, DATETIME)
}

fn check_count(args: &[Arg]) -> Checked {
    no_literal(args, 0, "an integer of a column or an expression")
}

fn check_format(args: &[Arg]) -> Checked {
    check_time(args)?;
    match args.get(1) {
        Some(Arg::Literal(Value::Text(pattern))) => format_datetime(&DateTime::from_millis(0, TimeZone::UTC), pattern)
            .map(drop)
            .map_err(|why| format!("argument 2: {why}")),
        Some(Arg::Unit) => Err("argument 2 must be a pattern in quotes, found a unit of time".into()),
        _ => no_literal(args, 1, "a pattern in quotes"),
    }
}

fn check_calc(args: &[Arg]) -> Checked {
    check_time(args)?;
    match args.get(1) {
        Some(Arg::Literal(Value::Text(text))) => duration(text).map(drop).map_err(|why| format!("argument 2: {why}")),
        Some(Arg::Literal(value)) => Err(format!("argument 2 must be a duration in quotes, found {}", shown(value))),
        Some(_) => Err("argument 2 must be a duration that is written out in quotes".into()),
        None => Ok(()),
    }
}

fn check_clock(args: &[Arg]) -> Checked {
    match args.first() {
        None | Some(Arg::Literal(Value::Int(0..=6))) => Ok(()),
        _ => Err("argument 1 must be a number of digits from 0 to 6 that is written out".into()),
    }
}

fn out_of_range(what: impl Display) -> Fault {
    Fault::eval(format!("{what} is out of range, dates end with the year 9999"))
}

/// The argument as a datetime in its zone.
fn moment(args: &[Value], at: usize, ctx: &Ctx<'_>) -> Result<DateTime> {
    let zone = &ctx.rule.zone;
    match args.get(at).unwrap_or(&Value::Null) {
        Value::Time(time) => Ok(time.clone()),
        Value::Int(millis) => Ok(DateTime::from_millis(*millis, zone.clone())),
        Value::Float(millis) => {
            let whole = Value::Float(millis.trunc()).as_i64();
            let whole = whole.ok_or_else(|| Fault::eval(format!("{millis} is no count of milliseconds")))?;
            Ok(DateTime::from_millis(whole, zone.clone()))
        }
        Value::Text(text) => {
            let help = "use for example `2024-03-09T10:11:12Z`";
            parse_datetime(text, None, zone, ctx.now)
                .ok_or_else(|| Fault::eval(format!("`{text}` cannot be read as a datetime, {help}")))
        }
        other => Err(Fault::eval(format!("argument {} must be a datetime, found {}", at + 1, shown(other)))),
    }
}

/// The argument as calendar and clock show it.
fn parts(args: &[Value], ctx: &Ctx<'_>) -> Result<Civil> {
    Ok(moment(args, 0, ctx)?.civil())
}

fn int(args: &[Value], at: usize) -> Result<i64> {
    let value = args.get(at).unwrap_or(&Value::Null);
    let wrong = || Fault::eval(format!("argument {} must be an integer, found {}", at + 1, shown(value)));
    value.as_i64().ok_or_else(wrong)
}

fn written(time: &DateTime, pattern: &str) -> Result<Value> {
    format_datetime(time, pattern).map(Value::from).map_err(Fault::eval)
}

/// The present, with as many digits of a second as the first argument says.
fn present(args: &[Value], ctx: &Ctx<'_>, pattern: &str) -> Result<Value> {
    let digits = if args.is_empty() { 0 } else { int(args, 0)? };
    let digits = usize::try_from(digits).ok().filter(|digits| *digits <= 6);
    let digits = digits.ok_or_else(|| Fault::eval("argument 1 must be a number of digits from 0 to 6"))?;
    let Time(now) = ctx.now;
    written(&DateTime::from_millis(now, ctx.rule.zone.clone()), &format!("{pattern}{}", "S".repeat(digits)))
}

fn now(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    present(args, ctx, TO_SECOND)
}

fn cur_date(_: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    present(&[], ctx, "yyyy-MM-dd")
}

fn cur_time(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    present(args, ctx, "HH:mm:ss")
}

fn format_time(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let time = moment(args, 0, ctx)?;
    match args.get(1).unwrap_or(&Value::Null) {
        Value::Text(pattern) => written(&time, pattern),
        // Digits stand for themselves in a pattern.
        Value::Int(number) => Ok(Value::from(number.to_string())),
        other => Err(Fault::eval(format!("argument 2 must be a pattern, found {}", shown(other)))),
    }
}

fn date_calc(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let time = moment(args, 0, ctx)?;
    let value = args.get(1).unwrap_or(&Value::Null);
    let text = value.as_str();
    let text = text.ok_or_else(|| Fault::eval(format!("argument 2 must be a duration, found {}", shown(value))))?;
    let nanos = duration(text).map_err(Fault::eval)?;
    written(&time.plus(nanos), TO_SECOND)
}

/// Nanoseconds of a duration as Go writes it: `1h30m`, `-1.5s`, `0`.
fn duration(text: &str) -> std::result::Result<i64, String> {
    let wrong = |why: &str| format!("`{text}` is no duration such as `1h30m`: {why}");
    let too_long = || wrong("it is too long");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong("there is no number"));
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let in_number = |letter: char| letter == '.' || letter.is_ascii_digit();
        let (number, more) = rest.split_at(rest.find(|letter| !in_number(letter)).unwrap_or(rest.len()));
        let (unit, more) = more.split_at(more.find(in_number).unwrap_or(more.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(wrong(&format!("`{number}{unit}` does not start with a number")));
        }
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(wrong("a unit is missing")),
            other => return Err(wrong(&format!("there is no unit `{other}`, the units are ns, us, ms, s, m and h"))),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
        // An hour has 13 digits of nanoseconds; what is finer cannot count.
        let fraction = &fraction[..fraction.len().min(18)];
        let digits: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| too_long())? };
        let part = digits * nanos / 10i128.pow(fraction.len() as u32);
        let sum = whole.checked_mul(nanos).and_then(|whole| total.checked_add(whole)?.checked_add(part));
        total = sum.filter(|sum| *sum <= i128::from(i64::MAX)).ok_or_else(too_long)?;
        rest = more;
    }
    let total = i64::try_from(total).map_err(|_| too_long())?;
    Ok(if text.starts_with('-') { -total } else { total })
}

fn date_diff(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let (first, second) = (moment(args, 0, ctx)?, moment(args, 1, ctx)?);
    let days = (second.nanos() - first.nanos()) / 86_400_000_000_000;
    Ok(Value::Int(days as i64))
}

fn day_name_of(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::text(day_name(parts(args, ctx)?.weekday)))
}

fn month_name_of(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::text(month_name(parts(args, ctx)?.month)))
}

fn day(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.day.into()))
}

fn day_of_week(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(i64::from(parts(args, ctx)?.weekday) + 1))
}

fn day_of_year(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.day_of_year.into()))
}

fn hour(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.hour.into()))
}

fn minute(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.minute.into()))
}

fn second(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.second.into()))
}

fn microsecond(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(i64::from(parts(args, ctx)?.nanos) / 1_000))
}

fn month(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(parts(args, ctx)?.month.into()))
}

fn last_day(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let time = moment(args, 0, ctx)?;
    written(&time, &format!("yyyy-MM-{:02}", time.civil().last_of_month()))
}

/// A count of days has no zone, so the calendar is asked and not the clock.
fn from_days(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let days = int(args, 0)?;
    if days == 0 {
        return Ok(Value::Null);
    }
    let out = || out_of_range(format_args!("day {days}"));
    let span = days.checked_sub(1).and_then(|days| Span::new().try_days(days).ok()).ok_or_else(out)?;
    let date = Date::constant(1970, 1, 1).checked_add(span).map_err(|_| out())?;
    Ok(Value::from(date.to_string()))
}

fn from_unix_time(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let seconds = int(args, 0)?;
    let millis = seconds.checked_mul(1000);
    let millis =
        millis.ok_or_else(|| Fault::eval(format!("{seconds} is out of range, it lies billions of years away")))?;
    written(&DateTime::from_millis(millis, ctx.rule.zone.clone()), TO_SECOND)
}

fn to_seconds(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(moment(args, 0, ctx)?.seconds()))
}
