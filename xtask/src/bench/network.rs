//! Our own figures on the real path: nodes of the real binary on loopback, QUIC between them, journal and ledger on
//! disk, signed receipts, checks on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{example, glean_exe};
use crate::figure::{Bar, Figure, quantile};
use crate::machine;

/// Tasks of the measured job.
pub const TASKS: u32 = 20_000;
/// Tasks of the job before it: workers, connections and trust are there afterwards.
const WARM_UP: u32 = 2_000;
/// Single tasks whose round trip is measured.
const ROUND_TRIPS: u32 = 400;
/// Long enough for a task that takes ten times as long as usual.
const UNWATCHED: Duration = Duration::from_millis(10);
/// Workers are let go after 20 s without work.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// Tasks a second, and processor time of the whole machine for each.
pub struct Rate {
    pub per_s: f64,
    pub cpu_us: f64,
}

/// A ledger node that also buys, and one provider. Stopped when dropped.
pub struct Lab {
    exe: PathBuf,
    folder: tempfile::TempDir,
    noop: String,
}

impl Lab {
    /// A network of two; the provider lends so many cores.
    pub fn start(cores: u32) -> Result<Lab> {
        let noop = example("guests/noop.wasm")?.to_str().context("path is not text")?.to_owned();
        let lab = Lab { exe: glean_exe()?, folder: tempfile::tempdir()?, noop };
        let info = last_json(&lab.glean("buyer", &["network", "init", "bench"])?);
        let line = info["join_line"].as_str().context("no join line")?.to_owned();
        lab.glean("seller", &["join", &line])?;
        lab.glean("seller", &["share", "--yes", "--detach", "--cores", &cores.to_string()])?;
        Ok(lab)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs our binary in a home; what it printed.
    pub fn glean(&self, home: &str, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.exe)
            .arg("--home")
            .arg(self.home(home))
            .args(["--json", "--no-input"])
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "glean {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The process of a node.
    pub fn pid(&self, home: &str) -> Result<u32> {
        let file: Value = serde_json::from_slice(&std::fs::read(self.home(home).join("run/api.json"))?)?;
        file["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no pid in run/api.json")
    }

    /// One no-op task, as `glean run` hands it in; the job's id.
    fn submit_one(&self, number: u32) -> Result<String> {
        let request = json!({
            "program": self.noop, "args": [], "tasks": {"kind": "one", "stdin": []}, "env": [], "inputs": [],
            "mem_max": 64 << 20, "timeout_ms": 60_000, "fuel_max": null, "output_max": 1 << 20, "max": null,
            "max_fails": null, "request_id": format!("round-trip-{number}"),
        });
        let answer: Value = serde_json::from_str(&self.api("buyer", "POST", "/v1/jobs", Some(&request))?)?;
        Ok(answer["job"].as_str().with_context(|| format!("no job in: {answer}"))?.to_owned())
    }

    /// Asks a node.
    fn api(&self, home: &str, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        let file: Value = serde_json::from_slice(&std::fs::read(self.home(home).join("run/api.json"))?)?;
        let host = file["url"].as_str().and_then(|url| url.strip_prefix("http://")).context("no url in api.json")?;
        let (token, body) =
            (file["token"].as_str().unwrap_or_default(), body.map(Value::to_string).unwrap_or_default());
        let mut stream = TcpStream::connect(host)?;
        // As the older version of the protocol has it, the answer ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "{method} {path}: {answer}");
        Ok(body.to_owned())
    }

    fn noop_job(&self, tasks: u32) -> Result<Duration> {
        let start = Instant::now();
        self.glean("buyer", &["run", &self.noop, "--array", &format!("1-{tasks}")])?;
        Ok(start.elapsed())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for home in ["seller", "buyer"] {
            // A node that is gone already is as good.
            let _ = self.glean(home, &["node", "--stop"]);
        }
    }
}

fn last_json(text: &str) -> Value {
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("null");
    serde_json::from_str(text).or_else(|_| serde_json::from_str(last)).unwrap_or(Value::Null)
}

/// One big job.
pub fn noop_tasks() -> Result<Rate> {
    let lab = Lab::start(2)?;
    lab.noop_job(WARM_UP)?;
    let busy = machine::busy_s()?;
    let elapsed = lab.noop_job(TASKS)?;
    let cpu_s = machine::busy_s()? - busy;
    let tasks = f64::from(TASKS);
    Ok(Rate { per_s: tasks / elapsed.as_secs_f64(), cpu_us: cpu_s * 1e6 / tasks })
}

/// Single tasks, one after the other: from the moment a task is sent until its answer is accepted, both ends' signatures,
/// journals and the worker included. Some are checked by a second run before they are accepted. They are handed in over
/// the node's own API, for a process that starts or ends takes one of two cores away from what is measured.
pub fn round_trip() -> Result<Vec<Figure>> {
    let lab = Lab::start(2)?;
    lab.noop_job(WARM_UP)?;
    let (mut times_ms, mut whole_ms) = (Vec::new(), Vec::new());
    for number in 0..ROUND_TRIPS {
        let job = lab.submit_one(number)?;
        std::thread::sleep(UNWATCHED);
        times_ms.push(task_ms(&lab.api("buyer", "GET", &format!("/v1/jobs/{job}/events"), None)?)?);
    }
    for _ in 0..ROUND_TRIPS / 4 {
        let start = Instant::now();
        lab.glean("buyer", &["run", &lab.noop])?;
        whole_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    whole_ms.sort_by(f64::total_cmp);
    Ok(vec![
        Figure::new(format!("one no-op task, sent to accepted, p50 of {ROUND_TRIPS}"), quantile(&times_ms, 0.5), "ms")
            .bar(Bar::AtMost(1.0)),
        Figure::new("the same, p99", quantile(&times_ms, 0.99), "ms").bar(Bar::AtMost(5.0)),
        Figure::new("`glean run` of one no-op, process start to exit, p50", quantile(&whole_ms, 0.5), "ms"),
    ])
}

/// Milliseconds between the first slice of a job and its first accepted answer.
fn task_ms(events: &str) -> Result<f64> {
    let lines: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at_us = |kind: &str| {
        let line = lines.iter().find(|line| line["event"] == kind);
        line.and_then(|line| line["at_us"].as_f64()).with_context(|| format!("no {kind} in: {events}"))
    };
    Ok((at_us("task_accepted")? - at_us("slice_sent")?) / 1e3)
}

/// Memory of a provider's node while nothing is to do.
pub fn idle() -> Result<Vec<Figure>> {
    let lab = Lab::start(2)?;
    lab.noop_job(WARM_UP)?;
    std::thread::sleep(IDLE_AFTER);
    let pid = lab.pid("seller")?;
    let cpu_s = machine::cpu_s(pid);
    let wait = Duration::from_secs(10);
    std::thread::sleep(wait);
    let permille = (machine::cpu_s(pid) - cpu_s) * 1e3 / wait.as_secs_f64();
    Ok(vec![
        Figure::new("idle provider, memory (PSS)", machine::pss_mib(pid)?, "MiB").bar(Bar::AtMost(30.0)),
        Figure::new("idle provider, memory (RSS)", machine::rss_mib(pid)?, "MiB"),
        Figure::new("idle provider, CPU of one core", permille / 10.0, "%"),
    ])
}
