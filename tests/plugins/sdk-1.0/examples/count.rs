//! A plugin of every kind, which writes down what is done to it. The engine's tests build it, also with other compilers.
//!
//! Its allocator writes a mark in front of each block and checks it when the block is freed, so that memory that crosses the line to be
//! freed on the other side ends the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kuiper_plugin::{
    Aggregate, Batch, Context, Emitter, Error, Owned, PullSource, Record, Refused, Result, Row, Rows, Sink, Source,
    Time, Value,
};

struct Marked;

const MARK: u64 = 0x6b75_6970_6572_2121;
const ROOM: usize = 64;

// SAFETY: each block is one of the system's with room in front, which is given back as it was taken.
unsafe impl GlobalAlloc for Marked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = System.alloc(larger(layout));
        if block.is_null() {
            return block;
        }
        (block as *mut u64).write(MARK);
        block.add(ROOM)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let block = pointer.sub(ROOM);
        if (block as *mut u64).read() != MARK {
            std::process::abort();
        }
        (block as *mut u64).write(0);
        System.dealloc(block, larger(layout));
    }
}

fn larger(layout: Layout) -> Layout {
    let align = layout.align().max(ROOM);
    Layout::from_size_align(layout.size() + align, align).unwrap_or(layout)
}

#[global_allocator]
static ALLOCATOR: Marked = Marked;

kuiper_plugin::properties! {
    /// Properties of the sink.
    pub struct Options {
        /// File to which a line is added for whatever happens.
        path: String,
        /// Said with each row.
        greeting: String = "hello".to_owned(),
        /// Never shown.
        #[secret]
        password: String = String::new(),
    }
}

/// A sink that counts its instances.
pub struct Count {
    instance: u32,
    options: Option<Options>,
}

impl Count {
    fn counted(counter: &AtomicU32) -> Count {
        Count { instance: counter.fetch_add(1, Ordering::SeqCst) + 1, options: None }
    }

    fn note(&self, context: &Context, what: &str) {
        let options = match &self.options {
            Some(options) => options,
            None => return,
        };
        let line = format!("{} {} {}\n", self.instance, context.rule(), what);
        let file = OpenOptions::new().create(true).append(true).open(&options.path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            context.error(error.to_string());
        }
    }
}

impl Sink for Count {
    type Config = Options;

    fn provision(&mut self, context: &Context, options: Options) -> Result<()> {
        self.options = Some(options);
        self.note(context, "provision");
        Ok(())
    }

    fn connect(&mut self, context: &Context) -> Result<()> {
        self.note(context, "connect");
        context.connected();
        Ok(())
    }

    fn collect(&mut self, context: &Context, row: Row<'_>) -> Result<()> {
        match row.get("do") {
            Some(Value::Text("panic")) => panic!("as asked"),
            Some(Value::Text("later")) => return Err(Error::later("not now")),
            Some(Value::Text("never")) => return Err(Error::never("not ever")),
            _ => {}
        }
        self.note(context, &format!("row {}", Owned::Object(row.to_record())));
        Ok(())
    }

    fn collect_list(&mut self, context: &Context, rows: Rows<'_>, refused: &Refused) -> Result<()> {
        for (number, row) in rows.iter().enumerate() {
            if row.get("do") == Some(Value::Text("never")) {
                refused.row(number, "not ever");
            }
        }
        let all: Vec<Owned> = rows.iter().map(|row| Owned::Object(row.to_record())).collect();
        self.note(context, &format!("list {}", Owned::Array(all)));
        Ok(())
    }

    fn close(&mut self, context: &Context) -> Result<()> {
        self.note(context, "close");
        Ok(())
    }
}

kuiper_plugin::properties! {
    /// Properties of the sources.
    pub struct Range {
        /// How many rows.
        count: i64,
        /// Whether to emit from a thread of its own.
        thread: bool = false,
        /// Whether to say that there will be no more.
        end: bool = true,
    }
}

/// A source that emits numbers.
#[derive(Default)]
pub struct Numbers {
    range: Option<Range>,
}

