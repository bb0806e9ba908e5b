//! What fits no other family: null handling, identifiers, the rule itself.

use std::time::Duration;

use uuid::{Builder, Timestamp, Uuid};

use crate::data::cast::{self, Reading};
use crate::data::{Text, Value};
use crate::diag::{Fault, Result};

use super::args::{arg, check_number, check_text, int, is_text, literal, text, texts, wrong};
use super::{Arg, Ctx, Func, NullGuard, Special};

const fn row(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    Func::scalar(name, signature, call).family("other").null(NullGuard::Off)
}

const fn special(name: &'static str, signature: &'static str, what: Special) -> Func {
    Func::special(name, signature, what).family("other")
}

pub const FUNCS: &[Func] = &[
    row("isnull", "(any) -> boolean", isnull)
        .about("Whether the value is null; an empty array or object is not.")
        .examples(&[("isnull(no_such_column)", "true"), ("isnull(0)", "false")]),
    row("coalesce", "(any, ...) -> any", coalesce)
        .about("The first argument that is not null.")
        .examples(&[("coalesce(no_such_column, 7)", "7"), ("coalesce(0, 1)", "0")]),
    row("newuuid", "() -> text", newuuid)
        .impure()
        .about("A new identifier, a UUID made from the time (version 1).")
        .examples(&[("length(newuuid())", "36"), ("substring(newuuid(), 14, 1)", "\"1\"")]),
    row("tstamp", "() -> bigint", tstamp)
        .impure()
        .about("The time of the rule's clock, in milliseconds since 1970.")
        .examples(&[("tstamp() > 0", "true"), ("tstamp() >= rule_start()", "true")]),
    special("mqtt", "(key) -> text", Special::Meta)
        .check(check_mqtt)
        .about("What MQTT says about the message: `topic` or `messageid`.")
        .examples(&[("isnull(mqtt(topic))", "true"), ("coalesce(mqtt(messageid), \"none\")", "\"none\"")]),
    special("meta", "(key) -> any", Special::Meta)
        .check(check_meta)
        .about("What the source says about the message under a key, or all of it with `*`; null when the key is not there.")
        .examples(&[("isnull(meta(no_such_key))", "true"), ("coalesce(meta(no_such_key), 1)", "1")]),
    row("rule_id", "() -> text", rule_id)
        .impure()
        .about("The id of the rule.")
        .examples(&[("isnull(rule_id())", "false"), ("length(rule_id()) > 0", "true")]),
    row("rule_start", "() -> bigint", rule_start)
        .impure()
        .about("When the rule was started, in milliseconds since 1970.")
        .examples(&[("isnull(rule_start())", "false"), ("rule_start() <= tstamp()", "true")]),
    special("event_time", "() -> bigint", Special::EventTime)
        .about("The time of the row in milliseconds since 1970; in an aggregated row that at which the window was emitted.")
        .examples(&[("isnull(event_time())", "false"), ("event_time() > 0", "true")]),
    row("delay", "(number, any) -> any", delay)
        .impure()
        .check(check_delay)
        .about("Holds the rule up for so many milliseconds, then gives the second argument. A test on a virtual clock does not wait.")
        .examples(&[("delay(0, \"ok\")", "\"ok\""), ("delay(1, 7)", "7")]),
    row("get_keyed_state", "(text, text, any) -> any", get_keyed_state)
        .impure()
        .check(check_keyed)
        .about("A value of the keyed state, set with `PUT /keyedstate/{key}`, as `bigint`, `float`, `string`, `boolean` or `datetime`; the third argument where there is none.")
        .examples(&[("get_keyed_state(\"no such key\", \"bigint\", 7)", "7"), ("get_keyed_state(\"\", \"string\", \"-\")", "\"-\"")]),
    row("props", "(text) -> text", props)
        .null(NullGuard::Null)
        .impure()
        .check(texts)
        .about("A property set in the environment as `KUIPER_PROPS_<NAME>`, by its name in lower case; `et` is the time in milliseconds, `snowflake` a new identifier.")
        .examples(&[("length(props(\"et\")) > 0", "true"), ("length(props(\"snowflake\")) > 0", "true")]),
    row("bypass", "(any, ...) -> any", |args, _| Ok(arg(args, 0).clone()))
        .about("The first argument as it is.")
        .examples(&[("bypass(\"same\")", "\"same\""), ("bypass(3.5)", "3.5")]),
];

fn isnull(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Bool(arg(args, 0).is_null()))
}

fn coalesce(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(args.iter().find(|arg| !arg.is_null()).cloned().unwrap_or(Value::Null))
}

