//! From foreign bytes to a program that may be compiled: checked, made deterministic, and named.
//!
//! The requester's node prepares a module once ([`prepare`]); what travels and what is run is the instrumented
//! module, and its BLAKE3 hash is the program's id. A provider that receives one prepares it again
//! ([`Program::adopt`]) and demands that nothing changes: then it has passed every check here, whoever sent it.
//!
//! Nothing is compiled before all limits are checked. Reading is linear in the size of the module.

use glean_types::Hash;
use wasm_encoder::{CodeSection, Module, RawSection};
use wasmparser::{
    CompositeInnerType, Encoding, ExternalKind, FuncToValidate, FuncType, FuncValidatorAllocations, FunctionBody,
    Parser, Payload, TypeRef, ValType, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use crate::nan::{self, BodyLimits};
use crate::reject::{Reject, within};
use crate::wasi;

/// What a module may use: WebAssembly 2.0 with `externref` left out, and constant expressions of 3.0.
///
/// Left out because results could differ between machines: threads, relaxed SIMD. Left out because nothing needs
/// them yet and each is more surface: 64-bit and multiple memories, tail calls, exceptions, garbage collection,
/// stack switching, wide arithmetic, custom page sizes.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST);

/// Most elements of a table, declared or grown to.
pub(crate) const TABLE_ELEMENTS_MAX: u64 = 1 << 20;
/// Most tables of a module.
pub(crate) const TABLES_MAX: u64 = 4;

/// How large a module may be, part by part, before it is refused unread or uncompiled.
///
/// The defaults let CPython with NumPy and GCC through. They bound the memory of this check; the time and memory of
/// compiling are bounded by the process that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleLimits {
    /// Length in bytes.
    pub bytes_max: u64,
    /// Functions, imported ones included.
    pub functions_max: u64,
    /// Bytes of one function's body.
    pub body_bytes_max: u64,
    /// Locals of one function, parameters included.
    pub locals_max: u32,
    /// Blocks open at the same time in one function.
    pub nesting_max: u32,
    /// Globals.
    pub globals_max: u64,
    /// Types, imports, exports, element segments, data segments: each.
    pub entries_max: u64,
}

impl Default for ModuleLimits {
    fn default() -> ModuleLimits {
        ModuleLimits {
            bytes_max: glean_types::params::PROGRAM_BYTES_MAX as u64,
            functions_max: 200_000,
            body_bytes_max: 2 << 20,
            locals_max: 20_000,
            nesting_max: 5_000,
            globals_max: 20_000,
            entries_max: 200_000,
        }
    }
}

/// A checked and instrumented module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instrumented module: what travels and what is compiled.
    pub bytes: Vec<u8>,
    /// BLAKE3 of `bytes`.
    pub id: Hash,
}

impl Program {
    /// Takes bytes that someone else prepared, after checking that they did.
    pub fn adopt(bytes: Vec<u8>, limits: &ModuleLimits) -> Result<Program, Reject> {
        let again = prepare(&bytes, limits)?;
        if again.bytes != bytes {
            return Err(Reject::NotPrepared);
        }
        Ok(again)
    }
}

/// Checks a module and rewrites it so that it behaves the same everywhere.
///
/// Custom sections (names, debug information) are dropped: they change nothing and would be paid for.
pub fn prepare(wasm: &[u8], limits: &ModuleLimits) -> Result<Program, Reject> {
    within("module size in bytes", wasm.len() as u64, limits.bytes_max)?;
    if !wasm.starts_with(b"\0asm") {
        return Err(Reject::NotWasm);
    }
    let mut build = Build::new(limits);
    for payload in Parser::new(0).parse_all(wasm) {
        build.payload(payload.map_err(Reject::invalid)?, wasm)?;
    }
    if !build.has_start {
        return Err(Reject::NoStart);
    }
    let bytes = build.out.finish();
    within("prepared module size in bytes", bytes.len() as u64, limits.bytes_max)?;
    Ok(Program { id: Hash::of(&bytes), bytes })
}

struct Build<'l> {
    limits: &'l ModuleLimits,
    validator: Validator,
    allocs: FuncValidatorAllocations,
    types: Vec<FuncType>,
    /// Type index of each function, imported ones first.
    functions: Vec<u32>,
    globals: Vec<ValType>,
    has_start: bool,
    bodies_left: u32,
    code: CodeSection,
    out: Module,
}

