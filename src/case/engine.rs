//! A rule on a virtual clock: scripted sources in front of the chain that production runs, and sinks behind it that
//! remember what they are given. No task, no channel: each call returns when the rule is at rest.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use crate::catalog::Definition;
use crate::clock::Clock;
use crate::codec::{self, Decoder, FormatOptions};
use crate::data::{Batch, Fate, Meta, Receipt, Text, Time, Value};
use crate::diag::{self, Diagnostic, Fault};
use crate::flow::{Book, CacheOptions, Chain, Desk};
use crate::func::{Catalogue, RuleInfo};
use crate::io::{Change, Lookup, LookupTable, MemoryTable};
use crate::meter::LedgerView;
use crate::plan::{self, Graph, GraphSink, GraphSource, Plan, Source, SourceKind, Stream};
use crate::sql::{self, Create, Statement};

use super::journal::{Given, Journal};
use super::options::Options;
use super::rule::{Arrival, Body, Input, RuleCase};
use super::schedule::{Next, Timetable};
use super::sinks::Sinks;
use super::update::Got;

/// Why there is no rule to run.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The rule, or a statement before it, cannot be; with the text that a user sees.
    Refused(String),
    /// The case asks for what cannot be run here.
    Unknown(String),
}

/// One rule, running.
pub(super) struct Engine {
    now: Time,
    clock: Clock,
    plan: Plan,
    rule: Arc<RuleInfo>,
    book: Arc<Book>,
    chain: Chain,
    decoders: Vec<Box<dyn Decoder>>,
    /// For each source the lookup table that it is, and where the rule asks it.
    tables: Vec<Option<Table>>,
    sinks: Sinks,
    /// Sources that have come to their end.
    ended: Vec<bool>,
    /// Names of all streams and tables of the case.
    known: Vec<String>,
    /// The state that an event of the case wrote last, at `qos` 0.
    saved: Option<Value>,
    /// Of a rule that keeps what it knows.
    journal: Option<Journal>,
    /// Of a rule without state that has its source wait for the sinks.
    given: Option<Given>,
    timetable: Timetable,
    /// It has run before.
    has_run: bool,
    /// By its options it keeps what it knows.
    keeps: bool,
    checkpoint: Duration,
}

/// A lookup table of a case.
struct Table {
    content: Arc<MemoryTable>,
    desk: Desk,
}

struct Shelf(Arc<MemoryTable>);

impl LookupTable for Shelf {
    fn open(&self, columns: &[Text]) -> diag::Result<Box<dyn Lookup>> {
        Ok(MemoryTable::open(&self.0, columns))
    }
}

/// What a fault of the chain itself means: the rule would have stopped.
fn stopped(fault: Fault) -> String {
    format!("the rule stopped: {fault}")
}

impl Engine {
    /// Runs the statements, makes the rule and starts it.
    pub fn start(case: &RuleCase, options: &Map<String, Json>) -> Result<Engine, Refusal> {
        let options = Options::read(options, &case.config)?;
        let mut creates = case.streams.iter().map(|text| create(text)).collect::<Result<Vec<_>, _>>()?;
        for (n, one) in creates.iter().enumerate() {
            if creates[..n].iter().any(|other| other.name.name == one.name.name) {
                return Err(Refusal::Refused(format!("`{}` already exists", one.name.name)));
            }
        }
        let (plan, of_graph) = match &case.body {
            Body::Sql(text) => {
                let refused = |found: Vec<Diagnostic>| Refusal::Refused(diag::render_all(&found, "sql", text));
                let select = sql::parse_select(text).map_err(refused)?;
                let find = |name: &str| creates.iter().find(|create| create.name.name == name).map(Stream::of);
                (plan::plan(&select, &find, &Catalogue::default(), &options.plan).map_err(refused)?, Vec::new())
            }
            Body::Graph(json) => graph(json, &mut creates, &options.plan)?,
        };
        let mut decoders = Vec::new();
        for source in &plan.sources {
            let create = creates.iter().find(|create| create.name.name == source.stream);
            let none = || Err(Refusal::Unknown(format!("the case has no `{}`", source.stream)));
            decoders.push(create.map_or_else(none, |create| decoder(create, source, &options))?);
        }
        let clock = Clock::stopped_at(case.start);
        let mut tables: Vec<Option<Table>> = plan.sources.iter().map(|_| None).collect();
        for (place, (source, columns)) in lookups(&plan) {
            let create = creates.iter().find(|create| create.name.name == source.stream);
            let create = create.ok_or_else(|| Refusal::Unknown(format!("the case has no `{}`", source.stream)))?;
            tables[place] = Some(table(create, columns, &clock)?);
        }
        let rule =
            RuleInfo { id: "case".into(), started: case.start, zone: options.zone.clone(), ..RuleInfo::nowhere() };
        let (rule, book) = (Arc::new(rule), Arc::new(Book::default()));
        let chain = build(&plan, &rule, case.start, &book).map_err(Refusal::Unknown)?;
        let sinks = Sinks::new(case, &plan, &of_graph, &rule, options.rule.send_error)?;
        let (qos, checkpoint) = (options.rule.qos, options.rule.checkpoint);
        let keeps = qos > 1 || (qos == 1 && chain.memories().contains(&true));
        let known = creates.iter().map(|create| create.name.name.to_string()).collect();
        let ended = vec![false; plan.sources.len()];
        let timetable = Timetable::new(options.rule.schedule, options.zone, case.start);
        Ok(Engine {
            now: case.start,
            clock,
            plan,
            rule,
            book,
            chain,
            decoders,
            tables,
            sinks,
            ended,
            known,
            saved: None,
            journal: keeps.then(|| Journal::new(case.start, checkpoint)),
            given: (qos == 1 && !keeps).then(Given::default),
            has_run: timetable.runs(),
            timetable,
            keeps,
            checkpoint,
        })
    }

