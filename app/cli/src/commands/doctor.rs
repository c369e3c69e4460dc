//! `glean doctor`: what is in order on this machine, what is not, and what to do about it.

use std::path::Path;

use anyhow::{Context as _, Result};
use glean_node::api::types::Status;
use glean_node::worker::{WorkerConfig, WorkerPool};
use serde::Serialize;

use super::Context;
use crate::client::{Client, lock_is_free};
use crate::text;
use crate::ui::{Ui, now_ms};

/// Less free space than this is worth a word, bytes.
const DISK_FREE_MIN: u64 = 1 << 30;
/// This program did not exist before (2026-01-01): a clock that says so is wrong, and papers would be refused.
const CLOCK_MIN_MS: u64 = 1_767_225_600_000;

/// One line of the examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Stable name for programs.
    check: String,
    /// Whether all is well.
    ok: bool,
    /// What was seen.
    detail: String,
    /// What to do.
    fix: Option<String>,
}

/// `glean doctor`: 0 when nothing needs doing, else 1.
pub async fn doctor(context: &Context) -> Result<u8> {
    let ui = &context.ui;
    let mut findings = vec![home(ui, &context.home), disk(ui, &context.home), clock(ui)];
    let node = Client::find(&context.home).await;
    findings.push(process(ui, &context.home, node.is_some()));
    if let Some(node) = node {
        findings.extend(network(ui, &node.get("/status").await?));
    }
    findings.extend(wall(ui, &context.home).await?);
    match ui.json {
        true => ui.out_json(&findings)?,
        false => findings.iter().try_for_each(|finding| ui.out(&say(ui, finding)))?,
    }
    Ok(u8::from(findings.iter().any(|finding| !finding.ok)))
}

fn say(ui: &Ui, finding: &Finding) -> String {
    let mark = if finding.ok { "✓" } else { "✗" };
    let line = format!("{mark} {}", finding.detail);
    match &finding.fix {
        Some(fix) if !finding.ok => format!("{line}\n  {} {fix}", text!(ui, "word-fix")),
        _ => line,
    }
}

fn finding(check: &str, ok: bool, detail: String, fix: String) -> Finding {
    Finding { check: check.into(), ok, detail, fix: (!ok).then_some(fix) }
}

fn home(ui: &Ui, home: &Path) -> Finding {
    let probe = home.join(".doctor");
    let written = std::fs::create_dir_all(home).and_then(|()| std::fs::write(&probe, b"x"));
    let written = written.and_then(|()| std::fs::remove_file(&probe));
    let why = written.as_ref().err().map(|e| format!(": {e}")).unwrap_or_default();
    let detail = text!(ui, "doctor-home", path = home.display().to_string()) + &why;
    finding("home", written.is_ok(), detail, text!(ui, "doctor-home-fix"))
}

#[cfg(unix)]
fn disk(ui: &Ui, home: &Path) -> Finding {
    let free = rustix::fs::statvfs(home).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)).unwrap_or(0);
    let detail = text!(ui, "doctor-disk", mib = free >> 20);
    finding("disk", free >= DISK_FREE_MIN, detail, text!(ui, "doctor-disk-fix"))
}

#[cfg(not(unix))]
fn disk(ui: &Ui, _: &Path) -> Finding {
    finding("disk", true, text!(ui, "doctor-disk-unknown"), String::new())
}

fn clock(ui: &Ui) -> Finding {
    let now = now_ms();
    let detail = text!(ui, "doctor-clock", seconds = (now / 1000).to_string());
    finding("clock", now >= CLOCK_MIN_MS, detail, text!(ui, "doctor-clock-fix"))
}

/// A held lock without an answering node is a process that hangs, or somebody else's.
fn process(ui: &Ui, home: &Path, answers: bool) -> Finding {
    let is_free = lock_is_free(home).unwrap_or(false);
    let detail = match (answers, is_free) {
        (true, _) => text!(ui, "doctor-node-on"),
        (false, true) => text!(ui, "doctor-node-off"),
        (false, false) => text!(ui, "doctor-node-stuck"),
    };
    finding("node", answers || is_free, detail, text!(ui, "doctor-node-fix", path = home.display().to_string()))
}

fn network(ui: &Ui, status: &Status) -> Vec<Finding> {
    let detail = match status.height {
        Some(height) => text!(ui, "doctor-ledger", name = status.network.clone(), height = height),
        None => text!(ui, "ledger-far"),
    };
    let ledger = finding("ledger", status.height.is_some(), detail, text!(ui, "doctor-ledger-fix"));
    vec![ledger, finding("machines", true, text!(ui, "doctor-machines", n = status.machines), String::new())]
}

/// The walls around guests, asked of a real worker: which stand, which this system lacks (lending goes on without
/// them), and whether a worker that tries to get out gets anywhere.
async fn wall(ui: &Ui, home: &Path) -> Result<Vec<Finding>> {
    let exe = std::env::current_exe().context("could not find this program's own file")?;
    let pool = WorkerPool::new(WorkerConfig { exe, slots: 1, cache: home.join("cache"), is_awaited: false })?;
    let (report, holes) = (pool.wall_report().await?, pool.holes().await?);
    let fix = || text!(ui, "doctor-wall-fix");
    let line = |ok, layer: &String| finding("wall", ok, text!(ui, "doctor-wall", layer = layer.clone()), fix());
    let mut findings: Vec<Finding> = report.on.iter().map(|layer| line(true, layer)).collect();
    findings.extend(report.off.iter().map(|layer| line(false, layer)));
    let said = match holes.is_empty() {
        true => text!(ui, "doctor-sealed"),
        false => text!(ui, "doctor-holes", holes = holes.join(", ")),
    };
    findings.push(finding("holes", holes.is_empty(), said, fix()));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Lang;

    #[test]
    fn a_red_line_says_what_to_do_and_a_green_one_does_not() {
        let ui = Ui::new(Lang::En, false, true, true);
        let folder = tempfile::tempdir().unwrap();
        assert!(home(&ui, folder.path()).ok);
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let bad = home(&ui, &file.join("below"));
        assert!(!bad.ok && say(&ui, &bad).contains("fix:"), "{bad:?}");
    }

    #[test]
    fn a_home_that_is_held_but_silent_is_called_stuck() {
        let ui = Ui::new(Lang::En, false, true, true);
        let folder = tempfile::tempdir().unwrap();
        assert!(process(&ui, folder.path(), false).ok);
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let lock = std::fs::File::create(folder.path().join("run/lock")).unwrap();
        lock.lock().unwrap();
        assert!(!process(&ui, folder.path(), false).ok);
    }
}
