//! The task of a rule that has a journal: what it does before a batch is pushed, at the start, at the end, and between.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::data::{Account as _, Batch, Fate, Receipt, Undecoded};
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
/// Why rows are dead that a call of the chain broke over.
const BROKE: &str = "the rule had failed over a part of its input, which is not tried again";
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
                self.doing(None);
                if self.closings.leaving().now_or_never().is_some() || self.has_closed_sink() {
                    return Ok(Some(Close::Left));
                }
            }
        }
    }

    /// The call of the chain that is under way, by its number in the log.
    pub(super) fn doing(&mut self, number: Option<u64>) {
        if let Some(journal) = &mut self.journal {
            journal.doing = number;
        }
    }

    /// One call, done again; true where it was the last.
    async fn again(&mut self, record: Record) -> Result<bool> {
        let is_last = matches!(record, Record::Finish(_));
        let broken = self.journal.as_ref().and_then(Journal::broken);
        let book = self.journal.as_ref().map(|journal| journal.book().clone());
        let dead = || book.as_ref().and_then(|book| book.view().dead.get(Fate::DeadEval.reason()).copied());
        let before = broken.and_then(|_| dead());
        if let (Some((times, step)), Some(book)) = (broken, &book)
            && matches!(record, Record::Tick(_) | Record::Ended { .. } | Record::Finish(_))
        {
            book.set_breaks(true);
            self.chain.spare(step, times > 1);
            book.set_breaks(false);
        }
        match record {
            Record::Push { source, now, mut batch, missed } => {
                if let Some(book) = &book {
                    book.ledger.came(record::recount(&batch, &book.account()));
                    missed.iter().for_each(|(reason, rows)| book.miss(reason, *rows));
                }
                self.bury(&mut batch);
                match broken {
                    // It says where the source stood.
                    _ if batch.is_empty() => {}
                    None => self.chain.push(source, batch, now, &mut self.out)?,
                    Some(_) => self.chain.bury(&mut batch),
                }
            }
            Record::Tick(now) => self.chain.tick(now, &mut self.out)?,
            Record::Answer { now, rows } => {
                if let Some(ask) = self.chain.asks() {
                    let rows = if broken.is_none() { rows } else { Err(Fault::bug(BROKE)) };
                    self.chain.answer(&ask, rows, now, &mut self.out)?;
                }
            }
            Record::Ended { source, now } => self.chain.ended(source, now, &mut self.out)?,
            Record::Finish(now) => self.chain.finish(now, &mut self.out)?,
            Record::Remark => {}
        }
        if broken.is_some() {
            // Letters of the dead are counted when they are told.
            let counted = dead().unwrap_or_default() - before.unwrap_or_default();
            let rows = self.chain.spare_none().max(counted);
            let text = format!("{BROKE}: {rows} rows are dead");
            tracing::error!("{}: {text}", self.log.who());
            self.journal.iter().for_each(|journal| journal.warn(text.clone()));
        }
        self.send().await;
        Ok(is_last)
    }

    /// Brings a batch, and what waits behind it, to the disk, lets the sources go, and pushes it.
    pub(super) async fn take_logged(&mut self, fed: Box<Fed>) -> Result<()> {
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
            if let Some(journal) = &mut self.journal {
                journal.give_back(numbers.into_iter().flatten())?;
            }
            self.waiting.drain(..).for_each(|fed| settle_all(fed.batch, Fate::Abandoned));
            return Ok(());
        }
        if let Some(journal) = &mut self.journal {
            journal.kept();
        }
        self.waiting.iter_mut().for_each(|fed| fed.batch.log());
        for number in numbers {
            let Some(mut fed) = self.waiting.pop_front() else { break };
            if number.is_none() {
                continue;
            }
            if let Some(journal) = &self.journal {
                fed.missed.iter().for_each(|(reason, rows)| journal.book().miss(reason, *rows));
            }
            // It says where the source stands.
            if fed.batch.is_empty() {
                continue;
            }
            self.doing(number);
            self.bury(&mut fed.batch);
            self.chain.push(fed.source, fed.batch, now, &mut self.out)?;
            self.go_on().await?;
            self.doing(None);
        }
        Ok(())
    }

    /// The log has the messages that are no records: they are dead.
    fn bury(&mut self, batch: &mut Batch) {
        for Undecoded { row, fault, receipt, letter, .. } in batch.take_undecoded() {
            let route = self.journal.as_ref().and_then(|journal| journal.book().dead.as_ref());
            match letter.zip(route) {
                Some((letter, route)) => route.message(letter, &fault, receipt),
                None => receipt.settle(Fate::dead(&fault)),
            }
            batch.note(row as usize, fault);
        }
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
            let began = self.clock.now();
            journal.set_state(self.chain.states());
            journal.held_up(self.clock.now().since(began));
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
        // What broke the rule once would do so at every start.
        if matches!(ended, Close::Failed(_))
            && let Err(fault) = journal.broke(self.chain.at())
        {
            tracing::warn!("{who}: {fault}");
        }
        let whole = *ended == Close::Left && journal.is_live() && journal.doing.is_none() && !journal.is_partial;
        if whole && !journal.is_increment() {
            match caught_now("the rule", || self.chain.states()) {
                Ok(ops) => journal.set_state(ops),
                Err(fault) => tracing::warn!("{who}: {fault}"),
            }
        }
        self.sinks.clear();
        self.delivered().await;
        let held = journal.book().view().held;
        if let Err(fault) = caught_now("the rule", || self.chain.forget()) {
            tracing::warn!("{who}: {fault}");
        }
        let book = journal.book().clone();
        let left = held - book.view().held;
        if *ended == Close::Finished {
            if let Err(fault) = journal.remove().await {
                tracing::warn!("{who}: {fault}");
            }
            return;
        }
        book.hold(u64::try_from(left).unwrap_or_default());
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
