//! Every way to end, the same on any kind of engine; and what pinned programs cost.

use glean_types::{Outcome, TrapKind};

use super::*;
use crate::testing::{LIMITS, compile, dumping, plain_vm, program, run, run_with, unprepared, vm};
use crate::{ModuleLimits, VmConfig, prepare};

fn start(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (type $unary (func (param i32)))
            (table 2 3 funcref)
            (elem (i32.const 0) $deep)
            (memory (export "memory") 1)
            (func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))) (drop (i32.const 1)))
            (func (export "_start") {body}))"#
    )
}

#[test]
fn every_end_has_its_outcome() {
    let trap = Outcome::Trap;
    for (body, outcome) in [
        ("", Outcome::Exit(0)),
        ("(call $exit (i32.const 0))", Outcome::Exit(0)),
        ("(call $exit (i32.const 3))", Outcome::Exit(3)),
        ("(call $exit (i32.const -1))", Outcome::Exit(u32::MAX)),
        ("unreachable", trap(TrapKind::Unreachable)),
        ("(drop (i32.load (i32.const -4)))", trap(TrapKind::MemoryOutOfBounds)),
        ("(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))", trap(TrapKind::MemoryOutOfBounds)),
        ("(call_indirect (type $unary) (i32.const 0) (i32.const 9))", trap(TrapKind::TableOutOfBounds)),
        ("(call_indirect (type $unary) (i32.const 0) (i32.const 1))", trap(TrapKind::TableOutOfBounds)),
        ("(call_indirect (i32.const 0))", trap(TrapKind::BadSignature)),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", trap(TrapKind::DivisionByZero)),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", trap(TrapKind::IntegerOverflow)),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", trap(TrapKind::BadConversion)),
        ("(drop (i32.trunc_f64_s (f64.const 1e30)))", trap(TrapKind::IntegerOverflow)),
        ("(loop (br 0))", Outcome::OutOfFuel),
        // Refused memory and then failed: out of memory. Coped: not.
        ("(drop (memory.grow (i32.const 2000))) unreachable", Outcome::OutOfMemory),
        ("(drop (memory.grow (i32.const 2000))) (call $exit (i32.const 1))", Outcome::OutOfMemory),
        ("(drop (memory.grow (i32.const 2000)))", Outcome::Exit(0)),
        // A table that may not grow is the program's own limit.
        (
            "(if (i32.ne (table.grow (ref.null func) (i32.const 2)) (i32.const -1)) (then unreachable))",
            Outcome::Exit(0),
        ),
    ] {
        assert_eq!(run(&start(body)).outcome, outcome, "{body}");
    }
}

#[test]
fn the_machine_s_own_limits_are_no_verdict() {
    let deep = start("(call $deep (i32.const 0))");
    let high = Vm::new(VmConfig { stack_bytes: 8 << 20, pooling: false, ..VmConfig::default() });
    assert!(high.is_ok(), "workers have a higher stack");
    assert_eq!(
        run_with(&deep, Invocation::default(), &Limits { fuel_max: u64::MAX / 2, ..LIMITS }),
        Err(NoVerdict::StackOverflow)
    );
    let small = Vm::new(VmConfig { memory_max: 1 << 20, pooling: false, ..VmConfig::default() }).unwrap();
    let compiled = small.compile(&program(&start(""))).unwrap();
    assert_eq!(small.run(&compiled, Invocation::default(), &LIMITS), Err(NoVerdict::HostMemory));
}

#[test]
fn a_program_too_big_for_its_memory_limit_never_starts() {
    let limits = Limits { mem_max: 65_535, ..LIMITS };
    let done = run_with(&start(""), Invocation::default(), &limits).unwrap();
    assert_eq!((done.outcome, done.fuel), (Outcome::OutOfMemory, 0));
}

#[test]
fn fuel_is_a_sharp_edge() {
    let text = start(
        "(local $n i32) (loop (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))",
    );
    let whole = run(&text);
    let exact = Limits { fuel_max: whole.fuel, ..LIMITS };
    assert_eq!(run_with(&text, Invocation::default(), &exact).unwrap().outcome, Outcome::Exit(0));
    // The engine counts when a block is left, so the last few units before the end are not seen.
    let less = Limits { fuel_max: whole.fuel - 10, ..LIMITS };
    let short = run_with(&text, Invocation::default(), &less).unwrap();
    assert_eq!((short.outcome, short.fuel), (Outcome::OutOfFuel, less.fuel_max));
}