    pub fn now(&self) -> Time {
        self.now
    }

    pub fn set_clock(&mut self, now: Time) {
        self.now = now;
        self.clock.set(now);
        self.sinks.set_clock(now);
    }

    /// When something happens by itself.
    pub fn due(&self) -> Option<Time> {
        let of_the_rule = [self.chain.due(), self.sinks.due()].into_iter().flatten().filter(|_| self.timetable.runs());
        of_the_rule.chain(self.timetable.due(self.now)).min()
    }

    /// Does what is due by now.
    pub fn tick(&mut self) -> Result<(), String> {
        match self.timetable.turn(self.now) {
            Some(Next::Start) => self.resume()?,
            Some(Next::Stop) => self.pause(),
            None => {}
        }
        if !self.timetable.runs() {
            return Ok(());
        }
        // Nothing has changed since the instant at which the snapshot is due.
        if self.journal.as_mut().is_some_and(|journal| journal.is_due(self.now)) {
            self.keep()?;
        }
        if self.chain.due().is_some_and(|due| due <= self.now) {
            let mut out = Vec::new();
            if let Some(journal) = &mut self.journal {
                journal.tick(self.now);
            }
            self.chain.tick(self.now, &mut out).map_err(stopped)?;
            self.go_on(out)?;
        }
        self.sinks.tick();
        Ok(())
    }

    /// Things arrive, in order, together: what comes of one source at a stretch is one batch.
    pub fn arrive(&mut self, inputs: &[Input]) -> Result<(), String> {
        for together in inputs.chunk_by(|a, b| a.stream == b.stream) {
            let Some(first) = together.first() else { continue };
            let named = |source: &&usize| self.plan.sources[**source].stream == first.stream.as_str();
            let sources: Vec<usize> = (0..self.plan.sources.len()).collect();
            let sources: Vec<usize> = sources.iter().filter(named).copied().collect();
            if sources.is_empty() && !self.known.contains(&first.stream) {
                return Err(format!("`{}` is no stream or table of the case", first.stream));
            }
            // A stream that is there twice gives each row to both sources before the next one.
            let most = if sources.len() > 1 { 1 } else { together.len() };
            for inputs in together.chunks(most) {
                sources.iter().try_for_each(|source| self.arrive_at(*source, inputs))?;
            }
        }
        Ok(())
    }

    fn arrive_at(&mut self, source: usize, inputs: &[Input]) -> Result<(), String> {
        if self.plan.sources[source].kind == SourceKind::Lookup {
            return inputs.iter().try_for_each(|input| self.take_up(source, input));
        }
        if !self.timetable.runs() {
            // Nobody reads.
            return Ok(());
        }
        let width = self.plan.width;
        let mut batch = Batch::new(width);
        for input in inputs {
            match &input.what {
                Arrival::Row(_) | Arrival::Bytes(_) => self.decode(source, input, &mut batch),
                Arrival::Error(text) => batch.note(batch.rows(), Fault::unreachable(text.clone())),
                Arrival::End => {
                    let given = std::mem::replace(&mut batch, Batch::new(width));
                    self.push(source, given)?;
                    self.end(source)?;
                }
                Arrival::Delete(_) => return Err(format!("`{}` is no lookup table", input.stream)),
            }
        }
        self.push(source, batch)
    }

