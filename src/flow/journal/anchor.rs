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
        }
        self.delivered(sink, account).await?;
        // Not before the sink has said where it stands: the journal may note it at any moment, and a kill behind a note
        // of nothing would leave in the sink what is given again.
        self.place().resume = None;
        Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::io::{Parcel, Report, Stopped};

    /// A sink that is asked where it stands, and takes its time.
    struct Slow;

    #[async_trait::async_trait]
    impl Sink for Slow {
        async fn connect(&mut self, _: Report) -> Result<()> {
            Ok(())
        }

        async fn deliver(&mut self, _: &[Parcel]) -> std::result::Result<(), Stopped> {
            Ok(())
        }

        async fn position(&mut self) -> Result<Option<Value>> {
            tokio::task::yield_now().await;
            Ok(Some(Value::Int(8)))
        }

        async fn close(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn where_a_sink_stood_is_known_until_it_says_where_it_stands() {
        let (anchor, mut sink, account) = (Anchor::new(Some(Value::Int(7))), Slow, SinkAccount::default());
        let mut connected = Box::pin(anchor.connected(&mut sink, &account));
        assert!(futures_util::FutureExt::now_or_never(&mut connected).is_none());
        assert_eq!(anchor.confirmed(), (0, Some(Value::Int(7)), None));
        connected.await.unwrap();
        assert_eq!(anchor.confirmed(), (0, Some(Value::Int(8)), Some(account.view())));
    }
}
