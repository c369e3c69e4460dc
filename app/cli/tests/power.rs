//! Power cuts, full disks, disks that fail, and an end at each single write, under real processes doing real work.
//!
//! Under each home lies a disk that fails on command (`common/disk.c`). A power cut ends the processes of a host and takes what
//! they had not synced: all of it, or file by file and sector by sector as the seed has it. The points at which a process is
//! ended, or its disk fails, are not chosen by us: a first run writes down every kind of write, sync, rename and removal that
//! each node does, and each of them is then hit. Then the owner does what owners do, start it again, and the books are audited as in
//! `kills.rs`. `GLEAN_CUTS` and `GLEAN_SEED` choose size and replay.
//!
//! Control: a disk that lies about its syncs, which is what a forgotten fsync is, must be found out by the same audit.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::disk::{self, Loss, cut_power};
use common::load::{Chance, JOB_PATIENCE, TASKS, all_done, audit, end, from_env, job, jobs, money, nodes_of};
use common::{LEDGER, Network, PROVIDER, REQUESTER, guest, talk};

/// Cuts in CI.
const CUTS: u64 = 40;
const NODES: [&str; 3] = [LEDGER, PROVIDER, REQUESTER];

/// A network on disks that fail on command.
fn on_disks() -> Network {
    let mut network = Network::nobody();
    for node in NODES {
        disk::insert(&mut network, node);
    }
    network.found();
    network
}