/// 64 random bits.
pub fn random() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    // Version and variant stand at fixed places of either half; the other half's bits cover them.
    high.rotate_left(32) ^ low
}

/// The rule's clock gives the milliseconds; the rest is random, so that no counter has to be shared.
fn newuuid(_: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let millis = u64::try_from(ctx.now.0).unwrap_or(0);
    let (node, ticks) = (random(), random());
    let nanos = (millis % 1000) as u32 * 1_000_000 + (ticks % 10_000) as u32 * 100;
    let time = Timestamp::from_unix_time(millis / 1000, nanos, 0, 0);
    let (time, _) = time.to_gregorian();
    let mut node: [u8; 6] =
        [node as u8, (node >> 8) as u8, (node >> 16) as u8, (node >> 24) as u8, (node >> 32) as u8, (node >> 40) as u8];
    // A node that is no hardware address has the multicast bit set.
    node[0] |= 1;
    let id = Builder::from_gregorian_timestamp(time, (ticks >> 32) as u16 & 0x3fff, &node).into_uuid();
    Ok(Value::from(id.to_string()))
}

fn tstamp(_: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(ctx.now.0))
}

fn rule_id(_: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Text(ctx.rule.id.clone()))
}

fn rule_start(_: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Int(ctx.rule.started.0))
}

fn check_meta(args: &[Arg]) -> std::result::Result<(), String> {
    match args.first() {
        Some(Arg::Literal(_) | Arg::Unit) => Err("argument 1 must be the name of a metadata key, not a literal".into()),
        _ => Ok(()),
    }
}

fn check_mqtt(args: &[Arg]) -> std::result::Result<(), String> {
    check_meta(args)?;
    match args.first() {
        Some(Arg::Column(name)) if !name.eq_ignore_ascii_case("topic") && !name.eq_ignore_ascii_case("messageid") => {
            Err(format!("argument 1 must be `topic` or `messageid`, found `{name}`"))
        }
        Some(Arg::Wildcard) => Err("argument 1 must be `topic` or `messageid`, found `*`".into()),
        _ => Ok(()),
    }
}

fn check_delay(args: &[Arg]) -> std::result::Result<(), String> {
    check_number(args, 0)
}

fn delay(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    if args.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    if let Ok(millis @ 1..) = u64::try_from(int(args, 0)?) {
        ctx.rule.around.pause(Duration::from_millis(millis));
    }
    Ok(arg(args, 1).clone())
}

const STATE_KINDS: &str = "one of `bigint`, `float`, `string`, `boolean` and `datetime`";

fn is_state_kind(value: &Value) -> bool {
    value.as_str().is_some_and(|name| ["bigint", "float", "string", "boolean", "datetime"].contains(&name))
}

fn check_keyed(args: &[Arg]) -> std::result::Result<(), String> {
    check_text(args, 0)?;
    literal(args, 1, "a string", is_text)?;
    literal(args, 1, STATE_KINDS, is_state_kind)
}

/// What is stored is text; what is not there, or cannot be read, is the default.
fn get_keyed_state(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let key = text(args, 0)?;
    let kind = arg(args, 1).as_str().filter(|_| is_state_kind(arg(args, 1))).and_then(cast::kind_of_name);
    let kind = kind.ok_or_else(|| wrong(args, 1, STATE_KINDS))?;
    match ctx.rule.around.keyed_state(key) {
        Ok(Some(stored)) => {
            let reading = Reading { format: None, zone: &ctx.rule.zone, now: ctx.now };
            cast::cast(&Value::from(stored), &kind, &reading)
        }
        Ok(None) | Err(_) => Ok(arg(args, 2).clone()),
    }
}

fn props(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let name = text(args, 0)?;
    match name.as_str() {
        "et" => Ok(Value::from(ctx.now.0.to_string())),
        "snowflake" => Ok(Value::Text(snowflake(ctx.now.0))),
        _ => match ctx.rule.props.get(name).or_else(|| ctx.rule.props.get_ignoring_case(name)) {
            Some(value) => Ok(value.clone()),
            None => Err(Fault::eval(format!(
                "there is no property `{name}`, set it in the environment as `KUIPER_PROPS_{}`",
                name.to_uppercase()
            ))),
        },
    }
}

/// A 63-bit identifier that grows with the time: 41 bits of milliseconds since 2010-11-04, 22 random ones.
fn snowflake(now: i64) -> Text {
    let millis = now.saturating_sub(1_288_834_974_657) as u64 & ((1 << 41) - 1);
    Text::from((millis << 22 | (random() & ((1 << 22) - 1))).to_string())
}
