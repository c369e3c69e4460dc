//! Tasks per second of a program that does nothing, on one core: what starting a task costs.
//!
//! By hand: `cargo bench -p glean-vm`. The figures of other programs are the worker's business.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::time::Instant;

use glean_types::Outcome;
use glean_vm::{Invocation, Limits, ModuleLimits, Vm, VmConfig, prepare};

const TASKS: u32 = 100_000;
const NOOP: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "\08\00\00\00\03\00\00\00ok\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;

fn main() {
    for pooling in [false, true] {
        let vm = Vm::new(VmConfig { pooling, ..VmConfig::default() }).expect("an engine");
        let wasm = wat::parse_str(NOOP).expect("valid text");
        let program = prepare(&wasm, &ModuleLimits::default()).expect("a program");
        let compiled = vm.compile(&program).expect("compiles");
        let limits = Limits { fuel_max: 1_000_000, mem_max: 1 << 20, output_max: 1 << 16 };
        let start = Instant::now();
        for _ in 0..TASKS {
            let done = vm.run(&compiled, Invocation::default(), &limits).expect("a verdict");
            assert!(done.outcome == Outcome::Exit(0) && done.stdout == b"ok\n");
        }
        let per_s = f64::from(TASKS) / start.elapsed().as_secs_f64();
        println!("vm::run/noop/pooling={pooling}: {per_s:.0} tasks/s");
    }
}
