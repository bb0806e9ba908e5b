use std::sync::Arc;

use crate::diag::Fault;

use super::{Fate, Object, Receipt, Time, Value};

/// What a source says about a message beside its content, as `meta()` reads it.
pub type Meta = Arc<Object>;

/// A message as its source gave it, for a rule that logs its input: given again after a crash, it is known by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The source's number of the message while it waits for its acknowledgement.
    pub id: u16,
    /// The source says that it may have given it before, under the same number.
    pub again: bool,
    /// Digest of the content.
    pub digest: u64,
    /// The connection that it came over, as the source counts them.
    pub line: u16,
}

/// A message that is no record of its format, on its way into the input log of a rule: when that has it, it is dead.
pub struct Undecoded {
    /// The row before which it came.
    pub row: u32,
    pub fault: Fault,
    pub delivery: Option<Delivery>,
    pub receipt: Receipt,
    /// Where rows that fail are told of: what it said, and where it came from.
    pub letter: Option<(Value, Value)>,
}

/// Which rows of a batch that leaves a rule belong together: an emission is what one trigger gives to the sinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Emissions {
    /// Each row is an emission of its own.
    #[default]
    Single,
    /// All rows, or none, are one emission.
    Whole,
    /// Emission n ends before the row at `ends[n]`, counted over the selected rows.
    Ends(Vec<u32>),
}

/// A run of rows of one width. Values lie row after row in one block; the selection says which rows are still in.
///
/// A row that failed is not selected; its fault stays at its place, so that errors leave a rule in the order in which
/// they arose.
#[derive(Default)]
pub struct Batch {
    width: usize,
    values: Vec<Value>,
    times: Vec<Time>,
    receipts: Vec<Receipt>,
    /// Empty when no one asks for metadata.
    metas: Vec<Option<Meta>>,
    /// Empty where no one asks for them.
    deliveries: Vec<Option<Delivery>>,
    selected: Vec<u32>,
    faults: Vec<(u32, Fault)>,
    undecoded: Vec<Undecoded>,
    /// How far the event time has come behind so many rows.
    marks: Vec<(u32, Time)>,
    pub emissions: Emissions,
    /// The time that made a window give out these rows.
    pub trigger: Option<Time>,
    /// Of a rule with several ways to its sinks: by which of them the rows leave; else they go to all.
    pub port: Option<usize>,
}

impl Batch {
    pub fn new(width: usize) -> Self {
        Batch { width, ..Batch::default() }
    }