impl<'l> Build<'l> {
    fn new(limits: &'l ModuleLimits) -> Build<'l> {
        Build {
            limits,
            validator: Validator::new_with_features(FEATURES),
            allocs: FuncValidatorAllocations::default(),
            types: Vec::new(),
            functions: Vec::new(),
            globals: Vec::new(),
            has_start: false,
            bodies_left: 0,
            code: CodeSection::new(),
            out: Module::new(),
        }
    }

    /// Counts first, validates then, copies last.
    fn payload(&mut self, payload: Payload<'_>, wasm: &[u8]) -> Result<(), Reject> {
        self.check_counts(&payload)?;
        if let ValidPayload::Func(function, body) = self.validator.payload(&payload).map_err(Reject::invalid)? {
            return self.function(function, &body);
        }
        self.learn(&payload)?;
        match &payload {
            Payload::CustomSection(_) => {}
            Payload::CodeSectionStart { count: 0, .. } => {
                self.out.section(&self.code);
            }
            Payload::CodeSectionStart { count, .. } => self.bodies_left = *count,
            other => {
                if let Some((id, range)) = other.as_section() {
                    self.out.section(&RawSection { id, data: &wasm[range] });
                }
            }
        }
        Ok(())
    }

    fn check_counts(&self, payload: &Payload<'_>) -> Result<(), Reject> {
        let limits = self.limits;
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => Err(Reject::Component),
            Payload::TypeSection(s) => within("types", s.count().into(), limits.entries_max),
            Payload::ImportSection(s) => within("imports", s.count().into(), limits.entries_max),
            Payload::FunctionSection(s) => within("functions", s.count().into(), limits.functions_max),
            Payload::TableSection(s) => within("tables", s.count().into(), TABLES_MAX),
            Payload::GlobalSection(s) => within("globals", s.count().into(), limits.globals_max),
            Payload::ExportSection(s) => within("exports", s.count().into(), limits.entries_max),
            Payload::ElementSection(s) => within("element segments", s.count().into(), limits.entries_max),
            Payload::DataSection(s) => within("data segments", s.count().into(), limits.entries_max),
            Payload::CodeSectionEntry(body) => {
                within("bytes of a function", body.range().len() as u64, limits.body_bytes_max)
            }
            _ => Ok(()),
        }
    }

    /// Notes what later checks need.
    fn learn(&mut self, payload: &Payload<'_>) -> Result<(), Reject> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group.map_err(Reject::invalid)?.into_types() {
                        match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => self.types.push(ty),
                            _ => return Err(Reject::Invalid("a type that is not a function".into())),
                        }
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    self.import(&import.map_err(Reject::invalid)?)?;
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    self.functions.push(ty.map_err(Reject::invalid)?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let ty = table.map_err(Reject::invalid)?.ty;
                    within("elements of a table", ty.initial, TABLE_ELEMENTS_MAX)?;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    self.globals.push(global.map_err(Reject::invalid)?.ty.content_type);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(Reject::invalid)?;
                    let is_start = export.name == "_start" && export.kind == ExternalKind::Func;
                    self.has_start |= is_start && self.type_of(export.index).is_some_and(is_nullary);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), Reject> {
        let (module, name) = (import.module.to_owned(), import.name.to_owned());
        let offered = if module == wasi::MODULE { wasi::signature(&name) } else { None };
        let (Some(offered), TypeRef::Func(index)) = (offered, import.ty) else {
            return Err(Reject::UnknownImport { module, name });
        };
        let ty = self.types.get(index as usize);
        if !ty.is_some_and(|ty| offered.is(ty)) {
            return Err(Reject::ImportType { module, name });
        }
        self.functions.push(index);
        Ok(())
    }

    fn type_of(&self, function: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(function as usize)? as usize)
    }

    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Reject> {
        let mut validator = function.into_validator(std::mem::take(&mut self.allocs));
        let limits = BodyLimits { locals_max: self.limits.locals_max, nesting_max: self.limits.nesting_max };
        let body = nan::rewrite(body, &mut validator, &self.globals, &limits)?;
        self.allocs = validator.into_allocations();
        self.code.raw(&body);
        self.bodies_left -= 1;
        if self.bodies_left == 0 {
            self.out.section(&self.code);
        }
        Ok(())
    }
}

fn is_nullary(ty: &FuncType) -> bool {
    ty.params().is_empty() && ty.results().is_empty()
}

#[cfg(test)]
mod tests;
