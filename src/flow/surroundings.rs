use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::diag::Result;
use crate::func::Around;
use crate::store::{Bucket, Store};

/// What functions of one run of a rule reach beyond their arguments.
pub struct Surroundings {
    clock: Clock,
    store: Option<Arc<Store>>,
    hurried: AtomicBool,
}

impl Surroundings {
    /// Without a store there is no keyed state.
    pub fn new(clock: Clock, store: Option<Arc<Store>>) -> Self {
        Surroundings { clock, store, hurried: AtomicBool::new(false) }
    }
}

impl Around for Surroundings {
    fn pause(&self, span: Duration) {
        self.clock.block(span, || self.hurried.load(Ordering::Acquire));
    }

    fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
    }

    fn keyed_state(&self, key: &str) -> Result<Option<String>> {
        self.store.as_ref().map_or(Ok(None), |store| store.get(Bucket::KEYED_STATE, key))
    }
}