impl Source for Numbers {
    type Config = Range;

    fn provision(&mut self, _: &Context, range: Range) -> Result<()> {
        self.range = Some(range);
        Ok(())
    }

    fn subscribe(&mut self, _: &Context, out: Emitter) -> Result<()> {
        let (count, end, thread) = self.range.as_ref().map_or((0, true, false), |one| (one.count, one.end, one.thread));
        if thread {
            std::thread::spawn(move || emit(count, end, &out));
            return Ok(());
        }
        emit(count, end, &out)?;
        // Until the rule is stopped.
        while !end && !out.wait(Duration::from_secs(3600)) {}
        Ok(())
    }
}

fn emit(count: i64, end: bool, out: &Emitter) -> Result<()> {
    for start in (0..count).step_by(100) {
        let rows = start..count.min(start + 100);
        let mut batch = Batch::new();
        for n in rows {
            batch.push_with(
                Record::new().with("n", n),
                Some(Time::utc(n * 1_000_000)),
                Record::new().with("source", "numbers"),
            );
        }
        out.rows(&batch)?;
    }
    if end {
        out.end()?;
    }
    Ok(())
}

/// A source that is asked, and emits a message each time.
#[derive(Default)]
pub struct Pulled {
    count: i64,
}

impl PullSource for Pulled {
    type Config = Record;

    const EMITS: kuiper_plugin::Emits = kuiper_plugin::Emits::Bytes;

    fn provision(&mut self, _: &Context, _: Record) -> Result<()> {
        Ok(())
    }

    fn pull(&mut self, context: &Context, _: Time, out: &Emitter) -> Result<()> {
        self.count += 1;
        context.set_state("count", self.count);
        if self.count == 2 {
            return Err(Error::never("the second time never works"));
        }
        out.bytes(format!("{{\"n\":{}}}", self.count).as_bytes())
    }
}

/// An aggregate function: the longest text.
#[derive(Default)]
pub struct Longest(String);

impl Aggregate for Longest {
    fn add(&mut self, _: &Context, arguments: Row<'_>) -> Result<()> {
        match arguments.arg(0) {
            Value::Text(text) if text.len() > self.0.len() => self.0 = text.to_owned(),
            Value::Text(_) | Value::Null => {}
            other => return Err(Error::never(format!("a text is needed, found {}", other.kind()))),
        }
        Ok(())
    }

    fn result(&mut self, _: &Context) -> Result<Owned> {
        Ok(self.0.clone().into())
    }

    fn save(&self) -> Owned {
        self.0.clone().into()
    }

    fn load(&mut self, saved: Owned) -> Result<()> {
        if let Owned::Text(text) = saved {
            self.0 = text;
        }
        Ok(())
    }
}

/// A function that remembers: how often it was called.
#[derive(Default)]
pub struct Calls(i64);

impl kuiper_plugin::Function for Calls {
    fn call(&mut self, context: &Context, arguments: Row<'_>) -> Result<Owned> {
        if arguments.arg(0) == Value::Text("panic") {
            panic!("as asked in {}", context.rule());
        }
        self.0 += 1;
        Ok(self.0.into())
    }
}

/// Gives back its argument.
fn same(arguments: Row<'_>) -> Result<Owned> {
    Ok(arguments.arg(0).to_owned())
}

static COUNTS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

kuiper_plugin::export! {
    sink "Count" => constructor(|| Count::counted(&COUNTS[0])) { about: "Writes down what is done to it." },
    sink "Counts" => singleton(|| Count::counted(&COUNTS[1])),
    source "Count" => constructor(Numbers::default),
    pull_source "Pulled" => constructor(Pulled::default),
    function "same" => row(same) {
        signature: "(any) -> any",
        about: "The argument.",
        examples: [("same(1)", "1")],
    },
    function "calls" => constructor(Calls::default) { signature: "([text]) -> int" },
    function "allCalls" => singleton(Calls::default) { signature: "([text]) -> int" },
    aggregate "longest" => constructor(Longest::default) { signature: "(text) -> text" },
}
