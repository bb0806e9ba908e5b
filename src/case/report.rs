//! What came of a run: one finding a case or entry, printed for people and written for programs.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde_json::{Value as Json, json};

/// What came of one case, entry, step or line.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Passed,
    /// With what to tell, one paragraph for each way in which it failed.
    Failed(Vec<String>),
    /// With the reason.
    Skipped(String),
}

/// One thing that was counted.
#[derive(Clone, Debug)]
pub struct Finding {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    pub name: String,
    pub outcome: Outcome,
}

/// All that was counted in a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Rule cases in which a batch held more than one row.
    pub batched: usize,
    /// Files that were rewritten.
    pub updated: Vec<PathBuf>,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == Outcome::Passed).count()
    }

    pub fn failed(&self) -> usize {
        self.findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Failed(_))).count()
    }

    pub fn skipped(&self) -> usize {
        self.findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Skipped(_))).count()
    }

    /// The report for programs.
    pub fn json(&self) -> Json {
        let cases: Vec<Json> = self
            .findings
            .iter()
            .map(|finding| {
                let (status, reasons) = match &finding.outcome {
                    Outcome::Passed => ("passed", vec![]),
                    Outcome::Failed(why) => ("failed", why.clone()),
                    Outcome::Skipped(why) => ("skipped", vec![why.clone()]),
                };
                json!({
                    "name": finding.name,
                    "file": finding.file.display().to_string(),
                    "line": finding.line,
                    "status": status,
                    "reasons": reasons,
                })
            })
            .collect();
        json!({
            "passed": self.passed(),
            "failed": self.failed(),
            "skipped": self.skipped(),
            "batched": self.batched,
            "cases": cases,
        })
    }
}

/// The report for people: what failed and what was skipped, then the counts.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let place = format!("{}:{}", finding.file.display(), finding.line);
            match &finding.outcome {
                Outcome::Passed => {}
                Outcome::Skipped(why) => writeln!(f, "skipped {} ({place}): {why}", finding.name)?,
                Outcome::Failed(why) => {
                    writeln!(f, "FAILED {} ({place})", finding.name)?;
                    for paragraph in why {
                        for line in paragraph.lines() {
                            writeln!(f, "  {line}")?;
                        }
                    }
                }
            }
        }
        for file in &self.updated {
            writeln!(f, "updated {}", file.display())?;
        }
        match self.batched {
            1 => writeln!(f, "1 case had a batch of more than one row")?,
            n => writeln!(f, "{n} cases had a batch of more than one row")?,
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped())
    }
}

/// Both sides of a difference, line by line: what is on the left only is marked `-`, on the right only `+`.
pub(super) fn diff(want: &[String], got: &[String]) -> String {
    // The longest common run of lines, by the usual table; emissions have few lines.
    let (w, g) = (want.len().min(400), got.len().min(400));
    let mut best = vec![vec![0u16; g + 1]; w + 1];
    for i in (0..w).rev() {
        for j in (0..g).rev() {
            best[i][j] = if want[i] == got[j] { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < w || j < g {
        if i < w && j < g && want[i] == got[j] {
            let _ = writeln!(out, "    {}", want[i]);
            (i, j) = (i + 1, j + 1);
        } else if i < w && (j == g || best[i + 1][j] >= best[i][j + 1]) {
            let _ = writeln!(out, "  - {}", want[i]);
            i += 1;
        } else {
            let _ = writeln!(out, "  + {}", got[j]);
            j += 1;
        }
    }
    if want.len() > w || got.len() > g {
        let _ = writeln!(out, "    …");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let finding = |outcome| Finding { file: "a.yaml".into(), line: 3, name: "a/b".to_string(), outcome };
        let report = Report {
            findings: vec![
                finding(Outcome::Passed),
                finding(Outcome::Failed(vec!["why\nthen".to_string()])),
                finding(Outcome::Skipped("session".to_string())),
            ],
            ..Report::default()
        };
        assert_eq!(
            report.to_string(),
            "FAILED a/b (a.yaml:3)\n  why\n  then\nskipped a/b (a.yaml:3): session\n0 cases had a batch of more than one row\n1 passed, 1 failed, 1 skipped"
        );
        assert_eq!(report.json()["cases"][1]["status"], "failed");
    }

    #[test]
    fn a_diff_shows_what_is_common_once() {
        let lines = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert_eq!(diff(&lines("a b c"), &lines("a x c")), "    a\n  - b\n  + x\n    c\n");
    }
}
