use jiff::tz::TimeZone;

use crate::data::cast::{Reading, to_datetime};
use crate::data::{DateTime, Text, Time, Value};
use crate::diag::{Fault, Result};

use super::Cx;

const FAR: &str = "holds no time: it lies millions of years away";

/// The column that says when a row happened.
#[derive(Clone)]
pub struct Stamp {
    /// What the slot of the source holds in its rows.
    pub source: usize,
    pub stream: Text,
    pub column: Text,
    pub slot: usize,
    /// `TIMESTAMP_FORMAT`: how it is written, tried before the known layouts.
    pub format: Option<Text>,
}

/// When the rows of a rule happened: one column a stream.
#[derive(Clone)]
pub struct Stamps {
    of: Vec<Stamp>,
    /// The slot that says which stream a row is of; `None` where there is one.
    source: Option<usize>,
}

impl Stamps {
    pub fn new(of: Vec<Stamp>, source: Option<usize>) -> Self {
        Stamps { of, source }
    }

    /// The names of the streams.
    pub fn streams(&self) -> impl Iterator<Item = &Text> {
        self.of.iter().map(|stamp| &stamp.stream)
    }

    /// Which of the streams a row is of.
    pub fn stream_of(&self, row: &[Value]) -> usize {
        let Some(Value::Int(source)) = self.source.map(|slot| &row[slot]) else { return 0 };
        self.of.iter().position(|stamp| stamp.source as i64 == *source).unwrap_or_default()
    }

    /// The stream that is that source of the rule.
    pub fn of_source(&self, source: usize) -> Option<usize> {
        self.of.iter().position(|stamp| stamp.source == source)
    }

    /// When a row happened.
    ///
    /// # Errors
    /// The column is not there, or no time.
    pub fn time(&self, row: &[Value], cx: &Cx<'_>) -> Result<Time> {
        let Some(stamp) = self.of.get(self.stream_of(row)) else { return Err(Fault::bug("a row of no stream")) };
        let wrong = |cause: &str| {
            Fault::eval(format!("error in preprocessor: the timestamp column `{}` {cause}", stamp.column))
        };
        let near = |millis: i64| millis.unsigned_abs() < 1 << 60;
        match &row[stamp.slot] {
            Value::Absent => Err(wrong("is not there")),
            // Windows need room behind the times of rows.
            Value::Int(millis) if near(*millis) => Ok(Time(*millis)),
            Value::Int(_) => Err(wrong(FAR)),
            _ => match self.read(row, cx).map(|time| time.time()) {
                Ok(time) if near(time.0) => Ok(time),
                Ok(_) => Err(wrong(FAR)),
                Err(cause) => Err(wrong(&format!("holds no time: {cause}"))),
            },
        }
    }

    fn read(&self, row: &[Value], cx: &Cx<'_>) -> Result<DateTime> {
        let Some(stamp) = self.of.get(self.stream_of(row)) else { return Err(Fault::bug("a row of no stream")) };
        to_datetime(&row[stamp.slot], &Reading { format: stamp.format.as_deref(), zone: &cx.rule.zone, now: cx.now })
    }

    /// The zone that a row's time is written in.
    pub fn zone(&self, row: &[Value], cx: &Cx<'_>) -> TimeZone {
        self.read(row, cx).map_or_else(|_| cx.rule.zone.clone(), |time| time.zone().clone())
    }
}
