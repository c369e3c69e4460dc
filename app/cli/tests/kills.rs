//! Real processes killed with SIGKILL at random moments under load: ledger, lender, buyer, worker.
//!
//! Goal: whatever was acknowledged is there afterwards, nothing is paid twice, no job hangs, money adds up, and work goes on
//! within seconds. Method: job after job; while one runs, a process drawn by the seed is killed after a drawn time and
//! started again the way its owner would. `GLEAN_KILLS` and `GLEAN_SEED` choose size and replay. What a power cut does, and
//! an end at each single write, is in `power.rs`.
//!
//! Control: the same audit is held against books that were tampered with; and, in `planted.rs`, against programs with a fault.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::load::{Books, Chance, JOB_PATIENCE, all_done, audit, from_env, job, kill, pid_of};
use common::{LEDGER, Network, PROVIDER, REQUESTER};

/// Kills in CI; the bar's other sizes come from outside.
const KILLS: u64 = 150;

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let kills = from_env("GLEAN_KILLS").unwrap_or(KILLS);
    let seed = from_env("GLEAN_SEED").unwrap_or(7);
    let mut chance = Chance::new(seed);
    let network = Network::start();
    let job = job();
    let job: Vec<&str> = job.iter().map(String::as_str).collect();
    network.ok(REQUESTER, &job);
    let (mut acknowledged, mut back_ms, mut hits) = (1, Vec::new(), [0u32; 4]);
    for round in 0..kills {
        let at = usize::try_from(chance.below(4)).unwrap();
        let victim = [LEDGER, PROVIDER, REQUESTER, "worker"][at];
        let delay = Duration::from_millis(chance.below(60));
        let mut submit = network.command(REQUESTER, &job);
        let mut submit = submit.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(delay);
        hits[at] += u32::from(pid_of(&network, victim).is_some_and(kill));
        let start = Instant::now();
        let wait = || all_done(&network, JOB_PATIENCE);
        let done = wait().and_then(|_| {
            acknowledged += u64::from(submit.wait().unwrap().success());
            wait()
        });
        done.unwrap_or_else(|why| panic!("seed {seed}, round {round}, {victim} killed: {why}"));
        let back = start.elapsed().as_millis();
        back_ms.push(back);
        println!("round {round}: {victim} killed after {delay:?}, all done again in {back} ms");
    }
    let books = audit(&network, acknowledged, JOB_PATIENCE).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    back_ms.sort_unstable();
    let p = |share: usize| back_ms[(back_ms.len() - 1) * share / 100];
    println!(
        "{kills} kills (ledger, lender, buyer, worker hit {hits:?}), seed {seed}: {} jobs, none lost or stuck, money adds up",
        books.spent.len(),
    );
    println!(
        r#"BAR {{"bar":"kills","what":"kill -9 of ledger, lender, buyer or worker under load: acknowledged work lost, jobs stuck, money amiss","runs":{kills},"control":"the audit finds a lost voucher, a job paid twice, a deposit out of sight and a claim that paid nothing, and catches the faults planted in the program","note":"all work done again: p50 {} ms, p99 {} ms"}}"#,
        p(50),
        p(99)
    );
    // Control: the audit sees a voucher lost, a job paid twice, a deposit out of sight, and a claim that paid nothing.
    let tampered = [
        Books { cashed: books.cashed - books.spent[0], ..books.clone() },
        Books { paid_out: books.paid_out - books.spent[0], ..books.clone() },
        Books { spent: [&books.spent[..], &books.spent[..1]].concat(), ..books.clone() },
        Books { in_channels: books.in_channels - 0.2, ..books.clone() },
    ];
    assert!(tampered.iter().all(|books| !books.faults().is_empty()), "the audit is blind");
}
