//! Modules that nobody wrote (`wasm-smith`), on every engine.
//!
//! They go through [`prepare`] and have four of their functions called: which ends, how, what it leaves in memory and, on our own
//! engines, what it costs must be the same. The table has a line for every twenty seeds.

use arbitrary::Unstructured;
use glean_types::Hash;
use wasmtime::{Instance, Module, Store, Trap, Val, ValType};

use super::golden::{Sum, assert_all_golden, assert_golden, raw};
use super::{quiet, with_room};
use crate::testing::program;
use crate::{ModuleLimits, Program, Vm, VmConfig, prepare};

/// About half of them give a module that we take: ten thousand.
const SEEDS: u64 = 20_100;
/// The first of them, for builds and machines on which all would take too long, and without the pass.
const FIRST_SEEDS: u64 = 1_000;
/// Seeds that share a line of the table.
const SEEDS_PER_LINE: u64 = 20;
/// Enough for most of what is generated to end by itself.
const FUEL: u64 = 100_000;

/// What a module must have for us to see what it did.
const SHAPE: &str = r#"(module
    (func (export "_start"))
    (func (export "f") (param f64 f32 i32 i64) (result f64) unreachable)
    (func (export "g") (param f32 v128) (result i64) unreachable)
    (func (export "h") (result f32) unreachable)
    (memory (export "memory") 1 4))"#;

/// How one call ended. Of a float the value: its bits are the caller's business unless they are stored.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Returned(Vec<String>),
    Trapped,
    OutOfFuel,
    /// Where a stack ends is the machine's business.
    Deep,
}

/// All that can be seen of a module's run: for each export how it ended and what memory was then, and what it cost.
#[derive(Debug, Clone, PartialEq)]
struct Trace {
    calls: Vec<(End, blake3::Hash)>,
    fuel: Vec<u64>,
}

/// The module of a seed, as the generator made it and as it runs. Not every one is such as we take.
fn generate(seed: u64) -> Option<(Program, Program)> {
    let mut bytes = vec![0u8; 2_048];
    blake3::Hasher::new_keyed(&[7; 32]).update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let config = wasm_smith::Config {
        exports: wat::parse_str(SHAPE).ok(),
        max_imports: 0,
        allow_start_export: false,
        max_memory32_bytes: 4 << 16,
        memory_max_size_required: true,
        table_max_size_required: true,
        max_table_elements: 64,
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        saturating_float_to_int_enabled: true,
        sign_extension_ops_enabled: true,
        simd_enabled: true,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).ok()?.to_bytes();
    let prepared = prepare(&module, &ModuleLimits::default()).ok()?;
    Some((Program { id: Hash::of(&module), bytes: module }, prepared))
}

fn argument(kind: &ValType) -> Val {
    match kind {
        ValType::I64 => Val::I64(-3),
        ValType::F32 => Val::F32(0.5f32.to_bits()),
        ValType::F64 => Val::F64(1e10f64.to_bits()),
        ValType::V128 => Val::V128((u128::MAX / 3).into()),
        _ => Val::I32(7),
    }
}

fn shown(value: &Val) -> String {
    match value {
        Val::F32(bits) => format!("{:?}", f32::from_bits(*bits)),
        Val::F64(bits) => format!("{:?}", f64::from_bits(*bits)),
        other => format!("{other:?}"),
    }
}

const CALLS: [&str; 4] = ["_start", "f", "g", "h"];

/// Runs a module on one of our engines. `None` if it does not even begin.
fn on_ours(vm: &Vm, program: &Program) -> Option<Trace> {
    let module = Module::new(&vm.engine, &program.bytes).expect("a prepared program compiles");
    let mut store = Store::new(&vm.engine, ());
    store.set_fuel(FUEL).ok()?;
    let instance = Instance::new(&mut store, &module, &[]).ok()?;
    let memory = instance.get_memory(&mut store, "memory")?;
    let mut trace = Trace { calls: Vec::new(), fuel: Vec::new() };
    for name in CALLS {
        let function = instance.get_func(&mut store, name)?;
        let kind = function.ty(&store);
        let arguments: Vec<Val> = kind.params().map(|kind| argument(&kind)).collect();
        let mut results = vec![Val::I32(0); kind.results().len()];
        store.set_fuel(FUEL).ok()?;
        let end = match function.call(&mut store, &arguments, &mut results) {
            Ok(()) => End::Returned(results.iter().map(shown).collect()),
            Err(error) => match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) => End::OutOfFuel,
                Some(Trap::StackOverflow) => End::Deep,
                _ => End::Trapped,
            },
        };
        // A trap costs the whole limit: see `run.rs`.
        trace.fuel.push(if matches!(end, End::Returned(_)) { FUEL - store.get_fuel().ok()? } else { FUEL });
        trace.calls.push((end, blake3::hash(memory.data(&store))));
    }
    Some(trace)
}

