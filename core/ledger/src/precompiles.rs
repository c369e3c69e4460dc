//! Ethereum's precompiles, of which a question may pretend that some are elsewhere or gone.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use alloy_primitives::map::AddressSet;
use revm::context_interface::{Cfg, ContextTr};
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, InterpreterResult};
use revm::primitives::hardfork::SpecId;

use crate::rules::Rules;

/// At this address runs the precompile of that one, or (`None`) no precompile any more.
pub(crate) type Moves = BTreeMap<Address, Option<Address>>;

/// Whether our rules have a precompile at this address.
pub fn is_precompile(address: &Address) -> bool {
    EthPrecompiles::new(Rules::OURS.spec).contains(address)
}

/// See the head of this file.
pub(crate) struct Precompiles {
    real: EthPrecompiles,
    moves: Moves,
}

impl Precompiles {
    pub(crate) fn new(spec: SpecId) -> Self {
        Self { real: EthPrecompiles::new(spec), moves: Moves::new() }
    }

    pub(crate) fn pretend(&mut self, moves: Moves) {
        self.moves = moves;
    }
}

impl<CTX: ContextTr> PrecompileProvider<CTX> for Precompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: <CTX::Cfg as Cfg>::Spec) -> bool {
        PrecompileProvider::<CTX>::set_spec(&mut self.real, spec)
    }

    fn run(&mut self, context: &mut CTX, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        match self.moves.get(&inputs.bytecode_address) {
            None => self.real.run(context, inputs),
            Some(None) => Ok(None),
            Some(Some(home)) => {
                let mut inputs = inputs.clone();
                inputs.bytecode_address = *home;
                self.real.run(context, &inputs)
            }
        }
    }

    /// As in geth, what is warm from the start does not move.
    fn warm_addresses(&self) -> &AddressSet {
        self.real.warm_addresses()
    }

    fn contains(&self, address: &Address) -> bool {
        self.moves.get(address).map_or_else(|| self.real.contains(address), Option::is_some)
    }
}
