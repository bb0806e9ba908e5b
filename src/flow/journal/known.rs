use std::collections::HashMap;

use crate::data::{Batch, Fate};

/// The messages of one source that a log has, by the numbers that the source gave them.
///
/// After a crash a source gives again what it has no acknowledgement of, before anything new, under the same number and
/// marked. What the log had at the crash is known by number and content together; from the first message on that is not
/// marked nothing is known any more, since the numbers go round.
#[derive(Default)]
pub struct Known {
    /// In the log now.
    now: HashMap<u16, u64>,
    /// In the log before the start; empty once the source goes on.
    before: HashMap<u16, u64>,
}

impl Known {
    pub fn add_before(&mut self, deliveries: &[(u16, u64)]) {
        self.now.extend(deliveries.iter().copied());
        self.before.extend(deliveries.iter().copied());
    }

    /// All that are in the log, sorted.
    pub fn all(&self) -> Vec<(u16, u64)> {
        let mut all: Vec<(u16, u64)> = self.now.iter().map(|(id, digest)| (*id, *digest)).collect();
        all.sort_unstable();
        all
    }

    /// Takes the rows out that the log had before the start, and counts them as such. The others are in it from now on.
    pub fn take_out(&mut self, batch: &mut Batch) {
        let rows = batch.selected();
        if !rows.iter().any(|row| batch.delivery(*row as usize).is_some()) {
            return;
        }
        let rows = rows.to_vec();
        let mut left = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(delivery) = batch.delivery(row as usize) {
                if !delivery.again {
                    self.before = HashMap::new();
                } else if self.before.get(&delivery.id) == Some(&delivery.digest) {
                    batch.take_receipt(row as usize).settle(Fate::DroppedDuplicate);
                    continue;
                }
                self.now.insert(delivery.id, delivery.digest);
            }
            left.push(row);
        }
        batch.select(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Delivery, Receipt, Time};

    fn batch(rows: &[(u16, bool, u64)]) -> Batch {
        let mut batch = Batch::new(0);
        for (n, (id, again, digest)) in rows.iter().enumerate() {
            batch.push(Time(0), Receipt::none());
            batch.set_delivery(n, Delivery { id: *id, again: *again, digest: *digest });
        }
        batch
    }

    #[test]
    fn only_what_is_marked_and_the_same_and_came_first_is_known_again() {
        let mut known = Known::default();
        known.add_before(&[(1, 11), (2, 22), (3, 33)]);
        // The second has another content, the third is not marked, and what is behind it is new.
        let mut first = batch(&[(1, true, 11), (2, true, 23), (4, false, 44), (3, true, 33)]);
        known.take_out(&mut first);
        assert_eq!(first.selected(), [1, 2, 3]);
        assert_eq!(known.all(), [(1, 11), (2, 23), (3, 33), (4, 44)]);
    }

    #[test]
    fn all_rows_of_a_message_are_known_by_it() {
        let mut known = Known::default();
        known.add_before(&[(7, 70)]);
        let mut rows = batch(&[(7, true, 70), (7, true, 70)]);
        known.take_out(&mut rows);
        assert!(rows.is_empty());
    }
}
