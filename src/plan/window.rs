//! The window of a statement: its arguments looked at, its conditions bound.

use std::fmt;

use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, Bounds};
use crate::sql::{Expr, ExprNode, Literal, Unit, WindowKind};

use super::Options;
use super::node::{Grouping, HitCall, Stamps};
use super::scope::Names;
use super::special::take_hits;

/// The step of a window.
#[derive(Clone, Debug)]
pub struct Windowed {
    pub window: Window,
    pub bounds: Bounds,
    /// The window brings its rows together itself, so that it can keep accumulators in their place.
    pub grouping: Option<Grouping>,
    /// Nothing in `grouping` reads the bounds of the window.
    pub boundless: bool,
    /// In event time, how rows say when they happened: the zone that a time is written in aligns the window.
    pub event: Option<Stamps>,
}

/// What kind of window, and its arguments. Lengths and counts are positive.
#[derive(Clone, Debug)]
pub enum Window {
    Tumbling {
        unit: Unit,
        count: i64,
    },
    Hopping {
        unit: Unit,
        count: i64,
        interval: i64,
    },
    Sliding {
        unit: Unit,
        count: i64,
        /// In the same unit; 0 for none.
        delay: i64,
        /// A row that is exactly the length older is outside.
        open: bool,
        /// With a delay it is given out in two parts.
        twice: bool,
        /// Which rows trigger it; all where there is none.
        when: Option<Bound>,
        /// What counts in that condition how often it was met.
        hits: Vec<HitCall>,
    },
    Session {
        unit: Unit,
        longest: i64,
        timeout: i64,
    },
    Count {
        length: usize,
        interval: usize,
    },
    State {
        begin: Bound,
        end: Option<Bound>,
        partition: Vec<Bound>,
    },
}

impl Window {
    /// WHERE looks at the rows of the finished window, so that rows that it takes out count and trigger all the same.
    pub fn is_before_where(&self, event_time: bool) -> bool {
        event_time || matches!(self, Window::Sliding { .. } | Window::Count { .. })
    }

    /// It can keep accumulators in place of rows.
    pub fn is_incremental(&self) -> bool {
        matches!(self, Window::Tumbling { .. } | Window::Hopping { .. })
    }

    /// The expressions in it.
    pub fn parts(&self) -> Vec<&Bound> {
        match self {
            Window::Sliding { when, .. } => when.iter().collect(),
            Window::State { begin, end, partition } => std::iter::once(begin).chain(end).chain(partition).collect(),
            _ => Vec::new(),
        }
    }
}

/// As explain shows it.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: &Unit| match unit {
            Unit::Day => "DD",
            Unit::Hour => "HH",
            Unit::Minute => "MI",
            Unit::Second => "SS",
            Unit::Millisecond => "MS",
        };
        match self {
            Window::Tumbling { unit: of, count } => {
                write!(f, "length:{count}, windowType:TUMBLING_WINDOW, timeUnit: {}", unit(of))
            }
            Window::Hopping { unit: of, count, interval } => {
                write!(f, "length:{count}, interval:{interval}, windowType:HOPPING_WINDOW, timeUnit: {}", unit(of))
            }
            Window::Sliding { unit: of, count, delay, open, when, .. } => {
                write!(f, "length:{count}, ")?;
                if *delay > 0 {
                    write!(f, "delay:{delay}, ")?;
                }
                if let Some(when) = when {
                    write!(f, "triggerCondition:{when}, ")?;
                }
                let version = if *open { ", windowVersion: v2" } else { "" };
                write!(f, "windowType:SLIDING_WINDOW, timeUnit: {}{version}", unit(of))
            }
            Window::Session { unit: of, longest, timeout } => {
                write!(f, "length:{longest}, interval:{timeout}, windowType:SESSION_WINDOW, timeUnit: {}", unit(of))
            }
            Window::Count { length, interval } => {
                write!(f, "length:{length}, interval:{interval}, windowType:COUNT_WINDOW")
            }
            Window::State { begin, end, partition } => {
                write!(f, "beginCondition:{begin}, ")?;
                if let Some(end) = end {
                    write!(f, "emitCondition:{end}, ")?;
                }
                if !partition.is_empty() {
                    let keys: Vec<String> = partition.iter().map(ToString::to_string).collect();
                    write!(f, "partitionBy:[ {} ], ", keys.join(", "))?;
                }
                f.write_str("windowType:STATE_WINDOW")
            }
        }
    }
}

