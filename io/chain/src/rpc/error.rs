//! JSON-RPC errors with the codes and texts that wallets and libraries know from geth.

use alloy_primitives::Bytes;
use glean_ledger::StateError;
use serde::Serialize;
use serde_json::Value;

use crate::pool::PoolError;
use crate::store::StoreError;

/// An error object of JSON-RPC 2.0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    /// A refusal for which a method has a code of its own.
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Not JSON.
    pub(crate) fn parse(detail: impl std::fmt::Display) -> Self {
        Self::new(-32700, format!("parse error: {detail}"))
    }

    /// JSON, but not a request.
    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(-32600, message)
    }

    /// A method we do not have.
    pub(crate) fn unknown_method(method: &str) -> Self {
        Self::new(-32601, format!("the method {method} does not exist/is not available"))
    }

    /// Arguments that do not fit the method.
    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    /// Something we promised to keep cannot be read; the node stops for the same reason.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(-32603, message.to_string())
    }

    /// geth's catch-all: the request was understood and is refused.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    /// A request beyond a limit of this node.
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(-32005, message)
    }

    /// A call that reverted, with the revert data.
    pub(crate) fn reverted(output: &Bytes) -> Self {
        Self { code: 3, message: glean_ledger::revert_text(output), data: Some(Value::String(output.to_string())) }
    }

    /// `eth_sendRawTransactionSync` waited in vain (EIP-7966).
    pub(crate) fn not_final_in_time(hash: alloy_primitives::B256, waited_ms: u64) -> Self {
        Self {
            code: 4,
            message: format!("the transaction was added to the pool but was not final within {waited_ms} ms"),
            data: Some(Value::String(hash.to_string())),
        }
    }
}

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<StateError> for RpcError {
    fn from(error: StateError) -> Self {
        Self::internal(error)
    }
}

impl From<PoolError> for RpcError {
    fn from(error: PoolError) -> Self {
        Self::refused(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abi_error(text: &str) -> Bytes {
        let mut bytes = vec![0x08, 0xc3, 0x79, 0xa0];
        bytes.extend([0; 31].iter().chain(&[32]));
        bytes.extend([0; 31]);
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + 4, 0);
        bytes.into()
    }

    #[test]
    fn a_revert_tells_its_reason_and_carries_the_data() {
        let data = abi_error("too late");
        let error = RpcError::reverted(&data);
        assert_eq!((error.code, error.message.as_str()), (3, "execution reverted: too late"));
        assert_eq!(error.data, Some(Value::String(data.to_string())));
    }

    #[test]
    fn hostile_revert_data_is_only_data() {
        for length in 0..80 {
            let mut data = abi_error("x").to_vec();
            data.truncate(length);
            assert_eq!(RpcError::reverted(&data.into()).code, 3);
        }
        let mut wild = abi_error("x").to_vec();
        wild[4..36].fill(0xff);
        assert_eq!(RpcError::reverted(&wild.into()).message, "execution reverted");
    }
}
