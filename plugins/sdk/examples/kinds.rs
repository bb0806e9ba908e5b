//! Everything that a plugin can be since 1.2: sources with positions, tokens and state, lookups, a sink of messages that can take back,
//! functions with state. The engine's tests build it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use kuiper_plugin::{
    Aggregate, Answers, Batch, BytesSink, Context, Emission, Emits, Emitter, Encoded, Error, ListAggregate, Lookup,
    Message, Owned, PullSource, Record, Result, Row, Rows, Sink, Source, Time, Value,
};

kuiper_plugin::properties! {
    /// Properties of the source `steps`.
    pub struct Range {
        /// How many rows there are.
        count: i64,
        /// Rows that are given together.
        batch: i64 = 10,
        /// A file that gets a line for each token that is acknowledged.
        tokens: String = String::new(),
    }
}

/// Numbers from 0, with positions; it can begin at any, and goes on as long as the rule runs.
#[derive(Default)]
pub struct Steps {
    range: Option<Range>,
    next: i64,
}

impl Source for Steps {
    type Config = Range;
    const REWINDS: bool = true;

    fn provision(&mut self, _: &Context, range: Range) -> Result<()> {
        self.range = Some(range);
        Ok(())
    }

    fn rewind(&mut self, context: &Context, position: Owned) -> Result<()> {
        match position {
            Owned::Object(at) => match at.get("next") {
                Some(Owned::Int(next)) => {
                    context.info(format!("back to {}", next));
                    self.next = *next;
                    Ok(())
                }
                _ => Err(Error::never("a position has `next`")),
            },
            other => Err(Error::never(format!("a position is an object, found {}", other))),
        }
    }

    fn reset(&mut self, context: &Context, position: Owned) -> Result<()> {
        self.rewind(context, position)?;
        context.info(format!("reset to {}", self.next));
        Ok(())
    }

    fn subscribe(&mut self, _: &Context, out: Emitter) -> Result<()> {
        let range = self.range.take().ok_or_else(|| Error::bug("not provisioned"))?;
        while self.next < range.count {
            let end = range.count.min(self.next + range.batch.max(1));
            let rows: Batch = (self.next..end).map(|n| Record::new().with("n", n)).collect();
            self.next = end;
            let emission = Emission::at(Record::new().with("next", self.next)).with_token(self.next as u64);
            out.rows_with(&rows, &emission)?;
            note(&range.tokens, &out.acknowledged(Duration::from_millis(0))?)?;
        }
        while let Ok(tokens) = out.acknowledged(Duration::from_secs(3600)) {
            note(&range.tokens, &tokens)?;
        }
        Ok(())
    }
}

fn note(path: &str, tokens: &[u64]) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for token in tokens {
        writeln!(file, "{}", token)?;
    }
    Ok(())
}

/// One message a pull, whose number is in the state; it ends after so many.
#[derive(Default)]
pub struct Counted {
    last: i64,
}

kuiper_plugin::properties! {
    /// Properties of the source `counted`.
    pub struct Last {
        /// The number of the last message; none where it is 0.
        last: i64 = 0,
    }
}

impl PullSource for Counted {
    type Config = Last;
    const EMITS: Emits = Emits::Bytes;

    fn provision(&mut self, _: &Context, config: Last) -> Result<()> {
        self.last = config.last;
        Ok(())
    }

    fn pull(&mut self, context: &Context, at: Time, out: &Emitter) -> Result<()> {
        let n = context.count("n", 1);
        let text = format!("{{\"n\":{},\"run\":{}}}", n, context.run());
        let meta = Record::new().with("number", n);
        out.messages(&[Message { time: Some(at), meta, ..Message::from(text) }])?;
        if n == self.last {
            out.end()?;
        }
        Ok(())
    }
}

kuiper_plugin::properties! {
    /// Properties of the lookups.
    pub struct Table {
        /// What is said of each room.
        word: String = "room".to_owned(),
        /// A file that gets a line for each call.
        log: String = String::new(),
    }
}

/// Rooms by their number: of an even one there is one row, of an odd one there are none, of 4 there are two.
#[derive(Default)]
pub struct Rooms {
    table: Option<Table>,
}

impl Lookup for Rooms {
    type Config = Table;

