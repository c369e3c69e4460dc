//! Real worker processes, real guests, and guests and workers that mean harm.
//!
//! This file has its own `main`, because a worker is the program that starts it, run with `worker` as its
//! argument: here that program is this test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

#[path = "worker/bombs.rs"]
mod bombs;
#[path = "worker/escape.rs"]
mod escape;
#[cfg(target_os = "linux")]
#[path = "worker/unbounded.rs"]
mod unbounded;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glean_node::worker::{FuelLeft, RunFile, RunReply, RunRequest, WorkerConfig, WorkerError, WorkerPool, child_main};
use glean_protocol::NoVerdict;
use glean_types::{Hash, Outcome, TrapKind};
use glean_vm::{ModuleLimits, prepare};

use bombs::bombs_go_off_in_their_own_worker_and_cost_the_next_job_nothing;
use escape::no_guest_gets_out_and_the_ways_are_real;

type Reply = Result<RunReply, NoVerdict>;
type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), || Box::pin($name()))),*] };
}

/// Places of a compiled program where a bit is flipped.
const CACHE_FLIPS: usize = 20;

const TESTS: &[Test] = tests! {
    programs_read_and_write
    nothing_runs_beyond_the_fuel_that_is_paid
    thousands_of_tasks_answer_in_order
    large_inputs_and_outputs_do_not_lock_up
    an_endless_loop_costs_only_its_own_task
    bombs_are_outcomes
    what_is_no_program_is_refused
    the_wall_has_no_holes_and_the_attempts_are_real
    what_is_no_worker_is_found_out
    a_damaged_cache_heals
    a_worker_does_not_outlive_its_node
    no_guest_gets_out_and_the_ways_are_real
    bombs_go_off_in_their_own_worker_and_cost_the_next_job_nothing
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("worker") => child_main(args.get(2).map(String::as_str)),
        Some("node-that-dies") => runtime().block_on(node_that_dies(Path::new(&args[2]))),
        wanted => run_tests(wanted.filter(|word| !word.starts_with('-'))),
    }
}

fn run_tests(wanted: Option<&str>) {
    let chosen = TESTS.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted)));
    let mut passed = 0;
    for (name, test) in chosen {
        let start = Instant::now();
        runtime().block_on(test());
        println!("test {name} ... ok ({} ms)", start.elapsed().as_millis());
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

macro_rules! guest {
    ($name:literal) => {
        include_bytes!(concat!("../../../examples/guests/", $name, ".wasm"))
    };
}

/// A pool over a fresh cache.
struct Bench {
    dir: tempfile::TempDir,
    pool: WorkerPool,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_exe(&std::env::current_exe().unwrap())
    }

    fn with_exe(exe: &Path) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let pool = pool(exe, &dir.path().join("cache"));
        Bench { dir, pool }
    }

    async fn program(&self, wasm: &[u8]) -> Hash {
        let program = prepare(wasm, &ModuleLimits::default()).unwrap();
        self.pool.ensure_program(program.id, program.bytes.into()).await.unwrap();
        program.id
    }

    async fn run(&self, wasm: &[u8], requests: Vec<RunRequest>) -> Vec<Reply> {
        let program = self.program(wasm).await;
        self.pool.run_batch(program, requests).await
    }

    async fn run_one(&self, wasm: &[u8], request: RunRequest) -> Reply {
        self.run(wasm, vec![request]).await.remove(0)
    }
}

fn pool(exe: &Path, cache: &Path) -> WorkerPool {
    WorkerPool::new(WorkerConfig { exe: exe.to_owned(), slots: 2, cache: cache.to_owned(), is_awaited: false }).unwrap()
}

fn request(args: &[&str]) -> RunRequest {
    RunRequest {
        args: std::iter::once("guest").chain(args.iter().copied()).map(str::to_owned).collect(),
        env: Vec::new(),
        stdin: Vec::new(),
        files: Arc::default(),
        seed: [7; 32],
        clock_ns: 1,
        fuel_max: 10_000_000_000,
        mem_max: 64 << 20,
        output_max: 8 << 20,
        timeout_ms: 60_000,
    }
}

fn file(guest: &str, content: &[u8]) -> RunFile {
    RunFile { guest: guest.to_owned(), hash: Hash::of(content), bytes: content.to_vec().into() }
}

