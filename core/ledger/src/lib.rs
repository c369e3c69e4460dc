//! The ledger as arithmetic: a state and a block in, a state out. Real Ethereum blocks, executed by revm.
//!
//! ```text
//!  Genesis ── build ──> block 0 + Changes                    State (read rows and trie nodes; whoever keeps them)
//!  txs ────── build_block ───┐                                 │
//!  a block ── verify_block ──┴─> Executed { receipts, Changes, coins_gone }   (state root: trie, rewritten in place)
//!  question ─ call, estimate_gas, prove_account, trace_block, Simulation ──> answer
//!  another chain's block ── replay ──> the same, for tests
//! ```
//!
//! What must stay true:
//! 1. Pure: no clock, disk, network, threads or chance. The same block on the same state gives the same bytes.
//! 2. A block that was built verifies; nothing else does.
//! 3. The sum of all balances falls by what was burnt, checked after every block.
//! 4. The state root is that of a trie built anew from all rows.
//!
//! Consensus, storage and JSON-RPC are `io/chain`; what papers mean is `core/types`; the contracts are `contracts/`.

pub mod channels;
pub mod contracts;
pub mod dollar;
pub mod replay;

mod beacon;
mod call;
mod evm;
mod exec;
mod genesis;
mod overlay;
mod precompiles;
mod pretend;
mod refusal;
mod root;
mod rules;
mod simulate;
mod state;
mod trace;
mod transfers;
mod trie;

pub use call::{CALL_GAS_MAX, CallError, CallOutcome, CallRequest, CallResult, EstimateError, call, estimate_gas};
pub use exec::{
    BuildError, Built, Executed, Proposal, SumError, VerifyError, build_block, recover_senders, verify_block,
};
pub use genesis::{Addresses, BuiltGenesis, Faucet, Genesis, GenesisError};
pub use precompiles::is_precompile;
pub use pretend::{AccountOverride, Overrides, PretendError};
pub use refusal::{Refusal, revert_text};
pub use root::{AccountProof, SlotProof, prove_account};
pub use rules::Rules;
pub use simulate::{Planned, SimulateError, Simulated, Simulation, unsigned};
pub use state::{Account, Changes, MemoryState, State, StateError};
pub use trace::{TraceError, TraceOptions, Traced, trace_block, trace_call};
