//! What a function does with arguments of every kind, and an aggregate one with its groups.

use std::ffi::c_void;
use std::sync::Arc;
use std::thread;

use kuiper_plugin::abi;
use kuiper_plugin::abi::code;
use kuiper_plugin::has;
use kuiper_plugin::testing::Host;

use crate::data::Value;
use crate::data::cast::json;
use crate::func::arity;
use crate::plugin::cross::Arena;
use crate::plugin::function::row;
use crate::plugin::library::{Library, Symbol};
use crate::plugin::uses::Place;

use super::desk::{Taken, Texts};
use super::sample::{MANY, kinds, lend};
use super::subject::{Said, Subject, called};
use super::{Bench, Check, Checked, Stop, failed, memory, skipped};

pub const SCALAR: &[(&str, Check)] = &[
    ("its table", table),
    ("is asked about constants", validates),
    ("its examples", examples),
    ("nulls", nulls),
    ("arguments of every kind", every_kind),
    ("big batches", big),
    ("many threads", threads),
    ("memory over 10,000 lives", memory::calls),
];

pub const AGGREGATE: &[(&str, Check)] = &[
    ("its table", table),
    ("is asked about constants", validates),
    ("a group of nothing", empty_group),
    ("groups side by side", groups),
    ("nulls", nulls),
    ("arguments of every kind", every_kind),
    ("big batches", big),
    ("is saved and loaded", saved),
    ("many threads", threads),
    ("memory over 10,000 lives", memory::calls),
];

const THREADS: usize = 8;
const CALLS: usize = 100;

type Entries = abi::Function;

fn entry_points(bench: &Bench) -> *const Entries {
    bench.symbol.table.cast()
}

fn is_aggregate(bench: &Bench) -> bool {
    bench.symbol.flags & abi::kind::AGGREGATE != 0
}

fn table(bench: &Bench) -> Checked {
    let table = entry_points(bench);
    // SAFETY: the symbol is a function.
    let all = unsafe {
        match is_aggregate(bench) {
            true => vec![
                (has!(table, create).is_some(), "create"),
                (has!(table, start).is_some(), "start"),
                (has!(table, add).is_some(), "add"),
                (has!(table, result).is_some(), "result"),
                (has!(table, discard).is_some(), "discard"),
                (has!(table, destroy).is_some(), "destroy"),
                (has!(table, save).is_some() == has!(table, load).is_some(), "save` and `load` together"),
            ],
            false => vec![
                (has!(table, create).is_some(), "create"),
                (has!(table, call).is_some(), "call"),
                (has!(table, destroy).is_some(), "destroy"),
            ],
        }
    };
    if let Some((_, missing)) = all.iter().find(|(there, _)| !there) {
        return failed(format!("it has no `{missing}`"));
    }
    let symbol = &bench.symbol;
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_')
    };
    if !is_name(symbol.name) {
        return failed(format!("`{}` cannot be called in SQL: letters, digits and `_` make a name", symbol.name));
    }
    let signature = symbol.signature;
    let reads = signature.starts_with('(') && signature.contains(") -> ");
    if !signature.is_empty() && !reads {
        return failed(format!("the signature `{signature}` must read as `(text, [int]) -> text`"));
    }
    Ok(signature.to_owned())
}

/// Arguments of the types that the signature names, as few as it allows.
pub fn fitting(library: &Arc<Library>, symbol: Symbol) -> Vec<Value> {
    let func = row(&Place::nowhere(), library, symbol);
    let count = (0..=20).find(|count| arity(func).fits(*count)).unwrap_or(1);
    let list = symbol.signature.split(") ->").next().unwrap_or_default();
    let words: Vec<&str> = list.trim_start_matches('(').split(',').map(str::trim).collect();
    let fitting = |n: usize| match words.get(n).copied().unwrap_or_default().trim_matches(['[', ']']) {
        word if word.starts_with("int") || word.starts_with("bigint") => Value::Int(1),
        word if word.starts_with("float") || word.starts_with("number") => Value::Float(1.5),
        word if word.starts_with("bool") => Value::Bool(true),
        word if word.starts_with("bytea") || word.starts_with("bytes") => Value::bytes(b"bytes"),
        word if word.starts_with("array") || word.starts_with("list") => Value::array(vec![Value::Int(1)]),
        _ => Value::text("abc"),
    };
    (0..count).map(fitting).collect()
}

fn validates(bench: &Bench) -> Checked {
    // SAFETY: the symbol is a function.
    let Some(validate) = (unsafe { has!(entry_points(bench), validate) }) else {
        return skipped("it has no `validate`");
    };
    let subject = Subject::create(bench)?;
    let width = bench.arguments.len();
    let mut refused = 0;
    let mut tries: Vec<Vec<Value>> = vec![Vec::new(), vec![Value::Absent; width], bench.arguments.clone()];
    tries.extend(kinds().into_iter().map(|(_, value)| vec![value; width.max(1)]));
    for arguments in &tries {
        let mut arena = Arena::default();
        let lent: Vec<abi::Value> = arguments.iter().map(|value| arena.lend(value)).collect();
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        let said = called("validate", &subject.desk, |fault| unsafe {
            validate(subject.this, lent.as_ptr(), lent.len(), fault)
        })?;
        refused += usize::from(!said.is_ok());
    }
    subject.done()?;
    Ok(format!("{refused} of {} refused", tries.len()))
}

