//! The engine with every knob set, and compiled programs.
//!
//! | knob | value | why |
//! |---|---|---|
//! | threads, shared memory | off | scheduling is the one nondeterminism that nothing repairs |
//! | relaxed SIMD | off | its results differ between processors |
//! | SIMD, bulk memory, reference types (without `externref`), multi-value, extended constants | on | what today's compilers emit; all exact |
//! | memory64, multi-memory, tail calls, exceptions, GC, function references, stack switching, wide arithmetic, custom page sizes, components | off | nothing needs them yet; each is more surface |
//! | NaN canonicalisation | off | the pass in `nan.rs` does it, 3 to 8 times cheaper |
//! | fuel | on, table in `cost.rs` | exact bill, exact limit |
//! | epochs | off | up to a quarter slower on integer code; the deadline is kept by the node, which kills the worker process |
//! | wasm stack | [`VmConfig::stack_bytes`] | where a stack overflows depends on the processor: never a verdict, so free to vary |
//! | inlining | off | not needed after LLVM; one thing less that could touch fuel |
//! | memory reservation 4 GiB, guard 32 MiB | fixed | bounds checks become page faults; the compiled code depends on both, so compile and load agree |
//! | memory may move | no | follows from the reservation |
//! | address map, backtraces, unwind info | off | nobody reads them; they are a third of a compiled module |
//! | optimisation | speed (none in tests) | not observable |
//! | pooling allocator | on when running | starts a task in microseconds; not observable |
//! | `pagemap_scan` | where the kernel has it (Linux 6.7) | resets only touched pages: 3 times the no-op tasks |

use std::path::Path;
use std::sync::Arc;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, OptLevel, PoolingAllocationConfig,
    Strategy,
};

use crate::cost;
use crate::program::{FEATURES, Program, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::wasi::{self, State};

/// Address space of one memory: all that 32 bits can address.
const MEMORY_RESERVATION: u64 = 4 << 30;
const MEMORY_GUARD: u64 = 32 << 20;
/// Touched pages kept for the next task instead of being given back, where only touched pages are reset.
const KEEP_RESIDENT: usize = 32 << 20;
/// The same where resetting means clearing all of it.
const KEEP_RESIDENT_BLIND: usize = 128 << 10;
/// Engine data of one instance: 16 bytes for a global, 32 for a function that is pointed to.
const INSTANCE_BYTES_MAX: usize = 32 << 20;

/// What a host may choose: none of it can be seen in a result.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// Tasks that may run at the same time.
    pub slots: u32,
    /// Largest guest memory that this host grants.
    pub memory_max: u64,
    /// Stack of a guest. The calling thread needs half a megabyte more than this.
    pub stack_bytes: usize,
    /// Whether compiled code is optimised.
    pub optimise: bool,
    /// Whether instances come from a pool made in advance.
    pub pooling: bool,
}

impl Default for VmConfig {
    fn default() -> VmConfig {
        VmConfig { slots: 1, memory_max: MEMORY_RESERVATION, stack_bytes: 1 << 20, optimise: true, pooling: true }
    }
}

/// The machine could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the virtual machine could not be set up: {0}")]
pub struct SetupError(String);

/// A program could not be compiled, or a compiled one not loaded.
#[derive(Debug, thiserror::Error)]
#[error("the program could not be {what}: {why}")]
pub struct CompileError {
    what: &'static str,
    why: String,
}

/// Runs programs. Cheap to clone.
#[derive(Clone)]
pub struct Vm {
    pub(crate) engine: Engine,
    pub(crate) config: VmConfig,
    linker: Arc<Linker<State>>,
}

/// A program compiled for this machine.
#[derive(Clone)]
pub struct Compiled {
    pub(crate) pre: InstancePre<State>,
}

impl Vm {
    /// Sets the engine up.
    pub fn new(config: VmConfig) -> Result<Vm, SetupError> {
        let knobs = engine_config(&config);
        Vm::with_knobs(config, &knobs)
    }

    /// An engine that makes every NaN canonical by itself: what the pass is compared with.
    #[cfg(test)]
    pub(crate) fn with_canonical_nans(config: VmConfig) -> Result<Vm, SetupError> {
        let mut knobs = engine_config(&config);
        knobs.cranelift_nan_canonicalization(true);
        Vm::with_knobs(config, &knobs)
    }

