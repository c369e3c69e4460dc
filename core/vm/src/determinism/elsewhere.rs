//! A task run by `wasmi`, an interpreter that shares no code with our engine.
//!
//! The world that the program sees is ours to the letter: the functions of `wasi/calls.rs` take a memory and a [`Wasi`], whoever
//! runs the code between them. So two things are compared: what instructions mean, and how our engine is wired to the world.
//! Fuel is another currency there and is not looked at; nor are the limits that are counted in it or in memory.

use glean_types::{Outcome, TrapKind};
use wasmi::{Caller, Engine, Error, Extern, Linker, Module, Store, TrapCode};

use crate::wasi::{self, Errno, Fault, Guest, Invocation, Stop, Wasi};
use crate::{Execution, Program};

impl wasmi::errors::HostError for Stop {}

/// Runs a task to its end; without fuel.
pub(super) fn run(program: &Program, task: Invocation, output_max: u64) -> Execution {
    let engine = Engine::default();
    let module = Module::new(&engine, &program.bytes).expect("a prepared program is a module");
    let mut linker = Linker::new(&engine);
    wasi::link_elsewhere(&mut linker).expect("all names differ");
    let mut store = Store::new(&engine, Wasi::new(task, output_max));
    let end = linker
        .instantiate_and_start(&mut store, &module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&store, "_start"))
        .and_then(|start| start.call(&mut store, ()));
    let written = store.into_data().fs.finish();
    let outcome = outcome(end);
    Execution { outcome, fuel: 0, stdout: written.stdout, stderr: written.stderr, files: written.files }
}

/// One call, as `wasi::call` does it, but that nobody pays.
pub(crate) fn call(
    caller: &mut Caller<'_, Wasi>,
    work: impl FnOnce(&mut Guest<'_>) -> Result<(), Fault>,
) -> Result<u32, Error> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return Ok(Errno::FAULT.number()) };
    let (bytes, world) = memory.data_and_store_mut(&mut *caller);
    match work(&mut Guest::new(bytes, world)) {
        Ok(()) => Ok(0),
        Err(Fault::Errno(errno)) => Ok(errno.number()),
        Err(Fault::Stop(stop)) => Err(Error::host(stop)),
    }
}

fn outcome(end: Result<(), Error>) -> Outcome {
    let Err(error) = end else { return Outcome::Exit(0) };
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(code)) => Outcome::Exit(*code),
        Some(Stop::OutputLimit) => Outcome::OutputLimit,
        None => Outcome::Trap(kind(error.as_trap_code().unwrap_or_else(|| panic!("not an end: {error}")))),
    }
}

fn kind(trap: TrapCode) -> TrapKind {
    match trap {
        TrapCode::UnreachableCodeReached => TrapKind::Unreachable,
        TrapCode::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        TrapCode::TableOutOfBounds | TrapCode::IndirectCallToNull => TrapKind::TableOutOfBounds,
        TrapCode::BadSignature => TrapKind::BadSignature,
        TrapCode::IntegerOverflow => TrapKind::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => TrapKind::DivisionByZero,
        TrapCode::BadConversionToInteger => TrapKind::BadConversion,
        TrapCode::StackOverflow | TrapCode::OutOfFuel | TrapCode::GrowthOperationLimited => TrapKind::Other,
    }
}
