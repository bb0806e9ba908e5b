//! Runs one rule case: every variant of it, three ways, and compares what came out.

use serde_json::{Map, Value as Json};

use crate::data::Time;
use crate::meter::LedgerView;

use super::compare::{Compare, Difference, Emission};
use super::engine::{Engine, Refusal};
use super::report::diff;
use super::rule::{Arrival, Counts, Expected, Happening, RuleCase, Want, WantBody};
use super::suite::Settings;
use super::update::Got;
use super::value::{quoted, show_object};

/// What came of a rule case.
pub(super) struct Ran {
    /// One paragraph for each way that failed; empty: all is well.
    pub failures: Vec<String>,
    /// Some instant had more than one row.
    pub batched: bool,
    /// What came out, where all ways and variants agree about it.
    pub got: Option<Got>,
}

/// The ways in which every case is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    RowByRow,
    Batched,
    SaveLoad,
    /// Only where it is asked for.
    Crash,
}

impl Way {
    const ALL: [Way; 4] = [Way::RowByRow, Way::Batched, Way::SaveLoad, Way::Crash];

    fn name(self) -> &'static str {
        match self {
            Way::RowByRow => "row by row",
            Way::Batched => "all inputs of an instant in one batch",
            Way::SaveLoad => "save and load between instants",
            Way::Crash => "a crash between instants",
        }
    }
}

/// Runs the case.
pub(super) fn run(case: &RuleCase, settings: &Settings) -> Ran {
    let mut ran = Ran { failures: Vec::new(), batched: is_batched(case), got: None };
    let rules = Compare {
        typed: case.compare.typed || settings.typed_numbers,
        error_text: case.compare.error_text || settings.error_text,
        ..case.compare
    };
    let mut all: Option<Got> = None;
    let mut agree = true;
    for (number, options) in case.variants.iter().enumerate() {
        let variant = match case.variants.len() {
            1 => String::new(),
            n => format!("variant {} of {n} {}, ", number + 1, Json::Object(options.clone())),
        };
        let mut told: Vec<String> = Vec::new();
        let crashes = settings.crashes && case.events.is_empty();
        for way in Way::ALL.into_iter().filter(|way| crashes || *way != Way::Crash) {
            let (mut failures, got) = once(case, options, way, &rules, settings);
            match (got, &all) {
                (Some(got), None) => all = Some(got),
                (Some(got), Some(first)) => agree &= got == *first,
                (None, _) => agree = false,
            }
            // What fails in all ways alike is told once.
            failures.retain(|failure| !told.contains(failure));
            for failure in failures {
                ran.failures.push(format!("{variant}{}: {failure}", way.name()));
                told.push(failure);
            }
        }
    }
    ran.got = all.filter(|_| agree);
    ran
}

/// Whether "all in one batch" differs from "row by row": several rows arrive at one instant.
fn is_batched(case: &RuleCase) -> bool {
    case.input.chunk_by(|a, b| a.at == b.at && a.stream == b.stream).any(|inputs| {
        let arrivals = inputs.iter().filter(|input| matches!(input.what, Arrival::Row(_) | Arrival::Bytes(_)));
        arrivals.count() > 1
    })
}

