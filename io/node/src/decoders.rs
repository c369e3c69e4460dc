//! The readers of foreign and of stored bytes that lie inside this crate, each as a function: for the fuzz targets, and
//! nobody else. Each comes with examples that it reads, for random bytes get past no length and no checksum.

use glean_protocol::Record;
use glean_types::{Amount, ChannelId, Hash, JobId, Outcome, encode};

use crate::backup::archive;
use crate::journal::each_record;
use crate::ledger;
use crate::network::JoinLine;
use crate::wallet;
use crate::worker::frames;

/// What a worker and its node write to each other. Whether it is a frame of either.
pub fn worker_frame(bytes: &[u8]) -> bool {
    frames::is_frame(bytes)
}

/// The content of a frame of the journal. Whether it is whole records.
pub fn journal_frame(bytes: &[u8]) -> bool {
    each_record(0, bytes, |_, _| {}).is_ok()
}

/// A keystore file.
pub fn keystore(bytes: &[u8]) -> bool {
    wallet::is_keystore(bytes)
}

/// A join line, as typed or pasted.
pub fn join_line(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).parse::<JoinLine>().is_ok()
}

/// What a ledger node answers.
pub fn ledger_reply(bytes: &[u8]) -> bool {
    ledger::is_reply(bytes)
}

/// The file of a backup.
pub fn backup(bytes: &[u8]) -> bool {
    let swallow =
        |_: &archive::FileLine, content: &mut dyn std::io::Read| std::io::copy(content, &mut std::io::sink()).map(drop);
    archive::read(bytes, bytes.len() as u64, swallow).is_ok()
}

/// Something that each of them reads, in their order.
pub fn examples() -> Vec<Vec<u8>> {
    let channel = ChannelId([3; 32]);
    let records = [Record::Closing(channel), Record::GivenUp { channel, slice: 7 }, Record::Reran(JobId([4; 32]))];
    let outcome = Outcome::Exit(3);
    let keystore = serde_json::json!({
        "version": 3, "id": "x", "address": null,
        "crypto": {
            "cipher": "aes-128-ctr", "cipherparams": { "iv": "00".repeat(16) }, "ciphertext": "11".repeat(32),
            "kdf": "scrypt", "kdfparams": { "dklen": 32, "n": 4096, "p": 1, "r": 8, "salt": "22".repeat(32) },
            "mac": "33".repeat(32),
        },
    });
    let node = alloy_primitives::hex!("5866666666666666666666666666666666666666666666666666666666666666");
    let line = JoinLine {
        name: "lab".into(),
        genesis: Hash([2; 32]),
        ledger: glean_net::PeerAddr {
            relay: Some("http://10.0.0.1:7000/".into()),
            ..glean_net::PeerAddr::of(glean_types::NodeId(node))
        },
    };
    vec![
        frames::example(outcome),
        records.iter().flat_map(encode).collect(),
        keystore.to_string().into_bytes(),
        line.to_string().into_bytes(),
        serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": Amount::whole(1) }).to_string().into_bytes(),
        archive::example(),
    ]
}
