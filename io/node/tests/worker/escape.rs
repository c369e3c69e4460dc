//! Guests that try to get out, or to take all there is: none reads or changes anything of the host, and the next honest job
//! starts as if nothing had been.
//!
//! Control: on an engine that lets a guest have the file system (Node's own WASI), the same bytes get out; and a bomb that no
//! limit would stop says itself how far it came.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use glean_node::worker::RunRequest;
use glean_types::Outcome;
use glean_vm::ModuleLimits;

use super::{Bench, request};

const GUEST: &[u8] = include_bytes!("../../../../examples/guests/escape.wasm");
/// Ways to what is not the guest's. The last has no way out on any engine that we know, and is tried all the same.
const WAYS: [&str; 23] = [
    "plain",
    "climb",
    "climb-relative",
    "proc-root",
    "proc-environ",
    "etc-passwd",
    "symlink",
    "symlink-climb",
    "hard-link",
    "steal",
    "descriptors",
    "listing",
    "swap",
    "bad-names",
    "create",
    "create-climb",
    "rename-over",
    "remove",
    "truncate",
    "append",
    "folder",
    "link-out",
    "symlink-out",
];
/// Ways that must lead out where nothing stands in it, or the test proves nothing.
const REAL_MIN: usize = 18;
const CANARY: &str = "nobody in here may know these words";
/// The next honest job is there by then; a wide margin over what is measured and printed.
const HONEST_PATIENCE: Duration = Duration::from_secs(30);

/// A folder of the host with something to read.
struct Yard(tempfile::TempDir);

impl Yard {
    fn new() -> Yard {
        let yard = Yard(tempfile::tempdir().unwrap());
        std::fs::write(yard.canary(), CANARY).unwrap();
        yard
    }

    fn canary(&self) -> String {
        self.0.path().join("canary").to_str().unwrap().to_owned()
    }

    fn mark(&self) -> String {
        self.0.path().join("mark").to_str().unwrap().to_owned()
    }

    fn is_untouched(&self) -> bool {
        let names: Vec<_> = std::fs::read_dir(self.0.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        names == ["canary"] && std::fs::read_to_string(self.canary()).unwrap() == CANARY
    }
}

/// Whether the guest reached something, by its own words or by what became of the host.
fn got_out(said: &[u8], yard: &Yard) -> bool {
    let said = String::from_utf8_lossy(said);
    said.contains("GOT") || said.contains("DID") || said.contains(CANARY) || !yard.is_untouched()
}

pub async fn no_guest_gets_out_and_the_ways_are_real() {
    let bench = Bench::new();
    let mut out = 0;
    for way in WAYS {
        let yard = Yard::new();
        let reply = bench.run_one(GUEST, request(&[way, &yard.canary(), &yard.mark()])).await.unwrap();
        let said = String::from_utf8_lossy(&reply.stdout).into_owned();
        assert!(!got_out(&reply.stdout, &yard), "{way}: {said}");
        assert_eq!(reply.outcome, Outcome::Exit(1), "{way}: {said}");
        out += usize::from(is_way_out(way));
    }
    let control = match is_there("node") {
        true => format!("{out} of them get out of an engine that is given the file system"),
        false => "SKIPPED: no Node.js here".to_owned(),
    };
    println!("     {} ways; {control}", WAYS.len());
    assert!(out >= REAL_MIN || !is_there("node"), "only {out} ways are real");
    println!(
        r#"BAR {{"bar":"escape","what":"ways of a guest to read or change files of the host: ways that led out","runs":{},"control":"{control}","note":"examples/guests/escape.c; the walls around the worker have probes of their own"}}"#,
        WAYS.len()
    );
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether the same attempt succeeds where the guest is given the file system.
fn is_way_out(way: &str) -> bool {
    let yard = Yard::new();
    let wasm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guests/escape.wasm");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/escape.mjs");
    let output = Command::new("node")
        .arg("--no-warnings")
        .args([&script, &wasm])
        .args([way, &yard.canary(), &yard.mark()])
        .output();
    for left in ["mine", "link", "way", "hard", "stolen"] {
        // What a way that did not lead far has left in the host's folder for such things.
        let _ = std::fs::remove_file(Path::new("/tmp").join(left));
    }
    output.is_ok_and(|output| got_out(&output.stdout, &yard))
}

/// A module of this text, without our own pass: some are too large for it to matter.
fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Programs that take all they can get, as bytes and arguments.
fn bombs() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let tables = r#"(module (table 1 funcref) (func (export "_start") (loop $again
        (br_if $again (i32.ne (table.grow (ref.null func) (i32.const 1000000)) (i32.const -1))) (br $again))))"#;
    let pages = r#"(module (memory 1) (func (export "_start") (loop $again
        (drop (memory.grow (i32.const 1))) (br $again))))"#;
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
    let guest = |name: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guests").join(name)).unwrap()
    };
    vec![
        ("memory", guest("bomb.wasm"), vec![]),
        ("output", guest("flood.wasm"), vec![]),
        ("recursion", guest("recurse.wasm"), vec![]),
        ("endless loop", guest("spin.wasm"), vec![]),
        ("a million files", GUEST.to_vec(), vec!["many-files", "/x", "/y"]),
        ("a sparse terabyte", GUEST.to_vec(), vec!["sparse", "/x", "/y"]),
        ("a million descriptors", GUEST.to_vec(), vec!["many-descriptors", "/x", "/y"]),
        ("a sleep of 30 years", GUEST.to_vec(), vec!["sleep", "/x", "/y"]),
        ("tables", module(tables), vec![]),
        ("pages", module(pages), vec![]),
        ("a jump with 200,000 ways", module(&jumps), vec![]),
        ("50,000 locals", module(&locals), vec![]),
        ("100,000 functions", module(&functions), vec![]),
        ("a function of 200,000 lines", module(&long), vec![]),
    ]
}

