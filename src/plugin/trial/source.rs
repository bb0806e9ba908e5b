//! What a source emits, and whether it ends when it is told to.

use std::ffi::c_void;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;

use crate::plugin::cross::Arena;

use super::desk::Texts;
use super::subject::{Said, Subject, called};
use super::{Bench, Check, Checked, Stop, failed, skipped};

pub const CHECKS: &[(&str, Check)] =
    &[("emits", emits), ("stops when it is told to", stops), ("goes back to a position", rewinds)];

/// How long it may take to emit something.
const FIRST: Duration = Duration::from_secs(3);
/// How soon a source ends when it is told to.
const SOON: Duration = Duration::from_secs(5);

fn is_pulled(bench: &Bench) -> bool {
    bench.symbol.flags & kind::PULLED != 0
}

/// One pull, or a subscription that is stopped before it begins: for lives by the thousand.
pub fn once(subject: &Subject<'_>) -> Result<(), Stop> {
    if is_pulled(subject.bench) {
        return pull(subject).map(drop);
    }
    subject.desk.stop();
    // SAFETY: the symbol is a source.
    let subscribe = unsafe { has!(subject.bench.symbol.table.cast::<abi::Source>(), subscribe) };
    let Some(subscribe) = subscribe else { return failed("it has no `subscribe`") };
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    called("subscribe", &subject.desk, |fault| unsafe { subscribe(subject.this, subject.desk.raw(), fault) }).map(drop)
}

fn pull(subject: &Subject<'_>) -> Result<Said, Stop> {
    // SAFETY: the symbol is a source.
    let pull = unsafe { has!(subject.bench.symbol.table.cast::<abi::Source>(), pull) };
    let Some(pull) = pull else { return failed("it has no `pull`") };
    const AT: i64 = 1_700_000_000_000_000_000;
    // SAFETY: as in `once`.
    called("pull", &subject.desk, |fault| unsafe { pull(subject.this, subject.desk.raw(), AT, fault) })
}

/// A subscription that runs on a thread of its own. Where it hangs the thread is left behind with what it uses.
struct Running {
    ended: Receiver<(u32, Texts)>,
}

struct Handed(*mut c_void, *const abi::Context);

// SAFETY: an instance may be called by any thread, one at a time; nothing else calls it while this runs, but for `close` after it.
unsafe impl Send for Handed {}

impl Running {
    fn start(subject: &Subject<'_>) -> Result<Running, Stop> {
        // SAFETY: the symbol is a source.
        let subscribe = unsafe { has!(subject.bench.symbol.table.cast::<abi::Source>(), subscribe) };
        let Some(subscribe) = subscribe else { return failed("it has no `subscribe`") };
        let (desk, handed) = (subject.desk.clone(), Handed(subject.this, subject.desk.raw()));
        let (tell, ended) = channel();
        thread::spawn(move || {
            let handed = handed;
            let mut texts = Texts::default();
            // SAFETY: the instance is of this table, and is kept where this does not return in time.
            let code = desk.within(|| unsafe { subscribe(handed.0, handed.1, &texts.fault()) });
            // Whoever waited may have given up.
            let _ = tell.send((code, texts));
        });
        Ok(Running { ended })
    }

    /// Tells it to stop, and sees that it does.
    fn stopped(&self, subject: &Subject<'_>) -> Result<Said, Stop> {
        subject.desk.stop();
        match self.ended.recv_timeout(SOON) {
            Ok((code, texts)) => {
                let Texts { text, .. } = texts;
                called("subscribe", &subject.desk, |fault| {
                    if let Some(text) = text {
                        // SAFETY: the fault is that of this call.
                        unsafe { (*fault).set.map(|set| set(fault, code, abi::Str::new(&text))) };
                    }
                    code
                })
            }
            Err(_) => failed(format!("`subscribe` has not returned {} s after the rule was stopped", SOON.as_secs())),
        }
    }
}

