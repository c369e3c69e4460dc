//! The NaN escape pass: makes every NaN that a program can *see* the same on every processor.
//!
//! WebAssembly leaves the sign and payload of an arithmetic NaN open: 0/0 is `fff8…` on x86 and `7ff8…` on
//! ARM. As long as such a value stays a float nobody can tell. It is told apart only where its bits leave the
//! world of floats, so the pass rewrites only those places (*escapes*): a store to memory, a reinterpretation as an
//! integer, a `global.set`, the sign operand of `copysign`, and a scalar put into a vector. There the value `x`
//! becomes `x == x ? x : NaN` with the one canonical NaN. Engines can do the same after every float
//! operation; that made float kernels 3 to 8 times slower, this costs a few percent.
//!
//! What must stay true:
//!
//! 1. A scalar counts as *clean* only if its bits follow from the WebAssembly specification: constants, loads,
//!    conversions from integers, and copies of clean values. Whatever comes from arithmetic, a parameter, a call, or a
//!    block may be *tainted*. Locals are clean only if everything ever stored in them is.
//! 2. Vectors are always clean: the result of a vector float operation is canonicalised on the spot, because nearly every
//!    vector operation can look at the bits.
//! 3. Values passed to functions need nothing, direct or indirect: a callee takes its parameters for tainted, a
//!    caller the results. The host sees no float at all: no import that we offer has one ([`crate::wasi`]).
//! 4. The pass finds its own work and leaves it alone: applied twice, the bytes are those of applied once.
//! 5. Time and memory are linear in the size of the function: taint spreads over a graph, not by iteration.

use wasm_encoder::{Encode, Function, Ieee32, Ieee64, Instruction, ValType as EncType};
use wasmparser::{FuncValidator, FunctionBody, Operator, OperatorsReader, ValType, WasmModuleResources};

use crate::reject::{Reject, within};

/// Part of the determinism class: a change of what this pass emits is a change of every program's id.
pub(crate) const PASS_VERSION: u32 = 1;

const NAN_32: u32 = 0x7fc0_0000;
const NAN_64: u64 = 0x7ff8_0000_0000_0000;
const NAN_32X4: u128 = 0x7fc0_0000_7fc0_0000_7fc0_0000_7fc0_0000;
const NAN_64X2: u128 = 0x7ff8_0000_0000_0000_7ff8_0000_0000_0000;

/// How many nested blocks and locals a function may have.
pub(crate) struct BodyLimits {
    pub locals_max: u32,
    pub nesting_max: u32,
}

/// Checks one function and returns its body, instrumented.
pub(crate) fn rewrite<T: WasmModuleResources>(
    body: &FunctionBody<'_>,
    validator: &mut FuncValidator<T>,
    globals: &[ValType],
    limits: &BodyLimits,
) -> Result<Vec<u8>, Reject> {
    let params = validator.len_locals();
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader).map_err(Reject::invalid)?;
    within("locals of a function", validator.len_locals().into(), limits.locals_max.into())?;
    let mut scan = Scan::new(params, validator.len_locals(), globals);
    let mut reader = OperatorsReader::new(reader);
    let code_start = reader.original_position();
    while !reader.eof() {
        let (op, at) = reader.read_with_offset().map_err(Reject::invalid)?;
        let arity = op.operator_arity(&*validator).unwrap_or((0, 0));
        validator.op(at, &op).map_err(Reject::invalid)?;
        within("nested blocks", validator.control_stack_height().into(), limits.nesting_max.into())?;
        scan.step(&op, at, reader.original_position(), arity, validator.operand_stack_height() as usize);
    }
    reader.finish().map_err(Reject::invalid)?;
    let sites = scan.escapes();
    if sites.is_empty() {
        return Ok(body.as_bytes().to_vec());
    }
    let base = body.range().start;
    let code = &body.as_bytes()[code_start - base..];
    emit(body, code, code_start, &sites, validator.len_locals())
}

/// What must be made canonical on top of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// A place in the code, and what to canonicalise there if `node` turns out tainted.
#[derive(Debug, Clone, Copy)]
struct Site {
    at: usize,
    shape: Shape,
    node: Node,
}

/// A node of the taint graph: values that are tainted together.
type Node = u32;
const CLEAN: Node = 0;
const TAINTED: Node = 1;
const FIRST_LOCAL: Node = 2;