fn once(
    case: &RuleCase,
    options: &Map<String, Json>,
    way: Way,
    rules: &Compare,
    settings: &Settings,
) -> (Vec<String>, Option<Got>) {
    let mut engine = match (Engine::start(case, options), &case.expected) {
        (Ok(_), Expected::Refused(_)) => return (vec!["the rule was accepted, and must be refused".to_string()], None),
        (Ok(engine), Expected::Output(_)) => engine,
        (Err(Refusal::Refused(why)), Expected::Refused(Some(text)))
            if rules.error_text && !why.contains(text.as_str()) =>
        {
            return (vec![format!("the rule must be refused with `{text}`, and was with\n{why}")], None);
        }
        (Err(Refusal::Refused(_)), Expected::Refused(_)) => return (Vec::new(), None),
        (Err(Refusal::Refused(why)), Expected::Output(_)) => {
            return (vec![format!("the rule was refused:\n{why}")], None);
        }
        (Err(Refusal::Unknown(why)), _) => return (vec![why], None),
    };
    if way == Way::Crash {
        engine.keep_journal();
    }
    if let Err(why) = play(case, &mut engine, way) {
        return (vec![format!("{why}\n{}", clock(engine.now(), case.start))], None);
    }
    let mut failures = Vec::new();
    let got = engine.take_outputs();
    if let Expected::Output(expected) = &case.expected {
        for ((name, wants), (_, emissions)) in expected.iter().zip(&got) {
            if let Err(found) = rules.emissions(wants, emissions) {
                failures.push(differs(name, wants, emissions, &found, case.start));
            }
        }
    }
    failures.extend(check_ledger(&engine.ledger(), &case.ledger));
    if settings.metrics {
        failures.extend(check_metrics(&engine.metrics(), &case.metrics));
    }
    if let (true, Some(topo)) = (settings.topo, &case.topo)
        && engine.topo() != *topo
    {
        failures.push(format!("the topology differs\n{}", diff(&[topo.to_string()], &[engine.topo().to_string()])));
    }
    engine.stop();
    let stopped = engine.ledger();
    if !stopped.balances() || stopped.held != 0 {
        failures.push(format!("after the stop the ledger does not balance: {}", show_ledger(&stopped)));
    }
    (failures, Some(got))
}

/// Moves the clock from one instant at which something is due to the next, up to the end.
fn play(case: &RuleCase, engine: &mut Engine, way: Way) -> Result<(), String> {
    let (mut inputs, mut events) = (case.input.as_slice(), case.events.as_slice());
    let mut instants = 0;
    loop {
        let due = [engine.due(), inputs.first().map(|input| input.at), events.first().map(|event| event.at)];
        let Some(now) = due.into_iter().flatten().min().filter(|at| *at <= case.advance) else { break };
        engine.set_clock(now.max(engine.now()));
        let now = engine.now();
        engine.tick()?;
        let arrived = inputs.iter().take_while(|input| input.at <= now).count();
        let (here, later) = inputs.split_at(arrived);
        inputs = later;
        match way {
            Way::Batched => engine.arrive(here)?,
            Way::RowByRow | Way::SaveLoad | Way::Crash => {
                for input in here {
                    engine.arrive(std::slice::from_ref(input))?;
                }
            }
        }
        while let Some((event, later)) = events.split_first()
            && event.at <= now
        {
            events = later;
            match event.what {
                Happening::SaveLoad => engine.checkpoint()?,
                Happening::Restart => engine.restart(true)?,
                Happening::Crash => engine.crash()?,
                Happening::FailSink => engine.set_away(event.sink.as_deref(), true)?,
                Happening::HealSink => engine.set_away(event.sink.as_deref(), false)?,
            }
        }
        match way {
            Way::SaveLoad => engine.save_load()?,
            // A sink that waits for its batch waits anew after a crash.
            Way::Crash if !engine.waits() => {
                if instants % 3 == 2 {
                    engine.checkpoint()?;
                }
                engine.crash()?;
                instants += 1;
            }
            _ => {}
        }
        if engine.due().is_some_and(|due| due <= now) {
            engine.tick()?;
            if engine.due().is_some_and(|due| due <= now) {
                return Err("the rule does not come to rest: a timer is due again at once".to_string());
            }
        }
    }
    engine.set_clock(case.advance);
    Ok(())
}

fn clock(now: Time, start: Time) -> String {
    format!("the clock stood at {} (+{})", now.0, now.0 - start.0)
}

/// Tells where two lists of emissions differ.
fn differs(sink: &str, wants: &[Want], got: &[Emission], found: &Difference, start: Time) -> String {
    let place = match (found.want, found.got) {
        (Some(n), _) => format!("emission {}", n + 1),
        (None, Some(n)) => format!("emission {} that came out", n + 1),
        (None, None) => "an emission".to_string(),
    };
    let sink = if sink.is_empty() { String::new() } else { format!("sink `{sink}`: ") };
    let want = found.want.map(|n| &wants[n]);
    let emission = found.got.map(|n| &got[n]);
    let moment = match (emission.map(|emission| emission.at), want.and_then(|want| want.at)) {
        (Some(at), _) | (None, Some(at)) => clock(at, start),
        (None, None) => "at the end".to_string(),
    };
    let timed = want.is_none_or(|want| want.at.is_some());
    let left = want.map_or_else(Vec::new, show_want);
    let right = emission.map_or_else(Vec::new, |emission| show_emission(emission, timed, want));
    format!("{sink}{place} differs: {}; {moment}\n{}", found.why, diff(&left, &right))
}