async fn programs_read_and_write() {
    let bench = Bench::new();
    let echo = bench.run_one(guest!("echo"), RunRequest { stdin: b"hello".to_vec(), ..request(&[]) }).await.unwrap();
    assert_eq!((echo.outcome, echo.stdout.as_slice()), (Outcome::Exit(0), b"hello".as_slice()));

    let files = vec![file("/in/a.txt", b"alpha"), file("/in/deep/b.txt", b"beta")];
    let tree = bench.run_one(guest!("tree"), RunRequest { files: Arc::new(files), ..request(&[]) }).await.unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(text.contains("/in/deep/b.txt") && text.ends_with("2 files in 2 folders, 9 bytes\n"), "{text}");

    let written = bench.run_one(guest!("write"), request(&[])).await.unwrap();
    let names: Vec<&str> = written.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["/out/deep/er/table.csv", "/out/empty", "/out/hello.txt"]);

    let trap = bench.run_one(guest!("trap"), request(&[])).await.unwrap();
    assert!(matches!(trap.outcome, Outcome::Trap(TrapKind::Unreachable)), "{:?}", trap.outcome);
}

/// What a slice's price cap does not cover is not run for nothing: not an endless loop, and not the tasks behind it.
async fn nothing_runs_beyond_the_fuel_that_is_paid() {
    let bench = Bench::new();
    let endless = bench.program(guest!("spin")).await;
    let fuel = FuelLeft::new(3_000_000_000);
    let start = Instant::now();
    let replies = bench.pool.run_within(endless, vec![request(&[]); 500], &fuel).await;
    assert!(replies.iter().all(|reply| *reply == Err(NoVerdict::FuelCap)), "{replies:?}");
    let all = start.elapsed();
    let start = Instant::now();
    let own = bench.pool.run_batch(endless, vec![RunRequest { fuel_max: 6_000_000_000, ..request(&[]) }]).await;
    assert!(
        own[0].as_ref().is_ok_and(|reply| reply.outcome == Outcome::OutOfFuel),
        "the job's own limit is an outcome"
    );
    let two = start.elapsed();
    assert!(all < two * 20, "{all:?} for 500 tasks, {two:?} for the fuel of two of them");

    let echo = bench.program(guest!("echo")).await;
    let cost = bench.pool.run_batch(echo, vec![request(&[])]).await[0].as_ref().map(|reply| reply.fuel).unwrap();
    let fuel = FuelLeft::new(3 * (cost + 100_000) + cost);
    let replies = bench.pool.run_within(echo, vec![request(&[]); 8], &fuel).await;
    assert!(replies[..3].iter().all(Result::is_ok), "what is covered is answered: {replies:?}");
}

async fn thousands_of_tasks_answer_in_order() {
    const TASKS: usize = 5_000;
    let bench = Bench::new();
    let program = bench.program(guest!("echo")).await;
    let requests = (0..TASKS).map(|n| RunRequest { stdin: n.to_string().into_bytes(), ..request(&[]) }).collect();
    let start = Instant::now();
    let replies = bench.pool.run_batch(program, requests).await;
    println!("     {:.0} tasks/s through one worker", TASKS as f64 / start.elapsed().as_secs_f64());
    for (n, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.unwrap().stdout, n.to_string().into_bytes());
    }
}

async fn large_inputs_and_outputs_do_not_lock_up() {
    let bench = Bench::new();
    let stdin: Vec<u8> = (0..2_000_000u32).map(|n| n as u8).collect();
    let requests = vec![RunRequest { stdin: stdin.clone(), ..request(&[]) }; 200];
    for reply in bench.run(guest!("echo"), requests).await {
        assert!(reply.unwrap().stdout == stdin);
    }
}

async fn an_endless_loop_costs_only_its_own_task() {
    let bench = Bench::new();
    let quick = RunRequest { fuel_max: 1_000_000, ..request(&[]) };
    let endless = RunRequest { fuel_max: u64::MAX / 2, timeout_ms: 100, ..request(&[]) };
    let replies = bench.run(guest!("spin"), vec![quick.clone(), endless, quick]).await;
    assert_eq!(replies[1], Err(NoVerdict::Deadline));
    for place in [0, 2] {
        let reply = replies[place].as_ref().unwrap();
        assert_eq!((reply.outcome, reply.fuel), (Outcome::OutOfFuel, 1_000_000));
    }
}

async fn bombs_are_outcomes() {
    let bench = Bench::new();
    let bomb = bench.run_one(guest!("bomb"), request(&[])).await.unwrap();
    assert_eq!(bomb.outcome, Outcome::OutOfMemory);
    let flood = bench.run_one(guest!("flood"), RunRequest { fuel_max: u64::MAX / 2, ..request(&[]) }).await.unwrap();
    assert_eq!((flood.outcome, flood.stdout.len()), (Outcome::OutputLimit, 8 << 20));
    let deep = bench.run_one(guest!("recurse"), RunRequest { fuel_max: u64::MAX / 2, ..request(&[]) }).await;
    // Whichever ends first: the C stack inside the guest's memory (its own doing), or the machine's.
    let ended = matches!(&deep, Ok(reply) if matches!(reply.outcome, Outcome::Trap(_)))
        || deep == Err(NoVerdict::StackOverflow);
    assert!(ended, "{deep:?}");
}

