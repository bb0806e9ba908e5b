//! The decoder: one pass over the bytes, straight into the slots that are wanted.
//!
//! Devices send the same names in the same order for ever. So each name that was seen is kept as it stood in the
//! message, quotes and colon included, with what is to be done with its value and with the name that followed it last
//! time. Where that guess is right, and it nearly always is, a name costs one comparison of bytes; where it is not, the
//! name is read, looked up, and becomes the next guess.

use std::collections::HashMap;

use crate::codec::{Decoder, FormatOptions, Wanted};
use crate::data::{Batch, Kind, Object, Receipt, Shape, Text, Time, Value};
use crate::diag::{Fault, Result};

use super::scan::Scan;
use super::value::{typed, value};

/// Names that are remembered, and bytes of them, unless a row alone has half as many; a stream that makes up names for
/// ever must not fill the memory.
const MAX_NAMES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;
/// Sequences of names that are remembered.
const MAX_SHAPES: usize = 8;

/// Decodes JSON messages of one stream.
pub(super) struct Json {
    kinds: Vec<Option<Kind>>,
    rest: Option<usize>,
    whole_as_int: bool,
    names: Names,
    /// Names in the last row.
    in_row: usize,
    /// The names in the rest of the row at hand, by number.
    others: Vec<usize>,
    shapes: Shapes,
}

/// The shapes of the rests of the last rows, with the numbers of their names.
#[derive(Default)]
struct Shapes {
    known: Vec<(Box<[usize]>, Shape)>,
    /// The one that fitted last.
    last: usize,
}

impl Shapes {
    fn object(&mut self, others: &[usize], values: Vec<Value>, seen: &[Seen]) -> Object {
        let fits = |known: &(Box<[usize]>, Shape)| *known.0 == *others;
        if !self.known.get(self.last).is_some_and(fits) {
            let names = || others.iter().map(|number| seen[*number].name.clone());
            match (self.known.iter().position(fits), Shape::of(names())) {
                (Some(place), _) => self.last = place,
                // Of two entries of one name the last counts.
                (None, None) => return names().zip(values).collect(),
                (None, Some(shape)) if self.known.len() < MAX_SHAPES => {
                    self.last = self.known.len();
                    self.known.push((others.into(), shape));
                }
                (None, Some(shape)) => {
                    self.last = (self.last + 1) % MAX_SHAPES;
                    self.known[self.last] = (others.into(), shape);
                }
            }
        }
        Object::shaped(&self.known[self.last].1, values)
    }
}

/// What is done with the value of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Skip,
    Rest,
    Slot(usize),
    /// A slot with a declared type: the number of the column in `kinds`.
    Typed(usize, usize),
}

/// A name as it stood in a message.
struct Seen {
    /// From the opening quote to the colon.
    raw: Box<[u8]>,
    name: Text,
    target: Target,
    /// Number of the name that followed last time; 0 when none did.
    next: usize,
}

/// All names seen. Number 0 is no name but the start of a row.
struct Names {
    seen: Vec<Seen>,
    numbers: HashMap<Box<[u8]>, usize>,
    bytes: usize,
    columns: HashMap<Text, Target>,
    other: Target,
}

impl Names {
    fn new(wanted: &Wanted) -> Self {
        let columns = wanted.columns.iter().enumerate().map(|(number, column)| {
            let target = match column.kind {
                Some(_) => Target::Typed(column.slot, number),
                None => Target::Slot(column.slot),
            };
            (column.name.clone(), target)
        });
        let mut names = Names {
            seen: Vec::new(),
            numbers: HashMap::new(),
            bytes: 0,
            columns: columns.collect(),
            other: if wanted.rest.is_some() { Target::Rest } else { Target::Skip },
        };
        names.forget();
        names
    }

    /// Whether they have become too many, where the last row had so many and its message so many bytes.
    #[inline(always)]
    fn are_too_many(&self, in_row: usize, message: usize) -> bool {
        self.seen.len() >= MAX_NAMES.max(2 * in_row) || self.bytes >= MAX_BYTES.max(2 * message)
    }

    fn forget(&mut self) {
        self.bytes = 0;
        self.numbers.clear();
        self.seen.clear();
        self.seen.push(Seen { raw: Box::default(), name: Text::default(), target: Target::Skip, next: 0 });
    }

