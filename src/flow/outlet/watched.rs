//! A sink that is watched: one that makes no progress for too long is given up and opened again.
//!
//! What it was given then counts as not delivered, and is given to the new one: some of it may come twice, and nothing
//! is lost. A sink that is merely slow must not be taken for one that is stuck, or it would be given the same for ever:
//! a connector tells of progress within a delivery, and each time less is given in one call, or one is waited for longer.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Stopwatch, within};
use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::io::{Parcel, RefusedRow, Report, Sink, SinkPlan, Stopped};

/// How long one that is given up may take to close.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many times longer than the user says is waited at most, where less cannot be given.
const LONGEST: u32 = 16;

pub struct Watched {
    plan: Arc<SinkPlan>,
    /// None once it is given up, until the next try to connect.
    sink: Option<Box<dyn Sink>>,
    clock: Clock,
    report: Report,
    limit: Option<Duration>,
    /// Parcels that are given in one call; nothing stands in the way of as many as there are at first.
    most: usize,
    /// How many times the limit is waited.
    times: u32,
    refused: Vec<RefusedRow>,
}

impl Watched {
    pub fn new(
        plan: Arc<SinkPlan>,
        sink: Box<dyn Sink>,
        clock: Clock,
        report: Report,
        limit: Option<Duration>,
    ) -> Watched {
        Watched { plan, sink: Some(sink), clock, report, limit, most: usize::MAX, times: 1, refused: Vec::new() }
    }

    /// Gives the sink up.
    async fn give_up(&mut self, what: &str) -> Fault {
        let waited = self.limit.unwrap_or_default() * self.times;
        if let Some(mut sink) = self.sink.take() {
            // It is stuck, so that its goodbye is worth no fault and no long wait.
            let _ = within(FAREWELL, sink.close()).await;
        }
        Fault::unreachable(format!("{what} has made no progress for {waited:?}; the sink is opened again"))
    }

    /// One call.
    async fn give(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        let stopped = |fault| Stopped { delivered: 0, fault };
        let Some(sink) = &mut self.sink else {
            return Err(stopped(Fault::unreachable("the sink is not open")));
        };
        let watch = Stopwatch::start();
        let limit = self.limit.map(|limit| limit * self.times);
        let result = tokio::select! {
            biased;
            result = sink.deliver(parcels) => Some(result),
            () = stuck(&self.clock, &self.report, limit) => None,
        };
        let Some(result) = result else {
            let fault = self.give_up("a delivery").await;
            match parcels.len() {
                1 => self.times = (self.times * 2).min(LONGEST),
                given => self.most = given / 2,
            }
            return Err(stopped(fault));
        };
        if result.is_ok() {
            self.times = 1;
            // What was quick may be more the next time.
            if parcels.len() >= self.most && self.limit.is_none_or(|limit| watch.elapsed() < limit / 8) {
                self.most = self.most.saturating_mul(2);
            }
        }
        result
    }
}

#[async_trait::async_trait]
impl Sink for Watched {
    async fn connect(&mut self, report: Report) -> Result<()> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            gone => gone.insert((self.plan.open)()?),
        };
        let result = tokio::select! {
            biased;
            result = sink.connect(report) => Some(result),
            () = stuck(&self.clock, &self.report, self.limit) => None,
        };
        match result {
            Some(result) => result,
            None => Err(self.give_up("the connection").await),
        }
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        let mut done = 0;
        while done < parcels.len() {
            let some = &parcels[done..parcels.len().min(done.saturating_add(self.most))];
            let result = self.give(some).await;
            let refused = self.sink.as_mut().map(|sink| sink.refused()).unwrap_or_default();
            self.refused.extend(refused.into_iter().map(|row| RefusedRow { parcel: row.parcel + done, ..row }));
            match result {
                Ok(()) => done += some.len(),
                Err(stopped) => return Err(Stopped { delivered: done + stopped.delivered, ..stopped }),
            }
        }
        Ok(())
    }

    fn refused(&mut self) -> Vec<RefusedRow> {
        std::mem::take(&mut self.refused)
    }

    async fn idle(&mut self) {
        match &mut self.sink {
            Some(sink) => sink.idle().await,
            None => std::future::pending().await,
        }
    }

    async fn position(&mut self) -> Result<Option<Value>> {
        match &mut self.sink {
            Some(sink) => sink.position().await,
            // Where the last one stood is known from before.
            None => Ok(None),
        }
    }

    async fn resume(&mut self, position: &Value) -> Result<()> {
        match &mut self.sink {
            Some(sink) => sink.resume(position).await,
            None => Err(Fault::unreachable("the sink is not open")),
        }
    }

    async fn close(&mut self) -> Result<()> {
        match &mut self.sink {
            Some(sink) => sink.close().await,
            None => Ok(()),
        }
    }
}

/// Returns when there was no progress for so long.
async fn stuck(clock: &Clock, report: &Report, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    let mut seen = report.steps();
    loop {
        clock.pass(limit).await;
        let steps = report.steps();
        if steps == seen {
            return;
        }
        seen = steps;
    }
}
