//! What the author of a rule may set beside its statement: options, the sink of dead letters, when it runs, and what
//! becomes of it after an error.
//!
//! [`Options`] are typed; a value that cannot be is an error with the option's name, what this version does not have is
//! refused, and what has no effect is a warning. A server and a case file read them here, so that both refuse the same
//! rule with the same words. Nothing here runs anything.

mod cron;
mod restart;
mod schedule;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::clock::parse_span;
use crate::diag::Diagnostic;
use crate::plan::Disabled;
use crate::plan::EventTime;
use crate::plan::Options as PlanOptions;

pub use cron::Cron;
pub use restart::Restart;
pub use schedule::{Range, Schedule};

/// The options of a rule that mean something here, with the values that hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Errors of rows go to the sinks.
    pub send_error: bool,
    /// Metadata of the source goes to the sinks.
    pub send_meta: bool,
    /// Columns that are null are written.
    pub send_nil: bool,
    /// Sliding windows leave out the row that is exactly their length old.
    pub windows_v2: bool,
    /// Sliding windows with a delay are given out in two parts.
    pub sliding_twice: bool,
    pub aliases_in_order: bool,
    /// Rows count by the time at which they happened.
    pub is_event_time: bool,
    /// How, if they do.
    pub event_time: EventTime,
    /// What is not done to the plan to make it cheaper.
    pub disabled: Disabled,
    /// 0, 1 or 2.
    pub qos: u8,
    /// How often the state is written as a whole at `qos` 1 and 2; zero: only when the input log is long, and at a stop.
    pub checkpoint: Duration,
    /// Rows that may wait between two parts of the rule.
    pub buffer: usize,
    /// What happens when a part of the rule cannot keep up.
    pub overflow: Overflow,
    /// When it runs, if not always.
    pub schedule: Schedule,
    /// What becomes of it after an error.
    pub restart: Restart,
    /// How long a sink may be without progress before it is opened again; `None`: for ever.
    pub stall: Option<Duration>,
    /// Where rows go that fail.
    pub dead_letter: Option<Action>,
}

/// What a full channel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Who is in front waits, back to the broker.
    #[default]
    Wait,
    /// The new rows are dropped and counted.
    Drop,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            send_error: false,
            send_meta: false,
            send_nil: false,
            windows_v2: false,
            sliding_twice: false,
            aliases_in_order: false,
            disabled: Disabled::default(),
            is_event_time: false,
            event_time: EventTime::default(),
            qos: 0,
            checkpoint: Duration::from_secs(300),
            buffer: 1024,
            overflow: Overflow::Wait,
            schedule: Schedule::default(),
            restart: Restart::default(),
            stall: Some(STALL),
            dead_letter: None,
        }
    }
}

/// One sink of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The type of sink.
    pub sink: String,
    /// Place in the list of actions; sinks written in one object share it.
    pub index: usize,
    pub props: Map<String, Json>,
    /// Where rows go that it will never take.
    pub dead: Option<Box<Action>>,
}

/// How long a sink may be without progress when the rule does not say.
const STALL: Duration = Duration::from_secs(60);

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Truth,
    Whole,
    Number,
    Span,
    Text,
    List,
    Object,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has the effect that its name says.
    Counts,
    /// What it asks for is so at any value.
    Moot,
    /// It has no effect; who sets another value than this one (JSON) is told why.
    Idle(&'static str, &'static str),
    /// Refused at any other value than this one (JSON), with the word for what is not there yet.
    Later(&'static str, &'static str),
}

use Standing::{Counts, Idle, Later, Moot};
use Takes::{List, Number, Object, Span, Text, Truth, Whole};

const RENAMES: &str = "an alias is always the value of its expression, and a rename costs nothing";