    /// Passes a name, its colon and the space behind it, and gives the name's number. `last` is the name before it.
    #[inline(always)]
    fn pass(&mut self, scan: &mut Scan<'_>, last: usize) -> Result<usize> {
        let guess = self.seen[last].next;
        if guess != 0 {
            let raw = &self.seen[guess].raw;
            if scan.tail().starts_with(raw) {
                scan.pass(raw.len());
                scan.space();
                return Ok(guess);
            }
        }
        self.look_up(scan, last)
    }

    #[inline(never)]
    fn look_up(&mut self, scan: &mut Scan<'_>, last: usize) -> Result<usize> {
        scan.key_is_next()?;
        let from = scan.tail();
        let start = scan.at();
        let name = scan.text()?;
        scan.space();
        if !scan.eat(b':') {
            return Err(scan.unexpected("`:`"));
        }
        let raw = &from[..scan.at() - start];
        scan.space();
        if let Some(&number) = self.numbers.get(raw) {
            self.seen[last].next = number;
            return Ok(number);
        }
        let target = self.columns.get(&*name).copied().unwrap_or(self.other);
        let number = self.seen.len();
        self.bytes += raw.len();
        self.numbers.insert(raw.into(), number);
        self.seen.push(Seen { raw: raw.into(), name: Text::new(&name), target, next: 0 });
        self.seen[last].next = number;
        Ok(number)
    }
}

impl Json {
    pub fn new(options: &FormatOptions, wanted: &Wanted) -> Self {
        Json {
            kinds: wanted.columns.iter().map(|column| column.kind.clone()).collect(),
            rest: wanted.rest,
            whole_as_int: options.whole_numbers_as_int,
            names: Names::new(wanted),
            in_row: 0,
            others: Vec::new(),
            shapes: Shapes::default(),
        }
    }

    /// How many names are remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.names.seen.len()
    }

    fn rows(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        let mut scan = Scan::new(payload);
        scan.space();
        let rows = match scan.peek() {
            b'{' => {
                self.row(&mut scan, out, 0)?;
                1
            }
            b'[' => self.list(&mut scan, out)?,
            _ if scan.tail().is_empty() => return Err(Fault::decode("malformed json: the message is empty")),
            _ => return Err(scan.unexpected("an object or an array of objects")),
        };
        scan.end()?;
        Ok(rows)
    }

    fn list(&mut self, scan: &mut Scan<'_>, out: &mut Batch) -> Result<usize> {
        scan.open();
        if scan.eat(b']') {
            return Ok(0);
        }
        let mut rows = 0;
        loop {
            if scan.peek() != b'{' {
                return Err(scan.unexpected("`{`, as each item of the array is to be a row"));
            }
            self.row(scan, out, 1)?;
            rows += 1;
            if !scan.more(b']')? {
                return Ok(rows);
            }
        }
    }

    #[inline(always)]
    fn row(&mut self, scan: &mut Scan<'_>, out: &mut Batch, depth: usize) -> Result<()> {
        let depth = scan.deeper(depth)?;
        let row = out.push(Time(0), Receipt::none());
        if self.names.are_too_many(self.in_row, scan.length()) {
            self.names.forget();
            self.shapes = Shapes::default();
        }
        let mut values = Vec::with_capacity(self.others.len());
        self.others.clear();
        let mut in_row = 0;
        scan.open();
        if !scan.eat(b'}') {
            let mut last = 0;
            loop {
                last = self.names.pass(scan, last)?;
                in_row += 1;
                match self.names.seen[last].target {
                    Target::Skip => scan.skip(depth)?,
                    Target::Slot(slot) => row[slot] = value(scan, self.whole_as_int, depth)?,
                    Target::Typed(slot, number) => row[slot] = self.declared(scan, last, number, depth)?,
                    Target::Rest => {
                        values.push(value(scan, self.whole_as_int, depth)?);
                        self.others.push(last);
                    }
                }
                if !scan.more(b'}')? {
                    break;
                }
            }
        }
        self.in_row = in_row;
        if let Some(rest) = self.rest {
            row[rest] = Value::object(self.shapes.object(&self.others, values, &self.names.seen));
        }
        Ok(())
    }

    fn declared(&self, scan: &mut Scan<'_>, name: usize, number: usize, depth: usize) -> Result<Value> {
        match &self.kinds[number] {
            None => value(scan, self.whole_as_int, depth),
            Some(kind) => typed(scan, kind, depth).map_err(|fault| {
                let name = &self.names.seen[name].name;
                fault.context(format_args!("column `{name}`: "))
            }),
        }
    }
}

impl Decoder for Json {
    fn decode(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        let before = out.rows();
        let decoded = self.rows(payload, out);
        if decoded.is_err() {
            out.truncate(before);
        }
        decoded
    }
}