    /// A source has come to its end. The rule has when all its streams have.
    fn end(&mut self, source: usize) -> Result<(), String> {
        let goes_on = |ended: &[bool]| {
            let mut streams = self.plan.sources.iter().zip(ended);
            streams.any(|(source, ended)| source.kind == SourceKind::Stream && !ended)
        };
        let before = goes_on(&self.ended);
        let mut ended = self.ended.clone();
        ended[source] = true;
        let after = goes_on(&ended);
        self.ended = ended;
        let mut out = Vec::new();
        match &mut self.journal {
            Some(journal) if after => journal.ended(source, self.now),
            Some(journal) if before => journal.finish(self.now),
            _ => {}
        }
        if after {
            self.chain.ended(source, self.now, &mut out).map_err(stopped)?;
        } else if before {
            self.chain.finish(self.now, &mut out).map_err(stopped)?;
        }
        self.go_on(out)?;
        if before && !after {
            self.sinks.finish();
        }
        Ok(())
    }

    /// Adds the rows of one message to the batch, as a feed does.
    fn decode(&mut self, source: usize, input: &Input, batch: &mut Batch) {
        let before = batch.rows();
        let of = &self.plan.sources[source];
        let decoded = match &input.what {
            Arrival::Bytes(bytes) => self.decoders[source].decode(bytes, batch),
            Arrival::Row(row) => {
                of.wanted.fill(row.clone(), batch.push(input.at, Receipt::none()));
                Ok(1)
            }
            _ => Ok(0),
        };
        match decoded {
            Ok(rows) => {
                self.book.ledger.came(rows as u64);
                let meta: Option<Meta> = input.meta.clone().filter(|_| of.meta).map(Arc::new);
                let account = match &mut self.given {
                    Some(given) => given.give(source, input, rows as u64, &self.book),
                    None => self.book.account(),
                };
                for row in before..before + rows {
                    batch.stamp(row, input.at, meta.as_ref(), Receipt::new(account.clone(), None));
                }
            }
            Err(fault) => {
                self.book.ledger.came(1);
                Receipt::new(self.book.account(), None).settle(Fate::dead(&fault));
                batch.note(before, fault);
            }
        }
    }