/// All options, by path.
const OPTIONS: &[(&str, Takes, Standing)] = &[
    ("sendError", Truth, Counts),
    ("sendMetaToSink", Truth, Counts),
    ("sendNilField", Truth, Counts),
    ("qos", Whole, Counts),
    ("bufferLength", Whole, Counts),
    ("overflow", Text, Counts),
    ("deadLetter", Object, Counts),
    ("concurrency", Whole, Idle("1", "one task carries a rule and keeps its rows in order")),
    // Nothing is ever dropped without `overflow`.
    ("disableBufferFullDiscard", Truth, Moot),
    ("isEventTime", Truth, Counts),
    ("lateTolerance", Span, Counts),
    ("idleTimeout", Span, Counts),
    ("forceExitTimeout", Span, Idle("0", "a rule that has not stopped after five seconds is left to itself")),
    ("restartStrategy.delay", Span, Counts),
    ("restartStrategy.multiplier", Number, Counts),
    ("restartStrategy.maxDelay", Span, Counts),
    ("restartStrategy.jitterFactor", Number, Counts),
    ("experiment.useSliceTuple", Truth, Idle("false", "rows always stand in slots")),
    ("debug", Truth, Idle("false", "the level of the log is that of the server, `--log-level`")),
    ("enableRuleTracer", Truth, Idle("false", "there are no traces")),
    ("logFilename", Text, Later("\"\"", "log files of single rules")),
    ("checkpointInterval", Span, Counts),
    // The state is kept at every stop where `qos` asks for it.
    ("enableSaveStateBeforeStop", Truth, Moot),
    ("restartStrategy.attempts", Whole, Counts),
    ("cron", Text, Counts),
    ("duration", Text, Counts),
    ("cronDatetimeRange", List, Counts),
    ("stallTimeout", Span, Counts),
    ("notifySub", Truth, Later("false", "the neuron control channel")),
    ("planOptimizeStrategy.enableIncrementalWindow", Truth, Moot),
    ("planOptimizeStrategy.enableAliasPushdown", Truth, Idle("false", RENAMES)),
    ("planOptimizeStrategy.disableAliasRefCal", Truth, Counts),
    ("planOptimizeStrategy.optimizeControl.disableOptimizeRules", List, Counts),
    ("planOptimizeStrategy.windowOption.enableSendSlidingWindowTwice", Truth, Counts),
    ("planOptimizeStrategy.windowOption.windowVersion", Text, Counts),
];

impl Options {
    /// Reads the options as written, over the defaults of the server. Warnings go to `found` with the errors.
    pub fn read(defaults: &Map<String, Json>, written: &Map<String, Json>, found: &mut Vec<Diagnostic>) -> Self {
        let mut options = Options::default();
        options.lay("", defaults, found);
        options.lay("", written, found);
        if options.buffer != Options::default().buffer && options.overflow == Overflow::Wait {
            let text = "option `bufferLength` has no effect: a source waits for its rules, which hold a few batches";
            found.push(Diagnostic::warning("K0903", text).help("it counts with `overflow: drop`"));
        }
        let usual = EventTime::default();
        let of_event_time = [
            ("lateTolerance", options.event_time.tolerance != usual.tolerance),
            ("idleTimeout", options.event_time.patience != usual.patience),
        ];
        options.warn_of_life(found);
        for (name, _) in of_event_time.into_iter().filter(|(_, set)| *set && !options.is_event_time) {
            let text = format!("option `{name}` has no effect: rows count by the time of their arrival");
            found.push(Diagnostic::warning("K0903", text).help("it counts with `isEventTime: true`"));
        }
        options
    }

    /// What of it changes the plan.
    pub fn for_plan(&self) -> PlanOptions {
        PlanOptions {
            send_nil: self.send_nil,
            send_meta: self.send_meta,
            windows_v2: self.windows_v2,
            sliding_twice: self.sliding_twice,
            aliases_in_order: self.aliases_in_order,
            disabled: self.disabled,
            event_time: self.is_event_time.then_some(self.event_time),
            ..PlanOptions::default()
        }
    }

    /// Warns of what has no effect without another option.
    fn warn_of_life(&self, found: &mut Vec<Diagnostic>) {
        let (restart, usual) = (&self.restart, Restart::default());
        let details = [
            ("restartStrategy.delay", restart.delay != usual.delay),
            ("restartStrategy.multiplier", restart.multiplier != usual.multiplier),
            ("restartStrategy.maxDelay", restart.longest != usual.longest),
            ("restartStrategy.jitterFactor", restart.jitter != usual.jitter),
        ];
        for (name, _) in details.into_iter().filter(|(_, set)| *set && !restart.is_on()) {
            let text = format!("option `{name}` has no effect: a rule that ended with an error is not started again");
            found.push(Diagnostic::warning("K0903", text).help("it counts with `restartStrategy.attempts` above 0"));
        }
        if self.schedule.cron.is_some() && self.schedule.length.is_none() {
            let text = "option `cron` has no effect: it says when the rule begins, but not for how long it runs";
            found.push(Diagnostic::warning("K0903", text).help("it counts with `duration`"));
        }
    }