fn examples(bench: &Bench) -> Checked {
    if bench.symbol.examples.is_empty() {
        return skipped("it has none");
    }
    let prefix = format!("example `{}(", bench.symbol.name);
    // SAFETY: an entry of the contract is called without arguments and gives a static table.
    let entry: extern "C" fn() -> *const abi::Plugin = unsafe { std::mem::transmute(bench.entry) };
    match Host::load(entry).examples() {
        Err(wrong) if wrong.to_string().starts_with(&prefix) => failed(wrong.to_string()),
        _ => Ok(format!("{} hold", bench.symbol.examples.len())),
    }
}

/// What rows of arguments come to: of a scalar function a result a row, of an aggregate the one of their group.
type Results = Vec<Result<Value, String>>;

fn evaluated(subject: &Subject<'_>, rows: &[Vec<Value>]) -> Result<(Said, Results), Stop> {
    if is_aggregate(subject.bench) {
        let group = Group::start(subject)?;
        let said = group.add(rows)?;
        let results = if said.is_ok() { vec![group.result()?] } else { Vec::new() };
        return Ok((said, results));
    }
    // SAFETY: the symbol is a function.
    let Some(call) = (unsafe { has!(entry_points(subject.bench), call) }) else { return failed("it has no `call`") };
    let mut taken = Taken::default();
    let output = taken.output();
    let said = lend(&[], rows, |batch| {
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        called("call", &subject.desk, |fault| unsafe { call(subject.this, subject.desk.raw(), batch, &output, fault) })
    })?;
    if let Some(wrong) = taken.wrong {
        return failed(wrong);
    }
    if said.is_ok() && taken.values.len() != rows.len() {
        return failed(format!("it puts {} results for {} rows", taken.values.len(), rows.len()));
    }
    Ok((said, taken.values))
}

fn with(bench: &Bench, each: impl FnOnce(&Subject<'_>) -> Checked) -> Checked {
    let subject = Subject::create(bench)?;
    let note = each(&subject)?;
    subject.done()?;
    Ok(note)
}

/// One life with one call in it.
pub fn one_life(bench: &Bench) -> Result<(), Stop> {
    let subject = Subject::create(bench)?;
    evaluated(&subject, std::slice::from_ref(&bench.arguments)).map(drop)
}

fn nulls(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let width = bench.arguments.len();
        let (_, results) = evaluated(subject, &[vec![Value::Null; width], vec![Value::Null; width]])?;
        Ok(match results.first() {
            Some(Ok(value)) => format!("come to {}", shown(value)),
            Some(Err(why)) => format!("are refused: {why}"),
            None => String::new(),
        })
    })
}

fn shown(value: &Value) -> String {
    json::text_lossy(value)
}

/// Each argument takes on each kind, with the others as they should be.
fn every_kind(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let good = bench.arguments.clone();
        let mut refused = 0;
        for place in 0..good.len() {
            for (what, value) in kinds() {
                let mut arguments = good.clone();
                arguments[place] = value;
                let (said, results) = evaluated(subject, &[arguments]).map_err(|stop| match stop {
                    Stop::Failed(why) => Stop::Failed(format!("argument {} being {what}: {why}", place + 1)),
                    other => other,
                })?;
                refused += usize::from(!said.is_ok() || results.iter().any(Result::is_err));
            }
        }
        Ok(format!("{refused} of {} refused", good.len() * kinds().len()))
    })
}

fn big(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let (said, _) = evaluated(subject, &vec![bench.arguments.clone(); MANY])?;
        if !said.is_ok() {
            return failed(format!("a batch of {MANY} rows fails as a whole: {}", said.text));
        }
        Ok(format!("{MANY} rows"))
    })
}

/// Instances on several threads at once; where two of them agree one after the other, they agree side by side.
fn threads(bench: &Bench) -> Checked {
    let call = || -> Result<Results, Stop> {
        let subject = Subject::create(bench)?;
        let mut last = Vec::new();
        for _ in 0..CALLS {
            last = evaluated(&subject, std::slice::from_ref(&bench.arguments))?.1;
        }
        subject.done()?;
        Ok(last)
    };
    if bench.symbol.singleton {
        return skipped("one instance serves all, one call at a time");
    }
    let (one, two) = (call()?, call()?);
    let outcomes: Vec<Result<Results, Stop>> = thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| failed("the trial itself panicked"))).collect()
    });
    for outcome in outcomes {
        let found = outcome?;
        if one == two && found != one {
            return failed(format!("{one:?} comes out one after the other, and {found:?} side by side"));
        }
    }
    Ok(format!("{THREADS} threads, {} calls", THREADS * CALLS))
}

/// A group of an aggregate function; it is discarded with the value.
struct Group<'s, 'b> {
    subject: &'s Subject<'b>,
    group: *mut c_void,
}