fn run_job(network: &Network) {
    let job = job();
    network.ok(REQUESTER, &job.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let cuts = from_env("GLEAN_CUTS").unwrap_or(CUTS);
    let seed = from_env("GLEAN_SEED").unwrap_or(11);
    let mut chance = Chance::new(seed);
    let network = on_disks();
    run_job(&network);
    let (mut acknowledged, mut changed) = (1, 0);
    let job = job();
    for round in 0..cuts {
        let node = NODES[usize::try_from(chance.below(3)).unwrap()];
        let loss = if chance.below(2) == 0 { Loss::All } else { Loss::Some };
        let delay = Duration::from_millis(chance.below(80));
        let mut submit = network.command(REQUESTER, &job.iter().map(String::as_str).collect::<Vec<_>>());
        let mut submit = submit.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(delay);
        if node == REQUESTER {
            // It is on the same host.
            let _ = submit.kill();
        }
        let is_told = |status: std::process::ExitStatus| status.success();
        let before = submit.try_wait().unwrap().is_some_and(is_told);
        end(&network, node);
        changed += cut_power(&network, node, loss, &mut chance);
        let wait = || all_done(&network, JOB_PATIENCE);
        let done = wait().and_then(|()| {
            acknowledged += u64::from(before || submit.wait().unwrap().success());
            wait()
        });
        done.unwrap_or_else(|why| panic!("seed {seed}, round {round}, {node} without power: {why}"));
        println!("round {round}: {node} without power after {delay:?}, {loss:?} of what was not synced lost");
    }
    let books = audit(&network, acknowledged, JOB_PATIENCE).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    assert!(changed > 0, "no cut took anything");
    let caught = promises_are_kept_and_forgotten_syncs_caught();
    println!(
        r#"BAR {{"bar":"power","what":"power cuts under load, with all or a random part of what was not synced lost: acknowledged work lost, jobs stuck, money amiss","runs":{cuts},"control":"{caught} of {caught} forgotten fsyncs are caught by the same audit","note":"{changed} files were older or torn afterwards; {} jobs"}}"#,
        books.spent.len()
    );
}

/// The power of the lender goes as a job is done, and the buyer is never seen again, who could tell it what it holds.
fn lender_alone(network: &Network) -> Result<(), String> {
    run_job(network);
    all_done(network, JOB_PATIENCE)?;
    end(network, PROVIDER);
    let spent: f64 = jobs(network).iter().map(|job| money(&job["spent"])).sum();
    network.ok(REQUESTER, &["node", "--stop"]);
    cut_power(network, PROVIDER, Loss::All, &mut Chance::new(0));
    let share = network.json(PROVIDER, &["status"])["share"].clone();
    let earned = money(&share["held"]) + money(&share["settled"]);
    network.ok(REQUESTER, &["status"]);
    match (earned - spent).abs() <= 1e-12 {
        true => Ok(()),
        false => Err(format!("the lender has {earned} of the {spent} that was paid")),
    }
}

/// The power of the ledger goes right after a newcomer has been told its balance.
fn ledger_alone(network: &Network) -> Result<(), String> {
    let newcomer = "newcomer";
    let shown = network.json(LEDGER, &["network", "show"]);
    network.ok(newcomer, &["join", shown["join_line"].as_str().unwrap()]);
    let balance = || network.json(newcomer, &["wallet", "balance"])["balance"].as_str().map(str::to_owned);
    let start = Instant::now();
    while balance().is_none_or(|amount| amount == "0") && start.elapsed() < JOB_PATIENCE {}
    let told = balance();
    end(network, LEDGER);
    cut_power(network, LEDGER, Loss::All, &mut Chance::new(0));
    network.ok(LEDGER, &["status"]);
    while balance().is_none() && start.elapsed() < JOB_PATIENCE {}
    let has = balance();
    network.ok(newcomer, &["node", "--stop"]);
    match has == told {
        true => Ok(()),
        false => Err(format!("who was told {told:?} has {has:?}")),
    }
}

/// The power of the buyer goes right after it has taken a job on.
fn buyer_alone(network: &Network) -> Result<(), String> {
    run_job(network);
    end(network, REQUESTER);
    cut_power(network, REQUESTER, Loss::All, &mut Chance::new(0));
    match jobs(network).len() {
        1 => all_done(network, JOB_PATIENCE),
        other => Err(format!("it knows {other} jobs")),
    }
}

/// A cut right after each kind of promise, with the disk as it is, and, as a control, with syncs that are left out.
fn promises_are_kept_and_forgotten_syncs_caught() -> usize {
    type Promise = (&'static str, &'static str, fn(&Network) -> Result<(), String>);
    let promises: [Promise; 3] = [
        (REQUESTER, "journal.log", buyer_alone),
        (PROVIDER, "journal.log", lender_alone),
        (LEDGER, "ledger/", ledger_alone),
    ];
    for (node, name, promise) in promises {
        promise(&on_disks()).unwrap_or_else(|why| panic!("{node}: {why}"));
        let mut network = on_disks();
        network.ok(node, &["node", "--stop"]);
        disk::set(&mut network, node, "DISK_LIES", name.into());
        network.ok(node, &["status"]);
        let found = promise(&network);
        println!("{node}, {name} not synced: {found:?}");
        assert!(found.is_err(), "{node}: {name} is not synced, and nobody notices");
    }
    promises.len()
}

/// A kind of operation of a node: what it does, on which file.
type Point = (String, String);

/// What a name says about a file once numbers and hashes are left out.
fn kind_of(name: &str) -> String {
    let is_number = |part: &&str| part.len() >= 6 && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split(['/', '.', '-']).take_while(|part| !is_number(part)).collect();
    name[..parts.iter().map(|part| part.len() + 1).sum::<usize>().saturating_sub(1).min(name.len())].to_owned()
}

/// Everything that a node does to its disk from its start to the end of a job.
fn points(network: &mut Network, node: &'static str) -> BTreeMap<Point, u64> {
    network.ok(node, &["node", "--stop"]);
    let trace = network.folder.path().join(format!("{node}.trace"));
    disk::set(network, node, "DISK_TRACE", trace.to_str().unwrap().to_owned());
    network.ok(node, &["status"]);
    run_job(network);
    all_done(network, JOB_PATIENCE).unwrap();
    network.ok(node, &["node", "--stop"]);
    disk::unset(network, node, "DISK_TRACE");
    network.ok(node, &["status"]);
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        let (op, name) = line.split_once(' ').unwrap();
        // What stands beside the memory of a node is the same code in all three.
        let is_beside = ["run", "log"].iter().any(|folder| name.starts_with(folder));
        if !name.is_empty() && (node == LEDGER || !is_beside) {
            *points.entry((op.to_owned(), kind_of(name))).or_default() += 1;
        }
    }
    points
}

