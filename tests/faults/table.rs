//! What came of a rule under a fault, and the table of all of it.
//!
//! With `FAULTS_TABLE=FILE` each table is also appended to that file.

use std::fs;
use std::io::Write;
use std::sync::Mutex;

use super::seed::seed;

/// What a rule made of what was published.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub rule: &'static str,
    pub published: usize,
    pub delivered: usize,
    pub lost: Vec<i64>,
    /// How often a number came out that had come out before.
    pub doubled: u64,
    /// How often it may.
    pub bound: u64,
    pub dead: u64,
    /// What must never be.
    pub wrong: Vec<String>,
    pub remark: String,
}

impl Verdict {
    /// What the promise does not allow.
    pub fn broken(&self) -> Vec<String> {
        let mut all = self.wrong.clone();
        if !self.lost.is_empty() {
            let some: Vec<String> = self.lost.iter().take(10).map(i64::to_string).collect();
            all.push(format!("{}: {} lost, among them {}", self.rule, self.lost.len(), some.join(", ")));
        }
        if self.doubled > self.bound {
            all.push(format!("{}: {} came twice, and no more than {} may", self.rule, self.doubled, self.bound));
        }
        all
    }
}

const HEAD: [&str; 9] = ["fault", "rule", "published", "delivered", "lost", "doubled", "at most", "dead", "remark"];

/// Prints the verdicts of a scenario.
pub fn print(fault: &str, what: &str, verdicts: &[Verdict]) {
    let mut lines: Vec<Vec<String>> = vec![HEAD.iter().map(|word| (*word).into()).collect()];
    lines.extend(verdicts.iter().map(|verdict| {
        let numbers = [
            verdict.published as u64,
            verdict.delivered as u64,
            verdict.lost.len() as u64,
            verdict.doubled,
            verdict.bound,
            verdict.dead,
        ];
        let mut line = vec![fault.to_owned(), verdict.rule.to_owned()];
        line.extend(numbers.iter().map(u64::to_string));
        line.push(verdict.remark.clone());
        line
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = format!("\n{fault} (seed {}): {what}\n\n", seed());
    for (row, line) in lines.iter().enumerate() {
        let cell = |column: usize| match (2..8).contains(&column) {
            true => format!("{:>1$}", line[column], widths[column]),
            false => format!("{:<1$}", line[column], widths[column]),
        };
        let cells: Vec<String> = (0..HEAD.len()).map(cell).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if row == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text += &format!("|{}|\n", rule.join("|"));
        }
    }
    // Scenarios run side by side.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    println!("{text}");
    if let Ok(path) = std::env::var("FAULTS_TABLE") {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}
