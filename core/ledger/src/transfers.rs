//! Logs as `eth_simulateV1` shows them: what contracts say, and on demand what coins do, in one order.
//!
//! As in geth, a log has its number from the moment it is written, so those of calls that failed leave gaps.

use alloy_primitives::{Address, Log, LogData, U256, address, b256};
use alloy_sol_types::SolValue as _;
use revm::Inspector;
use revm::context_interface::{ContextTr as _, JournalTr as _};
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome};

use crate::evm::Ctx;

/// Whom a transfer's log names as its contract: nobody.
const COINS: Address = address!("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");

/// Writes logs down while transactions of one block run.
pub(crate) struct Scribe {
    transfers: bool,
    /// The number of the next log.
    next: u64,
    /// Logs of the calls that are open, the innermost last.
    open: Vec<Vec<(u64, Log)>>,
    /// Logs of the transaction that has ended.
    kept: Vec<(u64, Log)>,
}

impl Scribe {
    pub(crate) fn new(transfers: bool) -> Self {
        Self { transfers, next: 0, open: Vec::new(), kept: Vec::new() }
    }

    /// The last transaction's logs, with their numbers.
    pub(crate) fn take(&mut self) -> Vec<(u64, Log)> {
        std::mem::take(&mut self.kept)
    }

    fn write(&mut self, log: Log) {
        let number = self.next;
        self.next += 1;
        self.open.last_mut().unwrap_or(&mut self.kept).push((number, log));
    }

    fn transfer(&mut self, from: Address, to: Address, value: U256) {
        if self.transfers && !value.is_zero() {
            let topics = vec![
                b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
                from.into_word(),
                to.into_word(),
            ];
            self.write(Log { address: COINS, data: LogData::new_unchecked(topics, value.abi_encode().into()) });
        }
    }

    /// A call that failed takes its logs with it.
    fn close(&mut self, succeeded: bool) {
        let logs = self.open.pop().unwrap_or_default();
        if succeeded {
            self.open.last_mut().unwrap_or(&mut self.kept).extend(logs);
        }
    }
}

impl<'a> Inspector<Ctx<'a>> for Scribe {
    fn log(&mut self, _context: &mut Ctx<'a>, log: Log) {
        self.write(log);
    }

    fn call(&mut self, _context: &mut Ctx<'a>, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.open.push(Vec::new());
        if let Some(value) = inputs.transfer_value() {
            self.transfer(inputs.transfer_from(), inputs.transfer_to(), value);
        }
        None
    }

    fn call_end(&mut self, _context: &mut Ctx<'a>, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.close(outcome.result.is_ok());
    }

    fn create(&mut self, context: &mut Ctx<'a>, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.open.push(Vec::new());
        let creator = context.journal_mut().load_account(inputs.caller()).ok()?;
        let created = inputs.created_address(creator.data.info.nonce);
        self.transfer(inputs.caller(), created, inputs.value());
        None
    }

    fn create_end(&mut self, _context: &mut Ctx<'a>, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.close(outcome.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.transfer(contract, target, value);
    }
}
