//! Two hosts, each a network namespace with an address of its own and a cable between them: what a lab does on its
//! first day, and what happens when somebody trips over the cable.
//!
//! Needs root and iproute2 on Linux; elsewhere it prints SKIPPED with the reason.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use common::hosts::{Host, Namespace, books_agree, eventually, example, join_line, spent};

/// Both hosts and what is between them.
struct Cable {
    /// Lends.
    b: Host,
    /// Keeps the ledger and buys.
    a: Host,
    /// Goes last: the nodes live in it.
    folder: tempfile::TempDir,
}

impl Cable {
    /// Lays the cable, or says why that cannot be done here.
    fn lay(number: u8) -> Result<Cable, String> {
        let folder = tempfile::tempdir().unwrap();
        let id = format!("{}{number}", std::process::id());
        let host = |name: &str| {
            let namespace = Namespace::add(format!("glean-{id}-{name}"))?;
            Ok::<Host, String>(Host { namespace, home: folder.path().join(name) })
        };
        let (a, b) = (host("a")?, host("b")?);
        a.namespace.cable("eth0", &b.namespace, "eth0")?;
        a.namespace.address("eth0", &format!("10.98.{number}.1/24"))?;
        b.namespace.address("eth0", &format!("10.98.{number}.2/24"))?;
        Ok(Cable { b, a, folder })
    }

    fn set(&self, state: &str) {
        self.b.namespace.ip(&["link", "set", "eth0", state]).unwrap();
    }

    /// `a` has made a network, `b` has joined it and lends.
    fn open_lab(&self) {
        self.b.ok(&["join", &join_line(&self.a)]);
        self.b.ok(&["share", "--yes", "--cores", "1", "--detach"]);
    }
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
    books_agree(&cable.b, spent(&job));
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
    eventually("the cut is noticed", || cable.a.json(&["machines"])[0]["connected"] == false);
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
    if let Err(why) = cable.b.namespace.ip(&["rule", "add", "ipproto", "udp", "blackhole"]) {
        println!("SKIPPED: UDP cannot be blocked here: {why}");
        return;
    }
    cable.open_lab();
    let noop = example("guests/echo.wasm");
    cable.a.ok(&["run", &noop, "--array", "1-50", "--max", "1"]);
    let job = cable.a.job();
    assert_eq!((job["state"].as_str(), job["succeeded"].as_u64()), (Some("succeeded"), Some(50)), "{job}");
    assert!(cable.a.log().contains("relay open"), "{}", cable.a.log());
    assert_eq!(cable.a.json(&["machines"])[0]["path"], "relayed");
}

/// One megabit a second, and a queue of four packets that drops whatever does not fit.
#[test]
fn a_narrow_cable_that_drops_packets_costs_time_and_nothing_else() {
    let cable = cable_or_skip!(4);
    let narrow = ["rate", "1mbit", "burst", "4kb", "limit", "6kb"];
    for host in [&cable.a, &cable.b] {
        let args = ["qdisc", "add", "dev", "eth0", "root", "tbf"];
        if let Err(why) = host.namespace.tool("tc", &[&args[..], &narrow].concat(), "") {
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
        let seen = host.namespace.tool("tc", &["-s", "qdisc", "show", "dev", "eth0"], "").unwrap();
        let number = |after: &str| -> u64 {
            let rest = seen.split(after).nth(1).unwrap_or_else(|| panic!("no `{after}` in {seen}"));
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        (sent, dropped) = (sent + number(" bytes "), dropped + number("(dropped "));
    }
    assert!(dropped > 0, "the cable was too wide to mean anything: {sent} packets, none dropped");
    println!("a cable of 1 Mbit/s dropped {dropped} packets of {}", sent + dropped);
}
