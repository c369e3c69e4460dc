//! Memory and tables of one task: says no where the task's limits do, and tells that from a host that has no more.

use wasmtime::ResourceLimiter;

#[derive(Debug, thiserror::Error)]
#[error("the host is out of memory")]
pub(crate) struct HostMemory;

/// The memory that the program declares is more than the task may use.
#[derive(Debug, thiserror::Error)]
#[error("the program's initial memory is over the limit")]
pub(crate) struct TooSmall;

/// Says no only where the task's own limits do.
pub(crate) struct MemoryLimiter {
    mem_max: u64,
    table_elements_max: u64,
    was_refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(mem_max: u64, table_elements_max: u64) -> MemoryLimiter {
        MemoryLimiter { mem_max, table_elements_max, was_refused: false }
    }

    /// Whether the guest asked for more than its task may use.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if desired as u64 <= self.mem_max {
            return Ok(true);
        }
        self.was_refused = true;
        // From nothing: the memory is being made (or a guest began with none), and without it nothing can go on.
        if current == 0 { Err(wasmtime::Error::new(TooSmall)) } else { Ok(false) }
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(HostMemory))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= self.table_elements_max && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(HostMemory))
    }
}