    fn with_knobs(config: VmConfig, knobs: &Config) -> Result<Vm, SetupError> {
        let engine = Engine::new(knobs).map_err(|e| SetupError(chain(&e)))?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(|e| SetupError(chain(&e)))?;
        Ok(Vm { engine, config, linker: Arc::new(linker) })
    }

    /// Compiles a program. Takes about a second of processor time per megabyte; bound it from outside.
    pub fn compile(&self, program: &Program) -> Result<Compiled, CompileError> {
        let module = wasmtime::Module::new(&self.engine, &program.bytes);
        self.ready(module, "compiled")
    }

    /// Compiles a program into bytes for [`Vm::load`], without making it ready here.
    pub fn compile_to_bytes(&self, program: &Program) -> Result<Vec<u8>, CompileError> {
        self.engine.precompile_module(&program.bytes).map_err(|e| CompileError { what: "compiled", why: chain(&e) })
    }

    /// Makes a compiled program ready again.
    ///
    /// # Safety
    /// The bytes must be what [`Vm::compile_to_bytes`] or [`Compiled::to_bytes`] returned, unchanged: they contain
    /// machine code that is trusted blindly. Only a node's own compile worker may have produced them, and they
    /// must have been kept where nobody else can write. Bytes of another version of the engine, or for a
    /// processor with features that this one lacks, are refused.
    pub unsafe fn load(&self, bytes: &[u8]) -> Result<Compiled, CompileError> {
        // SAFETY: the caller promises what `deserialize` asks for.
        let module = unsafe { wasmtime::Module::deserialize(&self.engine, bytes) };
        self.ready(module, "loaded")
    }

    /// Like [`Vm::load`], mapping the file into memory: many processes then share one copy.
    ///
    /// # Safety
    /// As for [`Vm::load`]; also the file must not change as long as the program is in use.
    pub unsafe fn load_file(&self, path: &Path) -> Result<Compiled, CompileError> {
        // SAFETY: the caller promises what `deserialize_file` asks for.
        let module = unsafe { wasmtime::Module::deserialize_file(&self.engine, path) };
        self.ready(module, "loaded")
    }

    fn ready(&self, module: wasmtime::Result<wasmtime::Module>, what: &'static str) -> Result<Compiled, CompileError> {
        let pre = module.and_then(|module| self.linker.instantiate_pre(&module));
        pre.map(|pre| Compiled { pre }).map_err(|e| CompileError { what, why: chain(&e) })
    }
}

impl Compiled {
    /// Bytes for [`Vm::load`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CompileError> {
        self.pre.module().serialize().map_err(|e| CompileError { what: "saved", why: chain(&e) })
    }
}

/// The whole chain of causes in one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ")
}

fn engine_config(choice: &VmConfig) -> Config {
    let mut config = Config::new();
    features(&mut config);
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(if choice.optimise { OptLevel::Speed } else { OptLevel::None })
        .cranelift_nan_canonicalization(false)
        .compiler_inlining(wasmtime::Inlining::No)
        .consume_fuel(true)
        .operator_cost(cost::table())
        .epoch_interruption(false)
        .max_wasm_stack(choice.stack_bytes)
        // Unused (nothing here is asynchronous), but it must not be smaller.
        .async_stack_size(choice.stack_bytes + (1 << 20))
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .memory_init_cow(true)
        .signals_based_traps(true)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None);
    if choice.pooling {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(choice)));
    }
    config
}

fn features(config: &mut Config) {
    config
        .wasm_features(wasmtime::WasmFeatures::all(), false)
        .wasm_features(wasmtime::WasmFeatures::from_bits_truncate(FEATURES.bits()), true);
}

fn pool(choice: &VmConfig) -> PoolingAllocationConfig {
    let scans = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(choice.slots)
        .total_memories(choice.slots)
        .total_tables(choice.slots * TABLES_MAX as u32)
        .total_gc_heaps(0)
        .max_unused_warm_slots(choice.slots)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_tables_per_module(TABLES_MAX as u32)
        .table_elements(TABLE_ELEMENTS_MAX as usize)
        .max_memory_size(MEMORY_RESERVATION as usize)
        .linear_memory_keep_resident(if scans { KEEP_RESIDENT } else { KEEP_RESIDENT_BLIND })
        .table_keep_resident(if scans { KEEP_RESIDENT } else { KEEP_RESIDENT_BLIND })
        .pagemap_scan(if scans { Enabled::Yes } else { Enabled::No });
    pool
}