/// Walks one function with an abstract stack of taint nodes beside the validator's stack of types.
struct Scan<'g> {
    globals: &'g [ValType],
    stack: Vec<Node>,
    /// `(from, to)`: if `from` is tainted, so is `to`.
    edges: Vec<(Node, Node)>,
    nodes: Node,
    sites: Vec<Site>,
    /// Vector sites that our own pattern already follows, and the local that the pattern uses.
    done: Vec<(Site, u32)>,
    /// How often each local is read.
    reads: Vec<u32>,
    recent: Recent,
}

impl<'g> Scan<'g> {
    fn new(params: u32, locals: u32, globals: &'g [ValType]) -> Scan<'g> {
        let edges = (0..params).map(|param| (TAINTED, FIRST_LOCAL + param)).collect();
        Scan {
            globals,
            stack: Vec::new(),
            edges,
            nodes: FIRST_LOCAL + locals,
            sites: Vec::new(),
            done: Vec::new(),
            reads: vec![0; locals as usize],
            recent: Recent::default(),
        }
    }

    /// One operator, already validated. `height` is the real height of the stack after it.
    fn step(&mut self, op: &Operator<'_>, at: usize, end: usize, arity: (u32, u32), height: usize) {
        self.recent.push(op, at);
        if let Some(shape) = self.escape(op) {
            let node = self.stack.last().copied().unwrap_or(CLEAN);
            self.sites.push(Site { at, shape, node });
        }
        if let Some(shape) = vector_arithmetic(op) {
            self.sites.push(Site { at: end, shape, node: TAINTED });
        }
        self.apply(op, arity);
        // In unreachable code the arity says more than the stack holds: the validator knows best. Filling up
        // with taint is harmless there, nothing runs.
        self.stack.resize(height, TAINTED);
    }

    /// Whether the operator lets the bits of the scalar on top of the stack out.
    fn escape(&self, op: &Operator<'_>) -> Option<Shape> {
        use Operator::*;
        match op {
            F32Store { .. } | I32ReinterpretF32 | F32Copysign | F32x4Splat | F32x4ReplaceLane { .. } => {
                Some(Shape::F32)
            }
            F64Store { .. } | I64ReinterpretF64 | F64Copysign | F64x2Splat | F64x2ReplaceLane { .. } => {
                Some(Shape::F64)
            }
            GlobalSet { global_index } => match self.globals.get(*global_index as usize) {
                Some(ValType::F32) => Some(Shape::F32),
                Some(ValType::F64) => Some(Shape::F64),
                _ => None,
            },
            _ => None,
        }
    }

    fn apply(&mut self, op: &Operator<'_>, (pops, pushes): (u32, u32)) {
        use Operator::*;
        match op {
            LocalGet { local_index } => {
                self.reads[*local_index as usize] += 1;
                self.stack.push(FIRST_LOCAL + local_index);
            }
            LocalSet { local_index } => {
                let value = self.pop();
                self.flow(value, FIRST_LOCAL + local_index);
            }
            LocalTee { local_index } => {
                let value = self.stack.last().copied().unwrap_or(CLEAN);
                self.flow(value, FIRST_LOCAL + local_index);
            }
            // Sign operations and copies are exact in every bit.
            F32Abs | F32Neg | F64Abs | F64Neg => {}
            F32Copysign | F64Copysign => {
                self.pop();
            }
            Select | TypedSelect { .. } => self.select(),
            V128Bitselect => {
                self.set_done_vector_site_aside();
                self.generic(pops, pushes, CLEAN);
            }
            _ => self.generic(pops, pushes, if is_exact(op) { CLEAN } else { TAINTED }),
        }
    }

    fn generic(&mut self, pops: u32, pushes: u32, result: Node) {
        self.stack.truncate(self.stack.len().saturating_sub(pops as usize));
        self.stack.resize(self.stack.len() + pushes as usize, result);
    }

    fn select(&mut self) {
        let (_condition, b, a) = (self.pop(), self.pop(), self.pop());
        let value = match (a, b) {
            _ if self.recent.is_scalar_pattern() => CLEAN,
            _ if a == b => a,
            (CLEAN, other) | (other, CLEAN) => other,
            _ => {
                let joined = self.nodes;
                self.nodes += 1;
                self.flow(a, joined);
                self.flow(b, joined);
                joined
            }
        };
        self.stack.push(value);
    }

    /// The vector operation before this `bitselect` is already followed by our own pattern.
    fn set_done_vector_site_aside(&mut self) {
        let Some((shape, at, local)) = self.recent.vector_pattern() else { return };
        if let Some(site) = self.sites.pop_if(|site| site.shape == shape && site.at == at) {
            self.done.push((site, local));
        }
    }

    /// A done site counts only if nothing but patterns reads its local: that still holds the raw vector.
    fn restore_leaking_sites(&mut self) {
        let mut patterns = vec![0; self.reads.len()];
        self.done.iter().for_each(|(_, local)| patterns[*local as usize] += 2);
        let leaks = |local: u32| self.reads[local as usize] != patterns[local as usize];
        self.sites.extend(self.done.iter().filter(|(_, local)| leaks(*local)).map(|(site, _)| *site));
        self.sites.sort_by_key(|site| site.at);
    }

    fn pop(&mut self) -> Node {
        self.stack.pop().unwrap_or(CLEAN)
    }

    fn flow(&mut self, from: Node, to: Node) {
        if from != CLEAN {
            self.edges.push((from, to));
        }
    }

    /// The sites whose value really can be tainted.
    fn escapes(mut self) -> Vec<Site> {
        if !self.done.is_empty() {
            self.restore_leaking_sites();
        }
        let tainted = spread(self.nodes as usize, &mut self.edges);
        self.sites.retain(|site| tainted[site.node as usize]);
        self.sites
    }
}

/// Which nodes taint reaches.
fn spread(nodes: usize, edges: &mut [(Node, Node)]) -> Vec<bool> {
    edges.sort_unstable();
    let mut tainted = vec![false; nodes];
    tainted[TAINTED as usize] = true;
    let mut todo = vec![TAINTED];
    while let Some(from) = todo.pop() {
        let first = edges.partition_point(|edge| edge.0 < from);
        for &(_, to) in edges[first..].iter().take_while(|edge| edge.0 == from) {
            if !std::mem::replace(&mut tainted[to as usize], true) {
                todo.push(to);
            }
        }
    }
    tainted
}

/// Operators whose float results are fixed to the bit by the specification. (For results that are no floats
/// it does not matter: nothing asks.)
fn is_exact(op: &Operator<'_>) -> bool {
    use Operator::*;
    matches!(
        op,
        F32Const { .. }
            | F64Const { .. }
            | F32Load { .. }
            | F64Load { .. }
            | F32ConvertI32S
            | F32ConvertI32U
            | F32ConvertI64S
            | F32ConvertI64U
            | F64ConvertI32S
            | F64ConvertI32U
            | F64ConvertI64S
            | F64ConvertI64U
            | F32ReinterpretI32
            | F64ReinterpretI64
            | GlobalGet { .. }
            | F32x4ExtractLane { .. }
            | F64x2ExtractLane { .. }
    )
}

/// Vector operations that compute NaNs. (`abs`, `neg`, `pmin`, `pmax` only move bits.)
fn vector_arithmetic(op: &Operator<'_>) -> Option<Shape> {
    use Operator::*;
    match op {
        F32x4Ceil | F32x4Floor | F32x4Trunc | F32x4Nearest | F32x4Sqrt | F32x4Add | F32x4Sub | F32x4Mul | F32x4Div
        | F32x4Min | F32x4Max | F32x4DemoteF64x2Zero => Some(Shape::F32x4),
        F64x2Ceil | F64x2Floor | F64x2Trunc | F64x2Nearest | F64x2Sqrt | F64x2Add | F64x2Sub | F64x2Mul | F64x2Div
        | F64x2Min | F64x2Max | F64x2PromoteLowF32x4 => Some(Shape::F64x2),
        _ => None,
    }
}

/// The last operators, reduced to what the two patterns of ours consist of.
#[derive(Default)]
struct Recent {
    ops: [Option<(Step, usize)>; 6],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tee(u32),
    Get(u32),
    Nan(Shape),
    Eq(Shape),
    Select,
    Bitselect,
}

impl Recent {
    fn push(&mut self, op: &Operator<'_>, at: usize) {
        self.ops.rotate_left(1);
        self.ops[5] = Step::of(op).map(|step| (step, at));
    }

