//! Parcels on their way to a sink, and what was promised for each: the rows that they count for, and their receipts.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::{Fate, Receipt};
use crate::diag::Fault;
use crate::io::{Parcel, RefusedRow};
use crate::meter::{NodeMeter, SinkAccount};

/// What was taken from the rule and is not confirmed. What is left when it is dropped is given back to the source.
pub struct Load {
    parcels: Vec<Parcel>,
    /// Receipts and rows of each parcel.
    promises: Vec<(u32, u32)>,
    /// Of the parcels from `at` on.
    receipts: VecDeque<Receipt>,
    /// The first parcel that is not settled.
    at: usize,
    account: Arc<SinkAccount>,
    meter: Arc<NodeMeter>,
}

impl Load {
    pub fn new(account: Arc<SinkAccount>, meter: Arc<NodeMeter>) -> Load {
        Load { parcels: Vec::new(), promises: Vec::new(), receipts: VecDeque::new(), at: 0, account, meter }
    }

    pub fn add(&mut self, parcel: Parcel, receipts: impl Iterator<Item = Receipt>, rows: u32) {
        let before = self.receipts.len();
        self.receipts.extend(receipts);
        self.promises.push(((self.receipts.len() - before) as u32, rows));
        self.parcels.push(parcel);
    }

    /// The parcels that are to be delivered, in order.
    pub fn parcels(&self) -> &[Parcel] {
        &self.parcels[self.at..]
    }

    /// Rows of the first parcel.
    pub fn rows(&self) -> u64 {
        self.promises.get(self.at).map_or(0, |(_, rows)| u64::from(*rows))
    }

    /// The first `count` parcels met that fate. Dead ones are counted by who knows the fault.
    pub fn settle(&mut self, count: usize, fate: Fate) {
        let end = self.at.saturating_add(count).min(self.parcels.len());
        let (mut receipts, mut rows) = (0, 0);
        for (promised, counted) in &self.promises[self.at..end] {
            receipts += *promised as usize;
            rows += u64::from(*counted);
        }
        match fate {
            Fate::Out => {
                self.account.delivered(rows);
                self.meter.gave(rows);
            }
            Fate::Abandoned => self.account.dropped(fate.reason(), rows),
            _ => {}
        }
        self.receipts.drain(..receipts).for_each(|receipt| receipt.settle(fate));
        self.at = end;
        if self.at == self.parcels.len() {
            self.meter.owes_nothing();
            self.at = 0;
            self.parcels.clear();
            self.promises.clear();
        }
    }

    /// The first `count` parcels were taken, but for the rows that were refused; `dead` hears of those.
    pub fn delivered(&mut self, count: usize, refused: &[RefusedRow], mut dead: impl FnMut(&Fault)) {
        let count = count.min(self.parcels().len());
        let mut done = 0;
        while let Some(next) = refused.iter().map(|one| one.parcel).filter(|n| (done..count).contains(n)).min() {
            self.settle(next - done, Fate::Out);
            let (promises, rows) = self.promises[self.at];
            let bad: Vec<&RefusedRow> = refused.iter().filter(|one| one.parcel == next).take(rows as usize).collect();
            bad.iter().for_each(|one| dead(&one.fault));
            let good = u64::from(rows) - bad.len() as u64;
            self.account.delivered(good);
            self.meter.gave(good);
            // Where receipts do not stand for rows one by one, all of them had a part in the refused one.
            let fate = |row| {
                let fault = bad.iter().find(|one| promises != rows || one.row == row);
                fault.map_or(Fate::Out, |one| Fate::dead(&one.fault))
            };
            let receipts = self.receipts.drain(..promises as usize).enumerate();
            receipts.for_each(|(row, receipt)| receipt.settle(fate(row)));
            self.promises[self.at] = (0, 0);
            self.settle(1, Fate::Out);
            done = next + 1;
        }
        self.settle(count - done, Fate::Out);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.settle(usize::MAX, Fate::Abandoned);
    }
}