/// The same by an interpreter that shares no code with ours.
fn on_wasmi(program: &Program) -> Option<Vec<(End, blake3::Hash)>> {
    let mut config = wasmi::Config::default();
    config.consume_fuel(true);
    let engine = wasmi::Engine::new(&config);
    let module = wasmi::Module::new(&engine, &program.bytes).ok()?;
    let mut store = wasmi::Store::new(&engine, ());
    store.set_fuel(FUEL * 100).ok()?;
    let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).ok()?;
    let memory = instance.get_memory(&store, "memory")?;
    let mut calls = Vec::new();
    for name in CALLS {
        let function = instance.get_func(&store, name)?;
        let kind = function.ty(&store);
        let arguments: Vec<wasmi::Val> = kind
            .params()
            .iter()
            .map(|kind| match kind {
                wasmi::ValType::I64 => wasmi::Val::I64(-3),
                wasmi::ValType::F32 => wasmi::Val::F32(0.5f32.into()),
                wasmi::ValType::F64 => wasmi::Val::F64(1e10f64.into()),
                wasmi::ValType::V128 => wasmi::Val::V128((u128::MAX / 3).into()),
                _ => wasmi::Val::I32(7),
            })
            .collect();
        let mut results = vec![wasmi::Val::I32(0); kind.results().len()];
        store.set_fuel(FUEL * 100).ok()?;
        let end = match function.call(&mut store, &arguments, &mut results) {
            Ok(()) => End::Returned(
                results
                    .iter()
                    .map(|value| match value {
                        wasmi::Val::I32(value) => shown(&Val::I32(*value)),
                        wasmi::Val::I64(value) => shown(&Val::I64(*value)),
                        wasmi::Val::F32(value) => shown(&Val::F32(value.to_bits())),
                        wasmi::Val::F64(value) => shown(&Val::F64(value.to_bits())),
                        other => format!("{other:?}"),
                    })
                    .collect(),
            ),
            Err(error) => match error.as_trap_code() {
                Some(wasmi::TrapCode::OutOfFuel) => End::OutOfFuel,
                Some(wasmi::TrapCode::StackOverflow) => End::Deep,
                _ => End::Trapped,
            },
        };
        calls.push((end, blake3::hash(memory.data(&store))));
    }
    Some(calls)
}

type Calls = [(End, blake3::Hash)];

/// How many calls there are before the first that ended, on either side, in one of these ways.
fn before(ours: &Calls, theirs: &Calls, ends: &[End]) -> usize {
    let is_own = |(end, _): &(End, blake3::Hash)| ends.contains(end);
    ours.iter().zip(theirs).position(|(ours, theirs)| is_own(ours) || is_own(theirs)).unwrap_or(ours.len())
}

/// Puts what was seen of one module into its line of the table.
fn add(line: &mut Sum, program: &Program, trace: &Option<Trace>) {
    line.add(&program.id.0);
    let Some(trace) = trace else { return };
    for ((end, memory), fuel) in trace.calls.iter().zip(&trace.fuel) {
        assert_ne!(*end, End::Deep, "a stack of {} bytes is not enough", super::STACK_BYTES);
        line.add(format!("{end:?}").as_bytes());
        line.add(memory.as_bytes());
        line.pay(*fuel);
    }
}

fn name(first_seed: u64) -> String {
    format!("seeds {first_seed:05}-{:05}", first_seed + SEEDS_PER_LINE - 1)
}

/// What a stretch of seeds came to.
#[derive(Default)]
struct Count {
    modules: u64,
    calls: usize,
    /// Calls that came to their end.
    returned: usize,
    /// Calls that the foreign interpreter was asked about, too.
    foreign: usize,
    lines: Vec<String>,
}

/// Every module of these seeds on every engine.
fn compare(seeds: std::ops::Range<u64>) -> Count {
    let fast = Vm::new(quiet()).unwrap();
    let plain = Vm::new(VmConfig { optimise: false, ..quiet() }).unwrap();
    let canonical = Vm::with_canonical_nans(quiet()).unwrap();
    let mut count = Count::default();
    for first in seeds.step_by(SEEDS_PER_LINE as usize) {
        let mut line = Sum::default();
        for seed in first..first + SEEDS_PER_LINE {
            let Some((_, program)) = generate(seed) else { continue };
            let trace = on_ours(&fast, &program);
            assert_eq!(trace, on_ours(&plain, &program), "seed {seed}: optimised and not");
            assert_eq!(trace, on_ours(&canonical, &program), "seed {seed}: NaNs as they come and canonical");
            add(&mut line, &program, &trace);
            count.modules += 1;
            compare_elsewhere(&mut count, seed, &program, trace);
        }
        count.lines.push(line.line(&name(first)));
    }
    count
}