    fn steps(&self) -> [Option<Step>; 6] {
        self.ops.map(|slot| slot.map(|(step, _)| step))
    }

    fn is_scalar_pattern(&self) -> bool {
        matches!(
            self.steps(),
            [Some(Step::Tee(a)), Some(Step::Nan(nan)), Some(Step::Get(b)), Some(Step::Get(c)), Some(Step::Eq(eq)), Some(Step::Select)]
                if a == b && b == c && nan == eq && matches!(nan, Shape::F32 | Shape::F64)
        )
    }

    /// The lanes of the vector pattern just completed, where it began, and its local.
    fn vector_pattern(&self) -> Option<(Shape, usize, u32)> {
        match self.steps() {
            [
                Some(Step::Tee(a)),
                Some(Step::Nan(nan)),
                Some(Step::Get(b)),
                Some(Step::Get(c)),
                Some(Step::Eq(eq)),
                Some(Step::Bitselect),
            ] if a == b && b == c && nan == eq => self.ops[0].map(|(_, at)| (nan, at, a)),
            _ => None,
        }
    }
}

impl Step {
    fn of(op: &Operator<'_>) -> Option<Step> {
        use Operator::*;
        Some(match op {
            LocalTee { local_index } => Step::Tee(*local_index),
            LocalGet { local_index } => Step::Get(*local_index),
            F32Const { value } if value.bits() == NAN_32 => Step::Nan(Shape::F32),
            F64Const { value } if value.bits() == NAN_64 => Step::Nan(Shape::F64),
            V128Const { value } if value.i128() == NAN_32X4 as i128 => Step::Nan(Shape::F32x4),
            V128Const { value } if value.i128() == NAN_64X2 as i128 => Step::Nan(Shape::F64x2),
            F32Eq => Step::Eq(Shape::F32),
            F64Eq => Step::Eq(Shape::F64),
            F32x4Eq => Step::Eq(Shape::F32x4),
            F64x2Eq => Step::Eq(Shape::F64x2),
            Select => Step::Select,
            V128Bitselect => Step::Bitselect,
            _ => return None,
        })
    }
}

/// The local that each shape is held in while it is compared with itself.
struct Scratch {
    first: u32,
    types: Vec<EncType>,
}

impl Scratch {
    fn local(&mut self, shape: Shape) -> u32 {
        let ty = match shape {
            Shape::F32 => EncType::F32,
            Shape::F64 => EncType::F64,
            Shape::F32x4 | Shape::F64x2 => EncType::V128,
        };
        let place = self.types.iter().position(|t| *t == ty).unwrap_or_else(|| {
            self.types.push(ty);
            self.types.len() - 1
        });
        self.first + place as u32
    }
}

/// The body with the patterns put in: locals as they were and ours after them, code copied between the sites.
fn emit(
    body: &FunctionBody<'_>,
    code: &[u8],
    code_start: usize,
    sites: &[Site],
    locals: u32,
) -> Result<Vec<u8>, Reject> {
    let mut scratch = Scratch { first: locals, types: Vec::new() };
    let mut text = Vec::with_capacity(code.len() + sites.len() * 24);
    let mut copied = 0;
    for site in sites {
        let upto = site.at - code_start;
        text.extend_from_slice(&code[copied..upto]);
        copied = upto;
        canonicalise(site.shape, scratch.local(site.shape), &mut text);
    }
    text.extend_from_slice(&code[copied..]);
    let mut groups = Vec::new();
    for local in body.get_locals_reader().map_err(Reject::invalid)? {
        let (count, ty) = local.map_err(Reject::invalid)?;
        groups.push((count, encoder_type(ty)?));
    }
    groups.extend(scratch.types.iter().map(|ty| (1, *ty)));
    let mut function = Function::new(groups);
    function.raw(text);
    Ok(function.into_raw_body())
}

/// `x` on the stack becomes `x == x ? x : NaN`, lane by lane.
fn canonicalise(shape: Shape, local: u32, text: &mut Vec<u8>) {
    let (nan, eq, choose) = match shape {
        Shape::F32 => (Instruction::F32Const(Ieee32::new(NAN_32)), Instruction::F32Eq, Instruction::Select),
        Shape::F64 => (Instruction::F64Const(Ieee64::new(NAN_64)), Instruction::F64Eq, Instruction::Select),
        Shape::F32x4 => (Instruction::V128Const(NAN_32X4 as i128), Instruction::F32x4Eq, Instruction::V128Bitselect),
        Shape::F64x2 => (Instruction::V128Const(NAN_64X2 as i128), Instruction::F64x2Eq, Instruction::V128Bitselect),
    };
    Instruction::LocalTee(local).encode(text);
    nan.encode(text);
    Instruction::LocalGet(local).encode(text);
    Instruction::LocalGet(local).encode(text);
    eq.encode(text);
    choose.encode(text);
}

fn encoder_type(ty: ValType) -> Result<EncType, Reject> {
    Ok(match ty {
        ValType::I32 => EncType::I32,
        ValType::I64 => EncType::I64,
        ValType::F32 => EncType::F32,
        ValType::F64 => EncType::F64,
        ValType::V128 => EncType::V128,
        ValType::Ref(r) if r == wasmparser::RefType::FUNCREF => EncType::FUNCREF,
        ValType::Ref(_) => return Err(Reject::Invalid("a local of a reference type other than funcref".into())),
    })
}

#[cfg(test)]
pub(crate) mod tests;
