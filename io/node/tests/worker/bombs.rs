//! Guests that take all there is, behind our limits and where there are none.
//!
//! Behind them, each goes off in its own worker, and the next honest job starts as if nothing had been.
//!
//! Control: on another engine, Node's own WASI, the same bytes must do what they threaten (`unbounded.rs`), and an
//! honest program under the same look nothing of the kind.

use std::path::Path;
use std::time::{Duration, Instant};

use glean_node::worker::RunRequest;
use glean_types::{Hash, Outcome};
use glean_vm::ModuleLimits;

use super::escape::{GUEST, is_there};
#[cfg(target_os = "linux")]
use super::unbounded::unbounded;
use super::{Bench, request};

/// What our worker grants here, and beyond which a bomb is real elsewhere.
pub const TIME: Duration = Duration::from_secs(2);
pub const MEMORY: u64 = 64 << 20;
pub const OUTPUT: u64 = 8 << 20;
/// A bomb has ended so long after its time; twice the bar of 2 s, for a busy machine. What was measured is printed.
const BITE_MAX: Duration = Duration::from_secs(4);
/// A few at once: the machine stays usable, and all of it short.
const AT_ONCE: usize = 4;
/// The next honest job is there by then; a wide margin over what is measured and printed.
const HONEST_PATIENCE: Duration = Duration::from_secs(30);

/// What a bomb takes without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threat {
    Time,
    Memory,
    Output,
    /// The machine's stack; the other engine's own limit on it is lifted.
    Stack,
    Files,
    Length,
    Descriptors,
    /// The time of a compiler. Another one may be good at just this.
    Compile,
}

/// A program that takes all it can get.
pub struct Bomb {
    name: &'static str,
    pub threat: Threat,
    pub wasm: Vec<u8>,
    pub args: Vec<&'static str>,
}

fn guest(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guests").join(name)).unwrap()
}

/// A module of this text, without our own pass: some are too large for it to matter.
fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn bombs() -> Vec<Bomb> {
    let tables = r#"(module (table 1 funcref) (func (export "_start") (loop $again
        (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 1000000)) (i32.const -1))) (br $again))))"#;
    let pages = r#"(module (memory 1) (func (export "_start") (loop $again
        (drop (memory.grow (i32.const 1))) (br $again))))"#;
    let deep = r#"(module (func $dive (param i64) (result i64)
            (i64.add (local.get 0) (call $dive (i64.add (local.get 0) (i64.const 1)))))
        (func (export "_start") (drop (call $dive (i64.const 0)))))"#;
    let labels = "0 ".repeat(200_000);
    let jumps = format!(r#"(module (func (export "_start") (block (br_table {labels} (i32.const 0)))))"#);
    let locals = format!(r#"(module (func (export "_start") {}))"#, "(local i64) ".repeat(50_000));
    let functions = format!(
        r#"(module (func (export "_start")) {})"#,
        "(func (param i64) (result i64) local.get 0) ".repeat(100_000)
    );
    let long = format!(
        r#"(module (func (export "_start") (local i64) {} (drop (local.get 0))))"#,
        "(local.set 0 (i64.mul (i64.add (local.get 0) (i64.const 7)) (i64.const 3))) ".repeat(200_000)
    );
    let bomb = |name, threat, wasm, way: Option<&'static str>| {
        let args = way.map_or_else(Vec::new, |way| vec![way, "/x", "/y"]);
        Bomb { name, threat, wasm, args }
    };
    let plain = |name, threat, wasm| bomb(name, threat, wasm, None);
    let way = |name, threat, way| bomb(name, threat, GUEST.to_vec(), Some(way));
    vec![
        plain("memory", Threat::Memory, guest("bomb.wasm")),
        plain("output", Threat::Output, guest("flood.wasm")),
        plain("recursion", Threat::Stack, guest("recurse.wasm")),
        plain("recursion without memory", Threat::Stack, module(deep)),
        plain("endless loop", Threat::Time, guest("spin.wasm")),
        way("a million files", Threat::Files, "many-files"),
        way("a sparse terabyte", Threat::Length, "sparse"),
        way("a million descriptors", Threat::Descriptors, "many-descriptors"),
        way("a sleep of 30 years", Threat::Time, "sleep"),
        plain("tables", Threat::Memory, module(tables)),
        plain("pages", Threat::Time, module(pages)),
        plain("a jump with 200,000 ways", Threat::Compile, module(&jumps)),
        plain("50,000 locals", Threat::Compile, module(&locals)),
        plain("100,000 functions", Threat::Compile, module(&functions)),
        plain("a function of 200,000 lines", Threat::Compile, module(&long)),
    ]
}

/// Memory of this process, which is the node here, KiB.
fn resident_kib() -> u64 {
    kib(std::process::id(), "VmRSS:")
}

