use std::collections::{HashMap, VecDeque};

use crate::data::{Batch, Delivery, Fate, Undecoded};

/// So many of the last messages may be given again: more than a source gives before the first is acknowledged, and far
/// fewer than there are numbers, so that a number which was given anew is not taken for the message that had it before.
const RECENT: usize = 1 << 14;

/// The last messages of one source that a log has, by the numbers that the source gave them.
///
/// When a connection is made anew, in this process or in the next, a source gives again what it has no acknowledgement
/// of: before anything new, in the order in which it gave it first, under the same numbers, and marked. A message is
/// known when number, content, mark and order agree; from the first message on that is not marked nothing is known any
/// more, since the numbers go round.
#[derive(Default)]
pub struct Known {
    /// The last messages in the log, in their order.
    recent: VecDeque<(u16, u64)>,
    /// So many of them are not safe yet.
    fresh: usize,
    /// The connection that the last message came over; none before the first.
    line: Option<u16>,
    /// What may come again over this connection: by number the place in the order, and the content.
    before: HashMap<u16, (usize, u64)>,
    /// The place of the last that did.
    place: usize,
}

impl Known {
    /// The log has these too.
    pub fn add(&mut self, deliveries: &[(u16, u64)]) {
        self.recent.extend(deliveries.iter().copied());
        self.trim();
    }

    /// The last messages, in their order.
    pub fn all(&self) -> Vec<(u16, u64)> {
        self.recent.iter().copied().collect()
    }

    /// What was noted last is safe.
    pub fn keep(&mut self) {
        self.fresh = 0;
        self.trim();
    }

    /// What was noted last is given back to the source.
    pub fn give_back(&mut self) {
        let left = self.recent.len().saturating_sub(std::mem::take(&mut self.fresh));
        self.recent.truncate(left);
    }