fn compare_elsewhere(count: &mut Count, seed: u64, program: &Program, trace: Option<Trace>) {
    let Some(trace) = trace else { return };
    count.calls += trace.calls.len();
    count.returned += trace.calls.iter().filter(|(end, _)| matches!(end, End::Returned(_))).count();
    let Some(theirs) = on_wasmi(program) else { return };
    let common = before(&trace.calls, &theirs, &[End::Deep, End::OutOfFuel]);
    assert_eq!(trace.calls[..common], theirs[..common], "seed {seed}: ours and wasmi");
    count.foreign += common;
}

#[test]
fn modules_that_nobody_wrote_run_the_same_on_every_engine() {
    let middle = SEEDS / 2 / SEEDS_PER_LINE * SEEDS_PER_LINE;
    let mut halves = std::thread::scope(|scope| {
        let halves = [0..middle, middle..SEEDS].map(|seeds| scope.spawn(|| with_room(|| compare(seeds))));
        halves.map(|half| half.join().unwrap())
    });
    let lines: Vec<String> = halves.iter_mut().flat_map(|half| std::mem::take(&mut half.lines)).collect();
    assert_all_golden("seeds ", &lines);
    let sum = |part: fn(&Count) -> usize| halves.iter().map(part).sum::<usize>();
    let (calls, returned, foreign) = (sum(|c| c.calls), sum(|c| c.returned), sum(|c| c.foreign));
    assert!(returned > calls / 8 && foreign > calls / 4, "{returned} of {calls} calls end well, {foreign} compared");
    println!(
        r#"BAR {{"bar":"determinism","what":"modules that nobody wrote, run optimised, plain, with canonical NaNs and by another interpreter: answers, memories or fuels that differ","runs":{},"control":"without the pass the NaN torture differs; a wrong constant is seen","note":"{calls} calls, {returned} of them to their end, the rest to a trap or the end of their fuel; {foreign} compared with wasmi"}}"#,
        sum(|c| c.modules as usize)
    );
}

/// The first lines of the table by one engine: of each module that we take what runs, or what the generator made.
fn first_lines(shown: fn(&str) -> String, choose: fn((Program, Program)) -> Program) -> (Vec<String>, usize) {
    let vm = Vm::new(quiet()).unwrap();
    let mut modules = 0;
    let line = |first: u64| {
        let mut line = Sum::default();
        for program in (first..first + SEEDS_PER_LINE).filter_map(generate).map(choose) {
            modules += 1;
            add(&mut line, &program, &on_ours(&vm, &program));
        }
        line.line(&shown(&name(first)))
    };
    ((0..FIRST_SEEDS).step_by(SEEDS_PER_LINE as usize).map(line).collect(), modules)
}

#[test]
fn the_first_modules_give_the_golden_answers() {
    let (lines, modules) = with_room(|| first_lines(str::to_owned, |(_, prepared)| prepared));
    println!("note: {modules} modules with the pass");
    assert_golden(&lines);
}

#[test]
fn without_the_pass_each_processor_has_its_own_answers() {
    let (lines, modules) = with_room(|| first_lines(raw, |(raw, _)| raw));
    println!("note: {modules} modules without the pass");
    assert_all_golden(&raw("seeds "), &lines);
}

/// The comparison can fail: two programs that differ in one constant do.
#[test]
fn another_constant_is_another_trace() {
    with_room(another_constant);
}

fn another_constant() {
    let vm = Vm::new(quiet()).unwrap();
    let storing = |value: u32| {
        program(&format!(
            r#"(module (func (export "_start") (i32.store (i32.const 0) (i32.const {value})))
                (func (export "f") (param f64 f32 i32 i64) (result f64) (local.get 0))
                (func (export "g") (param f32 v128) (result i64) (i64.const 1))
                (func (export "h") (result f32) (f32.const 1)) (memory (export "memory") 1 4))"#
        ))
    };
    let (one, two) = (storing(1), storing(2));
    assert_ne!(on_ours(&vm, &one), on_ours(&vm, &two));
    assert_eq!(on_ours(&vm, &one).map(|trace| trace.calls), on_wasmi(&one));
    assert_ne!(on_ours(&vm, &one).map(|trace| trace.calls), on_wasmi(&two));
}