/// A line of a process's status, KiB.
pub fn kib(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

pub async fn bombs_go_off_in_their_own_worker_and_cost_the_next_job_nothing() {
    let bench = Bench::new();
    let bombs = bombs();
    let limits = RunRequest {
        fuel_max: 20_000_000_000,
        timeout_ms: TIME.as_millis() as u64,
        mem_max: MEMORY,
        output_max: OUTPUT,
        ..request(&[])
    };
    let (mut before, mut over_ms, mut compiled_ms, mut honest_ms) = (0, 0, 0, 0);
    // Twice: what a first time costs once is not growth.
    for round in 0..2 {
        for bomb in &bombs {
            let start = Instant::now();
            let ready = compiled(&bench, bomb).await;
            let compile_ms = start.elapsed().as_millis();
            let start = Instant::now();
            let fate = match ready {
                Ok(program) => fate(&bench, bomb, program, &limits).await,
                Err(refused) => refused,
            };
            let ran = start.elapsed();
            let over = ran.saturating_sub(TIME);
            assert!(over < BITE_MAX, "{} ended {} ms after its time: {fate}", bomb.name, over.as_millis());
            (over_ms, compiled_ms) = (over_ms.max(over.as_millis()), compiled_ms.max(compile_ms));
            let next = Instant::now();
            let honest = bench.run_one(&guest("noop.wasm"), request(&[])).await.unwrap();
            assert_eq!(honest.outcome, Outcome::Exit(0), "after {}", bomb.name);
            assert!(next.elapsed() < HONEST_PATIENCE, "after {}", bomb.name);
            honest_ms = honest_ms.max(next.elapsed().as_millis());
            if round == 0 {
                println!("     {}: {fate} in {} ms, after {compile_ms} ms of compiling", bomb.name, ran.as_millis());
            }
        }
        if round == 0 {
            before = resident_kib();
        }
    }
    let after = resident_kib();
    assert!(after <= before + before / 10 + 1_024, "the node grew from {before} to {after} KiB");
    let control = control(&bombs);
    println!(
        r#"BAR {{"bar":"bombs","what":"programs that take memory, tables, files, descriptors, output, stack, time or a compile without end: that harmed the node or the next job","runs":{},"control":"{control}","note":"none ran for more than {over_ms} ms beyond its {} s; the slowest compile took {compiled_ms} ms; the next honest job took at most {honest_ms} ms; the node's memory {before} -> {after} KiB"}}"#,
        2 * bombs.len(),
        TIME.as_secs()
    );
}

/// The bomb, ready to go off, or why not.
async fn compiled(bench: &Bench, bomb: &Bomb) -> Result<Hash, String> {
    let program = glean_vm::prepare(&bomb.wasm, &ModuleLimits::default()).map_err(|why| format!("refused: {why}"))?;
    let ready = bench.pool.ensure_program(program.id, program.bytes.into()).await;
    ready.map(|()| program.id).map_err(|why| format!("not compiled: {why}"))
}

/// What became of a bomb behind our limits.
async fn fate(bench: &Bench, bomb: &Bomb, program: Hash, limits: &RunRequest) -> String {
    let asked = RunRequest { args: request(&bomb.args).args, ..limits.clone() };
    match bench.pool.run_batch(program, vec![asked]).await.remove(0) {
        Ok(reply) => {
            let said = String::from_utf8_lossy(&reply.stdout[..reply.stdout.len().min(80)]).into_owned();
            format!("{:?} {said:?}", reply.outcome)
        }
        Err(why) => format!("{why:?}"),
    }
}

#[cfg(not(target_os = "linux"))]
fn unbounded(_bomb: &Bomb) -> Result<String, String> {
    Err("only looked for on Linux".to_owned())
}

/// Each bomb where nothing limits it must do what it threatens.
fn control(bombs: &[Bomb]) -> String {
    if !cfg!(target_os = "linux") || !is_there("node") {
        println!("     SKIPPED: no Node.js on Linux here, so the bombs are not seen without limits");
        return "SKIPPED: no Node.js on Linux here".to_owned();
    }
    let mut real = 0;
    for some in bombs.chunks(AT_ONCE) {
        let told: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|bomb| scope.spawn(|| unbounded(bomb))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (bomb, told) in some.iter().zip(told) {
            match &told {
                Ok(done) => println!("     without limits, {}: {done}", bomb.name),
                Err(ended) => println!("     without limits, {}: harmless there: {ended}", bomb.name),
            }
            assert!(told.is_ok() || bomb.threat == Threat::Compile, "{} threatens nothing: {told:?}", bomb.name);
            real += usize::from(told.is_ok());
        }
    }
    for threat in [Threat::Time, Threat::Memory, Threat::Output, Threat::Stack, Threat::Files, Threat::Length] {
        let honest = Bomb { name: "noop", threat, wasm: guest("noop.wasm"), args: Vec::new() };
        assert!(unbounded(&honest).is_err(), "the look for {threat:?} sees it in an honest program");
    }
    let aimed = bombs.len() - real;
    let all = bombs.len();
    format!(
        "on an engine without limits {real} of {all} do what they threaten; {aimed} aim at a compiler, not at that one"
    )
}
