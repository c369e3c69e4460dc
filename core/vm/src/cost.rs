//! What each instruction costs in fuel, and the name of the whole set of rules.
//!
//! Fuel is the unit of billing, so this table is part of the protocol: two nodes with different tables would call
//! each other liars. One fuel is about one simple instruction on a current processor. Weights bring fuel nearer to time: with
//! a flat price a program full of divisions would cost its host seven times what it pays, and one full of
//! local variables, which cost nothing once compiled, would pay for air.
//!
//! What must stay true: every loop and every call costs something, and work whose size is known only at run time
//! (copying, filling, growing) costs in proportion to it.

use glean_types::Hash;
use wasmtime::OperatorCost;

/// The determinism class: two nodes of one class give the same answer and the same fuel for the same task.
///
/// It is the hash of everything that decides ([`class`]); a test holds it to that. Changing it is a decision: a node
/// checks and is checked only within its class.
pub const CLASS: Hash = Hash([
    0x8c, 0xf1, 0x0d, 0x8e, 0x4f, 0x22, 0x54, 0x36, 0xae, 0x0a, 0x45, 0x5b, 0xf0, 0x3b, 0xb7, 0xd0, 0x1d, 0x0c, 0xeb,
    0x1a, 0x4b, 0x1c, 0x52, 0xda, 0x0a, 0x3b, 0x00, 0x24, 0x1a, 0x7e, 0xf5, 0x5b,
]);

/// Bumped when an update of the engine changes results or fuel without changing anything else named here.
const ENGINE_SEMANTICS: u32 = 1;

macro_rules! price {
    ($table:ident: $($fuel:literal => $($op:ident)*;)*) => { $($($table.$op = $fuel;)*)* };
}

/// The table. Whatever is not named costs one.
pub(crate) fn table() -> OperatorCost {
    let mut table = OperatorCost::new();
    price! { table:
        // No code comes of these.
        0 => Nop Drop Block Loop Else End Return Unreachable LocalGet LocalSet LocalTee I32Const I64Const F32Const F64Const;
        // Memory.
        2 => I32Load I64Load F32Load F64Load I32Load8S I32Load8U I32Load16S I32Load16U I64Load8S I64Load8U I64Load16S
            I64Load16U I64Load32S I64Load32U I32Store I64Store F32Store F64Store I32Store8 I32Store16 I64Store8 I64Store16
            I64Store32 V128Load V128Store GlobalGet GlobalSet;
        // Calls save and restore, and check the stack.
        3 => BrTable;
        5 => Call;
        8 => CallIndirect;
        // Long-running arithmetic.
        2 => F32Add F32Sub F32Mul F64Add F64Sub F64Mul;
        4 => F32Min F32Max F64Min F64Max F32Ceil F32Floor F32Trunc F32Nearest F64Ceil F64Floor F64Trunc F64Nearest
            I32TruncF32S I32TruncF32U I32TruncF64S I32TruncF64U I64TruncF32S I64TruncF32U I64TruncF64S I64TruncF64U
            I32TruncSatF32S I32TruncSatF32U I32TruncSatF64S I32TruncSatF64U I64TruncSatF32S I64TruncSatF32U
            I64TruncSatF64S I64TruncSatF64U F32ConvertI64U F64ConvertI64U;
        6 => F32Div F32x4Div;
        8 => F64Div F64x2Div F32Sqrt F32x4Sqrt;
        10 => F64Sqrt F64x2Sqrt;
        12 => I32DivS I32DivU I32RemS I32RemU;
        16 => I64DivS I64DivU I64RemS I64RemU;
        // Work that goes on in the host: its start here, its length below.
        20 => MemoryCopy MemoryFill MemoryInit TableCopy TableFill TableInit TableGet TableSet;
        255 => MemoryGrow TableGrow;
    }
    table.variable.memory_copy_per_byte = 1;
    table.variable.memory_fill_per_byte = 1;
    table.variable.memory_init_per_byte = 1;
    table.variable.memory_grow_per_page = 255;
    table.variable.table_copy_per_element = 1;
    table.variable.table_fill_per_element = 1;
    table.variable.table_init_per_element = 1;
    table.variable.table_grow_per_element = 1;
    table
}

/// The hash that [`CLASS`] must be: over the rules of this build.
pub fn class() -> Hash {
    let parts = format!(
        "gleaner determinism class; engine {ENGINE_SEMANTICS}; nan pass {}; wasi {}, {} per call; features {:x}; tables {} of {}; {:?}",
        crate::nan::PASS_VERSION,
        crate::wasi::WASI_VERSION,
        crate::wasi::CALL_FUEL,
        crate::program::FEATURES.bits(),
        crate::program::TABLES_MAX,
        crate::program::TABLE_ELEMENTS_MAX,
        table(),
    );
    Hash::of(parts.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_pinned() {
        assert_eq!(class().to_string(), CLASS.to_string(), "results or bills change: a decision, not an accident");
    }
}
