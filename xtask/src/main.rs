//! `cargo xtask bench`: the figures we claim, ours and the peers' in one run on one machine.
//!
//! The real path: two nodes of the real binary on loopback, QUIC between them, journal and ledger on disk, signed
//! receipts, checks on. Peers come from PyPI into a folder under the user's cache; one that cannot be had is
//! printed as SKIPPED. Ratios are what counts: these machines are never idle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Tasks of one measured job.
const TASKS: u32 = 20_000;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("bench") => bench(),
        _ => bail!("usage: cargo xtask bench"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn bench() -> Result<()> {
    let status = Command::new("cargo").args(["build", "--release", "-p", "glean"]).current_dir(root()).status()?;
    ensure!(status.success(), "glean did not build");
    let ours = ours()?;
    println!("| no-op tasks, {TASKS} a job | tasks/s | ours / theirs |");
    println!("|---|---|---|");
    println!("| gleaner | {ours} | 1 |");
    for (name, package, script) in [("ray", "ray", RAY), ("hyperqueue", "hyperqueue", HYPERQUEUE)] {
        match peer(package, script) {
            Ok(theirs) => println!("| {name} | {theirs} | {:.1} |", ours as f64 / theirs as f64),
            Err(error) => println!("| {name} | SKIPPED: {error:#} | |"),
        }
    }
    Ok(())
}

/// One ledger-and-requester node, one provider, one warm-up job, one measured job.
fn ours() -> Result<u64> {
    let dir = tempfile::tempdir()?;
    let (buyer, seller) = (dir.path().join("buyer"), dir.path().join("seller"));
    let info = glean(&buyer, &["network", "init", "bench"])?;
    let line = info["join_line"].as_str().context("no join line")?.to_owned();
    glean(&seller, &["join", &line])?;
    glean(&seller, &["share", "--yes", "--detach", "--cores", "2"])?;
    let noop = root().join("examples/guests/noop.wasm");
    let noop = noop.to_str().context("path is not text")?;
    let run = |tasks: u32| -> Result<Duration> {
        let start = Instant::now();
        let range = format!("1-{tasks}");
        glean(&buyer, &["run", noop, "--array", &range])?;
        Ok(start.elapsed())
    };
    run(2_000)?;
    let elapsed = run(TASKS);
    for home in [&seller, &buyer] {
        glean(home, &["node", "--stop"])?;
    }
    Ok((f64::from(TASKS) / elapsed?.as_secs_f64()) as u64)
}

/// Runs our binary and returns the last line of JSON that it printed.
fn glean(home: &Path, args: &[&str]) -> Result<Value> {
    let exe =
        std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from).join("release/glean");
    let output = Command::new(exe)
        .args(["--home".as_ref(), home.as_os_str()])
        .args(["--json", "--no-input"])
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "glean {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("null");
    Ok(serde_json::from_str(last).or_else(|_| serde_json::from_str(&text)).unwrap_or(Value::Null))
}

/// Prints tasks per second of the peer; the script is Python.
fn peer(package: &str, script: &str) -> Result<u64> {
    let home = std::env::var("HOME").context("no HOME")?;
    let venv = Path::new(&home).join(".cache/gleaner-peers/venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status()?;
        ensure!(made.success(), "no python venv");
    }
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", package]).status()?;
    ensure!(installed.success(), "pip install {package} failed");
    let output = Command::new(&python).args(["-c", script]).env("TASKS", "5000").stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    last.trim().parse::<f64>().map(|n| n as u64).with_context(|| format!("{package} printed `{last}`"))
}

const RAY: &str = r"
import os, time, ray
n = int(os.environ['TASKS'])
ray.init(num_cpus=2, include_dashboard=False, logging_level='ERROR')
@ray.remote
def noop(): return None
ray.get([noop.remote() for _ in range(200)])
t = time.time(); ray.get([noop.remote() for _ in range(n)]); print(n / (time.time() - t))
";

const HYPERQUEUE: &str = r"
import os, time
from hyperqueue import LocalCluster, Job
n = int(os.environ['TASKS'])
with LocalCluster() as cluster:
    cluster.start_worker()
    client = cluster.client()
    def go(k):
        job = Job()
        for _ in range(k): job.program(['true'])
        client.wait_for_jobs([client.submit(job)])
    go(50)
    t = time.time(); go(n); print(n / (time.time() - t))
";