/// Memory of this process, which is the node here, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

pub async fn bombs_go_off_in_their_own_worker_and_cost_the_next_job_nothing() {
    let bench = Bench::new();
    let bombs = bombs();
    let limits = RunRequest { fuel_max: 20_000_000_000, timeout_ms: 2_000, ..request(&[]) };
    let (mut before, mut slowest_ms, mut honest_ms) = (0, 0, 0);
    // Twice: what a first time costs once is not growth.
    for round in 0..2 {
        for (what, wasm, args) in &bombs {
            let start = Instant::now();
            let fate = match glean_vm::prepare(wasm, &ModuleLimits::default()) {
                Err(refused) => format!("refused: {refused}"),
                Ok(program) => match bench.pool.ensure_program(program.id, program.bytes.into()).await {
                    Err(refused) => format!("not compiled: {refused}"),
                    Ok(()) => {
                        let asked = RunRequest { args: request(args).args, ..limits.clone() };
                        let reply = bench.pool.run_batch(program.id, vec![asked]).await.remove(0);
                        format!(
                            "{:?}",
                            reply.map(|reply| (
                                reply.outcome,
                                String::from_utf8_lossy(&reply.stdout[..reply.stdout.len().min(80)]).into_owned()
                            ))
                        )
                    }
                },
            };
            let took_ms = start.elapsed().as_millis();
            slowest_ms = slowest_ms.max(took_ms);
            let next = Instant::now();
            let honest =
                bench.run_one(include_bytes!("../../../../examples/guests/noop.wasm"), request(&[])).await.unwrap();
            assert_eq!(honest.outcome, Outcome::Exit(0), "after {what}");
            assert!(next.elapsed() < HONEST_PATIENCE, "after {what}");
            honest_ms = honest_ms.max(next.elapsed().as_millis());
            if round == 0 {
                println!("     {what}: {fate} in {took_ms} ms");
            }
        }
        if round == 0 {
            before = resident_kib();
        }
    }
    let after = resident_kib();
    assert!(after <= before + before / 10 + 1_024, "the node grew from {before} to {after} KiB");
    println!(
        r#"BAR {{"bar":"bombs","what":"programs that take memory, tables, files, descriptors, output, stack, time or a compile without end: that harmed the node or the next job","runs":{},"control":"each says how it ended; the first round's memory is the measure of the second","note":"the slowest, with its compile, was stopped in {slowest_ms} ms; the next honest job took at most {honest_ms} ms; the node's memory {before} -> {after} KiB"}}"#,
        2 * bombs.len()
    );
}
