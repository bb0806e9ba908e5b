//! Sources of guests, as the engine's own.

use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use kuiper_plugin::has;
use serde_json::{Map, Value as Json};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::data::{Object, Time, Value};
use crate::diag::{Diagnostic, Fault, Result, Retry};
use crate::io::{End, Env, Inlet, Link, Message, Payload, Report, Source, SourceSpec, props};

use super::cross::properties;
use super::desk::{Desk, Out, States, Tokens};
use super::library::{Library, Symbol};
use super::place;
use super::sink::{check, next_user, worker};
use super::worker::Worker;

/// How long what a source gives is taken after it was told to end, so that it ends where it likes.
const LINGER: Duration = Duration::from_millis(300);

/// What the engine takes for itself, unless the guest declares a property of that name.
const COMMON: &[&str] = &[
    "bufferLength",
    "confKey",
    "connectionSelector",
    "datasource",
    "decompression",
    "delimiter",
    "format",
    "interval",
    "key",
    "kind",
    "mergeField",
    "merger",
    "payloadBatchField",
    "payloadDelimiter",
    "payloadField",
    "payloadFormat",
    "payloadSchemaId",
    "retainSize",
    "schemaId",
    "sendInterval",
    "shared",
    "strictValidation",
    "temp",
    "timestamp",
    "timestampFormat",
    "type",
    "useInt64ForWholeNumber",
    "version",
];

/// A source whose properties were checked against one version of the plugin: it can be opened again and again.
#[derive(Clone)]
pub struct Fitted {
    name: String,
    library: Arc<Library>,
    pub symbol: Symbol,
    props: Arc<Value>,
    env: Env,
    wants_meta: bool,
    wants_acks: bool,
    interval: Duration,
}

/// Checks the properties; does no I/O.
pub fn fit(name: &str, library: &Arc<Library>, symbol: Symbol, spec: &SourceSpec) -> Result<Fitted, Diagnostic> {
    let interval = interval(name, &spec.props)?;
    let declared = |name: &str| name.eq_ignore_ascii_case("interval") || symbol.declares(name);
    props::refuse_steps(&format!("the `{name}` source"), &spec.props, declared)?;
    let given = spec.props.iter().filter(|(name, _)| symbol.declares(name) || !is_common(name));
    let own: Map<String, Json> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let props = Arc::new(properties(&own));
    check(name, symbol, &props, &spec.env.owner)?;
    let (name, library, env) = (name.to_owned(), library.clone(), spec.env.clone());
    let (wants_meta, wants_acks) = (spec.wants_meta, spec.wants_acks);
    Ok(Fitted { name, library, symbol, props, env, wants_meta, wants_acks, interval })
}

impl Fitted {
    /// It gives rows, not messages to be decoded.
    pub fn gives_rows(&self) -> bool {
        self.symbol.flags & kind::EMITS_BYTES == 0
    }

    pub fn seeks(&self) -> bool {
        seeks(self.symbol)
    }

    pub fn open(&self, states: States) -> Guest {
        let uses = Uses {
            worker: worker(&self.library, self.symbol),
            user: next_user(),
            symbol: self.symbol,
            props: self.props.clone(),
            name: self.name.clone(),
            env: self.env.clone(),
            wants_meta: self.wants_meta,
            wants_acks: self.wants_acks,
            states,
            interval: self.interval,
            tokens: Arc::default(),
            rests: Arc::default(),
            pulled: Arc::new(AtomicI64::new(i64::MIN)),
        };
        Guest { uses, rewind: None, desk: None, connected: false, cut: true }
    }
}

/// Whether it goes on where it stood: it takes a position itself, or stores what it needs. One instance for all rules
/// cannot, for each has come as far as it has.
fn seeks(symbol: Symbol) -> bool {
    (rewinds(symbol) || symbol.keeps()) && !symbol.singleton
}

/// Whether it takes a position itself.
pub fn rewinds(symbol: Symbol) -> bool {
    // SAFETY: the symbol is a source.
    unsafe { has!(symbol.table.cast::<abi::Source>(), rewind) }.is_some()
}

pub fn is_common(name: &str) -> bool {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    COMMON.iter().any(|common| plain(common) == plain(name))
}

/// How often to pull; never again after the first time where it is zero.
fn interval(name: &str, props: &Map<String, Json>) -> Result<Duration, Diagnostic> {
    let given = props.iter().find(|(key, _)| key.eq_ignore_ascii_case("interval")).map(|(_, value)| value);
    let read = match given {
        None | Some(Json::Null) => Some(Duration::ZERO),
        Some(Json::String(text)) => duration(text),
        Some(other) => other.as_f64().and_then(|millis| Duration::try_from_secs_f64(millis / 1e3).ok()),
    };
    read.ok_or_else(|| {
        let text = "expected milliseconds, or a text such as `1m30s`";
        Diagnostic::error("K1001", format!("`{name}`: property `interval`: {text}"))
    })
}

fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, f64)] =
        &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut seconds) = (text.trim(), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        seconds += number * UNITS.iter().find(|(unit, _)| *unit == &after[..end])?.1;
        rest = &after[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// What an open source needs to run.
struct Uses {
    worker: Arc<Worker>,
    user: u64,
    symbol: Symbol,
    props: Arc<Value>,
    name: String,
    env: Env,
    wants_meta: bool,
    wants_acks: bool,
    states: States,
    interval: Duration,
    tokens: Arc<Tokens>,
    /// Rung when it is to end as soon as it has given what it is at.
    rests: Arc<Notify>,
    /// When it was asked the last time; `i64::MIN`: never.
    pulled: Arc<AtomicI64>,
}

/// One that is open.
pub struct Guest {
    uses: Uses,
    /// The position to go back to.
    rewind: Option<Value>,
    /// While it runs, and from `connect` on.
    desk: Option<Arc<Desk>>,
    /// `run` need not.
    connected: bool,
    /// Something that it gave at its end was not taken.
    pub cut: bool,
}

impl Guest {
    /// Connects ahead of `run`, which must be given the same inlet.
    pub async fn connect(&mut self, inlet: &Inlet, report: &Report, runtime: &Handle) -> Result<()> {
        let desk = self.begin(inlet, report, runtime);
        connect(&self.uses, &desk).await?;
        self.connected = true;
        Ok(())
    }

    /// What to ring for it to end as soon as it has given what it is at.
    pub fn rests(&self) -> Arc<Notify> {
        self.uses.rests.clone()
    }

    /// What it gave and waits to hear of.
    pub fn tokens(&self) -> Arc<Tokens> {
        self.uses.tokens.clone()
    }

    /// Is asked when the other one would have been.
    pub fn keep_pace(&mut self, pulled: Arc<AtomicI64>) {
        self.uses.pulled = pulled;
    }

    /// When it was asked the last time.
    pub fn pace(&self) -> Arc<AtomicI64> {
        self.uses.pulled.clone()
    }

    fn begin(&mut self, inlet: &Inlet, report: &Report, runtime: &Handle) -> Arc<Desk> {
        let uses = &self.uses;
        let (inlet, runtime, env) = (inlet.clone(), runtime.clone(), uses.env.clone());
        let out = Out {
            inlet,
            runtime,
            env,
            wants_meta: uses.wants_meta,
            wants_acks: uses.wants_acks,
            symbol: uses.symbol,
            stood: Mutex::default(),
            tokens: uses.tokens.clone(),
        };
        let desk = Desk::new(uses.symbol.home, &uses.env.owner, &uses.name, 0, uses.states.clone(), Some(out));
        desk.report_to(report.clone());
        self.desk = Some(desk.clone());
        desk
    }
}

#[async_trait::async_trait]
impl Source for Guest {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        let desk = match &self.desk {
            Some(desk) => desk.clone(),
            None => self.begin(&inlet, &report, &Handle::current()),
        };
        desk.report_to(report.clone());
        desk.stands_at(self.rewind.clone());
        let uses = &self.uses;
        let end = run(uses, self.connected, self.rewind.take(), &desk, &inlet, &report).await;
        self.cut = desk.was_cut();
        self.desk = None;
        if let Err(fault) = uses.worker.close(uses.user, &desk).await {
            tracing::warn!(plugin = %uses.name, "closing failed: {fault}");
        }
        end
    }

    async fn seek(&mut self, position: &Value) -> Result<()> {
        self.rewind = place::taken_up(self.uses.symbol, position, &self.uses.states)?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.take() {
            self.uses.worker.leave(self.uses.user, &desk);
        }
    }
}

async fn connect(uses: &Uses, desk: &Arc<Desk>) -> Result<()> {
    let (user, props, at) = (uses.user, uses.props.clone(), desk.clone());
    uses.worker.call(move |slot| slot.connect(user, &props, &at)).await
}

/// Goes back to where an earlier one stood.
async fn rewind(uses: &Uses, desk: &Arc<Desk>, position: Value) -> Result<()> {
    let (user, props, at) = (uses.user, uses.props.clone(), desk.clone());
    let rewound = uses.worker.call(move |slot| {
        let this = slot.provisioned(user, &props, &at)?;
        // SAFETY: the symbol is a source.
        let rewind = unsafe { has!(slot.symbol.table.cast::<abi::Source>(), rewind) };
        slot.rewind(rewind, this, &position, &at)
    });
    rewound.await
}

async fn run(
    uses: &Uses,
    connected: bool,
    position: Option<Value>,
    desk: &Arc<Desk>,
    inlet: &Inlet,
    report: &Report,
) -> Result<End> {
    let ready = async {
        if !connected {
            connect(uses, desk).await?;
        }
        match position {
            Some(position) => rewind(uses, desk, position).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        ready = ready => ready?,
        _ = inlet.closed() => return Ok(End::Closed),
    }
    if uses.symbol.flags & kind::PULLED != 0 {
        pull(uses, desk, inlet, report).await
    } else {
        push(uses, desk, inlet).await
    }
}

/// Lets the guest emit on its own.
async fn push(uses: &Uses, desk: &Arc<Desk>, inlet: &Inlet) -> Result<End> {
    let (user, props, at) = (uses.user, uses.props.clone(), desk.clone());
    let mut subscribed = pin!(uses.worker.call(move |slot| {
        let this = slot.provisioned(user, &props, &at)?;
        // SAFETY: the symbol is a source.
        let subscribe = unsafe { has!(slot.symbol.table.cast::<abi::Source>(), subscribe) };
        match slot.step(subscribe, this, &at) {
            // It heard that the rule is being stopped.
            Err(_) if at.is_stopped() => Ok(()),
            other => other,
        }
    }));
    let mut ended = desk.ended();
    let returned = tokio::select! {
        returned = &mut subscribed => returned,
        _ = inlet.closed() => {
            desk.stop();
            return subscribed.await.map(|()| End::Closed);
        }
        _ = uses.rests.notified() => {
            desk.wind_down();
            if let Ok(returned) = tokio::time::timeout(LINGER, &mut subscribed).await {
                return returned.map(|()| End::Closed);
            }
            desk.stop();
            return subscribed.await.map(|()| End::Closed);
        }
    };
    returned?;
    // It may have left a thread behind that goes on.
    tokio::select! {
        biased;
        _ = ended.wait_for(|ended| *ended) => return desk.end(),
        _ = inlet.closed() => return Ok(End::Closed),
        _ = uses.rests.notified() => desk.wind_down(),
    }
    tokio::select! {
        biased;
        _ = ended.wait_for(|ended| *ended) => desk.end(),
        _ = inlet.closed() => Ok(End::Closed),
        () = tokio::time::sleep(LINGER) => Ok(End::Closed),
    }
}

/// Asks the guest at once, and then on each interval.
async fn pull(uses: &Uses, desk: &Arc<Desk>, inlet: &Inlet, report: &Report) -> Result<End> {
    let mut ended = desk.ended();
    loop {
        let last = uses.pulled.load(Ordering::Acquire);
        let pause = async {
            match uses.interval {
                _ if last == i64::MIN => {}
                Duration::ZERO => std::future::pending().await,
                interval => uses.env.clock.sleep_until(Time(last) + interval).await,
            }
        };
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return desk.end(),
            _ = inlet.closed() => return Ok(End::Closed),
            _ = uses.rests.notified() => return Ok(End::Closed),
            _ = pause => {}
        }
        let now = uses.env.clock.now();
        uses.pulled.store(now.0, Ordering::Release);
        let (user, props, at) = (uses.user, uses.props.clone(), desk.clone());
        let mut pulled = pin!(uses.worker.call(move |slot| {
            let this = slot.provisioned(user, &props, &at)?;
            // SAFETY: the symbol is a source.
            let pull = unsafe { has!(slot.symbol.table.cast::<abi::Source>(), pull) };
            let nanos = now.0.saturating_mul(1_000_000);
            // SAFETY: the instance is of this table; the pointers live until the call returns.
            let done = slot.call(pull, |call, fault| unsafe { call(this, at.raw(), nanos, fault) });
            done.map(|_| ()).map_err(|(failed, mut texts)| texts.refused(failed))
        }));
        let pulled = tokio::select! {
            pulled = &mut pulled => pulled,
            _ = inlet.closed() => {
                desk.stop();
                pulled.await
            }
        };
        if desk.is_stopped() {
            return Ok(End::Closed);
        }
        match pulled {
            Err(fault @ Fault::Bug(_)) => return Err(fault),
            Err(fault) => {
                if fault.retry() == Retry::Later {
                    report.set(Link::Disconnected(fault.to_string()));
                }
                let message =
                    Message { payload: Payload::Error(fault), time: now, meta: meta(uses), ack: None, delivery: None };
                if inlet.send(vec![message]).await.is_err() {
                    return Ok(End::Closed);
                }
            }
            Ok(()) => {}
        }
        if *ended.borrow_and_update() {
            return desk.end();
        }
    }
}

fn meta(uses: &Uses) -> Option<crate::data::Meta> {
    uses.wants_meta.then(|| Arc::new(Object::new()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn intervals() {
        let read = |value: Json| match json!({ "Interval": value }) {
            Json::Object(props) => interval("random", &props),
            _ => panic!("it is an object"),
        };
        assert_eq!(read(json!(1500)).unwrap(), Duration::from_millis(1500));
        assert_eq!(read(json!("1m1.5s")).unwrap(), Duration::from_millis(61_500));
        assert_eq!(
            read(json!("soon")).unwrap_err().message,
            "`random`: property `interval`: expected milliseconds, or a text such as `1m30s`"
        );
    }

    #[test]
    fn common_properties_are_known_in_any_spelling() {
        assert!(
            is_common("DATASOURCE") && is_common("STRICT_VALIDATION") && is_common("conf_key") && !is_common("seed")
        );
    }
}
