//! The task of one rule: it waits for the next batch or the next timer, and calls the chain.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Time};
use crate::data::{Batch, Fate, Receipt};
use crate::diag::{Fault, Result};
use crate::meter::SinkAccount;

use super::chain::Chain;
use super::feed::{Input, settle_all};
use super::outlet::Outgoing;

/// Why a rule ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// Its source has given everything, and the sinks have it.
    Finished,
    /// It cannot go on.
    Failed(Fault),
}

/// Where the task puts what leaves the chain, for one sink.
pub(super) struct SinkInlet {
    pub to: mpsc::Sender<Outgoing>,
    pub account: Arc<SinkAccount>,
    /// A full sink loses results, counted, in place of making the rule wait.
    pub drop_on_overflow: bool,
}

pub(super) struct RuleTask {
    pub chain: Chain,
    pub from: mpsc::Receiver<Input>,
    pub sinks: Vec<SinkInlet>,
    pub clock: Clock,
    pub ended: watch::Sender<Option<Ended>>,
    /// Turns true, or ends, when a sink has everything.
    pub done: Vec<watch::Receiver<bool>>,
    /// Told by each error once a second at most.
    pub log: ErrorLog,
}

impl RuleTask {
    pub async fn run(mut self) {
        let ended = match self.drive().await {
            Ok(ended) => ended,
            Err(fault) => Some(Ended::Failed(fault)),
        };
        if !matches!(ended, Some(Ended::Finished)) {
            self.chain.discard();
        }
        // Rows that still come are given back to the source.
        self.from.close();
        while let Ok(input) = self.from.try_recv() {
            if let Input::Batch(batch) = input {
                settle_all(batch, Fate::Abandoned);
            }
        }
        self.sinks.clear();
        if ended == Some(Ended::Finished) {
            for done in &mut self.done {
                // An outlet that is gone has nothing left either.
                let _ = done.wait_for(|done| *done).await;
            }
        }
        if let Some(ended) = ended {
            self.ended.send_if_modified(|known| {
                let first = known.is_none();
                known.get_or_insert(ended);
                first
            });
        }
    }

    /// Runs until the input ends; `None` when it ended because the rule was stopped.
    async fn drive(&mut self) -> Result<Option<Ended>> {
        let mut out = Vec::new();
        loop {
            let due = self.chain.due();
            let input = tokio::select! {
                biased;
                _ = sleep(&self.clock, due) => None,
                input = self.from.recv() => Some(input),
            };
            let now = self.clock.now();
            // A timer that is due goes first, so that a late batch does not slip into a window that is over.
            if due.is_some_and(|due| due <= now) {
                self.chain.tick(now, &mut out)?;
                self.send(&mut out).await;
            }
            match input {
                None => {}
                Some(Some(Input::Batch(batch))) => {
                    self.chain.push(batch, now, &mut out)?;
                    self.send(&mut out).await;
                }
                Some(Some(Input::Finished)) => {
                    self.chain.finish(now, &mut out)?;
                    self.send(&mut out).await;
                    return Ok(Some(Ended::Finished));
                }
                Some(Some(Input::Failed(fault))) => return Ok(Some(Ended::Failed(fault))),
                Some(None) => return Ok(None),
            }
        }
    }

    async fn send(&mut self, out: &mut Vec<Batch>) {
        for mut batch in out.drain(..) {
            for (_, fault) in batch.faults() {
                self.log.tell(fault, self.clock.now());
            }
            let rows = batch.selected().to_vec();
            let receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
            let batch = Arc::new(batch);
            let Some((last, others)) = self.sinks.split_last() else {
                receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Out));
                continue;
            };
            for sink in others {
                give(sink, Outgoing { batch: batch.clone(), receipts: receipts.clone() }).await;
            }
            give(last, Outgoing { batch, receipts }).await;
        }
    }
}

async fn give(sink: &SinkInlet, outgoing: Outgoing) {
    let (refused, fate) = if sink.drop_on_overflow {
        match sink.to.try_send(outgoing) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(outgoing)) => (outgoing, Fate::DroppedOverflow),
            Err(mpsc::error::TrySendError::Closed(outgoing)) => (outgoing, Fate::Abandoned),
        }
    } else {
        match sink.to.send(outgoing).await {
            Ok(()) => return,
            Err(mpsc::error::SendError(outgoing)) => (outgoing, Fate::Abandoned),
        }
    };
    sink.account.came(refused.receipts.len() as u64);
    sink.account.dropped(fate.reason(), refused.receipts.len() as u64);
    refused.receipts.into_iter().for_each(|receipt| receipt.settle(fate));
}

async fn sleep(clock: &Clock, due: Option<Time>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Logs errors of rows, but not a flood of them: the first of a second is told, the others are counted.
pub struct ErrorLog {
    rule: String,
    second: i64,
    untold: u64,
}

impl ErrorLog {
    pub fn new(rule: &str) -> Self {
        ErrorLog { rule: rule.into(), second: i64::MIN, untold: 0 }
    }

    fn tell(&mut self, fault: &Fault, now: Time) {
        let second = now.0.div_euclid(1000);
        if second == self.second {
            self.untold += 1;
            return;
        }
        self.second = second;
        let untold = std::mem::take(&mut self.untold);
        if untold > 0 {
            tracing::warn!(rule = %self.rule, "a row failed: {fault} ({untold} more since the last line)");
        } else {
            tracing::warn!(rule = %self.rule, "a row failed: {fault}");
        }
    }
}
