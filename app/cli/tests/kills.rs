//! Real processes killed with SIGKILL at random moments under load: ledger, lender, buyer, worker.
//!
//! Goal: whatever was acknowledged is there afterwards, nothing is paid twice, no job hangs, money adds up, and work goes on
//! within seconds. Method: job after job; while one runs, a process drawn by the seed is killed after a drawn time and
//! started again the way its owner would. `GLEAN_KILLS` and `GLEAN_SEED` choose size and replay.
//!
//! Control: the same audit is held against books that were tampered with.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::time::{Duration, Instant};

use common::{LEDGER, Network, PROVIDER, REQUESTER, code, guest};
use serde_json::Value;

/// Kills in CI; the bar's other sizes come from outside.
const KILLS: u64 = 150;
/// What a private network gives a newcomer.
const GRANT: f64 = 100.0;
/// Beyond this a job hangs: twice what it takes until a connection into nowhere is missed.
const JOB_PATIENCE: Duration = Duration::from_secs(150);
const TASKS: u64 = 300;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Draws that follow from the seed.
struct Chance(u64, u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        let hash = splitmix(self.0, self.1);
        hash % n
    }
}

/// SplitMix64: small, and good enough to choose a victim.
fn splitmix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The process of a node, or a worker of the lender.
fn pid_of(network: &Network, victim: &str) -> Option<u32> {
    let node = if victim == "worker" { PROVIDER } else { victim };
    let file: Value = serde_json::from_slice(&std::fs::read(network.home(node).join("run/api.json")).ok()?).ok()?;
    let pid = u32::try_from(file["pid"].as_u64()?).ok()?;
    if victim != "worker" {
        return Some(pid);
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let of_threads = threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let all = of_threads.chain([children]).collect::<Vec<_>>().join(" ");
    all.split_whitespace().filter_map(|pid| pid.parse().ok()).next()
}

fn kill(pid: u32) -> bool {
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn jobs(network: &Network) -> Vec<Value> {
    network.json(REQUESTER, &["jobs"]).as_array().unwrap().clone()
}

fn money(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// A round that takes longer says why.
const SLOW: Duration = Duration::from_secs(8);

/// What the two sides and the ledger say about the money.
#[derive(Debug, Clone)]
struct Books {
    /// What the buyer's jobs cost, one by one.
    spent: Vec<f64>,
    balance: f64,
    in_channels: f64,
    coming_home: f64,
    /// What the lender holds in vouchers or has cashed.
    earned: f64,
}

impl Books {
    fn read(network: &Network) -> Books {
        let (buyer, lender) = (network.json(REQUESTER, &["status"]), network.json(PROVIDER, &["status"]));
        Books {
            spent: jobs(network).iter().map(|job| money(&job["spent"])).collect(),
            balance: money(&buyer["balance"]),
            in_channels: money(&buyer["in_channels"]),
            coming_home: money(&buyer["coming_home"]),
            earned: money(&lender["share"]["held"]) + money(&lender["share"]["settled"]),
        }
    }

    /// What does not add up.
    fn faults(&self) -> Vec<String> {
        let spent: f64 = self.spent.iter().sum();
        let mut faults = Vec::new();
        if (self.earned - spent).abs() > 1e-12 {
            faults.push(format!("the lender has {} of the {spent} that was paid", self.earned));
        }
        let sum = self.balance + self.in_channels + self.coming_home + spent;
        if (sum - GRANT).abs() > 1e-9 {
            faults.push(format!("the buyer has {sum} of {GRANT} gUSD"));
        }
        faults
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let kills = from_env("GLEAN_KILLS").unwrap_or(KILLS);
    let seed = from_env("GLEAN_SEED").unwrap_or(7);
    let mut chance = Chance(seed, 0);
    let network = Network::start();
    let range = format!("1-{TASKS}");
    let job = ["run", &guest("noop"), "--array", &range, "--detach"];
    network.ok(REQUESTER, &job);
    let (mut acknowledged, mut back_ms, mut hits) = (1, Vec::new(), [0u32; 4]);
    for round in 0..kills {
        let at = usize::try_from(chance.below(4)).unwrap();
        let victim = [LEDGER, PROVIDER, REQUESTER, "worker"][at];
        let delay = Duration::from_millis(chance.below(60));
        let mut submit = network.command(REQUESTER, &job);
        let mut submit =
            submit.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(delay);
        hits[at] += u32::from(pid_of(&network, victim).is_some_and(kill));
        let start = Instant::now();
        let mut is_slow = false;
        // As its owner would: any command brings a node back.
        for node in [LEDGER, PROVIDER, REQUESTER] {
            network.ok(node, &["status"]);
        }
        acknowledged += u64::from(submit.wait().unwrap().success());
        while jobs(&network).iter().any(|job| job["state"] == "running") {
            let state = jobs(&network);
            if start.elapsed() > SLOW && !std::mem::replace(&mut is_slow, true) {
                println!("round {round}: slow: {:#}", network.json(REQUESTER, &["explain", "last"]));
            }
            assert!(
                start.elapsed() < JOB_PATIENCE,
                "seed {seed}, round {round}, {victim} killed: a job hangs: {state:#?}"
            );
        }
        back_ms.push(start.elapsed().as_millis());
        println!(
            "round {round}: {victim} killed after {delay:?}, all done again in {} ms",
            start.elapsed().as_millis()
        );
    }
    for job in jobs(&network) {
        assert_eq!(
            (job["state"].as_str(), job["succeeded"].as_u64()),
            (Some("succeeded"), Some(TASKS)),
            "seed {seed}: {job}"
        );
    }
    assert!(jobs(&network).len() as u64 >= acknowledged, "seed {seed}: an acknowledged job is gone");
    // One more, so that a voucher whose way was cut is sent again. Refused while the ledger is not found again yet.
    let start = Instant::now();
    while code(&network.ran(REQUESTER, &["run", &guest("noop")])) != 0 {
        assert!(start.elapsed() < JOB_PATIENCE, "seed {seed}: no job is taken on after the last kill");
    }
    let start = Instant::now();
    let mut books = Books::read(&network);
    while !books.faults().is_empty() && start.elapsed() < JOB_PATIENCE {
        books = Books::read(&network);
    }
    assert_eq!(books.faults(), Vec::<String>::new(), "seed {seed}: {books:?}");
    network.ok(REQUESTER, &["receipt", "last", "--verify"]);
    back_ms.sort_unstable();
    let p = |share: usize| back_ms[(back_ms.len() - 1) * share / 100];
    println!(
        "{kills} kills (ledger, lender, buyer, worker hit {hits:?}), seed {seed}: {} jobs, none lost or stuck, money adds up; all work done again p50 {} ms, p99 {} ms",
        books.spent.len(),
        p(50),
        p(99)
    );
    println!(
        r#"BAR {{"bar":"kills","what":"kill -9 of ledger, lender, buyer or worker under load: acknowledged work lost, jobs stuck, money amiss","runs":{kills},"control":"the audit finds a lost voucher, a job paid twice and a deposit out of sight","note":"all work done again: p50 {} ms, p99 {} ms"}}"#,
        p(50),
        p(99)
    );
    // Control: the audit sees a voucher lost, a job paid twice, and a deposit out of sight.
    let tampered = [
        Books { earned: books.earned - books.spent[0], ..books.clone() },
        Books { spent: [&books.spent[..], &books.spent[..1]].concat(), ..books.clone() },
        Books { in_channels: books.in_channels - 0.2, ..books.clone() },
    ];
    assert!(tampered.iter().all(|books| !books.faults().is_empty()), "the audit is blind");
}
