//! Panics, caught at the edge of a task: they end one rule with a sentence, and no other.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};

use futures_util::FutureExt as _;

use crate::diag::{Fault, Result};

/// Does the work; when it panics, the fault names who it was.
pub fn caught<T>(who: &str, work: impl Future<Output = T>) -> impl Future<Output = Result<T>> {
    // An `async fn` would keep room for the work twice.
    AssertUnwindSafe(work).catch_unwind().map(move |done| done.map_err(|panic| fault(who, &*panic)))
}

/// The same for work that does not wait.
pub fn caught_now<T>(who: &str, work: impl FnOnce() -> T) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| fault(who, &*panic))
}

fn fault(who: &str, panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::bug(format!("{who} panicked: {}", text.unwrap_or("it did not say why")))
}
