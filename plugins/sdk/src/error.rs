//! What a plugin says when it fails, and the guard around each entry.
//!
//! A failure has one of three kinds, and the engine acts on the kind alone: `later` is tried again with back-off and holds the rule back,
//! `never` counts the row as dead and goes on, `bug` stops the rule. A panic becomes a `bug` with its place; it never crosses the line.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use crate::abi;

/// Result of whatever a plugin does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed: a sentence in lower case, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: u32,
    text: String,
}

impl Error {
    /// Something outside is away; the same may succeed later.
    pub fn later(text: impl Into<String>) -> Error {
        Error { code: abi::code::LATER, text: text.into() }
    }

    /// This input, or these properties, can never succeed.
    pub fn never(text: impl Into<String>) -> Error {
        Error { code: abi::code::NEVER, text: text.into() }
    }

    /// The plugin itself is wrong.
    pub fn bug(text: impl Into<String>) -> Error {
        Error { code: abi::code::BUG, text: text.into() }
    }

    /// The rule is being stopped; what emits gets this, and hands it on.
    pub fn stopped() -> Error {
        Error { code: abi::code::STOPPED, text: "the rule is being stopped".to_owned() }
    }

    pub(crate) fn of(code: u32, text: String) -> Error {
        Error { code, text }
    }

    /// One of [`abi::code`].
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Whether the same may succeed later.
    pub fn is_later(&self) -> bool {
        self.code == abi::code::LATER
    }

    /// Whether the rule is being stopped.
    pub fn is_stopped(&self) -> bool {
        self.code == abi::code::STOPPED
    }

    /// The same kind, with the place of the failure in front: `place: text`.
    pub fn at(self, place: impl fmt::Display) -> Error {
        Error { code: self.code, text: format!("{}: {}", place, self.text) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Trouble with the outside world is worth another try.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::later(error.to_string())
    }
}

thread_local! {
    static GUARDED: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Within a guard the place of a panic is noted instead of printed; outside of it (a plugin's own threads) it is printed as ever.
fn note_places() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.with(Cell::get) == 0 {
                return before(info);
            }
            let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
            PLACE.with(|cell| *cell.borrow_mut() = place);
        }));
    });
}

/// Runs what the author wrote; a panic comes back as an error.
pub(crate) fn catch<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    note_places();
    GUARDED.with(|depth| depth.set(depth.get() + 1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.with(|depth| depth.set(depth.get() - 1));
    outcome.unwrap_or_else(|payload| {
        let place = PLACE.with(|cell| std::mem::take(&mut *cell.borrow_mut()));
        let text = said(&*payload);
        // The payload is the author's: its destructor could panic again, outside of the guard.
        std::mem::forget(payload);
        Err(Error::bug(format!("the plugin panicked{}: {}", place, text)))
    })
}

fn said(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "no text".to_owned())
}

/// The same for an entry of the ABI: the code is returned, the text goes to the fault.
///
/// # Safety
/// `fault` is null or valid for the call.
pub(crate) unsafe fn entry(fault: *const abi::Fault, work: impl FnOnce() -> Result<()>) -> u32 {
    match catch(work) {
        Ok(()) => abi::code::OK,
        Err(error) => report(fault, &error),
    }
}

/// The same for an entry that returns an object: null says that it failed.
///
/// # Safety
/// As [`entry`].
pub(crate) unsafe fn made<T>(fault: *const abi::Fault, work: impl FnOnce() -> Result<T>) -> *mut std::os::raw::c_void {
    match catch(work) {
        Ok(object) => Box::into_raw(Box::new(object)) as *mut std::os::raw::c_void,
        Err(error) => {
            report(fault, &error);
            std::ptr::null_mut()
        }
    }
}

/// Frees what [`made`] returned.
///
/// # Safety
/// `object` came from `made::<T>` and is not used again.
pub(crate) unsafe extern "C" fn freed<T>(object: *mut std::os::raw::c_void) {
    if !object.is_null() {
        let object = Box::from_raw(object as *mut T);
        let _ = catch(move || {
            drop(object);
            Ok(())
        });
    }
}

unsafe fn report(fault: *const abi::Fault, error: &Error) -> u32 {
    if !fault.is_null() {
        if let Some(set) = has!(fault, set) {
            set(fault, error.code, abi::Str::new(&error.text));
        }
    }
    error.code
}

/// Collects the texts of a call.
#[derive(Default)]
pub(crate) struct Texts {
    text: String,
    pub(crate) rows: Vec<(usize, String)>,
}

impl Texts {
    /// Valid as long as `self` is not moved.
    pub(crate) fn fault(&mut self) -> abi::Fault {
        unsafe extern "C" fn set(this: *const abi::Fault, _: u32, text: abi::Str) {
            (*((*this).host as *mut Texts)).text = text.to_text();
        }
        unsafe extern "C" fn row(this: *const abi::Fault, row: usize, _: u32, text: abi::Str) {
            (*((*this).host as *mut Texts)).rows.push((row, text.to_text()));
        }
        abi::Fault {
            size: std::mem::size_of::<abi::Fault>() as u32,
            reserved: 0,
            host: self as *mut Texts as *mut std::os::raw::c_void,
            set: Some(set),
            row: Some(row),
        }
    }

    pub(crate) fn error(self, code: u32) -> Error {
        Error::of(code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_bug_with_its_place() {
        let error = catch(|| -> Result<()> { panic!("boom {}", 7) }).unwrap_err();
        assert_eq!(error.code(), abi::code::BUG);
        assert!(error.to_string().contains("error.rs:"), "{}", error);
        assert!(error.to_string().ends_with(": boom 7"), "{}", error);
    }

    #[test]
    fn place_stands_in_front() {
        assert_eq!(Error::never("no such column").at("table `t`").to_string(), "table `t`: no such column");
    }
}