/// Lets it emit, and then stop; an instance that hangs is not destroyed under its thread.
fn subscribed(bench: &Bench, until: impl FnOnce(&Subject<'_>)) -> Result<(Said, String), Stop> {
    let subject = Subject::create(bench)?.connected()?;
    let running = Running::start(&subject)?;
    until(&subject);
    let said = match running.stopped(&subject) {
        Ok(said) => said,
        Err(stop) => {
            std::mem::forget(subject);
            return Err(stop);
        }
    };
    let note = emitted(&subject);
    subject.close()?.ok("close")?;
    subject.done()?;
    Ok((said, note))
}

fn emitted(subject: &Subject<'_>) -> String {
    let seen = subject.desk.seen();
    let mut parts = Vec::new();
    for (count, what) in [(seen.rows, "row"), (seen.messages, "message"), (seen.errors, "error")] {
        if count > 0 {
            parts.push(format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if seen.ended {
        parts.push("its end".to_owned());
    }
    parts.join(", ")
}

fn emits(bench: &Bench) -> Checked {
    let nothing = |why: &str| skipped(format!("it has emitted nothing{why}; give properties with which it does"));
    if is_pulled(bench) {
        let subject = Subject::create(bench)?.connected()?;
        let mut why = String::new();
        for _ in 0..3 {
            let said = pull(&subject)?;
            if !said.is_ok() {
                why = format!(": {}", said.text);
            }
        }
        let note = emitted(&subject);
        subject.close()?.ok("close")?;
        subject.done()?;
        return if note.is_empty() { nothing(&why) } else { Ok(note) };
    }
    let (said, note) = subscribed(bench, |subject| {
        subject.desk.wait_for(1, FIRST);
    })?;
    let why = if said.is_ok() || said.code == code::STOPPED { String::new() } else { format!(": {}", said.text) };
    if note.is_empty() { nothing(&why) } else { Ok(note) }
}

fn stops(bench: &Bench) -> Checked {
    if is_pulled(bench) {
        let subject = Subject::create(bench)?.connected()?;
        subject.desk.stop();
        let begun = Instant::now();
        pull(&subject)?;
        if begun.elapsed() > SOON {
            return failed(format!("`pull` takes {} s after the rule was stopped", begun.elapsed().as_secs()));
        }
        subject.close()?.ok("close")?;
        subject.done()?;
        return Ok(String::new());
    }
    // Before it has begun, and after it has emitted something, or waited for it.
    subscribed(bench, |subject| subject.desk.stop())?;
    subscribed(bench, |subject| {
        subject.desk.wait_for(2, Duration::from_millis(500));
    })?;
    Ok(String::new())
}

fn rewinds(bench: &Bench) -> Checked {
    // SAFETY: the symbol is a source.
    let Some(rewind) = (unsafe { has!(bench.symbol.table.cast::<abi::Source>(), rewind) }) else {
        return skipped("it has no `rewind`");
    };
    let subject = Subject::create(bench)?.connected()?;
    let position = if is_pulled(bench) {
        pull(&subject)?;
        subject.desk.seen().position.clone()
    } else {
        let running = Running::start(&subject)?;
        subject.desk.wait_for(1, FIRST);
        if let Err(stop) = running.stopped(&subject) {
            std::mem::forget(subject);
            return Err(stop);
        }
        subject.desk.seen().position.clone()
    };
    subject.close()?.ok("close")?;
    subject.done()?;
    let Some(position) = position else { return skipped("it has emitted nothing with a position") };
    let again = Subject::create(bench)?.connected()?;
    let mut arena = Arena::default();
    let lent = arena.lend(&position);
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    let said = called("rewind", &again.desk, |fault| unsafe { rewind(again.this, again.desk.raw(), &lent, fault) })?;
    said.ok("rewind")?;
    again.close()?.ok("close")?;
    again.done()?;
    Ok(String::new())
}
