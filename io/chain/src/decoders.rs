//! The readers of foreign bytes that lie inside this crate, each as a function: for the fuzz targets, and nobody else.

use bytes::Bytes;

use crate::block::SealedBlock;
use crate::pool::PooledTx;
use crate::rpc::socket;

/// A raw transaction, as anybody may send it. Whether it is one that the pool would look at.
pub fn transaction(bytes: &[u8]) -> bool {
    PooledTx::decode(bytes, 1).is_ok()
}

/// A block, as another validator may send it.
pub fn block(bytes: &[u8]) -> bool {
    SealedBlock::decode(Bytes::copy_from_slice(bytes)).is_ok()
}

/// A request that only a WebSocket connection answers. Whether it would be taken.
pub fn subscription(bytes: &[u8]) -> bool {
    socket::is_subscription(bytes)
}

/// An example of each that is read, in their order.
pub fn examples() -> Vec<Vec<u8>> {
    // EIP-155's own example.
    let transaction = alloy_primitives::hex!(
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    );
    let subscription = br#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["logs",{"topics":[null]}]}"#;
    vec![transaction.to_vec(), SealedBlock::seal(Default::default()).rlp().to_vec(), subscription.to_vec()]
}
