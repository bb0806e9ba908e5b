#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::tz::TimeZone;

use super::*;
use crate::data::{DateTime, Time, parse_datetime};
use crate::func::{Body, RuleInfo};

/// 2024-03-09 10:11:12.567 UTC.
const NOW_MILLIS: i64 = 1_709_979_072_567;

fn func(name: &str) -> &'static Func {
    FUNCS.iter().find(|func| func.name == name).unwrap()
}

fn call_in(zone: &str, name: &str, args: &[Value]) -> Result<Value> {
    let rule = RuleInfo { id: "r".into(), started: Time(0), zone: TimeZone::get(zone).unwrap(), ..RuleInfo::nowhere() };
    let ctx = Ctx { now: Time(NOW_MILLIS), row_time: None, rule: &rule };
    let Body::Scalar(call) = func(name).body else { panic!("{name} is no scalar") };
    call(args, &ctx)
}

fn call(name: &str, args: &[Value]) -> Result<Value> {
    call_in("UTC", name, args)
}

fn time(text: &str) -> Value {
    Value::Time(parse_datetime(text, None, &TimeZone::UTC, Time(NOW_MILLIS)).unwrap())
}

#[test]
fn parts() {
    let leap = time("2024-02-29T23:59:58.987654321Z");
    let east = time("2023-12-31T05:06:07+09:00");
    let moon = time("1969-07-20T20:17:40Z");
    let text = Value::text("2024-03-09 10:11:12.000250");
    for (name, arg, expected) in [
        ("day_name", &leap, Value::text("Thursday")),
        ("day_name", &east, Value::text("Sunday")),
        ("month_name", &east, Value::text("December")),
        ("day_of_month", &text, 9.into()),
        ("day", &Value::Int(-1), 31.into()),
        ("day_of_week", &leap, 5.into()),
        ("day_of_week", &east, 1.into()),
        ("day_of_week", &Value::Int(1_700_000_000_123), 3.into()),
        ("day_of_year", &leap, 60.into()),
        ("day_of_year", &moon, 201.into()),
        ("hour", &moon, 20.into()),
        ("hour", &Value::Float(1_700_000_000_000.0), 22.into()),
        ("hour", &Value::text("2024-03-09T10:11:12+08:00"), 10.into()),
        ("hour", &Value::Int(32_503_680_000_000 + 3_600_000), 1.into()),
        ("minute", &Value::Int(-1), 59.into()),
        ("second", &moon, 40.into()),
        ("microsecond", &text, 250.into()),
        ("microsecond", &leap, 987_654.into()),
        ("microsecond", &Value::Int(-1), 999_000.into()),
        ("microsecond", &Value::Time(DateTime::new(-1, TimeZone::UTC)), 999_999.into()),
        ("month", &east, 12.into()),
        ("last_day", &leap, Value::text("2024-02-29")),
        ("last_day", &time("2024-12-31T23:00:00-05:00"), Value::text("2024-12-31")),
        ("to_seconds", &Value::text("2024/03/09"), 1_709_942_400.into()),
        ("to_seconds", &Value::Int(-1), (-1).into()),
        ("to_seconds", &moon, (-14_182_940).into()),
    ] {
        assert_eq!(call(name, std::slice::from_ref(arg)).unwrap(), expected, "{name} {arg:?}");
    }
    assert_eq!(call_in("Asia/Shanghai", "hour", &[Value::Int(1_700_000_000_000)]).unwrap(), Value::Int(6));
    assert_eq!(call_in("Asia/Tokyo", "hour", &[time("2024-03-09T10:11:12Z")]).unwrap(), Value::Int(10));
    for wrong in [Value::Null, Value::Bool(true), Value::text("noon"), Value::array(vec![])] {
        assert!(call("hour", std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
    }
    assert!(call("hour", &[Value::Float(f64::NAN)]).is_err());
}

#[test]
fn the_clock_is_that_of_the_rule() {
    for (name, digits, expected) in [
        ("now", None, "2024-03-09 19:11:12"),
        ("now", Some(0), "2024-03-09 19:11:12"),
        ("local_time", Some(3), "2024-03-09 19:11:12.567"),
        ("current_timestamp", Some(6), "2024-03-09 19:11:12.567000"),
        ("cur_date", None, "2024-03-09"),
        ("cur_time", Some(2), "19:11:12.56"),
        ("current_time", None, "19:11:12"),
    ] {
        let args: Vec<Value> = digits.into_iter().map(Value::Int).collect();
        assert_eq!(call_in("Asia/Tokyo", name, &args).unwrap(), Value::text(expected), "{name} {digits:?}");
    }
    assert!(call("now", &[Value::Int(7)]).is_err());
    assert!(call("now", &[Value::Int(-1)]).is_err());
}

#[test]
fn durations_are_those_of_go() {
    for (text, nanos) in [
        ("0", 0),
        ("0s", 0),
        ("1h30m", 5_400_000_000_000),
        ("-1.5h", -5_400_000_000_000),
        ("+.5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("1us2µs3μs4ns5ms", 5_006_004),
        ("0.0000000000000000000001h", 0),
        ("2562047h47m16.854775807s", i64::MAX),
    ] {
        assert_eq!(duration(text), Ok(nanos), "{text}");
    }
    for text in ["", "-", "1", "h", "1d", "--5m", "-+5m", "1h-30m", "1..5h", ".h", "1 h", "9999999h", "1H"] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(duration(&"9".repeat(100)).is_err());
}

#[test]
fn calculations() {
    let leap = || time("2024-02-29T23:59:58.987654321Z");
    let moved = |time: Value, by: &str| call("date_calc", &[time, Value::text(by)]);
    assert_eq!(moved(leap(), "-24h").unwrap(), Value::text("2024-02-28 23:59:58"));
    assert_eq!(moved(leap(), "+5m").unwrap(), Value::text("2024-03-01 00:04:58"));
    assert_eq!(moved(Value::Int(1_700_000_000_123), "500ms").unwrap(), Value::text("2023-11-14 22:13:20"));
    assert_eq!(moved(time("2024-03-10T01:59:59-05:00"), "1h").unwrap(), Value::text("2024-03-10 02:59:59"));
    assert!(moved(Value::Bool(true), "1h").is_err());
    assert!(moved(leap(), "--5m").is_err());
    assert_eq!(moved(Value::Int(253_402_300_799_999), "1ms").unwrap(), Value::text("10000-01-01 00:00:00"));
    let between = |a: &str, b: &str| call("date_diff", &[Value::text(a), Value::text(b)]).unwrap();
    assert_eq!(between("2024-03-09", "2024-03-10"), Value::Int(1));
    assert_eq!(between("2024-03-02 00:00:00", "2024-03-01 23:59:59.5"), Value::Int(0));
    assert_eq!(between("2024-03-02 12:00", "2024-02-29 12:00"), Value::Int(-2));
    assert!(call("date_diff", &[leap(), Value::Null]).is_err());
    let days = |n: Value| call("from_days", &[n]);
    for (n, expected) in [(1, "1970-01-01"), (365, "1970-12-31"), (738_000, "3990-07-29"), (-1, "1969-12-30")] {
        assert_eq!(days(Value::Int(n)).unwrap(), Value::text(expected));
    }
    assert_eq!(days(Value::Float(10.0)).unwrap(), Value::text("1970-01-10"));
    assert_eq!(days(Value::Int(0)).unwrap(), Value::Null);
    for wrong in [Value::Float(10.5), Value::text("10"), Value::Float(1e9), i64::MIN.into(), i64::MAX.into()] {
        assert!(days(wrong.clone()).is_err(), "{wrong:?}");
    }
    let unix = |n: i64| call("from_unix_time", &[Value::Int(n)]);
    assert_eq!(unix(0).unwrap(), Value::text("1970-01-01 00:00:00"));
    assert_eq!(unix(32_503_680_000).unwrap(), Value::text("3000-01-01 00:00:00"));
    assert!(unix(i64::MAX).is_err());
    let format = |pattern: Value| call("format_time", &[leap(), pattern]);
    assert_eq!(format(Value::text("dd/MM/yy")).unwrap(), Value::text("29/02/24"));
    assert_eq!(format(Value::Int(15)).unwrap(), Value::text("15"));
    assert!(format(Value::text("yyy")).is_err());
}

#[test]
fn literals_are_checked() {
    let literal = |value: Value| Arg::Literal(value);
    let text = |text: &str| Arg::Literal(Value::text(text));
    let column = || Arg::Column("a".into());
    let ok = |name: &str, args: &[Arg]| func(name).check.unwrap()(args).is_ok();
    assert!(ok("hour", &[column()]) && ok("hour", &[Arg::Other]) && ok("hour", &[literal(Value::Null)]));
    assert!(!ok("hour", &[text("2024")]) && !ok("day", &[literal(Value::Int(5))]) && !ok("day", &[Arg::Wildcard]));
    assert!(ok("date_diff", &[column(), column()]) && !ok("date_diff", &[column(), text("2024")]));
    assert!(ok("date_calc", &[column(), text("1h")]) && !ok("date_calc", &[column(), column()]));
    assert!(!ok("date_calc", &[column(), text("1d")]) && !ok("date_calc", &[column(), literal(Value::Int(1))]));
    assert!(ok("format_time", &[column(), column()]) && ok("format_time", &[column(), text("yyyy")]));
    assert!(!ok("format_time", &[column(), text("yyy")]) && !ok("format_time", &[column(), literal(true.into())]));
    assert!(!ok("format_time", &[column(), Arg::Unit]));
    assert!(ok("now", &[]) && ok("now", &[literal(Value::Int(6))]) && !ok("now", &[literal(Value::Int(7))]));
    assert!(!ok("cur_time", &[column()]) && !ok("from_days", &[literal(Value::Int(1))]));
    let message = func("date_diff").check.unwrap()(&[column(), text("2024")]).unwrap_err();
    assert!(message.starts_with("argument 2 must be a datetime"), "{message}");
}

/// What stands between the commas that are in no quotes and no parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut quoted) = (vec![], 0, 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth -= 1,
            b',' if !quoted && depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts
}

fn value(text: &str) -> Value {
    if let Some(args) = text.strip_prefix("cast(").and_then(|text| text.strip_suffix(')')) {
        return match (value(split(args)[0]), split(args)[1]) {
            (Value::Int(millis), _) => Value::Time(DateTime::from_millis(millis, TimeZone::UTC)),
            (Value::Text(text), "\"datetime\"") => time(&text),
            (other, _) => value(other.as_str().unwrap()),
        };
    }
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => Value::text(text),
        None => Value::Int(text.parse().unwrap()),
    }
}

/// The examples that call no other function than `cast`.
#[test]
fn examples_are_true() {
    let mut done = 0;
    for func in FUNCS {
        assert!(func.examples.len() >= 2 && !func.about.is_empty(), "{}", func.name);
        for (text, expected) in func.examples {
            let args = text.strip_prefix(func.name).and_then(|text| text.strip_prefix('(')?.strip_suffix(')'));
            let Some(args) = args else { continue };
            let args: Vec<Value> = split(args).into_iter().map(value).collect();
            assert_eq!(call(func.name, &args).unwrap(), value(expected), "{text}");
            done += 1;
        }
    }
    assert_eq!(done, 36);
}