    fn push(&mut self, source: usize, batch: Batch) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(journal) = &mut self.journal {
            journal.push(source, self.now, &batch).map_err(stopped)?;
        }
        let mut out = Vec::new();
        self.chain.push(source, batch, self.now, &mut out).map_err(stopped)?;
        self.go_on(out)
    }

    /// Has lookup tables asked until no step waits for an answer.
    fn go_on(&mut self, mut out: Vec<Batch>) -> Result<(), String> {
        while let Some(ask) = self.chain.asks() {
            let rows = match self.tables.get_mut(ask.source) {
                Some(Some(table)) => table.desk.find(&ask.questions).now_or_never(),
                _ => None,
            };
            let Some(rows) = rows else { return Err("a lookup table does not answer".to_string()) };
            if let Some(journal) = &mut self.journal {
                journal.answer(self.now, &rows).map_err(stopped)?;
            }
            self.chain.answer(&ask, rows, self.now, &mut out).map_err(stopped)?;
        }
        self.give(out);
        Ok(())
    }

    /// A lookup table takes something up.
    fn take_up(&mut self, source: usize, input: &Input) -> Result<(), String> {
        let Some(Some(table)) = self.tables.get(source) else { return Ok(()) };
        match &input.what {
            Arrival::Row(row) => table.content.apply(row.clone(), Change::Put),
            Arrival::Delete(row) => table.content.apply(row.clone(), Change::Delete),
            Arrival::End => {}
            Arrival::Bytes(_) | Arrival::Error(_) => {
                return Err(format!("`{}` is a lookup table, which takes `data` only", input.stream));
            }
        }
        Ok(())
    }

    fn give(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            self.sinks.take(batch);
        }
    }

    /// Writes all state, and goes on with a new chain that has read it.
    pub fn save_load(&mut self) -> Result<(), String> {
        let saved = self.chain.save();
        let fresh = build(&self.plan, &self.rule, self.now, &self.book)?;
        std::mem::replace(&mut self.chain, fresh).forget();
        self.chain.load(saved).map_err(|fault| format!("the saved state cannot be loaded: {fault}"))
    }

    /// The sink goes away, or comes back.
    pub fn set_away(&mut self, sink: Option<&str>, away: bool) -> Result<(), String> {
        self.sinks.set_away(sink, away)
    }

    /// Writes all state and reads it back; a crash comes back to what was written last.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        match self.journal {
            Some(_) => self.keep()?,
            None => self.saved = Some(self.chain.save()),
        }
        self.save_load()
    }

    /// From the start on the rule keeps what it knows, whatever its options say.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_with(|| Journal::new(self.now, Duration::ZERO));
    }

    /// Whether results wait in a sink.
    pub fn waits(&self) -> bool {
        self.sinks.waits()
    }

    /// Takes a snapshot, if the sinks have all results that came before.
    fn keep(&mut self) -> Result<(), String> {
        let Some(journal) = self.journal.as_mut().filter(|_| !self.sinks.waits()) else { return Ok(()) };
        let kept = journal.keep(&self.chain, self.book.ledger.view(), self.sinks.counts());
        kept.map_err(|fault| format!("the state cannot be saved: {fault}"))
    }

    /// All that is in memory is gone. What a rule with a journal knew comes back. Another begins with the state that was
    /// written last, or anew, and at `qos` 1 its source gives again what no sink has yet.
    pub fn crash(&mut self) -> Result<(), String> {
        self.restart(false)?;
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        self.chain.load(saved).map_err(|fault| format!("the saved state cannot be loaded: {fault}"))?;
        // The rows in it were counted as dropped with the memory; they come again out of the state.
        self.book.ledger.came(u64::try_from(self.ledger().held).unwrap_or_default());
        Ok(())
    }

    /// The rule is stopped and started again. What a rule with a journal knows stays. Of others what operators hold is
    /// thrown away. What waits in a sink for its batch is sent if the stop is a `clean` one.
    pub fn restart(&mut self, clean: bool) -> Result<(), String> {
        if !self.timetable.runs() {
            return Ok(());
        }
        if clean {
            self.sinks.finish();
        }
        self.rule = Arc::new(RuleInfo { started: self.now, ..RuleInfo::clone(&self.rule) });
        if let Some(journal) = self.journal.take() {
            let done = self.come_back(&journal);
            self.journal = Some(journal);
            done?;
            if clean {
                self.keep()?;
            }
            // What waits for an answer still asks for it.
            return self.go_on(Vec::new());
        }
        let again = self.given.as_mut().map(Given::take).unwrap_or_default();
        self.chain.discard();
        self.sinks.discard();
        self.sinks.restart();
        self.chain = build(&self.plan, &self.rule, self.now, &self.book)?;
        for (source, input) in again {
            self.arrive_at(source, &[Input { at: self.now, ..input }])?;
        }
        Ok(())
    }

    /// The time of the rule is over: it is stopped as by hand. What a rule with a journal knows stays.
    fn pause(&mut self) {
        self.sinks.finish();
        if !self.keeps {
            self.chain.discard();
            self.sinks.discard();
        }
    }

    /// The time of the rule has come.
    fn resume(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.has_run, true) && (self.keeps || self.journal.is_none()) {
            return self.restart(true);
        }
        self.rule = Arc::new(RuleInfo { started: self.now, ..RuleInfo::clone(&self.rule) });
        self.chain = build(&self.plan, &self.rule, self.now, &self.book)?;
        self.sinks.restart();
        if self.journal.is_some() {
            self.journal = Some(Journal::new(self.now, self.checkpoint));
            self.keep()?;
        }
        Ok(())
    }

    /// Makes a chain of the snapshot, and does again what the log has. The sinks get what they do not have yet.
    fn come_back(&mut self, journal: &Journal) -> Result<(), String> {
        let book = Arc::new(Book::default());
        let began = if journal.snapshot.is_some() { self.now } else { journal.began };
        let mut chain = build(&self.plan, &self.rule, began, &book)?;
        if let Some(snapshot) = &journal.snapshot {
            book.ledger.restore(&snapshot.ledger);
            let loaded = snapshot.state().and_then(|state| chain.load(state));
            loaded.map_err(|fault| format!("the saved state cannot be loaded: {fault}"))?;
            book.ledger.came(u64::try_from(book.ledger.view().held).unwrap_or_default());
        }
        std::mem::replace(&mut self.chain, chain).forget();
        self.book = book;
        self.sinks.come_back(journal.snapshot.as_ref().map(|snapshot| snapshot.given.as_slice()).unwrap_or_default());
        for record in 0..journal.log.len() {
            let mut out = Vec::new();
            journal.again(record, &mut self.chain, &self.book, &mut out).map_err(stopped)?;
            self.give(out);
        }
        Ok(())
    }

    /// Stops the rule as by hand: what is held is thrown away.
    pub fn stop(&mut self) {
        self.chain.discard();
        self.sinks.discard();
    }

    pub fn ledger(&self) -> LedgerView {
        self.book.ledger.view()
    }

    pub fn take_outputs(&mut self) -> Got {
        self.sinks.take_all()
    }

    /// The counters of the operators, named as in the status of a rule.
    pub fn metrics(&self) -> Map<String, Json> {
        let mut all = Map::new();
        for (name, meter) in self.chain.meters() {
            let view = meter.view();
            let counts = [
                ("records_in_total", view.records_in),
                ("records_out_total", view.records_out),
                ("messages_processed_total", view.messages),
                ("exceptions_total", view.exceptions),
            ];
            for (what, count) in counts {
                all.insert(format!("{name}_0_{what}"), Json::from(count));
            }
        }
        all
    }

    /// The steps of the rule, as edges from each node to the next.
    pub fn topo(&self) -> Json {
        let (sources, edges) = Chain::steps(&self.plan).edges(&self.plan, &|_| true, &self.sinks.nodes());
        serde_json::json!({ "sources": sources, "edges": edges })
    }
}

