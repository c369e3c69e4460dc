//! Why a transaction or a call is not executed at all, in the words that Ethereum tools look for.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{Panic, Revert, SolError};
use revm::context_interface::result::InvalidTransaction;

/// A transaction that cannot be in this block. It costs its sender nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Already used.
    #[error("nonce too low: address {sender}, tx: {tx} state: {state}")]
    NonceTooLow {
        /// Whose.
        sender: Address,
        /// The transaction's.
        tx: u64,
        /// The account's.
        state: u64,
    },
    /// Earlier transactions of this sender are missing.
    #[error("nonce too high: address {sender}, tx: {tx} state: {state}")]
    NonceTooHigh {
        /// Whose.
        sender: Address,
        /// The transaction's.
        tx: u64,
        /// The account's.
        state: u64,
    },
    /// There is no nonce after this one.
    #[error("nonce has max value: address {sender}, nonce: {}", u64::MAX)]
    NonceMax {
        /// Whose.
        sender: Address,
    },
    /// The sender could not pay for it.
    #[error("insufficient funds for gas * price + value: address {sender} have {have} want {want}")]
    Funds {
        /// Whose.
        sender: Address,
        /// Balance.
        have: U256,
        /// Worst case.
        want: U256,
    },
    /// It offers less than the base fee.
    #[error("max fee per gas less than block base fee: address {sender}, maxFeePerGas: {max_fee}, baseFee: {base_fee}")]
    FeeTooLow {
        /// Whose.
        sender: Address,
        /// Offered.
        max_fee: u128,
        /// Asked.
        base_fee: u64,
    },
    /// It could not even start.
    #[error("intrinsic gas too low: have {have}, want {want}")]
    IntrinsicGas {
        /// Its gas limit.
        have: u64,
        /// The least it needs.
        want: u64,
    },
    /// No room left in this block.
    #[error("gas limit reached: {wanted} wanted, {left} left in the block")]
    BlockFull {
        /// Its gas limit.
        wanted: u64,
        /// What the block has left.
        left: u64,
    },
    /// Blobs are not kept on this ledger.
    #[error("transaction type not supported: blobs are not kept on this ledger")]
    Blob,
    /// Anything else that is wrong with it.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Whether it can never be in any block that follows.
    pub fn is_final(&self) -> bool {
        use Refusal as R;
        matches!(self, R::NonceTooLow { .. } | R::NonceMax { .. } | R::IntrinsicGas { .. } | R::Blob | R::Other(_))
    }

    pub(crate) fn from_evm(error: InvalidTransaction, sender: Address, max_fee: u128, base_fee: u64) -> Refusal {
        use InvalidTransaction as I;
        match error {
            I::NonceTooLow { tx, state } => Refusal::NonceTooLow { sender, tx, state },
            I::NonceTooHigh { tx, state } => Refusal::NonceTooHigh { sender, tx, state },
            I::NonceOverflowInTransaction => Refusal::NonceMax { sender },
            I::LackOfFundForMaxFee { fee, balance } => Refusal::Funds { sender, have: *balance, want: *fee },
            I::GasPriceLessThanBasefee => Refusal::FeeTooLow { sender, max_fee, base_fee },
            I::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                Refusal::IntrinsicGas { have: gas_limit, want: initial_gas }
            }
            I::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
                Refusal::IntrinsicGas { have: gas_limit, want: gas_floor }
            }
            other => Refusal::Other(other.to_string()),
        }
    }
}

/// "execution reverted", with the reason when the contract gave one in a standard form.
pub fn revert_text(output: &Bytes) -> String {
    let reason = Revert::abi_decode(output)
        .map(|revert| revert.reason)
        .or_else(|_| Panic::abi_decode(output).map(|panic| panic.to_string()));
    match reason {
        Ok(reason) => format!("execution reverted: {reason}"),
        Err(_) => "execution reverted".to_owned(),
    }
}