    fn provision(&mut self, _: &Context, table: Table) -> Result<()> {
        self.table = Some(table);
        Ok(())
    }

    fn find(&mut self, _: &Context, questions: Rows<'_>, fields: &[&str], answers: &Answers<'_>) -> Result<()> {
        let table = self.table.as_ref().ok_or_else(|| Error::bug("not provisioned"))?;
        let columns: Vec<&str> = questions.columns().collect();
        if !table.log.is_empty() {
            let mut file = OpenOptions::new().create(true).append(true).open(&table.log)?;
            writeln!(file, "{} of {}: {}", fields.join(","), columns.join(","), questions.len())?;
        }
        for (question, row) in questions.iter().enumerate() {
            let id = match row.get("id") {
                Some(Value::Int(id)) => id,
                // As JSON has it.
                Some(Value::Float(id)) => id as i64,
                other => return Err(Error::never(format!("rooms have numbers, found {:?}", other))),
            };
            match id {
                13 => return Err(Error::later("the house is closed")),
                14 => panic!("no such room"),
                _ => {}
            }
            for n in 0..if id == 4 { 2 } else { (id + 1) % 2 } {
                let name = format!("{} {}", table.word, id + n);
                answers.row(question, Record::new().with("id", id).with("name", name).with("floor", id / 10));
            }
        }
        Ok(())
    }
}

/// The same, answered with messages.
#[derive(Default)]
pub struct Papers;

impl Lookup for Papers {
    type Config = Table;
    const ANSWERS: Emits = Emits::Bytes;

    fn provision(&mut self, _: &Context, _: Table) -> Result<()> {
        Ok(())
    }

    fn find(&mut self, _: &Context, questions: Rows<'_>, _: &[&str], answers: &Answers<'_>) -> Result<()> {
        for (question, row) in questions.iter().enumerate() {
            if let Some(Value::Int(id)) = row.get("id") {
                answers.bytes(question, format!("{{\"id\":{},\"page\":{}}}", id, id * 2).as_bytes());
            }
        }
        Ok(())
    }
}

kuiper_plugin::properties! {
    /// Properties of the sinks.
    pub struct Target {
        /// File that messages are added to, one a line.
        path: String,
        /// Stands before each message.
        #[dynamic]
        prefix: String = String::new(),
    }
}

/// Writes messages to a file, which it can cut off behind a position.
#[derive(Default)]
pub struct Lines {
    target: Option<Target>,
    file: Option<File>,
    written: Vec<u8>,
}

impl Lines {
    fn file(&mut self) -> Result<&mut File> {
        self.file.as_mut().ok_or_else(|| Error::later("the file is not open"))
    }
}

impl BytesSink for Lines {
    type Config = Target;
    const TAKES_BACK: bool = true;

    fn provision(&mut self, _: &Context, target: Target) -> Result<()> {
        self.target = Some(target);
        Ok(())
    }

    fn connect(&mut self, context: &Context) -> Result<()> {
        let path = self.target.as_ref().map_or("", |target| &target.path);
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        context.connected();
        Ok(())
    }

    fn collect(&mut self, context: &Context, message: Encoded<'_>) -> Result<()> {
        match message.payload() {
            b"{\"do\":\"never\"}" => return Err(Error::never("not this")),
            b"{\"do\":\"panic\"}" => panic!("as asked"),
            _ => {}
        }
        self.written.extend(message.property("prefix").unwrap_or("").as_bytes());
        self.written.extend(message.payload());
        self.written.push(b'\n');
        context.count("messages", 1);
        Ok(())
    }

    fn flush(&mut self, _: &Context) -> Result<()> {
        let written = std::mem::take(&mut self.written);
        Ok(self.file()?.write_all(&written)?)
    }

    fn position(&mut self, _: &Context) -> Result<Option<Owned>> {
        let length = self.file()?.stream_position()?;
        Ok(Some((length as i64).into()))
    }

    fn resume(&mut self, context: &Context, position: Owned) -> Result<()> {
        let length = match position {
            Owned::Int(length) => length as u64,
            other => return Err(Error::never(format!("a position is a length, found {}", other))),
        };
        context.info(format!("resumed with {} messages", context.counter("messages")));
        let file = self.file()?;
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(())
    }
}

/// Says what the context knows, as a row.
#[derive(Default)]
pub struct Told {
    target: Option<Target>,
}