fn build(plan: &Plan, rule: &Arc<RuleInfo>, now: Time, book: &Arc<Book>) -> Result<Chain, String> {
    Chain::build(plan, rule.clone(), &TimeZone::UTC, now, book.account()).map_err(stopped)
}

/// The lookup tables of a plan, by their places among the sources.
fn lookups(plan: &Plan) -> Vec<(usize, (&Source, Vec<Text>))> {
    let is_lookup = |(_, source): &(usize, &Source)| source.kind == SourceKind::Lookup;
    let places = plan.sources.iter().enumerate().filter(is_lookup).map(|(place, _)| place);
    places.zip(plan.lookups()).collect()
}

/// Plans a graph; the streams that it defines by itself are added to those of the case.
fn graph(json: &Json, creates: &mut Vec<Create>, options: &plan::Options) -> Result<(Plan, Vec<GraphSink>), Refusal> {
    let refused = |found: Vec<Diagnostic>| {
        let all: Vec<String> = found.iter().map(Diagnostic::to_string).collect();
        Refusal::Refused(all.join("\n"))
    };
    let graph = Graph::read(json).map_err(refused)?;
    for source in graph.sources().map_err(|found| refused(vec![found]))? {
        if let GraphSource::Own { statement, .. } = source {
            creates.push(create(&statement)?);
        }
    }
    let find = |name: &str| creates.iter().find(|create| create.name.name == name).map(Stream::of);
    plan::plan_graph(&graph, &find, &Catalogue::default(), options).map_err(refused)
}

/// A lookup table with nothing in it.
fn table(create: &Create, columns: Vec<Text>, clock: &Clock) -> Result<Table, Refusal> {
    let option = |key: &str| create.options.iter().rfind(|option| option.key == key).map(|option| &option.value);
    let key = option("KEY").filter(|key| !key.is_empty()).cloned();
    if key.is_none() && option("TYPE").is_some_and(|connector| connector == "memory") {
        return Err(Refusal::Refused(format!("the lookup table `{}` needs KEY", create.name.name)));
    }
    let mut props = option("EXTRA").and_then(|extra| serde_json::from_str(extra).ok()).unwrap_or_default();
    let cache = CacheOptions::take(&mut props).map_err(|found| Refusal::Refused(found.to_string()))?;
    let content = MemoryTable::new(key);
    let desk = Desk::new(Arc::new(Shelf(content.clone())), columns, cache, clock.clone());
    Ok(Table { content, desk })
}

/// Reads a statement that defines a stream or table.
fn create(text: &str) -> Result<Create, Refusal> {
    let refused = |found: Vec<Diagnostic>| Refusal::Refused(diag::render_all(&found, "sql", text));
    let Statement::Create(create) = sql::parse(text).map_err(refused)? else {
        return Err(Refusal::Unknown(format!("`{text}` is no CREATE statement")));
    };
    // What a server would refuse although it parses: names, options, formats.
    Definition::parse(text).map_err(|why| Refusal::Refused(why.to_string()))?;
    Ok(*create)
}

fn decoder(source: &Create, of: &Source, options: &Options) -> Result<Box<dyn Decoder>, Refusal> {
    let option = |key: &str| source.options.iter().rfind(|option| option.key == key).map(|option| option.value.clone());
    let format = FormatOptions {
        format: option("FORMAT").unwrap_or("json".into()).to_lowercase(),
        delimiter: option("DELIMITER").unwrap_or_default(),
        fields: Vec::new(),
        has_header: false,
        whole_numbers_as_int: options.whole_numbers_as_int,
        schema_id: option("SCHEMAID").unwrap_or_default(),
    };
    let refused = |found: Diagnostic| Refusal::Refused(found.to_string());
    let row = codec::format(&format.format).map_err(refused)?;
    (row.decoder)(&format, &of.wanted).map_err(refused)
}