    fn lay(&mut self, above: &str, written: &Map<String, Json>, found: &mut Vec<Diagnostic>) {
        for (name, value) in written {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            if value.is_null() {
                continue;
            }
            if let Some((name, takes, standing)) = OPTIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(&path))
            {
                found.extend(self.set(name, *takes, *standing, value));
                continue;
            }
            let group = OPTIONS.iter().any(|(known, ..)| {
                known.len() > path.len()
                    && known.as_bytes()[path.len()] == b'.'
                    && known.as_bytes()[..path.len()].eq_ignore_ascii_case(path.as_bytes())
            });
            match value {
                Json::Object(below) if group => self.lay(&path, below, found),
                _ if group => found.push(wrong(&path, value, "an object")),
                _ => {
                    let error = Diagnostic::error("K0901", format!("there is no option `{path}`"));
                    found.push(error.suggest(&path, OPTIONS.iter().map(|(name, ..)| *name)));
                }
            }
        }
    }

    fn set(&mut self, name: &str, takes: Takes, standing: Standing, value: &Json) -> Option<Diagnostic> {
        let (fits, expected) = match takes {
            Truth => (value.is_boolean(), "true or false"),
            Whole => (whole(value).is_some(), "a whole number"),
            Number => (value.is_number(), "a number"),
            Span => (span(value).is_some(), "a duration, for example \"10s\", or a number of milliseconds"),
            Text => (value.is_string(), "text"),
            List => (value.is_array(), "a list"),
            Object => (value.is_object(), DEAD_LETTER),
        };
        if !fits {
            return Some(invalid(name, wrong(name, value, expected)));
        }
        match standing {
            Later(default, needs) => {
                return (!same(takes, value, default)).then(|| {
                    Diagnostic::error(
                        "K0902",
                        format!("option `{name}` needs {needs}, which this version does not have"),
                    )
                    .help("take it out")
                });
            }
            Idle(default, why) if takes != Whole || whole(value) > Some(0) => {
                return (!same(takes, value, default))
                    .then(|| Diagnostic::warning("K0903", format!("option `{name}` has no effect: {why}")));
            }
            Idle(..) => return Some(invalid(name, wrong(name, value, "a number above 0"))),
            Counts | Moot => {}
        }
        let truth = value.as_bool().unwrap_or_default();
        let number = whole(value).unwrap_or_default();
        match name {
            "sendError" => self.send_error = truth,
            "sendMetaToSink" => self.send_meta = truth,
            "sendNilField" => self.send_nil = truth,
            "planOptimizeStrategy.windowOption.enableSendSlidingWindowTwice" => self.sliding_twice = truth,
            "planOptimizeStrategy.disableAliasRefCal" => self.aliases_in_order = truth,
            "isEventTime" => self.is_event_time = truth,
            "lateTolerance" => self.event_time.tolerance = span(value).unwrap_or_default(),
            "checkpointInterval" => self.checkpoint = span(value).unwrap_or_default(),
            "idleTimeout" => self.event_time.patience = span(value).filter(|span| !span.is_zero()),
            "qos" => match number {
                0..=2 => self.qos = number as u8,
                _ => return Some(wrong(name, value, "0, 1 or 2")),
            },
            "bufferLength" => match usize::try_from(number) {
                Ok(rows) if rows > 0 => self.buffer = rows,
                _ => return Some(invalid(name, wrong(name, value, "a number above 0"))),
            },
            "planOptimizeStrategy.windowOption.windowVersion" => match value.as_str() {
                Some("" | "v1") => self.windows_v2 = false,
                Some("v2") => self.windows_v2 = true,
                _ => return Some(wrong(name, value, "`v1` or `v2`")),
            },
            "planOptimizeStrategy.optimizeControl.disableOptimizeRules" => {
                self.disabled = Disabled::default();
                for one in value.as_array().into_iter().flatten() {
                    let written = one.as_str().unwrap_or_default();
                    if !self.disabled.add(written) {
                        let expected =
                            format!("a list of {}", Disabled::NAMES.map(|name| format!("`{name}`")).join(", "));
                        return Some(wrong(name, one, &expected).suggest(written, Disabled::NAMES));
                    }
                }
            }
            "restartStrategy.attempts" => match u32::try_from(number) {
                Ok(attempts) => self.restart.attempts = attempts,
                Err(_) => return Some(invalid(name, wrong(name, value, "a whole number, 0 or above"))),
            },
            "restartStrategy.delay" | "restartStrategy.maxDelay" => match span(value).filter(|span| !span.is_zero()) {
                Some(span) if name == "restartStrategy.delay" => self.restart.delay = span,
                Some(span) => self.restart.longest = span,
                None => return Some(invalid(name, wrong(name, value, "a duration above 0"))),
            },
            "restartStrategy.multiplier" => match value.as_f64().filter(|by| *by >= 1.0) {
                Some(by) => self.restart.multiplier = by,
                None => return Some(invalid(name, wrong(name, value, "a number of at least 1"))),
            },
            "restartStrategy.jitterFactor" => match value.as_f64().filter(|part| (0.0..1.0).contains(part)) {
                Some(part) => self.restart.jitter = part,
                None => return Some(invalid(name, wrong(name, value, "a number from 0 up to 1, without 1"))),
            },
            "stallTimeout" => self.stall = span(value).filter(|span| !span.is_zero()),
            "cron" => {
                self.schedule.cron = None;
                match value.as_str().filter(|text| !text.trim().is_empty()).map(Cron::parse) {
                    Some(Ok(cron)) => self.schedule.cron = Some(cron),
                    Some(Err(why)) => {
                        let text = format!("option `cron` is `{value}`, which is no schedule: {why}");
                        return Some(Diagnostic::error("K0904", text));
                    }
                    None => {}
                }
            }
            "duration" => match value.as_str().map(str::trim) {
                Some("") => self.schedule.length = None,
                text => match text.and_then(parse_span).filter(|span| !span.is_zero()) {
                    Some(span) => self.schedule.length = Some(span),
                    None => return Some(wrong(name, value, "a duration above 0, for example \"1h30m\"")),
                },
            },
            "cronDatetimeRange" => {
                self.schedule.ranges.clear();
                for one in value.as_array().into_iter().flatten() {
                    match Range::read(one) {
                        Ok(range) => self.schedule.ranges.push(range),
                        Err(why) => {
                            let text = format!("validate cronDatetimeRange failed, err:{why}");
                            return Some(Diagnostic::error("K0904", text));
                        }
                    }
                }
            }
            "deadLetter" => match dead_letter(value) {
                Some(sink) => self.dead_letter = Some(sink),
                None => return Some(wrong(name, value, DEAD_LETTER)),
            },
            "overflow" => match value.as_str() {
                Some("drop") => self.overflow = Overflow::Drop,
                Some("wait") => self.overflow = Overflow::Wait,
                _ => return Some(wrong(name, value, "`wait` or `drop`")),
            },
            _ => {}
        }
        None
    }
}

