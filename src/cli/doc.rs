//! `kuiper doc`: what stands in the tables of the program, for people and for tools.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::print::{FAILED, fail, say};
use crate::diag::nearest;
use crate::func;
use crate::sql::FORMS;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Functions: their signatures, what they do, and examples with their results.
    Functions {
        /// A function or a family; all where there is none.
        name: Option<String>,
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: Command) -> ExitCode {
    let Command::Functions { name, json } = command;
    let rows = rows();
    let wanted: Vec<&Row> = match &name {
        None => rows.iter().collect(),
        Some(name) => {
            let is = |text: &str| text.eq_ignore_ascii_case(name);
            let one: Vec<&Row> = rows.iter().filter(|row| is(row.name)).collect();
            if one.is_empty() { rows.iter().filter(|row| is(row.family)).collect() } else { one }
        }
    };
    if let (true, Some(name)) = (wanted.is_empty(), &name) {
        let near = match nearest(name, rows.iter().map(|row| row.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`kuiper doc functions` lists all".into(),
        };
        return fail(FAILED, format!("there is no function `{name}`; {near}"));
    }
    if json {
        say(format!("{:#}", Json::Array(wanted.iter().map(|row| row.json()).collect())));
        return ExitCode::SUCCESS;
    }
    let mut family = "";
    for row in wanted {
        if row.family != family {
            if !family.is_empty() {
                say("");
            }
            say(row.family);
            family = row.family;
        }
        row.print();
    }
    ExitCode::SUCCESS
}

/// A row of a function table.
struct Row {
    name: &'static str,
    family: &'static str,
    signature: &'static str,
    about: &'static str,
    examples: &'static [(&'static str, &'static str)],
    /// Between an example and what stands behind it.
    gives: &'static str,
}

/// The rows of all tables, families together in the order in which they come first.
fn rows() -> Vec<Row> {
    let functions = func::all().map(|func| Row {
        name: func.name,
        family: func.family,
        signature: func.signature,
        about: func.about,
        examples: func.examples,
        gives: "=",
    });
    let forms = FORMS.iter().map(|form| Row {
        name: form.name,
        family: "grammar",
        signature: form.signature,
        about: form.about,
        examples: form.examples,
        gives: "--",
    });
    let mut all: Vec<Row> = functions.chain(forms).collect();
    let families: Vec<&str> = all.iter().map(|row| row.family).collect();
    all.sort_by_key(|row| families.iter().position(|family| *family == row.family));
    all
}

impl Row {
    fn print(&self) {
        say(format!("  {}{}", self.name, self.signature));
        say(format!("      {}", self.about));
        for (call, result) in self.examples {
            say(format!("      {call} {} {result}", self.gives));
        }
    }

    fn json(&self) -> Json {
        let examples: Vec<Json> =
            self.examples.iter().map(|(call, result)| json!({"call": call, "result": result})).collect();
        json!({
            "name": self.name,
            "family": self.family,
            "signature": self.signature,
            "about": self.about,
            "examples": examples,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::func::Catalogue;
    use crate::plan::{self, Stream};

    /// Those of functions are executed by `tests/functions.rs`.
    #[test]
    fn the_examples_of_the_grammar_can_be_planned() {
        for form in FORMS {
            assert!(form.examples.len() >= 2, "{}", form.name);
            for (call, _) in form.examples {
                let text = match form.name {
                    "dedup_trigger" => format!("SELECT {call} FROM s"),
                    _ => format!("SELECT count(*) FROM s GROUP BY {call}"),
                };
                let select = crate::sql::parse_select(&text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
                let find = |name: &str| Some(Stream::schemaless(name));
                let made = plan::plan(&select, &find, &Catalogue::default(), &plan::Options::default());
                assert!(made.is_ok(), "{text}: {:?}", made.err());
            }
        }
    }

    #[test]
    fn every_row_says_what_it_is() {
        let rows = rows();
        assert!(rows.len() >= 199);
        for row in rows {
            assert!(!row.about.is_empty() && !row.family.is_empty() && !row.examples.is_empty(), "{}", row.name);
        }
    }
}
