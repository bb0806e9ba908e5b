//! The side of an outlet that faces the rule: it makes parcels of emissions, and gathers those that are sent together.
//!
//! A row that cannot be shaped is dead. Each parcel takes the receipts of its rows along, into the load.

use std::sync::Arc;
use std::vec;

use crate::clock::Clock;
use crate::data::{Fate, Layout, Receipt, Value, pack};
use crate::diag::{Fault, Result};
use crate::flow::dead::Route;
use crate::flow::load::Load;
use crate::flow::shape::{Gather, Gathered, Shape};
use crate::flow::task::ErrorLog;
use crate::io::{Content, Parcel};
use crate::meter::{NodeMeter, SinkAccount};

use super::{Outgoing, dead, emissions};

/// Makes parcels for one sink.
pub struct Packer {
    pub shape: Shape,
    pub layout: Arc<Layout>,
    pub send_error: bool,
    /// What it makes may come to the disk.
    pub keeps: bool,
    /// What waits to be sent together.
    pub gather: Option<Gather>,
    pub clock: Clock,
    pub meter: Arc<NodeMeter>,
    pub account: Arc<SinkAccount>,
    pub log: ErrorLog,
    /// The sink, and where emissions go that it cannot be given.
    pub name: String,
    pub dead: Option<Route>,
}

impl Packer {
    /// What waits to be sent together is sent.
    pub fn flush(&mut self, load: &mut Load) {
        let Some(Gathered { parcel, receipts, rows }) = self.gather.as_mut().and_then(Gather::take) else { return };
        match self.shape.packed(parcel) {
            Ok(parcel) => {
                load.add(parcel, receipts.into_iter(), rows);
                self.meter.owes(self.clock.now());
            }
            Err(fault) => {
                self.bury(&fault, &[], receipts);
                self.dead(&fault, rows.into());
            }
        }
    }

    /// Keeps what became of an emission until more has come; `made` is left empty.
    fn gather(
        &mut self,
        made: &mut Vec<Parcel>,
        receipts: impl Iterator<Item = Receipt>,
        rows: usize,
        load: &mut Load,
    ) {
        let now = self.clock.now();
        if self.gather.as_ref().and_then(Gather::due).is_some_and(|due| due <= now) {
            self.flush(load);
        }
        let full = self.gather.as_mut().is_some_and(|gather| gather.add(made.drain(..), receipts, rows as u32, now));
        if full {
            self.flush(load);
        }
    }

    /// Makes parcels of the emissions of a batch.
    pub fn take(&mut self, outgoing: Outgoing, load: &mut Load) {
        let Outgoing { batch, receipts, at } = outgoing;
        let rows = batch.selected().len() as u64;
        self.account.came(rows);
        self.meter.took(rows, self.clock.now());
        let mut receipts = Rest { receipts: receipts.into_iter(), account: self.account.clone() };
        let mut faults = batch.faults().iter().peekable();
        let mut made = Vec::new();
        for emission in emissions(&batch) {
            if let Some(first) = emission.first() {
                while let Some((_, fault)) = faults.next_if(|(at, _)| at <= first) {
                    self.error(fault, load);
                }
            }
            // Most emissions are one row; those need no list of their own.
            let (one, many): ([&[Value]; 1], Vec<&[Value]>);
            let rows: &[&[Value]] = if let [row] = emission {
                one = [batch.row(*row as usize)];
                &one
            } else {
                many = emission.iter().map(|row| batch.row(*row as usize)).collect();
                &many
            };
            let shaped = self.shape.parcels(&self.layout, rows, &mut made);
            let shaped = shaped.and_then(|()| if self.keeps { made.iter().try_for_each(storable) } else { Ok(()) });
            let mut promises = receipts.receipts.by_ref().take(rows.len());
            match shaped {
                Ok(()) if self.gather.is_some() && !made.is_empty() => {
                    self.gather(&mut made, promises, rows.len(), load)
                }
                Ok(()) if made.len() == 1 => {
                    made.drain(..).for_each(|parcel| load.add(parcel, promises.by_ref(), rows.len() as u32))
                }
                Ok(()) if made.len() == rows.len() => {
                    made.drain(..)
                        .zip(promises)
                        .for_each(|(parcel, promise)| load.add(parcel, std::iter::once(promise), 1));
                }
                // Left out by the user's own word (`omitIfEmpty`): there is nothing to confirm.
                Ok(()) if made.is_empty() => {
                    self.account.delivered(rows.len() as u64);
                    promises.for_each(|promise| promise.settle(Fate::Out));
                }
                Ok(()) => {
                    // Each parcel has a part in all rows.
                    let promises: Vec<Receipt> = promises.collect();
                    let last = made.len() - 1;
                    for (n, parcel) in made.drain(..).enumerate() {
                        let counted = if n == last { rows.len() as u32 } else { 0 };
                        load.add(parcel, promises.iter().cloned(), counted);
                    }
                    promises.into_iter().for_each(|promise| promise.settle(Fate::Filtered));
                }
                Err(fault) => {
                    made.clear();
                    let promises: Vec<Receipt> = promises.collect();
                    self.bury(&fault, rows, promises);
                    self.dead(&fault, rows.len() as u64);
                    self.error(&fault, load);
                }
            }
        }
        faults.for_each(|(_, fault)| self.error(fault, load));
        if !load.parcels().is_empty() {
            self.meter.owes(at);
        }
    }

    /// With `sendError` an error goes to the sink too.
    fn error(&mut self, fault: &Fault, load: &mut Load) {
        if !self.send_error {
            return;
        }
        match self.shape.error_parcel(&fault.to_string()) {
            Ok(parcel) => load.add(parcel, std::iter::empty(), 0),
            Err(fault) => self.meter.failed(fault.to_string(), self.clock.now()),
        }
    }

    /// Rows that the sink cannot be given go to where the dead go.
    fn bury(&self, fault: &Fault, rows: &[&[Value]], receipts: Vec<Receipt>) {
        match &self.dead {
            Some(route) => route.rows(&self.name, &self.layout, rows, fault, receipts),
            None => receipts.into_iter().for_each(|receipt| receipt.settle(Fate::dead(fault))),
        }
    }

    fn dead(&mut self, fault: &Fault, rows: u64) {
        let now = self.clock.now();
        dead(&self.account, &self.meter, fault, fault.reason(), rows, now);
        self.log.tell(fault, now);
    }

    /// What waits to be sent together goes back to the source.
    pub fn abandon(&mut self) {
        if let Some(gathered) = self.gather.as_mut().and_then(Gather::take) {
            self.account.dropped(Fate::Abandoned.reason(), gathered.rows.into());
            gathered.receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Abandoned));
        }
    }
}

/// Whether the disk can keep a parcel.
fn storable(parcel: &Parcel) -> Result<()> {
    match &parcel.content {
        Content::Rows(set) if !set.rows.iter().flatten().all(pack::fits) => Err(pack::too_deep()),
        _ => Ok(()),
    }
}

/// The receipts of an outgoing batch that have no parcel yet. When shaping panics, they are given back.
struct Rest {
    receipts: vec::IntoIter<Receipt>,
    account: Arc<SinkAccount>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        let left = self.receipts.len() as u64;
        if left > 0 {
            self.account.dropped(Fate::Abandoned.reason(), left);
            self.receipts.by_ref().for_each(|receipt| receipt.settle(Fate::Abandoned));
        }
    }
}
