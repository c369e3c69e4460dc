//! The real binary on a real network: a ledger node, a provider and a requester, three processes on loopback, each in
//! a home of its own. One network serves all stories of a test; nothing here knows the insides of a node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{LEDGER, Network, PROVIDER, REQUESTER, code, guest, metric, page, talk};
use serde_json::Value;

#[test]
fn one_task_behaves_like_a_program_run_here() {
    let network = Network::start();

    let mut echo = network.command(REQUESTER, &["run", &guest("echo")]);
    let mut child = echo.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"sheaf\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), output.stdout.as_slice()), (0, b"sheaf\n".as_slice()), "{}", talk(&output));

    let output = network.ran(REQUESTER, &["run", &guest("exit"), "--", "42"]);
    assert_eq!(code(&output), 42, "the guest's exit code passes through: {}", talk(&output));
    assert!(talk(&output).contains("leaving with 42"));
    assert!(!talk(&output).contains('\u{1b}'), "no colours off a terminal");

    let output = network.ran(REQUESTER, &["run", &guest("trap")]);
    assert_eq!((code(&output), output.stdout.as_slice()), (134, b"before the trap\n".as_slice()), "{}", talk(&output));

    let output = network.ran(REQUESTER, &["run", &guest("bomb"), "--mem", "16MiB"]);
    assert_eq!(code(&output), 137, "{}", talk(&output));

    let output = network.ran(REQUESTER, &["run", &guest("env"), "-e", "KEY=a=b", "--", "x y"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("arg 1 = x y\n") && said.contains("env KEY=a=b\n"), "{said}");
}

#[test]
fn an_array_job_is_priced_run_written_explained_and_proved() {
    let network = Network::start();
    let (env, out) = (guest("env"), network.folder.path().join("out"));
    let job = ["--array", "1-20", "--", "task-{}"];

    let quote = network.json(REQUESTER, &[["quote", env.as_str(), "--samples", "2"].as_slice(), &job[..2]].concat());
    assert_eq!((quote["tasks"].as_u64(), quote["sampled"].as_u64()), (Some(20), Some(2)), "{quote}");

    let args = [["run", env.as_str(), "--max", "1", "--out", out.to_str().unwrap()].as_slice(), &job].concat();
    let output = network.ran(REQUESTER, &args);
    assert_eq!(code(&output), 0, "{}", talk(&output));
    assert!(output.stdout.is_empty(), "outputs went to the folder");
    for task in 0..20 {
        let file = std::fs::read_to_string(out.join(format!("{task:04}.out"))).unwrap();
        assert!(file.contains(&format!("arg 1 = task-{}\n", task + 1)), "{file}");
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["tasks"].as_array().unwrap().len(), 20);

    let jobs = network.json(REQUESTER, &["jobs"]);
    assert_eq!((jobs[0]["state"].as_str(), jobs[0]["succeeded"].as_u64()), (Some("succeeded"), Some(20)), "{jobs}");
    let spent: f64 = jobs[0]["spent"].as_str().unwrap().parse().unwrap();
    assert!(spent > 0.0 && spent <= 1.0, "{jobs}");
    assert!(!network.ok(REQUESTER, &["explain", "last/3"]).trim().is_empty());
    assert!(network.ok(REQUESTER, &["logs", "last/4"]).contains("arg 1 = task-5\n"));
    assert!(network.ok(REQUESTER, &["logs", "last", "--events"]).lines().count() > 20);
    assert_eq!(network.json(REQUESTER, &["machines"]).as_array().unwrap().len(), 1);

    let papers = network.folder.path().join("receipts.json");
    let papers = papers.to_str().unwrap();
    network.ok(REQUESTER, &["receipt", "last", "--out", papers, "--verify"]);
    // Without any node: the papers alone must do. Then, as a control, with one byte of them changed.
    network.ok("nobody", &["receipt", papers, "--verify"]);
    let mut bundle: Value = serde_json::from_slice(&std::fs::read(papers).unwrap()).unwrap();
    bundle["slices"][0]["receipt"]["paper"]["fuel"] = 1.into();
    std::fs::write(papers, bundle.to_string()).unwrap();
    let output = network.ran("nobody", &["receipt", papers, "--verify"]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8(output.stdout).unwrap().contains("not signed by whoever it names"));
}

#[test]
fn folders_go_in_and_files_come_out() {
    let network = Network::start();
    let data = network.folder.path().join("data/deep");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("a.txt"), b"gleaned\n").unwrap();
    let said = network.ok(REQUESTER, &["run", &guest("tree"), "--input", "data:/in"]);
    assert!(said.contains("/in/deep/a.txt"), "{said}");

    network.ok(REQUESTER, &["run", &guest("write"), "--out", "made"]);
    let made = network.folder.path().join("made/0000");
    assert!(made.join("hello.txt").exists() && made.join("deep/er/table.csv").exists());

    let list = network.folder.path().join("list.txt");
    std::fs::write(&list, "one\ntwo\n").unwrap();
    let said = network.ok(REQUESTER, &["run", &guest("env"), "--each-line", "list.txt"]);
    let (one, two) = (said.find("arg 1 = one"), said.find("arg 1 = two"));
    assert!(one.is_some() && one < two, "outputs come in the order of lines: {said}");
}