fn show_want(want: &Want) -> Vec<String> {
    let mut lines: Vec<String> = want.at.iter().map(|at| format!("at: {}", at.0)).collect();
    match &want.body {
        WantBody::Rows(rows) if rows.is_empty() => lines.push("rows: []".to_string()),
        WantBody::Rows(rows) => lines.extend(rows.iter().map(show_object)),
        WantBody::Error(text) => lines.push(format!("error: {}", quoted(text))),
        WantBody::Text(text) => lines.push(format!("text: {}", quoted(text))),
        WantBody::Bytes(bytes) => lines.push(format!("bytes: {bytes:?}")),
    }
    lines
}

fn show_emission(emission: &Emission, timed: bool, want: Option<&Want>) -> Vec<String> {
    let mut lines = Vec::new();
    if timed {
        lines.push(format!("at: {}", emission.at.0));
    }
    let as_message = want.is_some_and(|want| matches!(want.body, WantBody::Text(_) | WantBody::Bytes(_)));
    match emission {
        Emission { error: Some(error), .. } => lines.push(format!("error: {}", quoted(error))),
        Emission { sent: Some(sent), rows, .. } if as_message || rows.is_none() => match std::str::from_utf8(sent) {
            Ok(text) => lines.push(format!("text: {}", quoted(text))),
            Err(_) => lines.push(format!("bytes: {sent:?}")),
        },
        Emission { rows: Some(rows), .. } if !rows.is_empty() => lines.extend(rows.iter().map(show_object)),
        _ => lines.push("rows: []".to_string()),
    }
    lines
}

fn check_ledger(ledger: &LedgerView, wanted: &[(String, Counts)]) -> Vec<String> {
    let mut failures = Vec::new();
    if !ledger.balances() {
        failures.push(format!("the ledger does not balance: {}", show_ledger(ledger)));
    }
    if let Some(lost) = ledger.dead.get("lost") {
        failures.push(format!("rows were dropped without a word ({lost}): {}", show_ledger(ledger)));
    }
    for (term, counts) in wanted {
        let reasons = match term.as_str() {
            "dropped" => Some(&ledger.dropped),
            "dead" => Some(&ledger.dead),
            _ => None,
        };
        let total = match (term.as_str(), reasons) {
            (_, Some(reasons)) => reasons.values().sum(),
            ("in", _) => ledger.came,
            ("out", _) => ledger.out,
            ("filtered", _) => ledger.filtered,
            ("late", _) => ledger.late,
            _ => u64::try_from(ledger.held).unwrap_or_default(),
        };
        let right = match counts {
            Counts::Total(wanted) => *wanted == total,
            Counts::Reasons(wanted) => {
                wanted.iter().all(|(reason, count)| {
                    reasons.and_then(|reasons| reasons.get(reason.as_str())).copied().unwrap_or_default() == *count
                }) && wanted.iter().map(|(_, count)| count).sum::<u64>() == total
            }
        };
        if !right {
            failures.push(format!("the ledger differs in `{term}`: {}", show_ledger(ledger)));
        }
    }
    failures
}

fn show_ledger(ledger: &LedgerView) -> String {
    let reasons = |counts: &std::collections::BTreeMap<&'static str, u64>| -> String {
        let all: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        format!("{{{}}}", all.join(", "))
    };
    format!(
        "{{in: {}, out: {}, filtered: {}, held: {}, late: {}, dropped: {}, dead: {}}}",
        ledger.came,
        ledger.out,
        ledger.filtered,
        ledger.held,
        ledger.late,
        reasons(&ledger.dropped),
        reasons(&ledger.dead)
    )
}

fn check_metrics(got: &Map<String, Json>, wanted: &Map<String, Json>) -> Vec<String> {
    wanted
        .iter()
        .filter(|(name, value)| got.get(*name) != Some(value))
        .map(|(name, value)| {
            let found = got.get(name).map_or("nothing".to_string(), Json::to_string);
            format!("the counter `{name}` differs: {value} expected, {found} found")
        })
        .collect()
}
