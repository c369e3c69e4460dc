//! The same answer from engines that have nothing in common but the rules.
//!
//! Modules that nobody wrote (`wasm-smith`) go through [`prepare`] and are run optimised, plain, with every NaN made canonical by
//! the engine, and by an interpreter of another house (`wasmi`). What ends, how, what it leaves in memory, and on our own
//! engines what it costs, must not differ by a bit.

use arbitrary::Unstructured;
use wasmtime::{Instance, Module, Store, Trap, Val, ValType};

use crate::testing::program;
use crate::{ModuleLimits, Program, Vm, VmConfig, prepare};

/// About half of them give a module that we take: ten thousand.
const SEEDS: u64 = 20_100;
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

fn generate(seed: u64) -> Option<Program> {
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
    prepare(&module, &ModuleLimits::default()).ok()
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

/// Two of our own engines agree: on everything, as far as both had stack enough.
fn assert_agree(ours: &Option<Trace>, theirs: &Option<Trace>, what: &str) {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        assert_eq!(ours, theirs, "{what}: only one of them begins");
        return;
    };
    let count = before(&ours.calls, &theirs.calls, &[End::Deep]);
    assert_eq!(ours.calls[..count], theirs.calls[..count], "{what}");
    assert_eq!(ours.fuel[..count], theirs.fuel[..count], "{what}");
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
}

fn compare(seeds: std::ops::Range<u64>) -> Count {
    let quiet = || VmConfig { pooling: false, ..VmConfig::default() };
    let fast = Vm::new(quiet()).unwrap();
    let plain = Vm::new(VmConfig { optimise: false, ..quiet() }).unwrap();
    let canonical = Vm::with_canonical_nans(quiet()).unwrap();
    let mut count = Count::default();
    for seed in seeds {
        let Some(program) = generate(seed) else { continue };
        count.modules += 1;
        let trace = on_ours(&fast, &program);
        assert_agree(&trace, &on_ours(&plain, &program), &format!("seed {seed}: optimised and not"));
        assert_agree(&trace, &on_ours(&canonical, &program), &format!("seed {seed}: NaNs as they come and canonical"));
        let Some(trace) = trace else { continue };
        count.calls += trace.calls.len();
        count.returned += trace.calls.iter().filter(|(end, _)| matches!(end, End::Returned(_))).count();
        let Some(theirs) = on_wasmi(&program) else { continue };
        let common = before(&trace.calls, &theirs, &[End::Deep, End::OutOfFuel]);
        assert_eq!(trace.calls[..common], theirs[..common], "seed {seed}: ours and wasmi");
        count.foreign += common;
    }
    count
}

#[test]
fn modules_that_nobody_wrote_run_the_same_on_every_engine() {
    let halves = [0..SEEDS / 2, SEEDS / 2..SEEDS];
    // Room for whatever the engines and the generator put on the stack.
    let spawn = |seeds| std::thread::Builder::new().stack_size(64 << 20).spawn(|| compare(seeds)).unwrap();
    let halves = halves.map(spawn).map(|half| half.join().unwrap());
    let sum = |part: fn(&Count) -> usize| halves.iter().map(part).sum::<usize>();
    let (calls, returned, foreign) = (sum(|c| c.calls), sum(|c| c.returned), sum(|c| c.foreign));
    assert!(returned > calls / 8 && foreign > calls / 4, "{returned} of {calls} calls end well, {foreign} compared");
    println!(
        r#"BAR {{"bar":"determinism","what":"modules that nobody wrote, run optimised, plain, with canonical NaNs and by another interpreter: answers, memories or fuels that differ","runs":{},"control":"without the pass the NaN torture differs; a wrong constant is seen","note":"{calls} calls, {returned} of them to their end, the rest to a trap or the end of their fuel; {foreign} compared with wasmi"}}"#,
        sum(|c| c.modules as usize)
    );
}

/// The comparison can fail: two programs that differ in one constant do.
#[test]
fn another_constant_is_another_trace() {
    let vm = Vm::new(VmConfig { pooling: false, ..VmConfig::default() }).unwrap();
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