fn wrong(name: &str, value: &Json, expected: &str) -> Diagnostic {
    Diagnostic::error("K0904", format!("option `{name}` is `{value}`, expected {expected}"))
}

/// The same error behind the word that clients of eKuiper know it by.
fn invalid(name: &str, error: Diagnostic) -> Diagnostic {
    let word = match name {
        "concurrency" => "invalidConcurrency",
        "bufferLength" => "invalidBufferLength",
        "lateTolerance" => "invalidLateTol",
        "restartStrategy.attempts" => "invalidRestartAttempts",
        "restartStrategy.delay" => "invalidRestartDelay",
        "restartStrategy.multiplier" => "invalidRestartMultiplier",
        "restartStrategy.maxDelay" => "invalidRestartMaxDelay",
        "restartStrategy.jitterFactor" => "invalidRestartJitterFactor",
        _ => return error,
    };
    Diagnostic { message: format!("{word}:{}", error.message), ..error }
}

/// Whether a value is that default (JSON), however it is written.
fn same(takes: Takes, value: &Json, default: &str) -> bool {
    let default: Json = serde_json::from_str(default).unwrap_or_default();
    match takes {
        Span => span(value) == span(&default),
        Whole | Number => value.as_f64() == default.as_f64(),
        _ => *value == default,
    }
}

/// A whole number, also when it is written as `1.0`.
fn whole(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15).map(|x| x as i64))
}

/// A duration: text as `10s`, or a number of milliseconds.
fn span(value: &Json) -> Option<Duration> {
    match value {
        Json::String(text) => parse_span(text),
        other => u64::try_from(whole(other)?).ok().map(Duration::from_millis),
    }
}

/// What a property `deadLetter` takes.
pub const DEAD_LETTER: &str = "an object of one sink and its properties, as {\"file\": {\"path\": \"dead.jsonl\"}}, without a `deadLetter` of its own";

/// The sink of dead letters; nothing where it is none.
pub fn dead_letter(given: &Json) -> Option<Action> {
    let sinks = given.as_object().filter(|sinks| sinks.len() == 1)?;
    let (sink, props) = sinks.iter().next()?;
    let props = match props {
        Json::Object(props) => props.clone(),
        Json::Null => Map::new(),
        _ => return None,
    };
    let nested = props.keys().any(|name| name.eq_ignore_ascii_case("deadLetter"));
    (!nested).then(|| Action { sink: sink.clone(), index: 0, props, dead: None })
}
