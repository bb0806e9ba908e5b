use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::data::{Account, Fate, Value};
use crate::diag::Result;
use crate::io::Sink;
use crate::meter::{SinkAccount, SinkView};

/// What one sink has confirmed in this run, and where it stood then, if it can say so: the journal reads what the outlet
/// writes.
///
/// Of a sink that can take back what was delivered after a position, only what a position covers counts as confirmed:
/// after a crash the rest is taken back and given again, so that nothing is there twice.
#[derive(Default)]
pub struct Anchor {
    /// Result rows.
    confirmed: AtomicU64,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// Where the run before stood; taken by the first connection.
    resume: Option<Value>,
    /// Rows that were confirmed, where the sink stood then, and its account.
    mark: Option<(u64, Value, SinkView)>,
}

impl Anchor {
    pub fn new(resume: Option<Value>) -> Anchor {
        Anchor { confirmed: AtomicU64::new(0), place: Mutex::new(Place { resume, mark: None }) }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows that need not be given again.
    pub fn rows(&self) -> u64 {
        self.place().mark.as_ref().map_or_else(|| self.confirmed.load(Ordering::Acquire), |(rows, ..)| *rows)
    }

    /// The same, where the sink stands behind them, and what its account was there: what it took later is taken back
    /// after a crash, and counts when it is given again. No account where nothing is taken back.
    pub fn confirmed(&self) -> (u64, Option<Value>, Option<SinkView>) {
        let place = self.place();
        match &place.mark {
            Some((rows, position, view)) => (*rows, Some(position.clone()), Some(view.clone())),
            None => (self.confirmed.load(Ordering::Acquire), place.resume.clone(), None),
        }
    }

    /// The sink is connected: what it took after the run before noted its place is taken back.
    pub async fn connected(&self, sink: &mut dyn Sink, account: &SinkAccount) -> Result<()> {
        let resume = self.place().resume.clone();
        if let Some(position) = resume {
            sink.resume(&position).await?;
            self.place().resume = None;
        }
        self.delivered(sink, account).await
    }

    /// The sink has confirmed something, and the receipts of it are settled.
    pub async fn delivered(&self, sink: &mut dyn Sink, account: &SinkAccount) -> Result<()> {
        let (rows, view) = (self.confirmed.load(Ordering::Acquire), account.view());
        if let Some(position) = sink.position().await? {
            self.place().mark = Some((rows, position, view));
        }
        Ok(())
    }
}

impl Account for Anchor {
    fn settle(&self, fate: Fate, rows: u64, _: bool) {
        // What was given up is given again after the next start. What an overflow dropped was not the next in order.
        if !matches!(fate, Fate::Abandoned | Fate::Lost | Fate::DroppedOverflow | Fate::DroppedStop) {
            self.confirmed.fetch_add(rows, Ordering::AcqRel);
        }
    }

    fn hold(&self, _: u64) {}

    fn unhold(&self, _: u64) {}
}
