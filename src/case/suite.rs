//! One run over many files: what is selected, what is skipped, and in which order.

use std::collections::HashMap;
use std::path::PathBuf;

use super::calls;
use super::drive;
use super::files::{Content, Document, read_all};
use super::report::{Finding, Outcome, Report};
use super::rule::RuleCase;
use super::select::fits;
use super::statements;
use super::table::{Functions, Plans, Statements};
use super::update::Updates;

/// What to run, and how strictly.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Only cases with one of these words; empty: all.
    pub tags: Vec<String>,
    /// Only cases whose name fits one of these patterns (`*`, `?`); empty: all.
    pub names: Vec<String>,
    /// Compare the counters of the rule's status too.
    pub metrics: bool,
    /// Compare the rule's topology too.
    pub topo: bool,
    /// Compare the texts of errors, whatever a case says.
    pub error_text: bool,
    /// An integer and a float differ, whatever a case says.
    pub typed_numbers: bool,
    /// Run what is marked as a defect of the engine it was recorded from.
    pub defects: bool,
    /// Run rule cases without events once more, as at `qos` 2 with a crash between any two instants, and a snapshot
    /// before every third; they must come out the same.
    pub crashes: bool,
    /// Write the output that was got into the files.
    pub update: bool,
}

impl Settings {
    fn selects(&self, name: &str, tags: &[String]) -> bool {
        (self.names.is_empty() || self.names.iter().any(|pattern| fits(pattern, name)))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| tags.contains(tag)))
    }
}

/// Runs all cases of the files and folders.
///
/// # Errors
/// A path that is not there or cannot be read, or a file that cannot be rewritten.
pub fn run(paths: &[PathBuf], settings: &Settings) -> Result<Report, String> {
    let documents = read_all(paths)?;
    let mut run = Run { settings, report: Report::default(), names: HashMap::new(), updates: Updates::default() };
    for document in &documents {
        run.document(document);
    }
    run.report.updated = run.updates.write()?;
    Ok(run.report)
}

struct Run<'a> {
    settings: &'a Settings,
    report: Report,
    /// Names of rule cases, and where each was first used.
    names: HashMap<String, String>,
    updates: Updates,
}

impl Run<'_> {
    fn document(&mut self, document: &Document) {
        match &document.content {
            Err(why) => {
                self.note(
                    document,
                    document.line,
                    document.file.display().to_string(),
                    Outcome::Failed(vec![why.clone()]),
                );
            }
            Ok(Content::Rule(case)) => self.rule(document, case),
            Ok(Content::Functions(table)) => self.functions(document, table),
            Ok(Content::Plans(table)) => self.plans(document, table),
            Ok(Content::Statements(table)) => self.statements(document, table),
            Ok(Content::Accept(lines)) => {
                for (line, statement) in lines {
                    let verdict = match statement {
                        Ok(statement) => statements::accepted(statement),
                        Err(why) => Err(why.clone()),
                    };
                    self.entry(document, *line, format!("parser/accept:{line}"), &[], None, |_| verdict);
                }
            }
            Ok(Content::Reject(lines)) => {
                for (line, pair) in lines {
                    let name = format!("parser/reject:{line}");
                    self.entry(document, *line, name, &[], None, |settings| match pair {
                        Ok((statement, message)) => statements::refused(statement, message, settings),
                        Err(why) => Err(why.clone()),
                    });
                }
            }
            Ok(Content::Foreign { kind, name }) => {
                let name = if name.is_empty() { kind.clone() } else { name.clone() };
                if self.settings.selects(&name, &[]) {
                    let why = match kind.as_str() {
                        "session" | "requests" => format!("`{kind}` runs against a whole server, in real time"),
                        _ => format!("kind `{kind}` is not known"),
                    };
                    self.note(document, document.line, name, Outcome::Skipped(why));
                }
            }
        }
    }

    fn rule(&mut self, document: &Document, case: &RuleCase) {
        let place = format!("{}:{}", document.file.display(), document.line);
        if let Some(first) = self.names.get(&case.name) {
            let why = format!("the name is used twice, first at {first}");
            self.note(document, document.line, case.name.clone(), Outcome::Failed(vec![why]));
            return;
        }
        self.names.insert(case.name.clone(), place);
        if !self.settings.selects(&case.name, &case.tags) {
            return;
        }
        if let (Some(why), false) = (&case.defect, self.settings.defects) {
            self.note(document, document.line, case.name.clone(), Outcome::Skipped(format!("defect: {why}")));
            return;
        }
        let ran = drive::run(case, self.settings);
        self.report.batched += usize::from(ran.batched);
        let outcome = match ran.failures {
            failures if failures.is_empty() => Outcome::Passed,
            _ if self.settings.update && ran.got.is_some() => {
                match self.updates.add(document, case, ran.got.unwrap_or_default()) {
                    Ok(()) => Outcome::Passed,
                    Err(why) => Outcome::Failed(vec![why]),
                }
            }
            failures => Outcome::Failed(failures),
        };
        self.note(document, document.line, case.name.clone(), outcome);
    }

    fn functions(&mut self, document: &Document, table: &Functions) {
        for entry in &table.entries {
            let name = format!("{}/{}[{}] {}", table.group, entry.list, entry.number, entry.subject);
            let line = document.line;
            self.entry(document, line, name, &table.tags, entry.defect.as_deref(), |settings| {
                calls::run(&entry.subject, &entry.test, settings)
            });
        }
    }

    fn plans(&mut self, document: &Document, table: &Plans) {
        for (n, case) in table.cases.iter().enumerate() {
            let name = format!("{}[{}] {}", table.group, n + 1, case.sql);
            self.entry(document, document.line, name, &table.tags, case.defect.as_deref(), |settings| {
                statements::plan(case, settings)
            });
        }
    }

    fn statements(&mut self, document: &Document, table: &Statements) {
        // The steps build on one another, so all run whichever are selected.
        let verdicts = statements::steps(&table.steps, self.settings);
        for (n, (step, verdict)) in table.steps.iter().zip(verdicts).enumerate() {
            let name = format!("{}[{}] {}", table.group, n + 1, step.text);
            self.entry(document, document.line, name, &table.tags, step.defect.as_deref(), |_| verdict);
        }
    }

    /// Counts one entry, if it is selected.
    fn entry(
        &mut self,
        document: &Document,
        line: usize,
        name: String,
        tags: &[String],
        defect: Option<&str>,
        run: impl FnOnce(&Settings) -> Result<(), String>,
    ) {
        if !self.settings.selects(&name, tags) {
            return;
        }
        let outcome = match defect {
            Some(why) if !self.settings.defects => Outcome::Skipped(format!("defect: {why}")),
            _ => match run(self.settings) {
                Ok(()) => Outcome::Passed,
                Err(why) => Outcome::Failed(vec![why]),
            },
        };
        self.note(document, line, name, outcome);
    }

    fn note(&mut self, document: &Document, line: usize, name: String, outcome: Outcome) {
        self.report.findings.push(Finding { file: document.file.clone(), line, name, outcome });
    }
}
