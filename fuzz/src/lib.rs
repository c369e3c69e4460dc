//! Every decoder of foreign bytes, as a function that must neither panic, nor hang, nor grow without bound.
//!
//! A target is `fn(&[u8])`: any fuzzer can drive it. `cargo test` runs each over mutations of its seeds; set
//! `GLEAN_FUZZ_RUNS` for more. `app/cli/tests/tidy.rs` fails when a file that decodes is named by no target here.

use glean_net::{IndexConfig, IndexNode, PeerAddr, validate_offers};
use glean_protocol::WorkMsg;
use glean_types::{
    Address, Amount, Domain, Hash, Manifest, NodeId, Offer, Receipt, Signed, TaskResult, Voucher, decode,
};

/// A decoder under attack.
pub struct Target {
    /// For people and for picking one.
    pub name: &'static str,
    /// Files whose decoding it reaches.
    pub covers: &'static [&'static str],
    /// Feeds it.
    pub run: fn(&[u8]),
}

/// Largest input of the message targets.
const LIMIT: usize = 1 << 20;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "papers",
        covers: &["core/types/src/codec.rs", "core/types/src/papers.rs", "core/types/src/ids.rs"],
        run: papers,
    },
    Target {
        name: "text",
        covers: &["core/types/src/amount.rs", "io/net/src/text.rs", "io/node/src/network.rs"],
        run: text,
    },
    Target { name: "work_message", covers: &["core/protocol/src/wire.rs"], run: work_message },
    Target {
        name: "stored",
        // These read our own types back through the same codec.
        covers: &[
            "io/node/src/journal/mod.rs",
            "io/node/src/offers.rs",
            "io/node/src/runner.rs",
            "io/node/src/worker/wire.rs",
            "io/node/src/worker/mod.rs",
        ],
        run: stored,
    },
    Target { name: "program", covers: &["core/vm/src/program.rs"], run: program },
    Target {
        name: "channel_view",
        covers: &["core/ledger/src/channels.rs", "core/ledger/src/trie.rs"],
        run: channel_view,
    },
    Target { name: "index", covers: &["io/net/src/index_node.rs", "io/net/src/address.rs"], run: index },
    Target {
        name: "json",
        covers: &[
            "io/node/src/home.rs",
            "io/node/src/ledger.rs",
            "io/node/src/wallet.rs",
            "io/chain/src/rpc/mod.rs",
            // Transactions and blocks: alloy's decoders, also under property tests of their own.
            "io/chain/src/pool.rs",
            "io/chain/src/block.rs",
        ],
        run: json,
    },
];

fn papers(bytes: &[u8]) {
    let domain = Domain { chain_id: 1, channels: Address::ZERO };
    if let Ok(paper) = decode::<Signed<Voucher>>(bytes, LIMIT) {
        let _ = paper.signer(&domain);
    }
    if let Ok(paper) = decode::<Signed<Receipt>>(bytes, LIMIT) {
        let _ = paper.signer(&domain);
    }
    if let Ok(paper) = decode::<Signed<Offer>>(bytes, LIMIT) {
        let _ = (paper.signer(&domain), paper.paper.is_sane(), paper.paper.expires_ms());
    }
}

fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (text.parse::<Amount>(), text.parse::<Hash>(), text.parse::<PeerAddr>());
    let _ = glean_net::text::decode("glean", &text, 2048);
}

fn work_message(bytes: &[u8]) {
    if let Ok(message) = WorkMsg::from_frame(bytes) {
        assert_eq!(
            WorkMsg::from_frame(&message.to_frame()),
            Ok(message),
            "what was read can be written and read again"
        );
    }
}

fn stored(bytes: &[u8]) {
    let _ = decode::<glean_protocol::Record>(bytes, LIMIT);
    let _ = decode::<Manifest>(bytes, LIMIT);
    if let Ok(result) = decode::<TaskResult>(bytes, LIMIT) {
        let _ = (result.is_well_formed(), result.leaf(Default::default(), Hash::default()));
    }
}

fn program(bytes: &[u8]) {
    let limits = glean_vm::ModuleLimits::default();
    if let Ok(program) = glean_vm::prepare(bytes, &limits) {
        let again = glean_vm::Program::adopt(program.bytes.clone(), &limits);
        assert_eq!(again.map(|p| p.id), Ok(program.id), "a prepared program prepares to itself");
    }
}

fn channel_view(bytes: &[u8]) {
    let _ = glean_ledger::channels::decode(bytes);
}

fn index(bytes: &[u8]) {
    let domain = Domain { chain_id: 1, channels: Address::ZERO };
    let node = IndexNode::new(IndexConfig::default(), validate_offers(domain));
    let _ = node.on_message(NodeId([1; 32]), bytes, 1);
    let _ = PeerAddr::from_bytes(bytes);
}

fn json(bytes: &[u8]) {
    let _ = serde_json::from_slice::<glean_ledger::Genesis>(bytes);
    let _ = serde_json::from_slice::<Signed<Receipt>>(bytes);
}

/// One seed-determined mutation of `seed`: flips, cuts, doublings and wild lengths.
pub fn mutate(seed: &[u8], number: u64) -> Vec<u8> {
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    let mut draw = |below: usize| {
        let mut bytes = [0u8; 8];
        random.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % (below.max(1) as u64)).expect("below a usize")
    };
    let mut out = seed.to_vec();
    for _ in 0..=draw(4) {
        let at = draw(out.len());
        match draw(5) {
            0 if !out.is_empty() => out[at] ^= 1 << draw(8),
            1 => out.truncate(at),
            2 => out.insert(at, draw(256) as u8),
            3 => out.splice(at..at, [0xff; 9]).for_each(drop),
            _ => out.extend_from_within(at..),
        }
        out.truncate(LIMIT);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn seeds() -> Vec<Vec<u8>> {
        let channel = glean_types::ChannelId([7; 32]);
        let key = glean_types::AccountKey::from_bytes(&[7; 32]).unwrap();
        let domain = Domain { chain_id: 1, channels: Address::ZERO };
        let voucher = glean_types::Paper::sign(Voucher { channel, cumulative: Amount::whole(1) }, &key, &domain);
        vec![
            vec![],
            glean_types::encode(&voucher),
            WorkMsg::Pay(voucher).to_frame(),
            WorkMsg::Drop { channel, slice: 3 }.to_frame(),
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b".to_vec(),
            b"{\"chain_id\":1,\"gln\":{}}".to_vec(),
            glean_net::text::encode("glean", b"some bytes").into_bytes(),
            b"12.000000000000000001".to_vec(),
            vec![0; 320],
        ]
    }

    #[test]
    fn no_decoder_panics_or_hangs() {
        let runs: u64 = std::env::var("GLEAN_FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
        let seeds = seeds();
        for target in TARGETS {
            let start = Instant::now();
            for number in 0..runs {
                let seed = &seeds[(number % seeds.len() as u64) as usize];
                (target.run)(&mutate(seed, number));
            }
            println!("{}: {runs} mutations, {} ms", target.name, start.elapsed().as_millis());
        }
    }

    #[test]
    fn the_seeds_reach_the_decoders() {
        let domain = Domain { chain_id: 1, channels: Address::ZERO };
        let seeds = seeds();
        assert!(decode::<Signed<Voucher>>(&seeds[1], LIMIT).unwrap().signer(&domain).is_ok());
        assert!(WorkMsg::from_frame(&seeds[2]).is_ok());
        assert!(glean_vm::prepare(&seeds[4], &glean_vm::ModuleLimits::default()).is_ok());
    }
}