    pub fn with_capacity(width: usize, rows: usize) -> Self {
        Batch {
            width,
            values: Vec::with_capacity(width * rows),
            times: Vec::with_capacity(rows),
            receipts: Vec::with_capacity(rows),
            selected: Vec::with_capacity(rows),
            ..Batch::default()
        }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// All rows, selected or not.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// No row is selected, none has failed, and it says nothing of the time.
    pub fn is_empty(&self) -> bool {
        self.selected.is_empty() && self.faults.is_empty() && self.undecoded.is_empty() && self.marks.is_empty()
    }

    /// Adds a selected row of absent values, to be filled by the caller.
    pub fn push(&mut self, time: Time, receipt: Receipt) -> &mut [Value] {
        let start = self.values.len();
        self.values.resize_with(start + self.width, Value::default);
        self.selected.push(self.times.len() as u32);
        self.times.push(time);
        self.receipts.push(receipt);
        if !self.metas.is_empty() {
            self.metas.push(None);
        }
        &mut self.values[start..]
    }

    /// Takes rows off the end, as if they had never been added. Only for rows that have no receipt yet.
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.width);
        self.times.truncate(rows);
        self.receipts.truncate(rows);
        self.metas.truncate(rows);
        self.deliveries.truncate(rows);
        self.selected.retain(|row| (*row as usize) < rows);
    }

    /// Sets the time, metadata and receipt of a row.
    pub fn stamp(&mut self, row: usize, time: Time, meta: Option<&Meta>, receipt: Receipt) {
        self.times[row] = time;
        self.receipts[row] = receipt;
        if let Some(meta) = meta {
            self.set_meta(row, meta);
        }
    }

    pub fn set_meta(&mut self, row: usize, meta: &Meta) {
        self.metas.resize(self.times.len(), None);
        self.metas[row] = Some(meta.clone());
    }

    /// Says of the last so many rows with which message they came.
    pub fn set_delivery(&mut self, from: usize, delivery: Delivery) {
        self.deliveries.resize(from, None);
        self.deliveries.resize(self.times.len(), Some(delivery));
    }

    pub fn delivery(&self, row: usize) -> Option<Delivery> {
        self.deliveries.get(row).copied().flatten()
    }

    /// The messages that selected rows came with, and those that are no records, in their order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let mut broken = self.undecoded.iter().peekable();
        let mut all: Vec<Delivery> = Vec::new();
        for row in &self.selected {
            while let Some(before) = broken.next_if(|broken| broken.row <= *row) {
                all.extend(before.delivery);
            }
            all.extend(self.delivery(*row as usize));
        }
        all.extend(broken.filter_map(|broken| broken.delivery));
        // Rows of one message come one after the other.
        all.dedup();
        all
    }

    /// Adds a message that is no record, behind the rows so far.
    pub fn add_undecoded(&mut self, message: Undecoded) {
        self.undecoded.push(message);
    }

    pub fn undecoded(&self) -> &[Undecoded] {
        &self.undecoded
    }

    pub fn take_undecoded(&mut self) -> Vec<Undecoded> {
        std::mem::take(&mut self.undecoded)
    }

    /// An input log has the rows, and the messages that are none: their sources may forget them. Only for a batch whose
    /// receipts were not cloned yet.
    pub fn log(&mut self) {
        self.receipts.iter_mut().for_each(Receipt::log);
        self.undecoded.iter_mut().for_each(|message| message.receipt.log());
    }

    /// Drops all metadata.
    pub fn clear_meta(&mut self) {
        self.metas.clear();
    }

    pub fn row(&self, row: usize) -> &[Value] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [Value] {
        &mut self.values[row * self.width..(row + 1) * self.width]
    }

    pub fn time(&self, row: usize) -> Time {
        self.times[row]
    }

    /// Brings rows from behind that time back to it.
    pub fn not_after(&mut self, time: Time) {
        self.times.iter_mut().for_each(|own| *own = (*own).min(time));
    }

    pub fn set_time(&mut self, row: usize, time: Time) {
        self.times[row] = time;
    }

    pub fn meta(&self, row: usize) -> Option<&Meta> {
        self.metas.get(row).and_then(Option::as_ref)
    }

    /// The rows that are still in, in order.
    pub fn selected(&self) -> &[u32] {
        &self.selected
    }

    /// Replaces the selection; for operators that sort, cut or leave out rows whose receipts they have settled.
    pub fn select(&mut self, rows: Vec<u32>) {
        self.selected = rows;
    }

    /// Takes the receipt of a row; what is left promises nothing.
    pub fn take_receipt(&mut self, row: usize) -> Receipt {
        std::mem::take(&mut self.receipts[row])
    }

    pub fn receipt_mut(&mut self, row: usize) -> &mut Receipt {
        &mut self.receipts[row]
    }

    pub fn receipt(&self, row: usize) -> &Receipt {
        &self.receipts[row]
    }

    /// Takes a selected row out because a condition was not met.
    pub fn keep(&mut self, mut wanted: impl FnMut(&Batch, usize) -> Result<bool, Fault>) {
        let rows = std::mem::take(&mut self.selected);
        let mut left = Vec::with_capacity(rows.len());
        for row in rows {
            match wanted(self, row as usize) {
                Ok(true) => left.push(row),
                Ok(false) => self.take_receipt(row as usize).settle(Fate::Filtered),
                Err(fault) => self.fail(row as usize, fault),
            }
        }
        self.selected = left;
    }

    /// Notes that a row failed and settles its receipt. The caller leaves it out of the selection.
    pub fn fail(&mut self, row: usize, fault: Fault) {
        self.bury(row, &fault);
        self.note(row, fault);
    }

    /// Settles the receipt of a row that failed, once that is told where it is to be.
    pub fn bury(&mut self, row: usize, fault: &Fault) {
        let receipt = self.take_receipt(row);
        receipt.fail(fault, || (self.row(row).to_vec(), self.meta(row).cloned()));
    }

    /// Notes a fault at the place of a row, without touching its receipt.
    pub fn note(&mut self, row: usize, fault: Fault) {
        let at = self.faults.partition_point(|(other, _)| *other <= row as u32);
        self.faults.insert(at, (row as u32, fault));
    }

    /// The faults, each with the row at whose place it arose, in order.
    pub fn faults(&self) -> &[(u32, Fault)] {
        &self.faults
    }

    pub fn take_faults(&mut self) -> Vec<(u32, Fault)> {
        std::mem::take(&mut self.faults)
    }

    /// Says that behind the rows so far, selected or not, the watermark has come to this time.
    pub fn mark(&mut self, watermark: Time) {
        self.marks.push((self.times.len() as u32, watermark));
    }

    /// The watermarks, each with the number of rows before it, in order.
    pub fn take_marks(&mut self) -> Vec<(u32, Time)> {
        std::mem::take(&mut self.marks)
    }

    /// The same without the first so many selected rows and the errors before the others; its receipts promise nothing.
    pub fn behind(&self, rows: usize) -> Batch {
        let selected = self.selected.get(rows..).unwrap_or_default().to_vec();
        let first = selected.first().copied().unwrap_or(u32::MAX);
        let emissions = match &self.emissions {
            Emissions::Ends(ends) => {
                let ends = ends.iter().map(|end| end.saturating_sub(rows as u32)).filter(|end| *end > 0);
                Emissions::Ends(ends.collect())
            }
            other => other.clone(),
        };
        let mut receipts = Vec::new();
        receipts.resize_with(self.rows(), Receipt::none);
        Batch {
            width: self.width,
            values: self.values.clone(),
            times: self.times.clone(),
            receipts,
            metas: self.metas.clone(),
            deliveries: Vec::new(),
            selected,
            faults: self.faults.iter().filter(|(at, _)| *at > first).cloned().collect(),
            undecoded: Vec::new(),
            marks: Vec::new(),
            emissions,
            trigger: self.trigger,
            port: self.port,
        }
    }

    /// Takes the values of a row out, leaving absent ones.
    pub fn take_row(&mut self, row: usize) -> Vec<Value> {
        self.row_mut(row).iter_mut().map(std::mem::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_edits_the_selection_and_leaves_faults_in_place() {
        let mut batch = Batch::new(1);
        for n in 0..4 {
            batch.push(Time(n), Receipt::none())[0] = Value::Int(n);
        }
        batch.keep(|batch, row| match &batch.row(row)[0] {
            Value::Int(2) => Err(Fault::eval("two")),
            Value::Int(n) => Ok(n % 2 == 1),
            _ => Ok(false),
        });
        assert_eq!(batch.selected(), [1, 3]);
        assert_eq!(batch.faults(), [(2, Fault::eval("two"))]);
        assert_eq!(batch.rows(), 4);
    }

    #[test]
    fn rows_from_behind_now_come_back_to_it() {
        let mut batch = Batch::new(0);
        for time in [5, 9, 7] {
            batch.push(Time(time), Receipt::none());
        }
        batch.not_after(Time(7));
        assert_eq!([batch.time(0), batch.time(1), batch.time(2)], [Time(5), Time(7), Time(7)]);
    }
}
