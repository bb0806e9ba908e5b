use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock, within};

/// Waits for what must come soon.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match within(Duration::from_secs(30), work).await {
        Some(done) => done,
        None => panic!("still waiting for {what}"),
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The same, while a virtual clock goes on in steps of 50 ms.
pub async fn until_by(clock: &Clock, what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || {
        clock.set(clock.now() + Duration::from_millis(50));
        holds()
    })
    .await;
}

/// Lets all tasks do what they can without anything happening outside.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A switch that a scripted source waits for.
pub fn switch() -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
    oneshot::channel()
}