/// The window as it is written, over slots.
///
/// # Errors
/// Arguments that no window can have, and what is wrong with its conditions.
pub(super) fn bind(
    window: &crate::sql::Window,
    names: &mut Names<'_>,
    options: &Options,
    bind: &mut dyn FnMut(&mut Names<'_>, &'static str, &Expr) -> Option<Bound>,
) -> Result<Option<Window>, Diagnostic> {
    let unit = match window.args.first() {
        Some(Expr { node: ExprNode::Unit(unit), .. }) => *unit,
        _ => Unit::Second,
    };
    let numbers: Vec<(i64, Span)> = window
        .args
        .iter()
        .filter_map(|arg| match arg.node {
            ExprNode::Literal(Literal::Int(n)) => Some((n, arg.span)),
            _ => None,
        })
        .collect();
    let open = options.windows_v2;
    if options.event_time.is_some() && window.kind == WindowKind::Count {
        let text = "a count window cannot be used with `isEventTime`, since its rows are counted as they come";
        return Err(Diagnostic::error("K0232", text)
            .at(window.span)
            .help("use a window of time, or take the option out"));
    }
    if open && !matches!(window.kind, WindowKind::Sliding | WindowKind::State) {
        let text = format!("option `windowVersion` is `v2`, which `{}` does not have", window.kind.name());
        return Err(Diagnostic::error("K0231", text).at(window.span).help("take the option out"));
    }
    let number = |n: usize| numbers.get(n).copied().unwrap_or((1, window.span));
    let positive = |n: usize, what: &str| match number(n) {
        (value, _) if value > 0 => Ok(value),
        (value, span) => {
            Err(Diagnostic::error("K0209", format!("{what} of a window must be positive, but it is {value}")).at(span))
        }
    };
    Ok(Some(match window.kind {
        WindowKind::Tumbling => Window::Tumbling { unit, count: positive(0, "the length")? },
        WindowKind::Hopping => {
            Window::Hopping { unit, count: positive(0, "the length")?, interval: positive(1, "the interval")? }
        }
        WindowKind::Sliding => {
            let count = positive(0, "the length")?;
            let delay = if numbers.len() > 1 { number(1) } else { (0, window.span) };
            if delay.0 < 0 {
                let found = format!("the delay of a window cannot be negative, but it is {}", delay.0);
                return Err(Diagnostic::error("K0209", found).at(delay.1));
            }
            let twice = options.sliding_twice && delay.0 > 0;
            let mut hits = Vec::new();
            let when = match &window.when {
                None => None,
                Some(when) => {
                    let Some(mut when) = bind(names, "OVER", when) else { return Ok(None) };
                    take_hits(&mut when, &mut hits, &mut || names.fresh());
                    Some(when)
                }
            };
            Window::Sliding { unit, count, delay: delay.0, open, twice, when, hits }
        }
        WindowKind::Session => Window::Session {
            unit,
            longest: positive(0, "the longest duration")?,
            timeout: positive(1, "the timeout")?,
        },
        WindowKind::Count => {
            let length = positive(0, "the length")?;
            // An interval of 0 is none.
            let interval = if numbers.len() > 1 && number(1).0 != 0 { positive(1, "the interval")? } else { length };
            let rows = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
            Window::Count { length: rows(length), interval: rows(interval.min(length)) }
        }
        WindowKind::State => {
            let mut conditions = window.args.iter().map(|arg| bind(names, "STATEWINDOW", arg));
            let (begin, end) = (conditions.next().flatten(), conditions.next());
            drop(conditions);
            let keys = window.partition.iter().map(|key| bind(names, "PARTITION BY", key));
            let partition: Option<Vec<Bound>> = keys.collect();
            let (Some(begin), Some(partition)) = (begin, partition) else { return Ok(None) };
            let end = match end {
                None => None,
                Some(None) => return Ok(None),
                end => end.flatten(),
            };
            Window::State { begin, end, partition }
        }
    }))
}
