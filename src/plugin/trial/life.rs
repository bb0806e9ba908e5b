//! What sources, sinks and lookups have in common: a table, properties, and a life.

use std::sync::Mutex;
use std::thread;

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use kuiper_plugin::has;

use crate::data::{Object, Value};

use super::desk::Desk;
use super::subject::{Subject, entries};
use super::{Bench, Check, Checked, Stop, failed, memory, sample, skipped};

/// They come first, for the others rest on them.
pub const CHECKS: &[(&str, Check)] = &[
    ("its table", table),
    ("takes its properties", properties),
    ("names a missing property", missing),
    ("names an unknown property", unknown),
    ("names a property of a wrong type", wrong_type),
    ("every order of life", orders),
    ("connects", connects),
];

/// They take longest.
pub const LAST: &[(&str, Check)] = &[("many threads", threads), ("memory over 10,000 lives", memory::lives)];

const THREADS: usize = 8;
const LIVES: usize = 25;

fn table(bench: &Bench) -> Checked {
    let symbol = &bench.symbol;
    let has = entries(symbol);
    // SAFETY: the kind says what the table is.
    let (there, needed) = unsafe {
        match symbol.kind {
            kind::SOURCE if symbol.flags & kind::PULLED != 0 => {
                (has!(symbol.table.cast::<abi::Source>(), pull).is_some(), "pull")
            }
            kind::SOURCE => (has!(symbol.table.cast::<abi::Source>(), subscribe).is_some(), "subscribe"),
            kind::SINK if symbol.flags & kind::TAKES_BYTES != 0 => {
                (has!(symbol.table.cast::<abi::Sink>(), collect_bytes).is_some(), "collect_bytes")
            }
            kind::SINK => {
                let table = symbol.table.cast::<abi::Sink>();
                (has!(table, collect).is_some() && has!(table, collect_list).is_some(), "collect` and `collect_list")
            }
            _ => (has!(symbol.table.cast::<abi::Lookup>(), find).is_some(), "find"),
        }
    };
    let all = [
        (has.create.is_some(), "create"),
        (has.provision.is_some(), "provision"),
        (there, needed),
        (has.destroy.is_some(), "destroy"),
    ];
    if let Some((_, missing)) = all.iter().find(|(there, _)| !there) {
        return failed(format!("it has no `{missing}`"));
    }
    if !symbol.name.starts_with(|first: char| first.is_ascii_uppercase()) {
        return failed(format!("the name `{}` must begin with a letter in upper case", symbol.name));
    }
    for (n, property) in symbol.properties.iter().enumerate() {
        let name = property.name;
        if name.is_empty() {
            return failed("a property has no name");
        }
        if symbol.properties[..n].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return failed(format!("the property `{name}` is declared twice"));
        }
        let default = serde_json::from_str::<serde_json::Value>(property.default);
        if !property.default.is_empty() && default.is_err() {
            return failed(format!("the default of `{name}` is no JSON: {}", property.default));
        }
    }
    Ok(format!("{} properties", symbol.properties.len()))
}

fn properties(bench: &Bench) -> Checked {
    let subject = Subject::create(bench)?.provisioned()?;
    subject.done()?;
    Ok(String::new())
}

/// The properties of the trial, with this change.
fn changed(bench: &Bench, change: impl FnOnce(&mut Vec<(String, Value)>)) -> Value {
    let mut all: Vec<(String, Value)> = match &bench.props {
        Value::Object(given) => given.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        _ => Vec::new(),
    };
    change(&mut all);
    Value::object(all.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Object>())
}

/// Provisions a fresh instance with what it must refuse; the reason must name the property.
fn refused(bench: &Bench, name: &str, what: &str, props: &Value) -> Result<(), Stop> {
    let subject = Subject::create(bench)?;
    let told = subject.provision(props)?.refused(what)?;
    if !told.to_lowercase().contains(&name.to_lowercase()) {
        return failed(format!("{what} is refused, but the reason does not name it: {told}"));
    }
    subject.done()
}

