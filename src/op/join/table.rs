use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::{Account, Batch, Fate, Value};
use crate::expr::Program;

use super::super::window::kept::{Kept, load_rows, save_rows};
use super::super::{Cx, Saved};
use super::index::Index;

/// The newest rows of a scan table. A row that gives way to a newer one ends as its results did, or filtered where it had
/// a part in none.
pub struct Table {
    retain: usize,
    rows: VecDeque<Kept>,
    /// The number of the first row; each later one has the next.
    first: u64,
    /// By what the join compares of the table.
    index: Index,
    /// The rows were loaded, and are not in the index yet.
    stale: bool,
}

impl Table {
    pub fn new(retain: usize) -> Self {
        Table { retain: retain.max(1), rows: VecDeque::new(), first: 0, index: Index::default(), stale: false }
    }

    /// Keeps a row of a batch; `keys` are what rows are found by.
    pub fn keep(&mut self, batch: &mut Batch, row: usize, keys: &[Program], cx: &Cx<'_>) {
        self.ready(keys, cx);
        while self.rows.len() >= self.retain {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.index.remove(values(&oldest, keys, cx).as_deref());
            self.first += 1;
            oldest.held.settle(Fate::Filtered);
        }
        let kept = Kept::take(batch, row);
        if !keys.is_empty() {
            self.index.add(self.first + self.rows.len() as u64, values(&kept, keys, cx).as_deref());
        }
        self.rows.push_back(kept);
    }

    /// Sees to it that rows are found by their keys.
    pub fn ready(&mut self, keys: &[Program], cx: &Cx<'_>) {
        if !std::mem::take(&mut self.stale) || keys.is_empty() {
            return;
        }
        for (number, kept) in (self.first..).zip(&self.rows) {
            self.index.add(number, values(kept, keys, cx).as_deref());
        }
    }

    pub fn rows(&self) -> &VecDeque<Kept> {
        &self.rows
    }

    pub fn row_mut(&mut self, row: usize) -> Option<&mut Kept> {
        self.rows.get_mut(row)
    }

    /// The places of the rows with these keys; `None` where they have to be compared one by one.
    pub fn find(&self, keys: &[Value]) -> Option<Vec<u32>> {
        Some(self.index.find(keys)?.map(|number| (number - self.first) as u32).collect())
    }

    /// No more results can come.
    pub fn finish(&mut self) {
        self.rows.drain(..).for_each(|kept| kept.held.settle(Fate::Filtered));
        self.index = Index::default();
    }

    pub fn discard(&mut self) {
        self.rows.drain(..).for_each(|kept| kept.held.discard(Fate::DroppedStop));
    }

    pub fn forget(&mut self) {
        self.rows.drain(..).for_each(|kept| kept.held.forget());
    }

    /// How many rows are held here.
    pub fn held(&self) -> u64 {
        self.rows.iter().map(|kept| kept.held.rows()).sum()
    }

    pub fn save(&self) -> Saved {
        save_rows(self.rows.iter())
    }

    /// Takes up saved rows; `false` where they cannot be read.
    pub fn load(&mut self, saved: &Saved, account: &Arc<dyn Account>) -> bool {
        let Some(rows) = load_rows(saved, account) else { return false };
        *self = Table { rows, stale: true, ..Table::new(self.retain) };
        true
    }
}

fn values(kept: &Kept, keys: &[Program], cx: &Cx<'_>) -> Option<Vec<Value>> {
    let frame = cx.over(&kept.values, kept.meta.as_ref(), kept.time);
    keys.iter().map(|key| key.eval(&frame).ok()).collect()
}
