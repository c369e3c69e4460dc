//! Calldata for gUSD, and what its answers mean.

use alloy_primitives::aliases::U96;
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use glean_types::Amount;

use crate::contracts::Dollar as sol;

/// Asks for an account's balance. The answer is one word.
pub fn balance_of(account: Address) -> Bytes {
    sol::balanceOfCall { account }.abi_encode().into()
}

/// Asks how much `spender` may take from `owner`. The answer is one word.
pub fn allowance(owner: Address, spender: Address) -> Bytes {
    sol::allowanceCall { owner, spender }.abi_encode().into()
}

/// Lets `spender` take up to `amount` from the caller.
pub fn approve(spender: Address, amount: Amount) -> Bytes {
    sol::approveCall { spender, value: U256::from(amount.units()) }.abi_encode().into()
}

/// Sends the caller's gUSD.
pub fn transfer(to: Address, amount: Amount) -> Bytes {
    sol::transferCall { to, value: U256::from(amount.units()) }.abi_encode().into()
}

/// Mints under the caller's ceiling.
pub fn mint(to: Address, amount: Amount) -> Bytes {
    sol::mintCall { to, amount: uint96(amount) }.abi_encode().into()
}

/// Burns the caller's own.
pub fn burn(amount: Amount) -> Bytes {
    sol::burnCall { amount: uint96(amount) }.abi_encode().into()
}

/// Asks for a minter's ceiling and how much of it is used.
pub fn minters(minter: Address) -> Bytes {
    sol::mintersCall { minter }.abi_encode().into()
}

/// Sets a minter's ceiling; for the contract's owner.
pub fn set_ceiling(minter: Address, ceiling: Amount) -> Bytes {
    sol::setCeilingCall { minter, ceiling: uint96(ceiling) }.abi_encode().into()
}

pub(crate) fn uint96(amount: Amount) -> U96 {
    U96::from(amount.units())
}
