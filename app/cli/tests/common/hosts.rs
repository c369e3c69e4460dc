//! Hosts on one machine: each a network namespace with addresses, cables and rules of its own, and the home of a node.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Between two looks: each is a process, and takes time from those that are looked at.
const BREATH: Duration = Duration::from_millis(100);

/// A namespace; gone when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn add(name: String) -> Result<Namespace, String> {
        ip(&["netns", "add", &name])?;
        let made = Namespace { name };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// `ip` in here.
    pub fn ip(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// A program in here that must succeed; what it prints.
    pub fn tool(&self, tool: &str, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.command(tool);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("no iproute2: {e}"))?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).map_err(|e| e.to_string())?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{tool} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Lays a cable from here to there; both ends are up.
    pub fn cable(&self, end: &str, there: &Namespace, other_end: &str) -> Result<(), String> {
        self.ip(&["link", "add", end, "type", "veth", "peer", "name", other_end, "netns", &there.name])?;
        self.ip(&["link", "set", end, "up"])?;
        there.ip(&["link", "set", other_end, "up"])
    }

    /// An address like `10.0.0.1/24`.
    pub fn address(&self, end: &str, address: &str) -> Result<(), String> {
        self.ip(&["addr", "add", address, "dev", end])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that is gone already is as good.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A host with a node on it, which is stopped when dropped.
pub struct Host {
    pub namespace: Namespace,
    pub home: PathBuf,
}

impl Host {
    pub fn command(&self, args: &[impl AsRef<str> + std::fmt::Debug]) -> Command {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_glean"));
        command
            .args(args.iter().map(|arg| arg.as_ref()))
            .env("GLEAN_HOME", &self.home)
            .env("GLEAN_LANG", "en")
            .stdin(Stdio::null());
        command
    }

    pub fn ran(&self, args: &[impl AsRef<str> + std::fmt::Debug]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn ok(&self, args: &[impl AsRef<str> + std::fmt::Debug]) -> String {
        let output = self.ran(args);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "glean {args:?}: {talk}\n--- node.log\n{}", self.log());
        // The answers of programs may be pictures.
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log/node.log")).unwrap_or_default()
    }

    pub fn start(&self, args: &[impl AsRef<str> + std::fmt::Debug]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The newest job.
    pub fn job(&self) -> Value {
        self.json(&["jobs"])[0].clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A node that is gone already is as good.
        let _ = self.command(&["node", "--stop"]).output();
    }
}

/// `ledger` has made a network; every other host joins it with this line.
pub fn join_line(ledger: &Host) -> String {
    let made = ledger.ok(&["network", "init", "lab"]);
    made.trim().strip_prefix("glean join ").expect("the join line is data").to_owned()
}

/// The lender holds, or has cashed, what the buyer says that it has paid, and never more; the last voucher may still be on
/// its way.
pub fn books_agree(lender: &Host, spent: f64) {
    assert!(spent > 0.0, "nothing was paid");
    eventually("the lender has what the buyer has paid", || {
        let share = lender.json(&["status"])["share"].take();
        let money = |name: &str| share[name].as_str().unwrap().parse::<f64>().unwrap();
        let missing = spent - money("held") - money("settled");
        assert!(missing > -1e-12, "{share} {spent}");
        missing < 1e-12
    });
}

pub fn spent(job: &Value) -> f64 {
    job["spent"].as_str().unwrap().parse().unwrap()
}

pub fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("no iproute2: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

pub fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    path.to_str().unwrap().to_owned()
}

/// Asks again until it is so; the limit is only there to fail. (A peer that says nothing is gone after 75 s: see
/// `silence_timeout` in `io/net/src/limits.rs`.)
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 150, "{what}: not within 150 s");
        std::thread::sleep(BREATH);
    }
}

/// Looks again and again for so long.
pub fn watch(time: Duration, mut look: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < time {
        look();
        std::thread::sleep(BREATH);
    }
}
