//! What a lookup answers.

use std::ffi::c_void;

use kuiper_plugin::abi;
use kuiper_plugin::abi::code;
use kuiper_plugin::has;

use crate::data::Value;

use super::desk::look;
use super::sample::{Rows, kinds};
use super::subject::{Said, Subject, called};
use super::{Bench, Check, Checked, Stop, failed, skipped};

pub const CHECKS: &[(&str, Check)] =
    &[("answers", answers), ("null keys", nulls), ("keys of every kind", every_kind), ("many questions", many)];

/// Questions that are asked in one call.
const MANY: usize = 1_000;

/// Answers as they come.
#[derive(Default)]
struct Heard {
    questions: usize,
    found: usize,
    wrong: Option<String>,
}

impl Heard {
    fn answers(&mut self) -> abi::Answers {
        unsafe extern "C" fn rows(this: *const abi::Answers, question: usize, batch: *const abi::Batch) {
            // SAFETY: `host` leads to the `Heard` that made the answers; the batch keeps the contract.
            unsafe {
                let heard = &mut *(*this).host.cast::<Heard>();
                heard.note(question, (*batch).height);
                for n in 0..(*batch).width * (*batch).height {
                    if let Err(wrong) = look((*batch).values.add(n), 128) {
                        heard.wrong = Some(wrong);
                        return;
                    }
                }
            }
        }
        unsafe extern "C" fn bytes(this: *const abi::Answers, question: usize, all: *const abi::Messages) {
            // SAFETY: as in `rows`.
            unsafe { (*(*this).host.cast::<Heard>()).note(question, (*all).count) }
        }
        abi::Answers {
            size: std::mem::size_of::<abi::Answers>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast::<c_void>(),
            rows: Some(rows),
            bytes: Some(bytes),
        }
    }

    fn note(&mut self, question: usize, found: usize) {
        self.found += found;
        if question >= self.questions {
            self.wrong = Some(format!("it answers question {question} of {}", self.questions));
        }
    }
}

fn asked(subject: &Subject<'_>, keys: &Rows) -> Result<(Said, usize), Stop> {
    // SAFETY: the symbol is a lookup.
    let find = unsafe { has!(subject.bench.symbol.table.cast::<abi::Lookup>(), find) };
    let Some(find) = find else { return failed("it has no `find`") };
    let mut heard = Heard { questions: keys.height(), ..Heard::default() };
    let answers = heard.answers();
    let said = keys.lend(0, |batch| {
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        called("find", &subject.desk, |fault| unsafe {
            find(subject.this, subject.desk.raw(), batch, std::ptr::null(), 0, &answers, fault)
        })
    })?;
    match heard.wrong {
        Some(wrong) => failed(wrong),
        None => Ok((said, heard.found)),
    }
}

fn with(bench: &Bench, height: usize, change: impl Fn(usize, &str, Value) -> Value) -> Result<(Said, usize), Stop> {
    if bench.row.is_empty() {
        return skipped("give keys that it can be asked for with --row");
    }
    let subject = Subject::create(bench)?.connected()?;
    let (said, found) = asked(&subject, &Rows::new(&bench.row, height, change))?;
    subject.close()?.ok("close")?;
    subject.done()?;
    if said.code == code::LATER { skipped(format!("its outside is away: {}", said.text)) } else { Ok((said, found)) }
}

fn answers(bench: &Bench) -> Checked {
    let (said, found) = with(bench, 1, |_, _, value| value)?;
    said.ok("find")?;
    if found == 0 { skipped("nothing is found under the keys of --row") } else { Ok(format!("{found} found")) }
}

fn nulls(bench: &Bench) -> Checked {
    with(bench, 2, |_, _, _| Value::Null).map(|(said, _)| said.text)
}

fn every_kind(bench: &Bench) -> Checked {
    let all = kinds();
    for (_, value) in &all {
        with(bench, 1, |_, _, _| value.clone())?;
    }
    Ok(String::new())
}

/// As many questions in one call find as much, each by itself.
fn many(bench: &Bench) -> Checked {
    let (_, one) = with(bench, 1, |_, _, value| value)?;
    let (said, all) = with(bench, MANY, |_, _, value| value)?;
    said.ok("find")?;
    if all != one * MANY {
        return failed(format!("a question finds {one}, and {MANY} of the same in one call find {all}"));
    }
    Ok(format!("{MANY} questions in one call"))
}
