//! What tests of several files need: engines made once, and programs from text.

use std::sync::OnceLock;

use glean_types::Hash;

use crate::{Compiled, Execution, Invocation, Limits, ModuleLimits, NoVerdict, Program, Vm, VmConfig, prepare};

/// The engine as workers have it.
pub(crate) fn vm() -> &'static Vm {
    static VM: OnceLock<Vm> = OnceLock::new();
    VM.get_or_init(|| Vm::new(VmConfig { slots: 64, ..VmConfig::default() }).unwrap())
}

/// The same rules with nothing optimised and no pool.
pub(crate) fn plain_vm() -> &'static Vm {
    static VM: OnceLock<Vm> = OnceLock::new();
    VM.get_or_init(|| Vm::new(VmConfig { optimise: false, pooling: false, ..VmConfig::default() }).unwrap())
}

pub(crate) const LIMITS: Limits = Limits { fuel_max: 100_000_000, mem_max: 64 << 20, output_max: 1 << 20 };

pub(crate) fn program(text: &str) -> Program {
    prepare(&wat::parse_str(text).unwrap(), &ModuleLimits::default()).unwrap()
}

/// Without any checks or passes.
pub(crate) fn unprepared(text: &str) -> Program {
    let bytes = wat::parse_str(text).unwrap();
    Program { id: Hash::of(&bytes), bytes }
}

pub(crate) fn compile(text: &str) -> Compiled {
    vm().compile(&program(text)).unwrap()
}

pub(crate) fn run_with(text: &str, task: Invocation, limits: &Limits) -> Result<Execution, NoVerdict> {
    vm().run(&compile(text), task, limits)
}

pub(crate) fn run(text: &str) -> Execution {
    run_with(text, Invocation::default(), &LIMITS).unwrap()
}

/// A `_start` with this body that afterwards writes the first 1,024 bytes of memory to standard output.
pub(crate) fn dumping(before: &str, body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            {before}
            (func $body {body})
            (func (export "_start")
                (call $body)
                (i32.store (i32.const 2000) (i32.const 0))
                (i32.store (i32.const 2004) (i32.const 1024))
                (drop (call $write (i32.const 1) (i32.const 2000) (i32.const 1) (i32.const 2008)))))"#
    )
}
