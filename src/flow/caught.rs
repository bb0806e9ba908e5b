//! The edges of a task. Panics are caught there: they end one rule with a sentence, and no other. And whoever waits for
//! the end of a task waits until it has let go of all that it held, also where it ends by force.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

use crate::clock::within;
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

/// How long a task that is ended by force may take to come to a place where it can be: one that calls into a library may
/// never.
pub const FORCED: Duration = Duration::from_millis(250);

/// Waits for the end of a task, and ends it by force when that takes longer: `None`. What it held is dropped then, so that
/// all receipts have spoken.
pub async fn ended<T>(mut task: JoinHandle<T>, limit: Duration) -> Option<std::result::Result<T, JoinError>> {
    if let Some(ended) = within(limit, &mut task).await {
        return Some(ended);
    }
    task.abort();
    // It may just have ended by itself, which comes to the same.
    let _ = within(FORCED, task).await;
    None
}

fn fault(who: &str, panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::bug(format!("{who} panicked: {}", text.unwrap_or("it did not say why")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_task_that_is_ended_by_force_has_let_go_of_what_it_held() {
        let held = Arc::new(());
        let task = tokio::spawn({
            let held = held.clone();
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        });
        assert!(ended(task, Duration::from_millis(1)).await.is_none());
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(ended(tokio::spawn(async { 7 }), Duration::from_secs(60)).await.map(|end| end.ok()), Some(Some(7)));
    }
}
