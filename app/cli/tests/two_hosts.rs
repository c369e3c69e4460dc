//! Two hosts, each a network namespace with an address of its own and a cable between them: what a lab does on its
//! first day, and what happens when somebody trips over the cable.
//!
//! Needs root and iproute2 on Linux; elsewhere it prints SKIPPED with the reason.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A host: its namespace, its address, and the home of its node.
struct Host {
    namespace: String,
    home: PathBuf,
}

/// Both hosts and what is between them; gone when dropped.
struct Cable {
    folder: tempfile::TempDir,
    /// Keeps the ledger and buys.
    a: Host,
    /// Lends.
    b: Host,
}

impl Cable {
    /// Lays the cable, or says why that cannot be done here.
    fn lay(number: u8) -> Result<Cable, String> {
        let folder = tempfile::tempdir().unwrap();
        let id = format!("{}{number}", std::process::id());
        let host = |name: &str| Host { namespace: format!("glean-{id}-{name}"), home: folder.path().join(name) };
        let cable = Cable { a: host("a"), b: host("b"), folder };
        let (a, b) = (&cable.a.namespace, &cable.b.namespace);
        let (end_a, end_b) = (format!("ga{id}"), format!("gb{id}"));
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", &end_a, "netns", a, "type", "veth", "peer", "name", &end_b, "netns", b])?;
        for (host, end, last) in [(a, &end_a, 1), (b, &end_b, 2)] {
            ip(&["-n", host, "link", "set", end, "name", "eth0"])?;
            ip(&["-n", host, "addr", "add", &format!("10.98.{number}.{last}/24"), "dev", "eth0"])?;
            ip(&["-n", host, "link", "set", "lo", "up"])?;
            ip(&["-n", host, "link", "set", "eth0", "up"])?;
        }
        Ok(cable)
    }

    fn set(&self, state: &str) {
        ip(&["-n", &self.b.namespace, "link", "set", "eth0", state]).unwrap();
    }

    /// `a` has made a network, `b` has joined it and lends.
    fn open_lab(&self) {
        let made = self.a.ok(&["network", "init", "lab"]);
        let line = made.trim().strip_prefix("glean join ").expect("the join line is data").to_owned();
        self.b.ok(&["join", &line]);
        self.b.ok(&["share", "--yes", "--cores", "1", "--detach"]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for host in [&self.b, &self.a] {
            // A node that is gone already is as good, and so is a namespace.
            let _ = host.command(&["node", "--stop"]).output();
            let _ = ip(&["netns", "del", &host.namespace]);
        }
    }
}

impl Host {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_glean")]).args(args);
        command.env("GLEAN_HOME", &self.home).env("GLEAN_LANG", "en").stdin(Stdio::null());
        command
    }

    fn ran(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.ran(args);
        let talk = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.home.join("log/node.log")).unwrap_or_default();
        assert!(output.status.success(), "glean {args:?}: {talk}\n--- node.log\n{log}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn job(&self) -> Value {
        serde_json::from_str::<Value>(&self.ok(&["jobs", "--json"])).unwrap()[0].clone()
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("no iproute2: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    path.to_str().unwrap().to_owned()
}

macro_rules! cable_or_skip {
    ($number:expr) => {
        match Cable::lay($number) {
            Ok(cable) => cable,
            Err(why) => {
                println!("SKIPPED: two network namespaces cannot be made here: {why}");
                return;
            }
        }
    };
}

#[test]
fn a_lab_of_two_hosts_runs_checks_and_pays() {
    let cable = cable_or_skip!(1);
    cable.open_lab();
    let (out, data) = (cable.folder.path().join("out"), example("sqlite/data"));
    cable.a.ok(&[
        "run",
        &example("sqlite/sqlite.wasm"),
        "--each-line",
        &example("sqlite/queries.sql"),
        "--input",
        &format!("{data}:/data"),
        "--out",
        out.to_str().unwrap(),
        "--max",
        "1",
        "--",
        "/data",
        "{}",
    ]);
    let job = cable.a.job();
    assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(10)), "{job}");
    assert!(job["rechecked"].as_u64() >= Some(1), "a stranger's first answers are run again: {job}");
    let answers =
        std::fs::read_dir(&out).unwrap().flatten().filter(|f| f.path().extension().is_some_and(|e| e == "out"));
    assert_eq!(answers.count(), 10);
    let papers = cable.folder.path().join("receipts.json");
    cable.a.ok(&["receipt", "last", "--out", papers.to_str().unwrap(), "--verify"]);
    // The lender holds, or has cashed, what the buyer says that it has paid.
    let share: Value = serde_json::from_str(&cable.b.ok(&["status", "--json"])).unwrap();
    let money = |name: &str| share["share"][name].as_str().unwrap().parse::<f64>().unwrap();
    let spent: f64 = job["spent"].as_str().unwrap().parse().unwrap();
    assert!((money("held") + money("settled") - spent).abs() < 1e-12 && spent > 0.0, "{share} {job}");
}

