//! Prometheus's text format, version 0.0.4: families of samples, each with one `# HELP` and one `# TYPE` before it.
//!
//! A [`Family`] borrows the page, so that the lines of one name stay together, as the format wants it. One without
//! samples leaves no line.

use std::fmt::{Display, Write as _};

/// As whoever asks is told it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a sample says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and may begin anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// All that is told at once.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// The samples of one name.
pub struct Family<'p> {
    page: &'p mut Page,
    name: &'p str,
    kind: Kind,
    help: &'p str,
    begun: bool,
}

impl Page {
    /// Begins what stands under one name, which must be new.
    pub fn family<'p>(&'p mut self, name: &'p str, kind: Kind, help: &'p str) -> Family<'p> {
        Family { page: self, name, kind, help, begun: false }
    }

    /// One sample without labels, if there is a value for it.
    pub fn alone(&mut self, name: &str, kind: Kind, help: &str, value: Option<impl Display>) {
        let mut family = self.family(name, kind, help);
        value.into_iter().for_each(|value| family.sample(&[], value));
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One line. A `value` that is a fraction must be finite.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut self.page.text;
        if !std::mem::replace(&mut self.begun, true) {
            let kind = match self.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            text.push_str("# HELP ");
            text.push_str(self.name);
            text.push(' ');
            escape(text, self.help, false);
            // Writing into memory cannot fail.
            let _ = write!(text, "\n# TYPE {} {kind}\n", self.name);
        }
        text.push_str(self.name);
        for (place, (label, value)) in labels.iter().enumerate() {
            text.push(if place == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value, true);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// A text that the format can hold: a quote is one in the value of a label only.
fn escape(into: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quoted => into.push_str("\\\""),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_head_and_stands_together() {
        let mut page = Page::default();
        let mut family = page.family("rows_total", Kind::Counter, "All rows.");
        family.sample(&[("rule", "a"), ("op", "0")], 1_u64);
        family.sample(&[("rule", "b"), ("op", "")], u64::MAX);
        page.family("nothing", Kind::Gauge, "Of this there is none.");
        page.alone("waiting", Kind::Gauge, "What waits.", Some(-3));
        page.alone("start_seconds", Kind::Gauge, "When it began.", Some(1_795_000_000.25));
        page.alone("unknown", Kind::Gauge, "What nobody can tell.", None::<u64>);
        let expected = "# HELP rows_total All rows.\n# TYPE rows_total counter\n\
            rows_total{rule=\"a\",op=\"0\"} 1\nrows_total{rule=\"b\",op=\"\"} 18446744073709551615\n\
            # HELP waiting What waits.\n# TYPE waiting gauge\nwaiting -3\n\
            # HELP start_seconds When it began.\n# TYPE start_seconds gauge\nstart_seconds 1795000000.25\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn what_would_end_a_line_or_a_label_is_escaped() {
        let mut page = Page::default();
        page.family("n", Kind::Gauge, "a \"b\" \\ c\nd").sample(&[("l", "\"é\" \\n \\\n,{}=\t")], 0);
        let expected = "# HELP n a \"b\" \\\\ c\\nd\n# TYPE n gauge\nn{l=\"\\\"é\\\" \\\\n \\\\\\n,{}=\t\"} 0\n";
        assert_eq!(page.into_text(), expected);
    }
}