    fn trim(&mut self) {
        let over = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..over);
    }

    fn is_known(&mut self, delivery: Delivery) -> bool {
        if self.line != Some(delivery.line) {
            self.line = Some(delivery.line);
            self.place = 0;
            let places = self.recent.iter().enumerate();
            self.before = places.map(|(place, (id, digest))| (*id, (place, *digest))).collect();
        }
        if !delivery.again {
            self.before = HashMap::new();
            return false;
        }
        match self.before.get(&delivery.id) {
            Some((place, digest)) if *digest == delivery.digest && *place >= self.place => {
                self.place = *place;
                true
            }
            _ => false,
        }
    }

    /// Takes the rows out that the log has already, and counts them as such. The others are in it from now on.
    pub fn take_out(&mut self, batch: &mut Batch) {
        let rows = batch.selected();
        if batch.undecoded().is_empty() && !rows.iter().any(|row| batch.delivery(*row as usize).is_some()) {
            return;
        }
        let rows = rows.to_vec();
        let mut left = Vec::with_capacity(rows.len());
        let mut broken = batch.take_undecoded().into_iter().peekable();
        for row in rows {
            while let Some(message) = broken.next_if(|message| message.row <= row) {
                self.take_out_broken(message, batch);
            }
            match batch.delivery(row as usize) {
                Some(delivery) if !self.is_new(delivery) => {
                    batch.take_receipt(row as usize).settle(Fate::DroppedDuplicate);
                }
                _ => left.push(row),
            }
        }
        broken.for_each(|message| self.take_out_broken(message, batch));
        batch.select(left);
    }

    fn take_out_broken(&mut self, message: Undecoded, batch: &mut Batch) {
        match message.delivery {
            Some(delivery) if !self.is_new(delivery) => message.receipt.settle(Fate::DroppedDuplicate),
            _ => batch.add_undecoded(message),
        }
    }

    /// Whether the log does not have the message yet; from now on it does.
    fn is_new(&mut self, delivery: Delivery) -> bool {
        if self.is_known(delivery) {
            return false;
        }
        // Rows of one message come one after the other.
        let noted = (delivery.id, delivery.digest);
        if self.fresh == 0 || self.recent.back() != Some(&noted) {
            self.recent.push_back(noted);
            self.fresh += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Receipt, Time};

    fn batch(line: u16, rows: &[(u16, bool, u64)]) -> Batch {
        let mut batch = Batch::new(0);
        for (n, (id, again, digest)) in rows.iter().enumerate() {
            batch.push(Time(0), Receipt::none());
            batch.set_delivery(n, Delivery { id: *id, again: *again, digest: *digest, line });
        }
        batch
    }

    /// The places of those that are taken for new.
    fn new(known: &mut Known, line: u16, rows: &[(u16, bool, u64)]) -> Vec<u32> {
        let mut batch = batch(line, rows);
        known.take_out(&mut batch);
        known.keep();
        batch.selected().to_vec()
    }

    #[test]
    fn only_what_is_marked_and_the_same_and_came_first_is_known_again() {
        let mut known = Known::default();
        known.add(&[(1, 11), (2, 22), (3, 33)]);
        // The second has another content, the third is not marked, and what is behind it is new.
        let rows = [(1, true, 11), (2, true, 23), (4, false, 44), (3, true, 33)];
        assert_eq!(new(&mut known, 1, &rows), [1, 2, 3]);
        assert_eq!(known.all(), [(1, 11), (2, 22), (3, 33), (2, 23), (4, 44), (3, 33)]);
    }

    #[test]
    fn all_rows_of_a_message_are_known_by_it() {
        let mut known = Known::default();
        known.add(&[(7, 70)]);
        assert!(new(&mut known, 1, &[(7, true, 70), (7, true, 70)]).is_empty());
    }

    #[test]
    fn a_message_that_is_no_record_is_known_as_others_are() {
        use crate::diag::Fault;
        let mut known = Known::default();
        known.add(&[(1, 11), (2, 22), (3, 33)]);
        let mut again = batch(1, &[(1, true, 11), (3, true, 33), (4, false, 44)]);
        for (row, id) in [(1, 2), (3, 5)] {
            let delivery = Some(Delivery { id, again: id == 2, digest: 11 * u64::from(id), line: 1 });
            let fault = Fault::decode("no record");
            again.add_undecoded(Undecoded { row, fault, delivery, receipt: Receipt::none(), letter: None });
        }
        known.take_out(&mut again);
        assert_eq!((again.selected(), again.undecoded().len(), again.undecoded()[0].row), (&[2][..], 1, 3));
        assert_eq!(known.all(), [(1, 11), (2, 22), (3, 33), (4, 44), (5, 55)]);
    }

    #[test]
    fn what_comes_again_over_another_connection_is_known_without_a_restart() {
        let mut known = Known::default();
        assert_eq!(new(&mut known, 1, &[(1, false, 11), (2, false, 22)]), [0, 1]);
        assert_eq!(new(&mut known, 1, &[(3, false, 33)]), [0]);
        // The mark alone says nothing over the connection that it came over first.
        assert_eq!(new(&mut known, 1, &[(3, true, 33)]), [0]);
        assert_eq!(new(&mut known, 2, &[(2, true, 22), (3, true, 33), (4, true, 44)]), [2]);
        assert_eq!(new(&mut known, 4, &[(4, true, 44), (5, false, 11)]), [1]);
    }

    #[test]
    fn a_number_that_was_given_anew_is_not_the_message_that_had_it() {
        let mut known = Known::default();
        // The same content each time, as a switch has it.
        known.add(&[(1, 5), (2, 5), (3, 5)]);
        // Two comes again, and so one cannot: it stands for something new.
        assert_eq!(new(&mut known, 1, &[(2, true, 5), (3, true, 5), (1, true, 5)]), [2]);
        let many: Vec<(u16, u64)> = (0..RECENT as u16 + 1).map(|id| (id, 9)).collect();
        known.add(&many);
        assert_eq!(known.all().len(), RECENT);
        assert_eq!(new(&mut known, 2, &[(0, true, 9)]), [0]);
    }

    #[test]
    fn what_was_given_back_is_not_known() {
        let mut known = Known::default();
        known.add(&[(1, 11)]);
        let mut rows = batch(1, &[(2, false, 22), (3, false, 33)]);
        known.take_out(&mut rows);
        known.give_back();
        assert_eq!(known.all(), [(1, 11)]);
        assert_eq!(new(&mut known, 2, &[(1, true, 11), (2, true, 22)]), [1]);
    }
}
