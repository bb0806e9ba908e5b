//! What reads like a function and is none: the windows of GROUP BY, and `dedup_trigger`. The grammar knows them.

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Lower case; it may be written in any.
    pub name: &'static str,
    /// For example `(unit, length [, delay])`.
    pub signature: &'static str,
    pub about: &'static str,
    /// Calls as written in SQL, and what each means. A test plans each.
    pub examples: &'static [(&'static str, &'static str)],
}

const fn form(name: &'static str, signature: &'static str, about: &'static str) -> Form {
    Form { name, signature, about, examples: &[] }
}

impl Form {
    const fn examples(mut self, examples: &'static [(&'static str, &'static str)]) -> Self {
        self.examples = examples;
        self
    }
}

pub const FORMS: &[Form] = &[
    form(
        "tumblingwindow",
        "(unit, length)",
        "Windows of a length, one behind the other; dd, hh, mi, ss and ms are the units.",
    )
    .examples(&[
        ("TUMBLINGWINDOW(ss, 10)", "every ten seconds, the rows of the last ten"),
        ("TUMBLINGWINDOW(mi, 1) FILTER (WHERE ok)", "every minute, the rows of the last that are ok"),
    ]),
    form(
        "hoppingwindow",
        "(unit, length, interval)",
        "Windows of a length, one beginning an interval after the other.",
    )
    .examples(&[
        ("HOPPINGWINDOW(ss, 60, 10)", "every ten seconds, the rows of the last sixty"),
        ("HOPPINGWINDOW(mi, 1, 5)", "every five minutes, the rows of the last one"),
    ]),
    form(
        "slidingwindow",
        "(unit, length [, delay])",
        "For each row, the rows of the length before it, and of the delay behind it.",
    )
    .examples(&[
        ("SLIDINGWINDOW(ss, 30)", "at each row, the rows of the last thirty seconds"),
        ("SLIDINGWINDOW(ss, 30, 5) OVER (WHEN alarm)", "for each alarm, thirty seconds before and five behind it"),
    ]),
    form(
        "sessionwindow",
        "(unit, longest, timeout)",
        "Rows until none has come for the timeout, or it has lasted the longest.",
    )
    .examples(&[
        ("SESSIONWINDOW(mi, 60, 5)", "rows until there is a pause of five minutes, an hour at most"),
        ("SESSIONWINDOW(ss, 100, 1)", "rows until there is a pause of a second"),
    ]),
    form(
        "countwindow",
        "(length [, interval])",
        "The last so many rows, each time that so many have come, or at each interval of rows.",
    )
    .examples(&[
        ("COUNTWINDOW(100)", "each hundred rows"),
        ("COUNTWINDOW(100, 10)", "at each tenth row, the last hundred"),
    ]),
    form(
        "statewindow",
        "(begin [, end])",
        "Rows from one that fits the first condition to one that fits the second, or the first again.",
    )
    .examples(&[
        ("STATEWINDOW(speed = 0) OVER (PARTITION BY id)", "for each id, from one standstill to the next"),
        ("STATEWINDOW(started, stopped)", "from a start to the stop behind it"),
    ]),
    form(
        "dedup_trigger",
        "(start, end, now, expire)",
        "The parts of the span from start to end that no row before was given, once the span has ended.",
    )
    .examples(&[
        ("dedup_trigger(start, end_at, ts, 60000)", "at most a minute back, spans as start_key and end_key"),
        ("dedup_trigger(a.start, a.stop, ts, 1000) AS span", "the same under another name, a second back"),
    ]),
];

/// The row of that name, in any case.
pub fn find(name: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name.eq_ignore_ascii_case(name))
}
