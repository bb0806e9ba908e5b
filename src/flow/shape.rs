//! What leaves a rule becomes what a sink is given: the step between the last operator and the sink.
//!
//! A [`Shape`] turns each emission into [`Parcel`]s. It knows the sink's [`Common`] properties, and has everything made
//! ready that does not depend on rows: the encoder, the templates, which slot stands for which of the `fields`. The
//! usual way, rows to JSON, walks over slots and writes into one buffer; only templates and `dataField` make objects.
//!
//! An emission that cannot be shaped is a `Fault` of its rows, and gives no parcel at all.

mod common;
mod gather;
mod keeping;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::codec::{self, Decoder, Encoder, Rows, Wanted, json};
use crate::data::{Batch, Column, Layout, Object, Text, Time, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::func;
use crate::io::{Content, Parcel, RowSet, Takes};

use super::template::{Item, Template};

pub use super::template::Facts;
pub use common::{Common, Overflow};
pub use gather::{Gather, Gathered};
pub use keeping::{Keeping, Priority};

/// Bytes of a block that messages are cut from.
const BLOCK: usize = 64 * 1024;

/// Turns emissions into parcels for one sink.
pub struct Shape {
    send_single: bool,
    omit_if_empty: bool,
    takes: Takes,
    /// A sink that takes bytes is told of errors in a row, not in plain text.
    errors_as_rows: bool,
    facts: Facts,
    selection: Option<Selection>,
    /// For rows as they come, or as selected.
    writer: Writer,
    /// Properties that are evaluated for each parcel.
    dynamic: Vec<(String, Template)>,
    objects: Option<Objects>,
    /// The method by which messages are compressed.
    compression: Option<Text>,
    batch: Option<Together>,
    scratch: Scratch,
}

/// Emissions are sent together.
#[derive(Clone, Copy)]
struct Together {
    size: usize,
    linger: Duration,
    joined: gather::Joined,
}

/// Memory that is used again for each message.
struct Scratch {
    buffer: Vec<u8>,
    /// Where messages are cut from: one allocation serves many of them.
    block: BytesMut,
}

impl Scratch {
    /// What is in the buffer, as bytes of their own. A sink that is given nothing has no block.
    fn cut(&mut self) -> Bytes {
        if self.block.capacity() == 0 {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(&self.buffer);
        self.block.split().freeze()
    }
}

/// Rows of a layout, to be written.
struct Writer {
    layout: Arc<Layout>,
    encoder: Box<dyn Encoder>,
}

/// `fields` or `excludeFields` over slots.
struct Selection {
    columns: Vec<Source>,
    /// Values of the row, or rows, at hand.
    scratch: Vec<Value>,
}

/// Where a column of the result comes from.
enum Source {
    Slot(usize),
    /// A slot of `fields`: null where there is none of that name.
    Named(Text),
    /// A spread column without some of its entries.
    Without(usize, Vec<Text>),
}

/// What is needed where rows must become objects: with `dataTemplate` or `dataField`.
struct Objects {
    template: Option<Template>,
    data_field: Option<Text>,
    fields: Vec<Text>,
    exclude_fields: Vec<Text>,
    /// The text of a template is the message.
    is_text_format: bool,
    /// Reads the text of a template again, for a sink that takes rows.
    decoder: Box<dyn Decoder>,
    is_json: bool,
    writer: Writer,
}

impl Shape {
    /// Makes everything ready. `layout` names the rows that leave the rule.
    pub fn new(common: &Common, layout: Arc<Layout>, takes: Takes, facts: Facts) -> Result<Shape, Diagnostic> {
        let format = codec::format(&common.format.format)?;
        let writer = |layout: Arc<Layout>| -> Result<Writer, Diagnostic> {
            let encoder = (format.encoder)(&common.format, &layout)?;
            Ok(Writer { layout, encoder })
        };
        let compiled = |name: &str, text: &str| {
            Template::compile(text)
                .map_err(|error| Diagnostic::error("K0633", format!("the template in property `{name}`: {error}")))
        };
        let objects = match (&common.data_template, &common.data_field) {
            (None, None) => None,
            (template, data_field) => Some(Objects {
                template: template.as_ref().map(|text| compiled("dataTemplate", text)).transpose()?,
                data_field: data_field.clone(),
                fields: common.fields.clone(),
                exclude_fields: common.exclude_fields.clone(),
                is_text_format: matches!(format.name, "json" | "delimited" | "urlencoded"),
                decoder: (format.decoder)(&common.format, &Wanted { columns: vec![], rest: Some(0), width: 1 })?,
                is_json: format.name == "json",
                writer: writer(Arc::new(spread()))?,
            }),
        };
        let (selection, selected) = select(common, &layout);
        Ok(Shape {
            send_single: common.send_single,
            omit_if_empty: common.omit_if_empty,
            takes,
            errors_as_rows: false,
            facts,
            writer: writer(selected.map_or(layout, Arc::new))?,
            selection,
            dynamic: common
                .dynamic
                .iter()
                .map(|(name, text)| Ok((name.clone(), compiled(name, text)?)))
                .collect::<Result<_, Diagnostic>>()?,
            objects,
            compression: common.compression.clone(),
            batch: together(common, format.name),
            scratch: Scratch { buffer: Vec::new(), block: BytesMut::new() },
        })
    }

    /// Tells a sink that takes bytes of errors in a row with the column `error`, as `log` shows them.
    pub fn errors_as_rows(mut self) -> Self {
        self.errors_as_rows = true;
        self
    }

    /// Where emissions wait that are to be sent together, if they are; the sink starts now.
    pub fn gather(&self, now: Time) -> Option<Gather> {
        self.batch.map(|batch| Gather::new(batch.size, batch.linger, batch.joined, now))
    }

    /// The parcel as it is delivered: compressed, where the sink asks for it.
    pub fn packed(&self, mut parcel: Parcel) -> Result<Parcel> {
        if let (Some(method), Content::Bytes(bytes)) = (&self.compression, &mut parcel.content) {
            *bytes = func::compressed(bytes, method)?.into();
        }
        Ok(parcel)
    }

    /// Adds the parcels of one emission: no rows are those of an empty window. The layout is the one that the shape was
    /// made for. After a fault none was added.
    pub fn parcels(&mut self, layout: &Layout, rows: &[&[Value]], out: &mut Vec<Parcel>) -> Result<()> {
        if self.omit_if_empty && rows.is_empty() {
            return Ok(());
        }
        if !self.send_single {
            return self.parcel(layout, rows, false, out);
        }
        let before = out.len();
        for row in rows {
            if self.omit_if_empty && is_empty(layout, row) {
                continue;
            }
            self.parcel(layout, &[row], true, out).inspect_err(|_| out.truncate(before))?;
        }
        Ok(())
    }

    /// The parcel by which a sink hears of an error: a row with the column `error`, or for a sink that takes bytes the
    /// plain text.
    pub fn error_parcel(&mut self, text: &str) -> Result<Parcel> {
        let layout = Layout::from_iter(["error"]);
        let row = vec![Value::text(text)];
        let content = match self.takes {
            Takes::Bytes if self.errors_as_rows => {
                let object = Value::object(layout.object(&row));
                let mut message = Vec::new();
                json::print(&mut message, &if self.send_single { object } else { Value::array(vec![object]) });
                Content::Bytes(message.into())
            }
            Takes::Bytes => Content::Bytes(Bytes::copy_from_slice(text.as_bytes())),
            Takes::Rows => {
                Content::Rows(RowSet { layout: Arc::new(layout), rows: vec![row], single: self.send_single })
            }
        };
        Ok(Parcel { content, props: self.error_props(text) })
    }

    /// Templates over the error row; one that asks for other columns is left at its own text by the sink.
    fn error_props(&self, text: &str) -> Vec<(String, String)> {
        let layout = Layout::from_iter(["error"]);
        let row = [Value::text(text)];
        let rows: [&[Value]; 1] = [&row];
        let item = Item::new(&layout, &rows, self.send_single);
        let rendered = self.dynamic.iter().map(|(name, template)| (name, template.render(&item, &self.facts)));
        rendered.filter_map(|(name, text)| Some((name.clone(), text.ok()?))).collect()
    }

    /// Adds the parcel of one item: a list of rows, or a single one.
    fn parcel(&mut self, layout: &Layout, rows: &[&[Value]], single: bool, out: &mut Vec<Parcel>) -> Result<()> {
        let item = Item::new(layout, rows, single);
        let mut props = Vec::with_capacity(self.dynamic.len());
        for (name, template) in &self.dynamic {
            let text = template.render(&item, &self.facts);
            props.push((name.clone(), text.map_err(|fault| fault.context(format_args!("property `{name}`: ")))?));
        }
        let content = match &mut self.objects {
            Some(objects) => match objects.content(&item, self.takes, &self.facts, &mut self.scratch)? {
                Some(content) => content,
                None => return Ok(()),
            },
            None => match &mut self.selection {
                None => self.writer.content(rows, single, self.takes, &mut self.scratch)?,
                Some(selection) => {
                    let width = selection.take(layout, rows);
                    let rows: Vec<&[Value]> = match width {
                        0 => vec![&[]; rows.len()],
                        _ => selection.scratch.chunks(width).collect(),
                    };
                    self.writer.content(&rows, single, self.takes, &mut self.scratch)?
                }
            },
        };
        let parcel = Parcel { content, props };
        // What is sent together is compressed together.
        out.push(if self.batch.is_none() { self.packed(parcel)? } else { parcel });
        Ok(())
    }
}

/// The row has no column at all.
fn is_empty(layout: &Layout, row: &[Value]) -> bool {
    layout.columns().iter().zip(row).all(|(column, value)| match value {
        Value::Absent => true,
        Value::Object(object) => column.spread && object.is_empty(),
        _ => false,
    })
}

fn together(common: &Common, format: &str) -> Option<Together> {
    let joined = match format {
        "json" => gather::Joined::Json,
        "delimited" => gather::Joined::Lines { header: common.format.has_header },
        _ => gather::Joined::Plain,
    };
    let (size, linger) = (common.batch_size, common.linger);
    (size > 0 || !linger.is_zero()).then_some(Together { size, linger, joined })
}

/// The layout of rows that are objects.
fn spread() -> Layout {
    Layout::new(vec![Column { name: "*".into(), spread: true }])
}

/// What `fields` and `excludeFields` make of the slots, and the layout of it.
fn select(common: &Common, layout: &Layout) -> (Option<Selection>, Option<Layout>) {
    let (sources, columns): (Vec<Source>, Vec<Column>) = if !common.fields.is_empty() {
        let named = |name: &Text| Column { name: name.clone(), spread: false };
        common.fields.iter().map(|name| (Source::Named(name.clone()), named(name))).unzip()
    } else if !common.exclude_fields.is_empty() {
        let slots = layout.columns().iter().enumerate();
        let left = slots.filter(|(_, column)| column.spread || !common.exclude_fields.contains(&column.name));
        left.map(|(slot, column)| {
            let source = match column.spread {
                true => Source::Without(slot, common.exclude_fields.clone()),
                false => Source::Slot(slot),
            };
            (source, column.clone())
        })
        .unzip()
    } else {
        return (None, None);
    };
    (Some(Selection { columns: sources, scratch: Vec::new() }), Some(Layout::new(columns)))
}

impl Selection {
    /// Takes the selected values of all rows, and says how many a row.
    fn take(&mut self, layout: &Layout, rows: &[&[Value]]) -> usize {
        self.scratch.clear();
        for row in rows {
            self.scratch.extend(self.columns.iter().map(|source| match source {
                Source::Slot(slot) => row[*slot].clone(),
                Source::Named(name) => layout.value(row, name).cloned().unwrap_or(Value::Null),
                Source::Without(slot, names) => match &row[*slot] {
                    Value::Object(object) => {
                        let left = object.iter().filter(|(name, _)| !names.contains(name));
                        Value::object(left.map(|(name, value)| (name.clone(), value.clone())).collect())
                    }
                    other => other.clone(),
                },
            }));
        }
        self.columns.len()
    }
}

impl Writer {
    fn content(&mut self, rows: &[&[Value]], single: bool, takes: Takes, scratch: &mut Scratch) -> Result<Content> {
        Ok(match takes {
            Takes::Rows => {
                let rows = rows.iter().map(|row| row.to_vec()).collect();
                Content::Rows(RowSet { layout: self.layout.clone(), rows, single })
            }
            Takes::Bytes => {
                scratch.buffer.clear();
                self.encoder.encode(&Rows { layout: &self.layout, rows, single }, &mut scratch.buffer)?;
                Content::Bytes(scratch.cut())
            }
        })
    }
}

impl Objects {
    /// What is sent of an item; nothing when `dataField` is asked of an empty list.
    fn content(
        &mut self,
        item: &Item<'_>,
        takes: Takes,
        facts: &Facts,
        scratch: &mut Scratch,
    ) -> Result<Option<Content>> {
        let text = self.template.as_ref().map(|template| template.render(item, facts)).transpose()?;
        let selects = self.data_field.is_some() || !self.fields.is_empty() || !self.exclude_fields.is_empty();
        let value = match text {
            None => item.to_value(),
            Some(text) if selects || !self.is_text_format => parsed(&text)?,
            Some(text) if takes == Takes::Bytes => return Ok(Some(Content::Bytes(text.into()))),
            Some(text) => return self.read_again(&text).map(Some),
        };
        let value = match &self.data_field {
            None => value,
            Some(field) => match data_of(value, field, !(self.fields.is_empty() && self.exclude_fields.is_empty()))? {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        let (objects, single) = objects_of(value)?;
        let rows: Vec<[Value; 1]> = objects.into_iter().map(|object| [Value::object(self.selected(object))]).collect();
        let rows: Vec<&[Value]> = rows.iter().map(|row| &row[..]).collect();
        self.writer.content(&rows, single, takes, scratch).map(Some)
    }

    /// The text of a template as rows, for a sink that takes rows.
    fn read_again(&mut self, text: &str) -> Result<Content> {
        let (rows, single) = if self.is_json {
            let (objects, single) = objects_of(parsed(text)?)?;
            (objects.into_iter().map(|object| vec![Value::Object(object)]).collect(), single)
        } else {
            let mut batch = Batch::new(1);
            let count = self.decoder.decode(text.as_bytes(), &mut batch)?;
            ((0..count).map(|row| batch.take_row(row)).collect(), count == 1)
        };
        Ok(Content::Rows(RowSet { layout: self.writer.layout.clone(), rows, single }))
    }

    fn selected(&self, object: Arc<Object>) -> Object {
        if !self.fields.is_empty() {
            let value = |name: &Text| object.get(name).cloned().unwrap_or(Value::Null);
            return self.fields.iter().map(|name| (name.clone(), value(name))).collect();
        }
        let mut object = Arc::unwrap_or_clone(object);
        for name in &self.exclude_fields {
            object.remove(name);
        }
        object
    }
}

fn parsed(text: &str) -> Result<Value> {
    json::parse(text.as_bytes())
        .map_err(|fault| Fault::encode(format!("the text of `dataTemplate` is no json: {fault}")))
}

/// The content of a column: of the object, or of the first one of a list.
/// What `dataField` names; nothing where the row does not have it and nothing is to be picked out of it.
fn data_of(value: Value, field: &Text, picks: bool) -> Result<Option<Value>> {
    let object = match &value {
        Value::Array(items) => match items.first() {
            None => return Ok(None),
            Some(first) => first,
        },
        other => other,
    };
    match object {
        Value::Object(object) => match object.get(field) {
            Some(data @ (Value::Object(_) | Value::Array(_))) => Ok(Some(data.clone())),
            None | Some(Value::Null) if !picks => Ok(None),
            found => Err(Fault::encode(format!(
                "`dataField` is to hold an object or a list of objects, and column `{field}` is {}",
                found.map_or("not there", Value::type_name)
            ))),
        },
        other => Err(Fault::encode(format!("`dataField` needs an object, found {}", other.type_name()))),
    }
}

/// The objects of a value, and whether it is a single one.
fn objects_of(value: Value) -> Result<(Vec<Arc<Object>>, bool)> {
    let wrong = |found: &Value| {
        Fault::encode(format!("a sink is sent an object or a list of objects, found {}", found.type_name()))
    };
    match value {
        Value::Object(object) => Ok((vec![object], true)),
        Value::Array(items) => {
            let objects = items.iter().map(|item| match item {
                Value::Object(object) => Ok(object.clone()),
                other => Err(wrong(other)),
            });
            Ok((objects.collect::<Result<_>>()?, false))
        }
        other => Err(wrong(&other)),
    }
}

#[cfg(test)]
mod tests;