impl Sink for Told {
    type Config = Target;

    fn provision(&mut self, context: &Context, target: Target) -> Result<()> {
        // A secret is there when a rule is checked, too.
        context.secret("door")?;
        self.target = Some(target);
        Ok(())
    }

    fn collect(&mut self, context: &Context, row: Row<'_>) -> Result<()> {
        let record = Owned::Object(row.to_record());
        let mut kept = String::new();
        let list = context.folder()?.join("list.txt");
        if let Ok(mut file) = File::open(list) {
            file.read_to_string(&mut kept)?;
        }
        let told = Record::new()
            .with("rule", context.rule())
            .with("run", context.run() as i64)
            .with("instance", context.instance() as i64)
            .with("secret", context.secret("door")?.len() as i64)
            .with("unknown", context.secret("window").map_or_else(|error| error.to_string(), |_| String::new()))
            .with("template", context.template("{{.room}}: {{.list}}", &record)?)
            .with("path", context.json_path("$.list[1]", &record)?)
            .with("nowhere", context.json_path("$.list[", &record).is_err())
            .with("kept", kept.trim());
        let path = self.target.as_ref().map_or("", |target| &target.path);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(writeln!(file, "{}", Owned::Object(told))?)
    }
}

/// How often it was called, counted in the state.
#[derive(Default)]
pub struct Visits;

impl kuiper_plugin::Function for Visits {
    fn call(&mut self, context: &Context, arguments: Row<'_>) -> Result<Owned> {
        let key = match arguments.arg(0) {
            Value::Text(key) => key.to_owned(),
            _ => String::new(),
        };
        Ok(context.count(&key, 1).into())
    }
}

/// The rule, and the number of the call in its statement.
fn called(context: &Context) -> Owned {
    Owned::Object(Record::new().with("rule", context.rule()).with("site", context.site() as i64))
}

/// Says where it is called.
#[derive(Default)]
pub struct Called;

impl kuiper_plugin::Function for Called {
    fn call(&mut self, context: &Context, _: Row<'_>) -> Result<Owned> {
        Ok(called(context))
    }
}

/// The same of an aggregate function.
#[derive(Default)]
pub struct CalledForAll;

impl Aggregate for CalledForAll {
    fn add(&mut self, _: &Context, _: Row<'_>) -> Result<()> {
        Ok(())
    }

    fn result(&mut self, context: &Context) -> Result<Owned> {
        Ok(called(context))
    }

    fn save(&self) -> Owned {
        Owned::Null
    }

    fn load(&mut self, _: Owned) -> Result<()> {
        Ok(())
    }
}

/// The middle one of all values.
#[derive(Default)]
pub struct Middle;

impl ListAggregate for Middle {
    fn call(&mut self, _: &Context, lists: &[Vec<Owned>]) -> Result<Owned> {
        let mut numbers: Vec<i64> = lists.first().map_or(&[][..], |list| list).iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers.get(numbers.len() / 2).copied().into())
    }
}

fn number(value: &Owned) -> Option<i64> {
    match value {
        Owned::Int(number) => Some(*number),
        _ => None,
    }
}

kuiper_plugin::export! {
    source "Steps" => constructor(Steps::default) { about: "Numbers." },
    pull_source "Counted" => constructor(Counted::default) { state: 2..=3 },
    lookup "Rooms" => constructor(Rooms::default) { about: "Rooms by their number." },
    lookup "Papers" => constructor(Papers::default),
    bytes_sink "Lines" => constructor(Lines::default) { state: 1..=1 },
    bytes_sink "AllLines" => singleton(Lines::default) { state: 1..=1 },
    sink "Told" => constructor(Told::default),
    function "visits" => constructor(Visits::default) { signature: "([text]) -> int", state: 1..=1 },
    function "allVisits" => singleton(Visits::default) { signature: "([text]) -> int", state: 1..=1 },
    function "forgottenVisits" => constructor(Visits::default) { signature: "([text]) -> int" },
    function "called" => constructor(|| Called) { signature: "() -> object" },
    aggregate "calledForAll" => constructor(|| CalledForAll) { signature: "(any) -> object" },
    list_aggregate "middle" => constructor(Middle::default) { signature: "(int) -> int" },
}