#[test]
fn a_detached_job_is_followed_cancelled_and_tried_again() {
    let network = Network::start();
    let job = network.ok(REQUESTER, &["run", &guest("spin"), "--fuel", "4000000000000", "--timeout", "1h", "--detach"]);
    let job = job.trim();
    assert_eq!(job.len(), 64, "the id is data: {job}");
    assert_eq!(network.json(REQUESTER, &["jobs"])[0]["state"], "running");
    let summary = network.json(REQUESTER, &["cancel", &job[..12]]);
    assert_eq!((summary["state"].as_str(), summary["cancelled"].as_u64()), (Some("cancelled"), Some(1)), "{summary}");

    let failed = network.ran(REQUESTER, &["run", &guest("exit"), "--array", "0-3", "--", "{}"]);
    assert_eq!(code(&failed), 1, "one of four succeeded");
    let tasks = network.json(REQUESTER, &["jobs", "last", "--failed"]);
    assert_eq!(tasks.as_array().unwrap().len(), 3, "{tasks}");
    network.ok(REQUESTER, &["rerun", "last", "--failed"]);
    let again = network.ran(REQUESTER, &["logs", "-f", "last"]);
    assert_eq!(code(&again), 1, "they exit with the same codes again: {}", talk(&again));
}

#[test]
fn bad_input_gets_a_clear_error_and_costs_nothing() {
    let network = Network::start();
    let text = network.folder.path().join("not.wasm");
    std::fs::write(&text, "hello").unwrap();
    for (args, said) in [
        (vec!["run", "not.wasm"], "cannot run"),
        (vec!["run", "not.wasm", "--max", "1000000000"], "missing"),
        (vec!["explain", "ffff"], "no job"),
        (vec!["run", "not.wasm", "--input", "not.wasm:/out/x"], ""),
    ] {
        let output = network.ran(REQUESTER, &args);
        assert_eq!(code(&output), 125, "{args:?}: {}", talk(&output));
        assert!(talk(&output).contains(said) && talk(&output).contains("\nhint: "), "{args:?}: {}", talk(&output));
    }
    assert_eq!(network.json(REQUESTER, &["jobs"]), Value::Array(vec![]));

    let second = network.ran(LEDGER, &["node"]);
    assert_eq!(code(&second), 125, "a home serves one process");
    assert!(talk(&second).contains("another glean node"), "{}", talk(&second));
}

