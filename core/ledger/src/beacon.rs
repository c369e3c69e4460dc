//! Calls that the protocol itself makes where a beacon chain keeps the time. Our own blocks make none: see [`Rules`].

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, address};
use revm::primitives::hardfork::SpecId;

use crate::evm::{Evm, EvmError};
use crate::rules::Rules;

/// EIP-4788: keeps the roots of the beacon chain.
const BEACON_ROOTS: Address = address!("000F3df6D732807Ef1319fB7B8bB8522d0Beac02");
/// EIP-2935: keeps the hashes of earlier blocks.
const BLOCK_HASHES: Address = address!("0000F90827F1C53a10cb7A02335B175320002935");
/// EIP-7002 and EIP-7251: hand over what validators asked for.
const REQUESTS: [Address; 2] =
    [address!("00000961Ef480Eb55e80D19ad83579A64c007002"), address!("0000BBdDc7CE488642fb579F8B00f3a590007251")];

/// Before the first transaction.
pub(crate) fn open<I>(evm: &mut Evm<'_, I>, rules: Rules, header: &Header) -> Result<(), EvmError> {
    if rules.has_beacon && rules.spec.is_enabled_in(SpecId::CANCUN) {
        call(evm, BEACON_ROOTS, header.parent_beacon_block_root.unwrap_or_default().into())?;
    }
    if rules.has_beacon && rules.spec.is_enabled_in(SpecId::PRAGUE) {
        call(evm, BLOCK_HASHES, header.parent_hash.into())?;
    }
    Ok(())
}

/// After the last one.
pub(crate) fn close<I>(evm: &mut Evm<'_, I>, rules: Rules) -> Result<(), EvmError> {
    if rules.has_beacon && rules.spec.is_enabled_in(SpecId::PRAGUE) {
        REQUESTS.into_iter().try_for_each(|contract| call(evm, contract, Bytes::new()))?;
    }
    Ok(())
}

fn call<I>(evm: &mut Evm<'_, I>, contract: Address, data: Bytes) -> Result<(), EvmError> {
    let touched = evm.run_system(contract, data)?;
    Ok(evm.commit(touched)?)
}
