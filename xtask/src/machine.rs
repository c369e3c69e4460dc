//! What the kernel says about time and memory.

use std::fs;

use anyhow::{Context, Result};

/// Ticks of `/proc` in a second: fixed for user space on Linux.
const TICKS_PER_S: f64 = 100.0;

/// Processor seconds that this machine has spent on anything since it started. The one measure that is fair to
/// peers whose daemons are nobody's children; it asks for a machine that does nothing else.
pub fn busy_s() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("no /proc/stat: the CPU figures need Linux")?;
    let line = text.lines().next().context("empty /proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(busy / TICKS_PER_S)
}

/// Memory of a process that it does not share, plus its part of what it shares, MiB.
pub fn pss_mib(pid: u32) -> Result<f64> {
    kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:").map(|kib| kib / 1024.0)
}

/// Resident memory of a process, MiB.
pub fn rss_mib(pid: u32) -> Result<f64> {
    kib(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib / 1024.0)
}

fn kib(path: &str, key: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {path}"))?;
    let line = text.lines().find(|line| line.starts_with(key)).with_context(|| format!("no {key} in {path}"))?;
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).with_context(|| format!("odd line: {line}"))
}

/// Children of a process whose command line has that word.
pub fn children_with(parent: u32, word: &str) -> Vec<u32> {
    let wanted = parent.to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned));
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent.as_deref() == Some(wanted.as_str()) && words.split('\0').any(|w| w == word)
    };
    pids.filter(is_one).collect()
}

/// Processor seconds of all threads of a process, to the nanosecond.
pub fn cpu_s(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ns = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}