#[test]
fn a_cut_cable_costs_time_and_nothing_else() {
    let cable = cable_or_skip!(2);
    cable.open_lab();
    let tracer = example("path-tracer/path-tracer.wasm");
    let mut run = cable.a.start(&[
        "run", &tracer, "--array", "0-95", "--", "--tile", "{}", "--tiles", "12x8", "--size", "1200x800", "--spp", "8",
    ]);
    eventually("some answers are there", || cable.a.job()["succeeded"].as_u64() >= Some(4));
    let start = std::time::Instant::now();
    cable.set("down");
    eventually("the cut is noticed", || {
        let machines: Value = serde_json::from_str(&cable.a.ok(&["machines", "--json"])).unwrap();
        machines[0]["connected"] == false
    });
    assert!(cable.a.job()["succeeded"].as_u64() < Some(96), "the cut came too late to mean anything");
    println!("the cut was noticed after {} ms", start.elapsed().as_millis());
    cable.set("up");
    assert!(run.wait().unwrap().success());
    let job = cable.a.job();
    assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(96)), "{job}");
    cable.a.ok(&["receipt", "last", "--verify"]);
}

/// A host whose network lets no UDP out works all the same: over the relay that the ledger node keeps, which its join
/// line names.
#[test]
fn a_host_without_udp_works_through_the_relay() {
    let cable = cable_or_skip!(3);
    if let Err(why) = ip(&["-n", &cable.b.namespace, "rule", "add", "ipproto", "udp", "blackhole"]) {
        println!("SKIPPED: UDP cannot be blocked here: {why}");
        return;
    }
    cable.open_lab();
    let noop = example("guests/echo.wasm");
    cable.a.ok(&["run", &noop, "--array", "1-50", "--max", "1"]);
    let job = cable.a.job();
    assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(50)), "{job}");
    let log = std::fs::read_to_string(cable.a.home.join("log/node.log")).unwrap();
    assert!(log.contains("relay open"), "{log}");
}

/// One megabit a second, and a queue of four packets that drops whatever does not fit.
#[test]
fn a_narrow_cable_that_drops_packets_costs_time_and_nothing_else() {
    let cable = cable_or_skip!(4);
    let narrow = ["rate", "1mbit", "burst", "4kb", "limit", "6kb"];
    for host in [&cable.a, &cable.b] {
        let args = ["qdisc", "add", "dev", "eth0", "root", "tbf"];
        if let Err(why) = tc(host, &[&args[..], &narrow].concat()) {
            println!("SKIPPED: no cable can be made narrow here: {why}");
            return;
        }
    }
    cable.open_lab();
    let (tracer, out) = (example("path-tracer/path-tracer.wasm"), cable.folder.path().join("out"));
    cable.a.ok(&[
        "run",
        &tracer,
        "--out",
        out.to_str().unwrap(),
        "--array",
        "0-23",
        "--max",
        "1",
        "--",
        "--tile",
        "{}",
        "--tiles",
        "6x4",
        "--size",
        "600x400",
        "--spp",
        "2",
    ]);
    let job = cable.a.job();
    assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(24)), "{job}");
    cable.a.ok(&["receipt", "last", "--verify"]);
    let (mut sent, mut dropped) = (0, 0);
    for host in [&cable.a, &cable.b] {
        let seen = tc(host, &["-s", "qdisc", "show", "dev", "eth0"]).unwrap();
        let number = |after: &str| -> u64 {
            let rest = seen.split(after).nth(1).unwrap_or_else(|| panic!("no `{after}` in {seen}"));
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        (sent, dropped) = (sent + number(" bytes "), dropped + number("(dropped "));
    }
    assert!(dropped > 0, "the cable was too wide to mean anything: {sent} packets, none dropped");
    println!("a cable of 1 Mbit/s dropped {dropped} packets of {}", sent + dropped);
}

fn tc(host: &Host, args: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(["netns", "exec", &host.namespace, "tc"]).args(args).output();
    let output = output.map_err(|e| format!("no iproute2: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("tc {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Asks again until it is so; the limit is only there to fail. (A peer that says nothing is gone after 75 s: see
/// `silence_timeout` in `io/net/src/limits.rs`.)
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 150, "{what}: not within 150 s");
    }
}
