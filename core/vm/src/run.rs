//! One task: a compiled program, its input and its limits in; an outcome, the fuel and the output out.
//!
//! What must stay true: an [`Execution`] depends on nothing but the program, the invocation and the limits. What depends on
//! the machine (its memory, its stack, a fault in the engine) is a [`NoVerdict`], never an outcome.

use glean_types::{Outcome, TrapKind};
use wasmtime::{Store, Trap};

use crate::engine::{Compiled, Vm, chain};
use crate::limiter::{HostMemory, MemoryLimiter, TooSmall};
use crate::program::TABLE_ELEMENTS_MAX;
use crate::wasi::{Invocation, State, Stop, Wasi};

/// What a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fuel.
    pub fuel_max: u64,
    /// Bytes of linear memory.
    pub mem_max: u64,
    /// Bytes written and kept: standard output, standard error and files, all together.
    pub output_max: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used. The whole limit if that is what ended it, or a fault of the guest that the engine cannot count exactly.
    pub fuel: u64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Files under `/out` and their content, sorted by path.
    pub files: Vec<(String, Vec<u8>)>,
}

/// This machine cannot say: nothing about the task is known, another machine may try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVerdict {
    /// The host has less memory than it granted.
    #[error("the machine ran out of memory")]
    HostMemory,
    /// Deeper calls than this machine's stack holds; how deep that is differs between processors.
    #[error("the guest's call stack is deeper than the machine allows")]
    StackOverflow,
    /// The engine failed.
    #[error("the virtual machine failed: {0}")]
    Engine(String),
}

impl Vm {
    /// Runs one task to its end.
    pub fn run(&self, program: &Compiled, task: Invocation, limits: &Limits) -> Result<Execution, NoVerdict> {
        if limits.mem_max > self.config.memory_max {
            return Err(NoVerdict::HostMemory);
        }
        let state = State {
            wasi: Wasi::new(task, limits.output_max),
            limiter: MemoryLimiter::new(limits.mem_max, TABLE_ELEMENTS_MAX),
            memory: None,
        };
        let mut store = Store::try_new(&self.engine, state).map_err(|e| NoVerdict::Engine(chain(&e)))?;
        store.limiter(|state| &mut state.limiter);
        store.set_fuel(limits.fuel_max).map_err(|e| NoVerdict::Engine(chain(&e)))?;
        let end = start(&mut store, program);
        let left = store.get_fuel().map_err(|e| NoVerdict::Engine(chain(&e)))?;
        let is_counted = is_counted(&end);
        let outcome = outcome(end, store.data().limiter.was_refused())?;
        let fuel = if is_counted { limits.fuel_max - left } else { limits.fuel_max };
        let written = store.into_data().wasi.fs.finish();
        Ok(Execution { outcome, fuel, stdout: written.stdout, stderr: written.stderr, files: written.files })
    }
}

fn start(store: &mut Store<State>, program: &Compiled) -> wasmtime::Result<()> {
    let instance = program.pre.instantiate(&mut *store)?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call(&mut *store, ())
}

/// Whether the fuel that is left is exact.
///
/// Compiled code keeps its count in a register and writes it down where it calls, returns or reaches `unreachable` (which
/// is how programs abort). A fault in between loses what was burnt since the last such place, which may be hours of a loop
/// without calls: work that nobody would pay, for an answer of a few bits. So such a fault costs the whole limit.
fn is_counted(end: &wasmtime::Result<()>) -> bool {
    let trap = end.as_ref().err().and_then(|error| error.downcast_ref::<Trap>());
    trap.is_none_or(|trap| *trap == Trap::UnreachableCodeReached)
}

/// What an end means. A program that was refused memory and then failed, however, is out of memory; one that coped
/// and succeeded has succeeded.
fn outcome(end: wasmtime::Result<()>, was_refused: bool) -> Result<Outcome, NoVerdict> {
    let outcome = match end {
        Ok(()) => Outcome::Exit(0),
        Err(error) => failure(&error)?,
    };
    match outcome {
        Outcome::Trap(_) | Outcome::Exit(1..) if was_refused => Ok(Outcome::OutOfMemory),
        other => Ok(other),
    }
}

fn failure(error: &wasmtime::Error) -> Result<Outcome, NoVerdict> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Ok(match stop {
            Stop::Exit(code) => Outcome::Exit(*code),
            Stop::OutputLimit => Outcome::OutputLimit,
        });
    }
    if error.downcast_ref::<HostMemory>().is_some() || error.downcast_ref::<wasmtime::OutOfMemory>().is_some() {
        return Err(NoVerdict::HostMemory);
    }
    if error.downcast_ref::<TooSmall>().is_some() {
        return Ok(Outcome::OutOfMemory);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Err(NoVerdict::StackOverflow),
        Some(Trap::OutOfFuel) => Ok(Outcome::OutOfFuel),
        Some(Trap::Interrupt) | None => Err(NoVerdict::Engine(chain(error))),
        Some(trap) => Ok(Outcome::Trap(kind(*trap))),
    }
}

fn kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds | Trap::IndirectCallToNull => TrapKind::TableOutOfBounds,
        Trap::BadSignature => TrapKind::BadSignature,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::BadConversionToInteger => TrapKind::BadConversion,
        _ => TrapKind::Other,
    }
}

/// The host did not have memory that the task may use.
#[cfg(test)]
mod tests;