/// A node says goodbye to its peers for two seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What is done at a point, and how far into the work, in percent of such operations.
const ACTS: [(&str, u64); 4] = [("before", 20), ("after", 70), ("eio", 45), ("enospc", 60)];

/// How a node with a failing disk fared.
#[derive(Debug)]
struct Fared {
    /// What commands that failed said.
    said: Vec<String>,
    /// Whether the operation came.
    hit: bool,
    /// Whether the node went on as if nothing had happened.
    ran_on: bool,
}

#[test]
fn an_end_or_an_error_at_any_write_loses_nothing() {
    let mut network = on_disks();
    run_job(&network);
    all_done(&network, JOB_PATIENCE).unwrap();
    let (mut acknowledged, mut tried, mut hits, mut kinds) = (1, 0, 0, 0);
    for node in NODES {
        let points = points(&mut network, node);
        acknowledged += 1;
        kinds += points.len();
        for ((op, name), count) in points {
            for (act, percent) in ACTS {
                let nth = count * percent / 100 + 1;
                let at = format!("{node}: {act} at {op} {nth} of {count} of {name}");
                let fared = fare(&mut network, node, &format!("{op}:{name}:{nth}:{act}"));
                println!("{at}: {fared:?}");
                all_done(&network, JOB_PATIENCE).unwrap_or_else(|why| panic!("{at}: {why}"));
                let must_stop = act == "eio" && op == "sync" && fared.hit;
                assert!(!(must_stop && fared.ran_on), "{at}: it went on");
                assert!(fared.said.iter().all(|said| said.contains("hint:")), "{at}: an error without hint: {fared:?}");
                tried += 1;
                hits += u64::from(fared.hit);
            }
        }
    }
    audit(&network, acknowledged, JOB_PATIENCE).unwrap();
    println!(
        r#"BAR {{"bar":"points","what":"a process ended before or after, EIO at, ENOSPC from each kind of write, sync, rename and removal that a node does, under load: acknowledged work lost, jobs stuck, money amiss","runs":{hits},"control":"the audit is that of the power cuts","note":"{kinds} kinds of operations of three nodes, from a trace; {tried} tried; an fsync that fails always ends the node"}}"#
    );
}

/// Starts a node on its failing disk, gives the network work, and starts it again on a good one.
fn fare(network: &mut Network, node: &'static str, fault: &str) -> Fared {
    network.ok(node, &["node", "--stop"]);
    let trace = network.folder.path().join(format!("{node}.trace"));
    let _ = std::fs::remove_file(&trace);
    disk::set(network, node, "DISK_FAULT", fault.to_owned());
    disk::set(network, node, "DISK_TRACE", trace.to_str().unwrap().to_owned());
    let mut outputs = vec![network.ran(node, &["status"])];
    let is_up = outputs[0].status.success();
    // Not detached: it ends with the job, or with the requester's node.
    let mut submit = network.command(REQUESTER, &["run", &guest("noop"), "--array", &format!("1-{TASKS}")]);
    let mut submit = submit.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let is_running = |network: &Network| !nodes_of(network, node).is_empty();
    while is_up && is_running(network) && submit.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let is_hit = || std::fs::read_to_string(&trace).unwrap_or_default().contains("fault ");
    if node == REQUESTER {
        // It is on the same host, and must not start the node again.
        let _ = submit.kill();
    }
    let ran_on = is_hit() && is_running(network) && !is_stopping(network, node);
    // Some operations come only now.
    let _ = network.ran(node, &["node", "--stop"]);
    end(network, node);
    disk::unset(network, node, "DISK_FAULT");
    disk::unset(network, node, "DISK_TRACE");
    network.ok(node, &["status"]);
    outputs.push(submit.wait_with_output().unwrap());
    let failed = |output: &Output| output.status.code().is_some_and(|code| code != 0);
    let said = outputs.into_iter().filter(failed).map(|output| talk(&output));
    Fared { said: said.collect(), hit: is_hit(), ran_on }
}

/// Whether a node that its disk has failed comes to its end.
fn is_stopping(network: &Network, node: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < STOP_PATIENCE {
        if nodes_of(network, node).is_empty() {
            return true;
        }
    }
    false
}