async fn what_is_no_program_is_refused() {
    let bench = Bench::new();
    let nested = format!("(module (func (export \"_start\") {} {}))", "block ".repeat(20_000), "end ".repeat(20_000));
    let escaping = r#"(module (func (export "_start") (drop (i64.reinterpret_f64 (f64.sqrt (f64.const -1))))))"#;
    let cases: [(&str, Vec<u8>); 4] = [
        ("nothing", Vec::new()),
        ("text", b"hello, I am a program".to_vec()),
        ("deep nesting", wat::parse_str(nested).unwrap()),
        ("not prepared", wat::parse_str(escaping).unwrap()),
    ];
    for (what, wasm) in cases {
        let id = Hash::of(&wasm);
        let refused = bench.pool.ensure_program(id, wasm.into()).await;
        assert!(matches!(&refused, Err(WorkerError::Compile(_))), "{what}: {refused:?}");
        assert!(!bench.pool.has_program(id));
    }
}

async fn the_wall_has_no_holes_and_the_attempts_are_real() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let bench = Bench::new();
    let report = bench.pool.wall_report().await.unwrap();
    println!("     wall: {} layers; missing: {:?}", report.on.len(), report.off);
    assert_eq!(bench.pool.holes().await.unwrap(), Vec::<String>::new());
    let open = bench.pool.holes_without_wall().await.unwrap();
    assert_eq!(open.len(), 9, "an attempt that fails without a wall proves nothing: {open:?}");
}

async fn what_is_no_worker_is_found_out() {
    if !cfg!(unix) {
        return;
    }
    for exe in ["/usr/bin/true", "/usr/bin/yes", "/usr/bin/cat", "/nonexistent"] {
        let bench = Bench::with_exe(Path::new(exe));
        let program = prepare(guest!("noop"), &ModuleLimits::default()).unwrap();
        assert!(bench.pool.ensure_program(program.id, program.bytes.into()).await.is_err(), "{exe}");
        let replies = bench.pool.run_batch(program.id, vec![request(&[]); 3]).await;
        assert!(replies.len() == 3 && replies.iter().all(|reply| matches!(reply, Err(NoVerdict::Worker(_)))), "{exe}");
    }
}

/// One bit of machine code turned on the disk: an honest machine would give wrong answers, and be banned for them.
async fn a_damaged_cache_heals() {
    let bench = Bench::new();
    let program = bench.program(guest!("noop")).await;
    let entry = std::fs::read_dir(bench.dir.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&entry).unwrap();
    let places = (0..CACHE_FLIPS).map(|n| whole.len() * n / CACHE_FLIPS).chain([whole.len() - 1]);
    let flipped = places.map(|place| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        bytes
    });
    for damaged in flipped.chain([b"not machine code".to_vec(), Vec::new()]) {
        std::fs::write(&entry, damaged).unwrap();
        let pool = pool(&std::env::current_exe().unwrap(), entry.parent().unwrap());
        let reply = pool.run_batch(program, vec![request(&[])]).await.remove(0);
        assert!(matches!(reply, Err(NoVerdict::Worker(_))), "{reply:?}");
        assert!(!pool.has_program(program), "it is kept");
        let reply = bench.run_one(guest!("noop"), request(&[])).await.unwrap();
        assert_eq!(reply.outcome, Outcome::Exit(0));
    }
}

/// A node in the middle of an endless task.
async fn node_that_dies(cache: &Path) {
    let pool = pool(&std::env::current_exe().unwrap(), cache);
    let program = prepare(guest!("spin"), &ModuleLimits::default()).unwrap();
    pool.ensure_program(program.id, program.bytes.into()).await.unwrap();
    println!("running");
    pool.run_batch(program.id, vec![RunRequest { fuel_max: u64::MAX / 2, timeout_ms: 600_000, ..request(&[]) }]).await;
}

async fn a_worker_does_not_outlive_its_node() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut node = Command::new(std::env::current_exe().unwrap())
        .arg("node-that-dies")
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let worker = eventually("it starts a worker that computes", || {
        children(node.id()).into_iter().find(|pid| cpu_ticks(*pid) > 5)
    });
    node.kill().unwrap();
    node.wait().unwrap();
    eventually("its worker ends", || (!is_running(worker)).then_some(()));
}

/// Asks again until there is an answer; the limit is only there to fail.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::yield_now();
    }
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|fields| fields[1] == parent.to_string())).collect()
}

fn cpu_ticks(pid: u32) -> u64 {
    stat(pid).map_or(0, |fields| fields[11].parse().unwrap_or(0))
}

fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}
