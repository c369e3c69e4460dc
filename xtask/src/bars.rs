//! The promises, one line each: what was run to break it, how often, and what became of it.
//!
//! Tests that hold a bar print a line `BAR {...}`; this runs them, prints the lines, and writes the table of the README from
//! them. A zero out of n says with 95 % confidence no more than "below 3/n" (the rule of three), so that stands beside it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, root};

/// Where the table begins and ends in the README.
const MARKS: [&str; 2] = ["<!-- bars: written by `cargo xtask bars` -->", "<!-- end of bars -->"];
/// What to run, as arguments of `cargo test --release`.
const SUITES: [&[&str]; 14] = [
    &["--test", "kills"],
    &["--test", "planted"],
    &["--test", "power"],
    &["--test", "network"],
    &["--test", "crowd"],
    &["--test", "villains"],
    &["--test", "hostile"],
    &["--test", "disk"],
    &["--test", "backup"],
    &["--test", "local"],
    &["--test", "browser"],
    &["--test", "worker"],
    &["--test", "nats"],
    &["--lib"],
];

/// Runs what is behind every bar and writes the table into the README. With the log of a run of all tests
/// (`cargo test --release -- --nocapture`), takes the lines from there, without those of the builds for other processors.
pub fn bars(log: Option<&str>) -> Result<()> {
    let mut bars = Vec::new();
    match log {
        Some(log) => {
            let text = std::fs::read_to_string(log).with_context(|| format!("no log {log}"))?;
            ensure!(!text.contains("test result: FAILED"), "a test of that log failed\nhint: mend it first");
            bars.extend(lines(&text)?);
        }
        None => {
            for suite in SUITES {
                eprintln!("running: cargo test {}", suite.join(" "));
                let args: Vec<&str> =
                    ["test", "--release"].iter().chain(suite).chain(&["--", "--nocapture"]).copied().collect();
                bars.extend(lines(&cargo(&args)?)?);
            }
            bars.extend(crate::determinism::bars()?);
        }
    }
    ensure!(
        !bars.is_empty(),
        "no test printed a bar\nhint: a line `BAR {{...}}` with bar, what, runs, failures, control, note"
    );
    for bar in &mut bars {
        // The suites passed, and each story asserts before it prints: what is printed was not broken.
        bar["failures"] = serde_json::json!(0);
        bar["upper_bound_95"] = serde_json::json!((3.0 / bar["runs"].as_f64().context("a bar without runs")?).min(1.0));
        bar["commit"] = serde_json::json!(commit());
        println!("{bar}");
    }
    let readme = root().join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    std::fs::write(&readme, with_table(&text, &bars)?)?;
    Ok(())
}

fn lines(text: &str) -> Result<Vec<Value>> {
    let found = text.lines().filter_map(|line| line.split_once("BAR ")).map(|(_, json)| serde_json::from_str(json));
    found.collect::<Result<_, _>>().context("a BAR line is no JSON")
}

/// The README with this table in the place of the old one.
fn with_table(text: &str, bars: &[Value]) -> Result<String> {
    let (before, rest) = text.split_once(MARKS[0]).context("the README has no place for the bars")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the README's bars do not end")?;
    let rows: Vec<String> = bars.iter().map(row).collect();
    let head = "| tried to break it by | times | broken | so below (95 %) | the check can fail: | seen |\n|---|---|---|---|---|---|";
    Ok(format!("{before}{}\n{head}\n{}\n{}{after}", MARKS[0], rows.join("\n"), MARKS[1]))
}

fn row(bar: &Value) -> String {
    let text = |name: &str| bar[name].as_str().unwrap_or_default().to_owned();
    let bound = bar["upper_bound_95"].as_f64().unwrap_or(1.0);
    let bound = if bound >= 1e-3 { format!("{:.1} %", bound * 100.0) } else { format!("{bound:.0e}") };
    let (runs, failures) = (&bar["runs"], &bar["failures"]);
    format!("| {} | {runs} | {failures} | {bound} | {} | {} |", text("what"), text("control"), text("note"))
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_the_old_one_and_nothing_else() {
        let old = format!("a\n{}\nold\n{}\nb\n", MARKS[0], MARKS[1]);
        let bar = serde_json::json!({
            "bar": "x", "what": "w", "runs": 150, "failures": 0, "control": "c", "note": "n", "upper_bound_95": 0.02
        });
        let new = with_table(&old, &[bar]).unwrap();
        assert!(new.starts_with("a\n") && new.ends_with("\nb\n") && !new.contains("old"), "{new}");
        assert!(new.contains("| w | 150 | 0 | 2.0 % | c | n |"), "{new}");
    }
}
