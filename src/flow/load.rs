//! Parcels on their way to a sink, and what was promised for each: the rows that they count for, and their receipts.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::{Fate, Receipt};
use crate::io::{Parcel, RefusedRow};
use crate::meter::{NodeMeter, SinkAccount};

/// What was taken from the rule and is not confirmed. What is left when it is dropped is given back to the source.
pub struct Load {
    parcels: Vec<Parcel>,
    promises: Promises,
}

impl Load {
    pub fn new(account: Arc<SinkAccount>, meter: Arc<NodeMeter>) -> Load {
        Load { parcels: Vec::new(), promises: Promises::new(account, meter) }
    }

    pub fn add(&mut self, parcel: Parcel, receipts: impl Iterator<Item = Receipt>, rows: u32) {
        self.promises.add(receipts, rows);
        self.parcels.push(parcel);
    }

    /// The parcels that are to be delivered, in order.
    pub fn parcels(&self) -> &[Parcel] {
        &self.parcels[self.promises.at..]
    }

    /// Rows of the first parcel.
    pub fn rows(&self) -> u64 {
        self.promises.rows()
    }

    /// The first `count` parcels met that fate. Dead ones are counted by who knows the fault.
    pub fn settle(&mut self, count: usize, fate: Fate) {
        self.promises.settle(count, fate);
        self.tidy();
    }

    /// The first parcel met its end, and whoever takes its receipts settles them. It is counted by who knows the fault.
    pub fn take(&mut self) -> Vec<Receipt> {
        let receipts = self.promises.take();
        self.tidy();
        receipts
    }

    /// The first `count` parcels were taken, but for the rows that were refused; `dead` gets those with their receipts.
    pub fn delivered(&mut self, count: usize, refused: &[RefusedRow], dead: impl FnMut(&RefusedRow, Vec<Receipt>)) {
        self.promises.delivered(count, refused, dead);
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.promises.left() == 0 {
            self.promises.meter.owes_nothing();
            self.parcels.clear();
            self.promises.clear();
        }
    }

    /// Takes everything of another load, behind what is there.
    pub fn append(&mut self, other: &mut Load) {
        self.parcels.extend(other.parcels.drain(..).skip(other.promises.at));
        self.promises.append(&mut other.promises);
    }

    /// Takes everything out: the parcels, and what was promised for them.
    pub fn split(&mut self) -> (Vec<Parcel>, Promises) {
        let promises = Promises::new(self.promises.account.clone(), self.promises.meter.clone());
        let promises = std::mem::replace(&mut self.promises, promises);
        let parcels = std::mem::take(&mut self.parcels);
        (parcels.into_iter().skip(promises.at).collect(), promises.left_over())
    }

    /// Each parcel, with the rows that it counts for.
    pub fn each(&self) -> impl Iterator<Item = (&Parcel, u32)> {
        self.parcels().iter().zip(self.promises.each())
    }

    /// All parcels are on the disk now, which is as good as delivered for who gave the rows; the sink owes them still.
    pub fn stored(&mut self) {
        self.promises.stored();
        self.parcels.clear();
        self.promises.clear();
        self.promises.on_disk = false;
    }
}

/// What was promised for parcels, in order.
pub struct Promises {
    /// Receipts and rows of each parcel.
    each: Vec<(u32, u32)>,
    /// Of the parcels from `at` on.
    receipts: VecDeque<Receipt>,
    /// The first parcel that is not settled.
    at: usize,
    /// The parcels lie on the disk, and are counted there as long as they are not settled.
    on_disk: bool,
    account: Arc<SinkAccount>,
    meter: Arc<NodeMeter>,
}

impl Promises {
    fn new(account: Arc<SinkAccount>, meter: Arc<NodeMeter>) -> Promises {
        Promises { each: Vec::new(), receipts: VecDeque::new(), at: 0, on_disk: false, account, meter }
    }

    /// Those of parcels which lie on the disk; each counts for so many rows.
    pub fn on_disk(rows: impl Iterator<Item = u32>, account: Arc<SinkAccount>, meter: Arc<NodeMeter>) -> Promises {
        let mut promises = Promises::new(account, meter);
        promises.each.extend(rows.map(|rows| (0, rows)));
        promises.on_disk = true;
        promises
    }

    fn add(&mut self, receipts: impl Iterator<Item = Receipt>, rows: u32) {
        let before = self.receipts.len();
        self.receipts.extend(receipts);
        self.each.push(((self.receipts.len() - before) as u32, rows));
    }