fn missing(bench: &Bench) -> Checked {
    let required: Vec<&str> = bench.symbol.properties.iter().filter(|one| one.required).map(|one| one.name).collect();
    if required.is_empty() {
        return skipped("none is required");
    }
    for name in &required {
        let props = changed(bench, |all| all.retain(|(known, _)| !known.eq_ignore_ascii_case(name)));
        // It may have another name by which it was given.
        if props == bench.props {
            continue;
        }
        refused(bench, name, &format!("that `{name}` is missing"), &props)?;
    }
    Ok(format!("`{}`", required.join("`, `")))
}

fn unknown(bench: &Bench) -> Checked {
    const NAME: &str = "noSuchProperty";
    if bench.symbol.properties.is_empty() {
        return skipped("it declares no property, so that any may be meant for it");
    }
    properties(bench)?;
    let props = changed(bench, |all| all.push((NAME.to_owned(), Value::Int(1))));
    refused(bench, NAME, &format!("the property `{NAME}`"), &props)?;
    Ok(String::new())
}

fn wrong_type(bench: &Bench) -> Checked {
    let mut tried = Vec::new();
    properties(bench)?;
    for property in bench.symbol.properties {
        let Some(wrong) = sample::of_another_type(property.expects) else { continue };
        let props = changed(bench, |all| {
            all.retain(|(known, _)| !known.eq_ignore_ascii_case(property.name));
            all.push((property.name.to_owned(), wrong));
        });
        refused(bench, property.name, &format!("a wrong type of `{}`", property.name), &props)?;
        tried.push(property.name);
    }
    if tried.is_empty() { skipped("no property has a type") } else { Ok(format!("`{}`", tried.join("`, `"))) }
}

/// Every order that the engine may call in: a rule that is only validated, a connection that is made again, an end before
/// there was a connection, and a second life after the first.
fn orders(bench: &Bench) -> Checked {
    Subject::create(bench)?.done()?;
    let provisioned = || Subject::create(bench)?.provisioned();
    provisioned()?.done()?;
    let closed = provisioned()?;
    closed.close()?.ok("close")?;
    closed.done()?;
    // A failed attempt is followed by another, or by the end.
    for attempts in 1..=2 {
        let subject = provisioned()?;
        for _ in 0..attempts {
            subject.connect()?;
        }
        subject.close()?.ok("close")?;
        subject.done()?;
    }
    // What was refused may come again with the right properties.
    let mended = Subject::create(bench)?;
    mended.provision(&changed(bench, |all| all.push(("noSuchProperty".to_owned(), Value::Int(1)))))?;
    let mut mended = mended.provisioned()?;
    mended.connect()?;
    mended.close()?.ok("close")?;
    // A second life of the same instance.
    let first = std::mem::replace(&mut mended.desk, Desk::new(bench.symbol.flags & kind::EMITS_BYTES != 0));
    let again = mended.provisioned()?;
    again.connect()?;
    again.close()?.ok("close")?;
    again.done()?;
    first.released()?;
    if let Some(said) = provisioned()?.ping() {
        said?;
    }
    // Without a close, as when the plugin was to blame.
    let left = provisioned()?;
    left.connect()?;
    left.done()?;
    Ok(String::new())
}

fn connects(bench: &Bench) -> Checked {
    let subject = Subject::create(bench)?.connected()?;
    subject.close()?.ok("close")?;
    subject.done()?;
    Ok(String::new())
}

/// Instances live on several threads at once, and each moves from one thread to another; a singleton is in one at a time.
fn threads(bench: &Bench) -> Checked {
    let connects = Subject::create(bench)?.provisioned()?.connect()?.is_ok();
    let turn = Mutex::new(());
    let live = || -> Result<(), Stop> {
        for _ in 0..LIVES {
            let _alone = bench.symbol.singleton.then(|| turn.lock());
            let subject = Subject::create(bench)?.provisioned()?;
            let moved = thread::scope(|scope| {
                let life = move || -> Result<(), Stop> {
                    if connects {
                        subject.connect()?;
                    }
                    subject.close()?.ok("close")?;
                    subject.done()
                };
                scope.spawn(life).join()
            });
            moved.unwrap_or_else(|_| failed("the trial itself panicked"))?;
        }
        Ok(())
    };
    let outcomes: Vec<Result<(), Stop>> = thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(live)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| failed("the trial itself panicked"))).collect()
    });
    outcomes.into_iter().collect::<Result<Vec<()>, Stop>>()?;
    Ok(format!("{THREADS} threads, {} lives", THREADS * LIVES))
}