/// Kernels of different kinds and what each costs. A change here changes every bill: then [`crate::CLASS`] changes too.
const KERNELS: &[(&str, u64, &str)] = &[
    ("nothing", 1552, ""),
    ("integers", 47456, "(local $n i32) (loop (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 3)) (i32.const 1)))
        (br_if 0 (i32.ne (i32.rem_u (local.get $n) (i32.const 1009)) (i32.const 7))))"),
    ("floats", 20552, "(local $n i32) (local $x f64) (loop (local.set $x (f64.sqrt (f64.add (local.get $x) (f64.const 1.5))))
        (f64.store (i32.const 8) (local.get $x))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))"),
    ("vectors", 21552, "(local $n i32) (local $v v128) (loop
        (local.set $v (f32x4.div (f32x4.add (local.get $v) (v128.const f32x4 1 2 3 4)) (v128.const f32x4 3 0 -1 7)))
        (v128.store (i32.const 16) (local.get $v))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))"),
    ("filling", 4412, "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1000)) (memory.copy (i32.const 100) (i32.const 0) (i32.const 800))
        (drop (memory.grow (i32.const 3)))"),
    ("an abort half way", 2006, "(local $n i32) (loop (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i32.eq (local.get $n) (i32.const 500)) (then unreachable)) (br 0))"),
    ("a fault half way", LIMITS.fuel_max, "(local $n i32) (loop (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (if (i32.eq (local.get $n) (i32.const 500)) (then (drop (i32.div_u (i32.const 1) (i32.const 0))))) (br 0))"),
];

#[test]
fn what_kernels_cost_is_pinned() {
    let costs: Vec<(&str, u64)> = KERNELS.iter().map(|(name, _, body)| (*name, run(&dumping("", body)).fuel)).collect();
    let pinned: Vec<(&str, u64)> = KERNELS.iter().map(|(name, fuel, _)| (*name, *fuel)).collect();
    assert_eq!(costs, pinned);
}

#[test]
fn neither_optimisation_nor_pooling_can_be_seen() {
    for (name, _, body) in KERNELS {
        let program = program(&dumping("", body));
        let run_on = |vm: &Vm| vm.run(&vm.compile(&program).unwrap(), Invocation::default(), &LIMITS);
        let result = run_on(vm());
        assert_eq!(result, run_on(plain_vm()), "{name}");
        assert_eq!(result, run_on(vm()), "{name}, again");
    }
}

#[test]
fn nothing_is_left_for_the_next_task() {
    let text = dumping(
        "(global $g (mut i32) (i32.const 0))",
        "(i32.store (i32.const 0) (i32.add (global.get $g) (i32.add (i32.load (i32.const 0)) (i32.const 1)))) (global.set $g (i32.const 9)) (memory.fill (i32.const 64) (i32.const 7) (i32.const 60000))",
    );
    let compiled = compile(&text);
    let first = vm().run(&compiled, Invocation::default(), &LIMITS).unwrap();
    for _ in 0..70 {
        assert_eq!(vm().run(&compiled, Invocation::default(), &LIMITS).unwrap(), first);
    }
}

#[test]
fn compiled_programs_keep_in_bytes_and_in_files() {
    let program = program(&dumping("", KERNELS[2].2));
    let compiler = Vm::new(VmConfig { pooling: false, ..VmConfig::default() }).unwrap();
    let bytes = compiler.compile_to_bytes(&program).unwrap();
    let direct = vm().run(&vm().compile(&program).unwrap(), Invocation::default(), &LIMITS).unwrap();
    // SAFETY: the bytes were produced just above by this engine's twin.
    let loaded = unsafe { vm().load(&bytes) }.unwrap();
    assert_eq!(vm().run(&loaded, Invocation::default(), &LIMITS).unwrap(), direct);
    // SAFETY: as above; they are no module of this engine, which is what is to be found out.
    assert!(unsafe { plain_vm().load(b"not a module") }.is_err());
    assert_eq!(compiler.compile(&program).unwrap().to_bytes().unwrap(), bytes, "compiling is repeatable");
}

#[test]
fn a_program_that_was_never_prepared_still_cannot_reach_out() {
    // The linker is the second door: even an unchecked module finds nothing but what we offer.
    let text = r#"(module (import "env" "system" (func)) (func (export "_start")))"#;
    assert!(vm().compile(&unprepared(text)).is_err());
}

#[test]
fn real_programs_from_a_c_compiler_run_unchanged() {
    let bytes = include_bytes!("../../../../examples/climate/climate.wasm");
    let program = prepare(bytes, &ModuleLimits::default()).unwrap();
    let run_on = |vm: &Vm| {
        let task = Invocation { args: vec!["climate".into()], ..Invocation::default() };
        vm.run(&vm.compile(&program).unwrap(), task, &Limits { fuel_max: 2_000_000_000, ..LIMITS }).unwrap()
    };
    let fast = run_on(vm());
    assert!(!fast.stdout.is_empty() || !fast.stderr.is_empty(), "{:?}", fast.outcome);
    assert_eq!(fast, run_on(plain_vm()));
}