    fn append(&mut self, other: &mut Promises) {
        self.each.extend(other.each.drain(..).skip(other.at));
        self.receipts.append(&mut other.receipts);
        other.at = 0;
    }

    fn left_over(mut self) -> Promises {
        self.each.drain(..self.at);
        self.at = 0;
        self
    }

    fn clear(&mut self) {
        self.at = 0;
        self.each.clear();
    }

    /// How many parcels are not settled.
    pub fn left(&self) -> usize {
        self.each.len() - self.at
    }

    /// Which parcel is the first that is not settled.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Rows of the first parcel.
    pub fn rows(&self) -> u64 {
        self.each.get(self.at).map_or(0, |(_, rows)| u64::from(*rows))
    }

    /// Rows of each parcel that is not settled.
    pub fn each(&self) -> impl Iterator<Item = u32> {
        self.each[self.at..].iter().map(|(_, rows)| *rows)
    }

    /// Whether the parcels lie on the disk.
    pub fn are_on_disk(&self) -> bool {
        self.on_disk
    }

    /// The parcels lie on the disk from now on: whoever gave their rows may forget them.
    pub fn stored(&mut self) {
        self.account.queued(self.each().map(u64::from).sum());
        self.each[self.at..].iter_mut().for_each(|(receipts, _)| *receipts = 0);
        self.receipts.drain(..).for_each(|receipt| receipt.settle(Fate::Out));
        self.on_disk = true;
    }

    /// Rows are counted as delivered, and no longer as lying on the disk.
    fn arrived(&self, rows: u64) {
        self.left_disk(rows);
        self.account.delivered(rows);
        self.meter.gave(rows);
    }

    fn left_disk(&self, rows: u64) {
        if self.on_disk {
            self.account.unqueued(rows);
        }
    }

    /// The first `count` parcels met that fate. Dead ones are counted by who knows the fault; those that are given up
    /// stay on the disk, if that is where they are.
    pub fn settle(&mut self, count: usize, fate: Fate) {
        let end = self.at.saturating_add(count).min(self.each.len());
        let (mut receipts, mut rows) = (0, 0);
        for (promised, counted) in &self.each[self.at..end] {
            receipts += *promised as usize;
            rows += u64::from(*counted);
        }
        match fate {
            Fate::Out => self.arrived(rows),
            Fate::Abandoned if self.on_disk => {}
            Fate::Abandoned => self.account.dropped(fate.reason(), rows),
            _ => self.left_disk(rows),
        }
        self.receipts.drain(..receipts).for_each(|receipt| receipt.settle(fate));
        self.at = end;
    }

    /// The first parcel met its end, and whoever takes its receipts settles them. It is counted by who knows the fault.
    pub fn take(&mut self) -> Vec<Receipt> {
        let Some((receipts, rows)) = self.each.get(self.at).copied() else { return Vec::new() };
        self.left_disk(u64::from(rows));
        self.at += 1;
        self.receipts.drain(..receipts as usize).collect()
    }

    /// The first `count` parcels were taken, but for the rows that were refused; `dead` gets those with their receipts.
    pub fn delivered(&mut self, count: usize, refused: &[RefusedRow], mut dead: impl FnMut(&RefusedRow, Vec<Receipt>)) {
        let count = count.min(self.left());
        let mut done = 0;
        while let Some(next) = refused.iter().map(|one| one.parcel).filter(|n| (done..count).contains(n)).min() {
            self.settle(next - done, Fate::Out);
            let (promises, rows) = self.each[self.at];
            let bad: Vec<&RefusedRow> = refused.iter().filter(|one| one.parcel == next).take(rows as usize).collect();
            self.left_disk(bad.len() as u64);
            self.arrived(u64::from(rows) - bad.len() as u64);
            // Where receipts do not stand for rows one by one, all of them had a part in the refused one.
            let mut graves: Vec<Vec<Receipt>> = bad.iter().map(|_| Vec::new()).collect();
            for (row, receipt) in self.receipts.drain(..promises as usize).enumerate() {
                match bad.iter().position(|one| promises != rows || one.row == row) {
                    Some(grave) => graves[grave].push(receipt),
                    None => receipt.settle(Fate::Out),
                }
            }
            bad.into_iter().zip(graves).for_each(|(one, receipts)| dead(one, receipts));
            self.each[self.at] = (0, 0);
            self.settle(1, Fate::Out);
            done = next + 1;
        }
        self.settle(count - done, Fate::Out);
    }
}

impl Drop for Promises {
    fn drop(&mut self) {
        self.settle(usize::MAX, Fate::Abandoned);
    }
}