#[test]
fn a_node_comes_back_with_everything_it_knew() {
    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("exit"), "--", "0"]);
    let jobs = || {
        let mut jobs = network.json(REQUESTER, &["jobs"]);
        // How many answers were checked is counted since the node's start.
        jobs[0]["rechecked"] = Value::Null;
        jobs
    };
    let before = (jobs(), network.json(REQUESTER, &["receipt"]));
    for node in [REQUESTER, LEDGER] {
        network.ok(node, &["node", "--stop"]);
    }
    let height = network.json(LEDGER, &["status"])["height"].as_u64().unwrap();
    assert!(height > 0, "the ledger kept its blocks");
    assert_eq!((jobs(), network.json(REQUESTER, &["receipt"])), before);
    let output = network.ran(REQUESTER, &["run", &guest("exit"), "--", "3"]);
    assert_eq!(code(&output), 3, "and goes on: {}", talk(&output));
    assert!(!talk(&output).contains("expired"), "the market remembers who lends: {}", talk(&output));
}

/// A large input leaves the requester once: who comes later fetches it from a machine that has worked on the job.
#[test]
fn a_latecomer_fetches_large_inputs_from_the_machine_that_has_them() {
    const LATECOMER: &str = "latecomer";
    let network = Network::start();
    let big = network.folder.path().join("big");
    std::fs::write(&big, vec![7u8; 3 << 20]).unwrap();
    let tracer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/path-tracer/path-tracer.wasm");
    let input = format!("{}:/big", big.display());
    let program = ["--", "--tile", "{}", "--tiles", "16x12", "--size", "1600x1200", "--spp", "8"];
    let job = ["run", tracer.to_str().unwrap(), "--array", "0-191", "--detach", "--max", "50", "--input", &input];
    network.ok(REQUESTER, &[&job[..], &program[..]].concat());
    eventually("the first machine is paid", || network.json(REQUESTER, &["jobs"])[0]["succeeded"].as_u64() > Some(0));
    assert_eq!(metric(&network, PROVIDER, "glean_net_blob_requests_total"), 0, "nobody has asked it yet");

    let info = network.json(LEDGER, &["network", "show"]);
    network.ok(LATECOMER, &["join", info["join_line"].as_str().unwrap()]);
    network.ok(LATECOMER, &["share", "--yes", "--cores", "1", "--detach"]);
    eventually("the latecomer works", || metric(&network, LATECOMER, "glean_tasks_run_total") > 0);
    assert!(metric(&network, LATECOMER, "glean_net_blob_bytes_fetched_total") >= 3 << 20);
    assert!(metric(&network, PROVIDER, "glean_net_blob_requests_total") > 0, "the first machine served it");
    network.ok(REQUESTER, &["cancel", "last"]);
    network.ok(LATECOMER, &["node", "--stop"]);
}

/// Asks again until it is so; the limit is only there to fail.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 90, "{what}: not within 90 s");
    }
}

#[test]
fn a_watcher_reads_counts_without_a_token_and_the_journal_can_be_looked_at() {
    let network = Network::start();
    network.ok(REQUESTER, &["run", &guest("noop"), "--array", "1-30"]);
    assert!(page(&network, REQUESTER, "/healthz", None).ends_with("ok\n"));
    let counts = ["glean_machines", "glean_jobs_running"].map(|name| metric(&network, REQUESTER, name));
    assert_eq!(counts, [1, 0]);
    let rebound = page(&network, REQUESTER, "/metrics", Some("evil.test"));
    assert!(rebound.contains("bad_host"), "a rebound name reads nothing: {rebound}");
    assert!(page(&network, REQUESTER, "/v1/status", None).contains("bad_token"), "everything else needs the token");

    let frames = network.ok(REQUESTER, &["debug", "journal", "--json"]);
    let frames: Vec<Value> = frames.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let accepted = frames.iter().flat_map(|frame| frame["records"].as_array().unwrap());
    assert_eq!(accepted.filter(|record| record.as_str().unwrap().starts_with("Accepted")).count(), 30);
}

#[test]
fn the_doctor_finds_a_healthy_node_and_says_which_walls_stand() {
    let network = Network::start();
    let output = network.ran(LEDGER, &["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| findings.as_array().unwrap().iter().find(|line| line["check"] == name).cloned();
    for check in ["home", "node", "ledger", "clock"] {
        assert_eq!(of(check).unwrap()["ok"], true, "{findings}");
    }
    assert!(of("wall").is_some() && of("holes").is_some(), "{findings}");
}
