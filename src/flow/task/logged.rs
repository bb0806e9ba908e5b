//! The task of a rule that has a journal: what it does before a batch is pushed, at the start, at the end, and between.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::data::{Fate, Receipt};
use crate::diag::{Fault, Result};

use super::super::caught::caught_now;
use super::super::feed::{Close, Fed, settle_all};
use super::super::journal::Journal;
use super::super::journal::record::{self, Record};
use super::super::lane::Load as _;
use super::super::outlet::Outgoing;
use super::{RuleTask, give};

/// Rows that are brought to the disk together, about.
const TOGETHER: usize = 4096;
/// The first and the longest pause between two tries to write the log.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl RuleTask {
    /// Does again what the log has. `Some`: the rule is being left, and the journal is as it was; or its input had ended
    /// before.
    pub(super) async fn replay(&mut self) -> Result<Option<Close>> {
        loop {
            let Some(journal) = &mut self.journal else { return Ok(None) };
            let records = journal.next().await?;
            if records.is_empty() {
                let missing = journal.live();
                if missing > 0 {
                    let text =
                        "results that sinks had did not come again; the rule asks something that gives other answers";
                    tracing::warn!("{}: {missing} {text}", self.log.who());
                }
                // What waits for an answer still asks for it.
                self.go_on().await?;
                return Ok(None);
            }
            let account = journal.account();
            for (sequence, body) in records {
                if let Some(journal) = &mut self.journal {
                    journal.replaying(sequence);
                }
                if self.again(record::read(&body, &account)?).await? {
                    return Ok(Some(Close::Finished));
                }
                if self.closings.leaving().now_or_never().is_some() || self.has_closed_sink() {
                    return Ok(Some(Close::Left));
                }
            }
        }
    }

    /// One call, done again; true where it was the last.
    async fn again(&mut self, record: Record) -> Result<bool> {
        let is_last = matches!(record, Record::Finish(_));
        match record {
            Record::Push { source, now, batch } => {
                if let Some(journal) = &self.journal {
                    let book = journal.book();
                    book.ledger.came(record::recount(&batch, &book.account()));
                }
                self.chain.push(source, batch, now, &mut self.out)?;
            }
            Record::Tick(now) => self.chain.tick(now, &mut self.out)?,
            Record::Answer { now, rows } => {
                if let Some(ask) = self.chain.asks() {
                    self.chain.answer(&ask, rows, now, &mut self.out)?;
                }
            }
            Record::Ended { source, now } => self.chain.ended(source, now, &mut self.out)?,
            Record::Finish(now) => self.chain.finish(now, &mut self.out)?,
            Record::Remark => {}
        }
        self.send().await;
        Ok(is_last)
    }

    /// Brings a batch, and what waits behind it, to the disk, lets the sources go, and pushes it.
    pub(super) async fn take_logged(&mut self, fed: Fed) -> Result<()> {
        let mut rows = fed.weight();
        self.waiting.push_back(fed);
        // A timer that is due goes first, so that a late batch does not slip into a window that is over.
        self.tick().await?;
        while rows < TOGETHER
            && let Some(fed) = self.from.take_now()
        {
            rows += fed.weight();
            self.waiting.push_back(fed);
        }
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let now = self.clock.now();
        let mut numbers = Vec::with_capacity(self.waiting.len());
        for fed in &mut self.waiting {
            numbers.push(journal.push(fed, now)?);
        }
        if !self.synced().await? {
            // Should the disk take them after all, they are not to be done again: the source gives them again.
            if let Some(journal) = &mut self.journal {
                for number in numbers.into_iter().flatten() {
                    journal.note(&record::skip(number))?;
                }
            }
            self.waiting.drain(..).for_each(|fed| settle_all(fed.batch, Fate::Abandoned));
            return Ok(());
        }
        self.waiting.iter_mut().for_each(|fed| fed.batch.log());
        for number in numbers {
            let Some(fed) = self.waiting.pop_front() else { break };
            let Some(journal) = self.journal.as_mut().filter(|_| number.is_some()) else { continue };
            journal.pushing = number;
            self.chain.push(fed.source, fed.batch, now, &mut self.out)?;
            self.go_on().await?;
            if let Some(journal) = &mut self.journal {
                journal.pushing = None;
            }
        }
        Ok(())
    }

    /// Brings the log to the disk, however long that takes; false when the rule was left meanwhile.
    pub(super) async fn synced(&mut self) -> Result<bool> {
        let mut pause = PAUSES.0;
        loop {
            let Some(journal) = &mut self.journal else { return Ok(true) };
            let Err(fault) = journal.sync().await else { return Ok(true) };
            if matches!(fault, Fault::Bug(_)) {
                return Err(fault);
            }
            tracing::warn!("{}: {fault}; the rule waits, and its sources with it", self.log.who());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closings.leaving() => return Ok(false),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Returns when the journal has something to do; never without one. Cancelled, it has done nothing.
    pub(super) async fn wake(journal: Option<&Journal>) {
        match journal {
            Some(journal) => journal.wake().await,
            None => std::future::pending().await,
        }
    }

    /// Does what the journal has to do by now: counts, snapshots.
    pub(super) async fn keep(&mut self) -> Result<()> {
        if !self.synced().await? {
            return Ok(());
        }
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if let Err(fault) = journal.end_writing(false).await {
            tracing::warn!("{}: {fault}; the snapshot before and the input log stand in for it", self.log.who());
        }
        if journal.wants_snapshot() && !journal.is_increment() {
            let ops = self.chain.states();
            let waiting = self.from.waiting() as u64;
            journal.set_state(ops, waiting);
        }
        journal.begin_writing();
        Ok(())
    }

    /// Gives what has left the chain to a sink, but what it has already.
    pub(super) async fn give_logged(&mut self, sink: usize, outgoing: Outgoing) {
        let Some(journal) = &mut self.journal else { return };
        let (skipped, wanted) = journal.give(sink, outgoing.receipts.len() as u64);
        let Outgoing { batch, receipts, at } = outgoing;
        let mut receipts = receipts.into_iter();
        receipts.by_ref().take(skipped as usize).for_each(|receipt| receipt.settle(Fate::Out));
        if !wanted {
            return;
        }
        let batch = if skipped > 0 { batch.behind(skipped as usize).into() } else { batch };
        let receipts: Vec<Receipt> = receipts.map(|receipt| journal.told(sink, receipt)).collect();
        if let Some(inlet) = self.sinks.get(sink) {
            give(inlet, Outgoing { batch, receipts, at }).await;
        }
    }

    /// The rule ends: what it holds stays in the journal, and what the sinks take yet is noted there.
    pub(super) async fn part(&mut self, ended: &Close) {
        let Some(mut journal) = self.journal.take() else { return };
        let who = self.log.who().to_owned();
        if matches!(ended, Close::Failed(_))
            && let Some(number) = journal.pushing
        {
            // What broke the rule once would do so at every start.
            drop(journal.note(&record::skip(number)));
        }
        let whole = *ended == Close::Left && journal.is_live() && journal.pushing.is_none() && !journal.is_partial;
        if whole && !journal.is_increment() {
            match caught_now("the rule", || self.chain.states()) {
                Ok(ops) => journal.set_state(ops, 0),
                Err(fault) => tracing::warn!("{who}: {fault}"),
            }
        }
        self.sinks.clear();
        self.delivered().await;
        let held = journal.book().ledger.view().held;
        if let Err(fault) = caught_now("the rule", || self.chain.forget()) {
            tracing::warn!("{who}: {fault}");
        }
        let book = journal.book().clone();
        let left = held - book.ledger.view().held;
        if *ended == Close::Finished {
            if let Err(fault) = journal.remove().await {
                tracing::warn!("{who}: {fault}");
            }
            return;
        }
        book.ledger.hold(u64::try_from(left).unwrap_or_default());
        if journal.is_untouched() {
            return;
        }
        if let Err(fault) = save(&mut journal).await {
            tracing::warn!("{who}: {fault}; the rule goes on from the snapshot before, and from the input log");
        }
    }
}

/// Writes what there is to write at the end.
async fn save(journal: &mut Journal) -> Result<()> {
    journal.end_writing(true).await?;
    journal.sync().await?;
    journal.begin_writing();
    journal.end_writing(true).await
}