impl<'s, 'b> Group<'s, 'b> {
    fn start(subject: &'s Subject<'b>) -> Result<Group<'s, 'b>, Stop> {
        // SAFETY: the symbol is a function.
        let Some(start) = (unsafe { has!(entry_points(subject.bench), start) }) else {
            return failed("it has no `start`");
        };
        // SAFETY: the instance is of this table.
        Group::made(subject, "start", |fault| unsafe { start(subject.this, fault) })
    }

    fn load(subject: &'s Subject<'b>, saved: &Value) -> Result<Group<'s, 'b>, Stop> {
        // SAFETY: the symbol is a function.
        let Some(load) = (unsafe { has!(entry_points(subject.bench), load) }) else {
            return skipped("it has no `load`");
        };
        let mut arena = Arena::default();
        let lent = arena.lend(saved);
        // SAFETY: the instance is of this table; the value lives until the call returns.
        Group::made(subject, "load", |fault| unsafe { load(subject.this, &lent, fault) })
    }

    fn made(
        subject: &'s Subject<'b>,
        what: &str,
        make: impl FnOnce(*const abi::Fault) -> *mut c_void,
    ) -> Result<Group<'s, 'b>, Stop> {
        let mut texts = Texts::default();
        let group = subject.desk.within(|| make(&texts.fault()));
        subject.desk.judged()?;
        if group.is_null() {
            return failed(format!("`{what}` made nothing: {}", texts.text.unwrap_or_default()));
        }
        Ok(Group { subject, group })
    }

    fn add(&self, rows: &[Vec<Value>]) -> Result<Said, Stop> {
        // SAFETY: the symbol is a function.
        let Some(add) = (unsafe { has!(entry_points(self.subject.bench), add) }) else {
            return failed("it has no `add`");
        };
        lend(&[], rows, |batch| {
            // SAFETY: instance and group belong together; the pointers live until the call returns.
            called("add", &self.subject.desk, |fault| unsafe {
                add(self.subject.this, self.subject.desk.raw(), self.group, batch, fault)
            })
        })
    }

    fn result(&self) -> Result<Result<Value, String>, Stop> {
        // SAFETY: the symbol is a function.
        self.asked("result", unsafe { has!(entry_points(self.subject.bench), result) })
    }

    fn asked(&self, what: &str, entry: Option<abi::Group>) -> Result<Result<Value, String>, Stop> {
        let Some(entry) = entry else { return skipped(format!("it has no `{what}`")) };
        let mut taken = Taken::default();
        let output = taken.output();
        // SAFETY: as in `add`.
        let said = called(what, &self.subject.desk, |fault| unsafe {
            entry(self.subject.this, self.subject.desk.raw(), self.group, &output, fault)
        })?;
        if let Some(wrong) = taken.wrong {
            return failed(wrong);
        }
        match (said.code, taken.values.len(), taken.values.pop()) {
            (code::OK, 1, Some(value)) => Ok(value),
            (code::OK, count, _) => failed(format!("`{what}` puts {count} values, and not one")),
            _ => Ok(Err(said.text)),
        }
    }
}

impl Drop for Group<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: the symbol is a function.
        if let Some(discard) = unsafe { has!(entry_points(self.subject.bench), discard) } {
            // SAFETY: the group is of this instance, and is not used again.
            self.subject.desk.within(|| unsafe { discard(self.subject.this, self.group) });
        }
    }
}

fn empty_group(bench: &Bench) -> Checked {
    with(bench, |subject| {
        Ok(match Group::start(subject)?.result()? {
            Ok(value) => format!("comes to {}", shown(&value)),
            Err(why) => format!("is refused: {why}"),
        })
    })
}

/// Groups of one instance do not see each other's rows, and a result does not end a group.
fn groups(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let rows = vec![bench.arguments.clone(); 3];
        let alone = {
            let group = Group::start(subject)?;
            group.add(&rows)?;
            group.result()?
        };
        let (one, other) = (Group::start(subject)?, Group::start(subject)?);
        let nothing = other.result()?;
        for row in &rows {
            one.add(std::slice::from_ref(row))?;
            drop(one.result()?);
        }
        if other.result()? != nothing {
            return failed("the rows of one group change the result of another");
        }
        if one.result()? != alone {
            return failed("rows one by one, with results in between, come to another result than all at once");
        }
        Ok(String::new())
    })
}

fn saved(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let rows = vec![bench.arguments.clone(); 3];
        let group = Group::start(subject)?;
        group.add(&rows)?;
        // SAFETY: the symbol is a function.
        let saved = match group.asked("save", unsafe { has!(entry_points(bench), save) })? {
            Ok(saved) => saved,
            Err(why) => return failed(format!("it cannot be saved: {why}")),
        };
        if saved.is_null() {
            return skipped("it saves nothing, so that a restart begins its groups anew");
        }
        let loaded = Group::load(subject, &saved)?;
        if loaded.result()? != group.result()? {
            return failed("a group that was saved and loaded comes to another result");
        }
        for group in [&group, &loaded] {
            group.add(&rows)?;
        }
        if loaded.result()? != group.result()? {
            return failed("a group that was saved and loaded goes on to another result");
        }
        Ok(String::new())
    })
}
